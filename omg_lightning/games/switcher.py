"""Players that change their script: between episodes, at fixed steps of each, or at a random step."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from omg_lightning.games.scripts import Player, ScriptedPlayer, actions_of, goals_of, scripts_of
from omg_lightning.types import ConfigError

SWITCHER, HANDOVER = "switcher", "handover"


class Changing(ScriptedPlayer):
    """Follows one of several players at each step; a subclass defines which one.

    Args:
        make: makes the game's player of this name.

    Attributes:
        scripts: the players; empty before `check`.
    """

    def __init__(self, make: Callable[[str], Player]) -> None:
        self.scripts: tuple[Player, ...] = ()
        self._make = make

    @abstractmethod
    def names(self, game: Any) -> Sequence[str]:
        """Return the names of the players that it follows.

        Raises:
            ConfigError: the game has no such players, or no time for the changes.
        """

    @abstractmethod
    def in_force(self) -> Tensor:
        """Return which of `scripts` acts next, int64 `[B]`."""

    def check(self, game: Any) -> None:
        """Raise ConfigError unless the game has all of the players, and enough steps for the changes."""
        self.scripts = tuple(self._make(each) for each in self.names(game))

    def reset(self, batch_size: int, seat: int, game: Any, generator: torch.Generator) -> None:
        """Start new episodes; see `Player.reset`."""
        super().reset(batch_size, seat, game, generator)
        for script in self.scripts:
            script.reset(batch_size, seat, game, generator)
        self._time = torch.zeros(batch_size, dtype=torch.int64, device=generator.device)

    def restart(self, index: Tensor) -> None:
        """Start new episodes in the rows `index`, int64 `[R]`; all players that it follows must be able to."""
        for script in self.scripts:
            script.restart(index)  # type: ignore[attr-defined]
        self._time[index] = 0

    def pursues(self, observation: Tensor, legal: Tensor) -> Tensor:
        """Return the goals of the next action, int64 `[B]`, or NO_GOAL; see `Player`."""
        return self._chosen([goals_of(script, self._game, observation, legal) for script in self.scripts])

    def act(self, observation: Tensor, legal: Tensor) -> Tensor:
        """Return the actions of the player in force: int64 `[B]`."""
        chosen = self._chosen([actions_of(script, observation, legal).to(torch.int64) for script in self.scripts])
        self._time += 1
        return chosen

    def action_probabilities(self, observation: Tensor, legal: Tensor) -> Tensor:
        """Return `[B, A]`: the action distribution of the player in force, which must be known."""
        return self._chosen([script.action_probabilities(observation, legal) for script in self.scripts])  # type: ignore[attr-defined]

    def _chosen(self, each: Sequence[Tensor]) -> Tensor:
        """Return in row b the row b of the tensor `[B, ...]` of the player in force there."""
        force = self.in_force()
        return torch.stack(tuple(each))[force, torch.arange(len(force), device=force.device)]


class Switcher(Changing):
    """Follows one of the game's two scripts, drawn for each episode: cooperator or defector with probability 1/2.

    Its seat name is `switcher`. `switcher:5:12` also changes to the other script at steps 5 and 12 of each episode,
    counted from 0: the first five actions follow the initial script.

    Args:
        make: makes a player of a script's name.
        steps: steps of an episode at which it changes, in rising order.
    """

    def __init__(self, make: Callable[[str], Player], steps: Sequence[int] = ()) -> None:
        super().__init__(make)
        self._steps = tuple(steps)

    def names(self, game: Any) -> Sequence[str]:
        """Return the names of the game's two scripts, the cooperator first."""
        if not (names := scripts_of(game)):
            raise ConfigError(
                f"Switcher changes between a game's two scripts, but {game.name} has none: set its `scripts`"
            )
        if self._steps:
            check_time("Switcher changes at", self._steps[-1], game)
        return names

    def reset(self, batch_size: int, seat: int, game: Any, generator: torch.Generator) -> None:
        """Start new episodes, each with a script of its own; see `Player.reset`."""
        super().reset(batch_size, seat, game, generator)
        self._first = self._draw(batch_size)

    def restart(self, index: Tensor) -> None:
        """Start new episodes in the rows `index`, int64 `[R]`, each with a script of its own."""
        super().restart(index)
        self._first[index] = self._draw(len(index))

    def _draw(self, count: int) -> Tensor:
        return torch.rand(count, generator=self._generator, device=self._generator.device) < 0.5

    def in_force(self) -> Tensor:
        """Return 0 or 1, int64 `[B]`."""
        changes = sum(((self._time >= step).long() for step in self._steps), torch.zeros_like(self._time))
        return (self._first ^ (changes % 2 == 0)).long()


class Handover(Changing):
    """Plays as one kind, and changes to another kind at a random step; step and kind are drawn once per episode.

    Its seat name is `handover:LATEST:FIRST:OTHER[:OTHER ...]`: the step is drawn uniformly from 1 to LATEST,
    counted from 0, so that FIRST has at least one action; the next kind is drawn uniformly from the others.

    Args:
        make: makes a player of this name.
        latest: the last step at which it may change.
        kinds: names of players, the first one first.
    """

    def __init__(self, make: Callable[[str], Player], latest: int, kinds: Sequence[str]) -> None:
        super().__init__(make)
        self._latest, self._kinds = latest, tuple(kinds)

    def names(self, game: Any) -> Sequence[str]:
        """Return the names of all kinds."""
        check_time("Handover may change at", self._latest, game)
        return self._kinds

    def reset(self, batch_size: int, seat: int, game: Any, generator: torch.Generator) -> None:
        """Start new episodes, each with a step and a successor of its own; see `Player.reset`."""
        super().reset(batch_size, seat, game, generator)
        self._step, self._next = self._draw(batch_size)

    def restart(self, index: Tensor) -> None:
        """Start new episodes in the rows `index`, int64 `[R]`, each with a step and a successor of its own."""
        super().restart(index)
        self._step[index], self._next[index] = self._draw(len(index))

    def _draw(self, count: int) -> tuple[Tensor, Tensor]:
        random: dict[str, Any] = {"generator": self._generator, "device": self._generator.device}
        step = torch.randint(1, self._latest + 1, (count,), **random)
        return step, torch.randint(1, len(self._kinds), (count,), **random)

    def in_force(self) -> Tensor:
        """Return 0 before the change, and the successor's index from then on, int64 `[B]`."""
        return torch.where(self._time < self._step, 0, self._next)


def check_time(what: str, step: int, game: Any) -> None:
    """Raise ConfigError unless an episode has this step; `what` begins the message."""
    if step >= game.max_steps:
        raise ConfigError(
            f"{what} step {step}, but {game.name} ends after {game.max_steps} steps: give an earlier step"
        )


def parse_steps(name: str) -> list[int]:
    """Return the steps in `switcher:5:12`; none for `switcher`.

    Raises:
        ConfigError: they are not rising whole numbers of at least 1.
    """
    parts = name.split(":")[1:]
    steps = [int(part) if part.isdecimal() else 0 for part in parts]
    if steps != sorted(set(steps)) or 0 in steps:
        raise ConfigError(
            f"player {name!r}: write {SWITCHER}, or {SWITCHER}:5:12 with the steps at which it changes, rising from 1"
        )
    return steps


def handover(latest: int, first: str, others: Sequence[str]) -> str:
    """Return the name of a `Handover`."""
    return ":".join([HANDOVER, str(latest), first, *others])


def parse_handover(name: str) -> tuple[int, list[str]]:
    """Return the last step and the kinds in `handover:LATEST:FIRST:OTHER[:OTHER ...]`.

    Raises:
        ConfigError: the name has another form.
    """
    _, latest, *kinds = [*name.split(":"), ""][: max(2, name.count(":") + 1)]
    if not latest.isdecimal() or int(latest) < 1 or len(set(kinds)) < max(2, len(kinds)) or "" in kinds:
        raise ConfigError(
            f"player {name!r}: write {HANDOVER}:LATEST:FIRST:OTHER with the last step at which it changes, at least 1, "
            f"and two or more different kinds, such as {HANDOVER}:10:random:nearest_stag"
        )
    return int(latest), kinds
