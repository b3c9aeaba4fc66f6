"""Strategies of the package `axelrod` as players of the iterated prisoner's dilemma."""

from __future__ import annotations

import importlib
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor

from omg_lightning.games.matrix import MatrixGame
from omg_lightning.types import ConfigError

PREFIX = "axelrod."  # of a seat's name, as in `axelrod.TitForTat`


class AxelrodPlayer:
    """Plays a strategy of the package `axelrod` (https://axelrod.readthedocs.io), of which it has more than 200.

    The seat name is, for example, `axelrod.TitForTat`. Each environment has its own copy, which meets the other player
    anew in each episode and remembers all actions of the episode. Strategies run in Python, one row at a time, so they
    are slower than this project's players for matrix games.

    Args:
        name: name of the strategy with the prefix, such as `axelrod.Grudger`.

    Raises:
        ConfigError: the package is missing, or it has no such strategy.
    """

    def __init__(self, name: str) -> None:
        try:
            self.package: Any = importlib.import_module("axelrod")
        except ImportError as error:
            raise ConfigError(
                f"player '{name}' needs the package axelrod ({error}): pip install 'omg-lightning[envs]'"
            ) from error
        known = {strategy.__name__: strategy for strategy in self.package.all_strategies}
        short = name.removeprefix(PREFIX)
        if short not in known:
            close = get_close_matches(short, known, 3)
            cure = f"did you mean {' or '.join(close)}?" if close else "see axelrod.all_strategies"
            raise ConfigError(f"player '{name}': axelrod has no strategy {short!r}; {cure}")
        self.strategy = known[short]

    def check(self, game: Any) -> None:
        """Raise ConfigError unless `game` is a matrix game of two players with two actions each."""
        rules = getattr(game, "game", None) or game
        if not isinstance(rules, MatrixGame) or (rules.num_players, rules.num_actions) != (2, 2):
            raise ConfigError(
                f"axelrod.{self.strategy.__name__} plays games of two players that cooperate or defect, such as "
                f"MatrixGame('prisoners_dilemma'), unlike {game.name}: choose another player"
            )

    def reset(self, batch_size: int, seat: int, game: Any, generator: torch.Generator) -> None:
        """Make `batch_size` copies of the strategy and of its opponent; see `Player.reset`."""
        self.check(game)
        table = (getattr(game, "game", None) or game).payoff
        (r, s), (t, p) = ([float(entry[0]) for entry in row] for row in table)  # payoffs of the row player
        self._known = {"length": game.max_steps, "game": self.package.Game(r=r, s=s, t=t, p=p), "noise": 0}
        self._generator = generator
        self._pairs = self._copies(batch_size)

    def restart(self, index: Tensor) -> None:
        """Start new episodes in the rows `index`, int64 `[R]`, each with new copies."""
        for row, pair in zip(index.tolist(), self._copies(len(index)), strict=True):
            self._pairs[row] = pair

    def _copies(self, count: int) -> list[tuple[Any, Any]]:
        """Make copies of the strategy and of its opponent, with seeds of their own."""
        random, found = self._generator, []
        for seed in torch.randint(2**31, (count,), generator=random, device=random.device).tolist():
            own, other = self.strategy(), self.package.MockPlayer()
            own.set_match_attributes(**self._known)
            own.set_seed(seed)
            found.append((own, other))
        return found

    def act(self, observation: Tensor, legal: Tensor) -> Tensor:
        """Return the strategies' actions, int64 `[B]`: 0 to cooperate, 1 to defect; see `Player.act`."""
        each = (self.package.Action.C, self.package.Action.D)
        last = observation[:, :4].view(-1, 2, 2)
        played, known = last.argmax(-1).tolist(), (last.sum((-1, -2)) > 0).tolist()
        actions = []
        for (own, other), (mine, theirs), seen in zip(self._pairs, played, known, strict=True):
            if seen:
                own.update_history(each[mine], each[theirs])
                other.update_history(each[theirs], each[mine])
            over = not seen and len(own.history) > 0  # the view of a finished episode is empty
            actions.append(0 if over else each.index(own.strategy(other)))
        return torch.tensor(actions, device=observation.device)
