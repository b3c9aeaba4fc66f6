"""A player that changes its mind: between episodes, or within one."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from omg_lightning.games.scripts import Player, ScriptedPlayer, goals_of, scripts_of
from omg_lightning.types import ConfigError

SWITCHER = "switcher"


class Switcher(ScriptedPlayer):
    """Follows one of the game's two scripts, drawn anew for each episode: half cooperator, half defector.

    In a seat it is written `switcher`; `switcher:5:12` also changes to the other script at steps 5 and 12 of each
    episode, counted from 0, so that the first five actions are those of the script it drew.

    Args:
        make: makes a player of a script's name.
        steps: when it changes within an episode, rising.

    Attributes:
        scripts: the game's two scripts, the cooperator first; there are none before `check`.
    """

    def __init__(self, make: Callable[[str], Player], steps: Sequence[int] = ()) -> None:
        self.scripts: tuple[Player, ...] = ()
        self._make, self._steps = make, tuple(steps)

    def check(self, game: Any) -> None:
        """Raises ConfigError unless the game has two scripts, and time for all the changes."""
        name = game.name
        if not (names := scripts_of(game)):
            raise ConfigError(
                f"Switcher changes between a game's two scripts, but {name} names none: set its `scripts`"
            )
        if self._steps and self._steps[-1] >= game.max_steps:
            raise ConfigError(
                f"Switcher changes at step {self._steps[-1]}, but {name} is over after {game.max_steps} steps: "
                "name an earlier step"
            )
        self.scripts = tuple(self._make(each) for each in names)
        for script in self.scripts:
            if isinstance(script, ScriptedPlayer):
                script.check(game)

    def reset(self, batch_size: int, seat: int, game: Any, generator: torch.Generator) -> None:
        """Starts new episodes, each with a script of its own; see `Player.reset`."""
        super().reset(batch_size, seat, game, generator)
        for script in self.scripts:
            script.reset(batch_size, seat, game, generator)
        self._first = torch.rand(batch_size, generator=generator, device=generator.device) < 0.5
        self._time = 0

    def pursues(self, observation: Tensor, legal: Tensor) -> Tensor:
        """Return the goals of the next action, int64 `[B]`, or NO_GOAL; see `Player`."""
        first, second = (goals_of(script, self._game, observation, legal) for script in self.scripts)
        return torch.where(self._follows_first(), first, second)

    def act(self, observation: Tensor, legal: Tensor) -> Tensor:
        """Acts as the script in force does: int64 `[B]`."""
        first, second = (script.act(observation, legal) for script in self.scripts)
        chosen = torch.where(self._follows_first(), first, second)
        self._time += 1
        return chosen

    def action_probabilities(self, observation: Tensor, legal: Tensor) -> Tensor:
        """Returns `[B, A]`: the distribution of the script in force, which must know its own."""
        first, second = (script.action_probabilities(observation, legal) for script in self.scripts)  # type: ignore[attr-defined]
        return torch.where(self._follows_first()[:, None], first, second)

    def _follows_first(self) -> Tensor:
        changes = sum(self._time >= step for step in self._steps)
        return self._first ^ (changes % 2 == 1)


def parse_steps(name: str) -> list[int]:
    """The steps in `switcher:5:12`; none in `switcher`.

    Raises:
        ConfigError: they are not whole numbers of at least 1, rising.
    """
    parts = name.split(":")[1:]
    steps = [int(part) if part.isdecimal() else 0 for part in parts]
    if steps != sorted(set(steps)) or 0 in steps:
        raise ConfigError(
            f"player {name!r}: write {SWITCHER}, or {SWITCHER}:5:12 with the steps at which it changes, rising from 1"
        )
    return steps
