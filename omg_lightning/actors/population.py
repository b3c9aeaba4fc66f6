"""The learners that can take a seat: the one in training, checkpoints, and past selves."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from omg_lightning.actors.base import Actor
from omg_lightning.actors.seating import CHECKPOINT, LEARNER
from omg_lightning.types import ConfigError

Weights = dict[str, Tensor]


class Population:
    """Give actors by the names of seats; keep checkpoints that were loaded, and past selves.

    Args:
        every: online rounds between two past selves.
        keep: how many of them, the newest.
    """

    def __init__(self, every: int, keep: int) -> None:
        self.every, self.keep = every, keep
        self.past: list[Weights] = []  # of the learner's past selves, the newest last
        self._loaded: dict[str, Actor] = {}
        self._learner: Callable[[], Actor] | None = None
        self._load: Callable[[str | Weights], Actor] | None = None
        self._weights: Callable[[], Weights] | None = None

    def attach(
        self,
        learner: Callable[[], Actor],
        load: Callable[[str | Weights], Actor],
        weights: Callable[[], Weights] | None,
    ) -> None:
        """Take the learner's callables, see `EpisodeDataModule.attach`."""
        self._learner, self._load, self._weights = learner, load, weights

    def learners(self, seats: Sequence[str]) -> dict[str, Actor]:
        """Return the actors of these seats, and always the one in training, which infers goals without a seat too."""
        if self._learner is None or self._load is None:
            raise ConfigError("the data module has no learner yet: hand it over with `attach`, as Agent.setup does")
        for name in seats:
            if name.startswith(CHECKPOINT) and name not in self._loaded:
                self._loaded[name] = self._load(name.removeprefix(CHECKPOINT))
        return {LEARNER: self._learner()} | {name: self._loaded[name] for name in seats if name in self._loaded}

    def past_self(self, online_round: int, generator: torch.Generator) -> Actor:
        """Keep a copy of the learner when one is due, and draw one of those kept."""
        if self._weights is None or self._load is None:
            raise ConfigError("the data module cannot copy its learner: hand it what gives its weights with `attach`")
        if not self.past or online_round % self.every == 0:
            self.past = [*self.past, self._weights()][-self.keep :]
        index = int(torch.randint(len(self.past), (1,), generator=generator, device=generator.device))
        return self._load(self.past[index])

    def newest_past_self(self) -> Actor:
        """Return the newest past self, for evaluations."""
        if not self.past or self._load is None:
            raise ConfigError(
                "the seat `past` is empty: only a `fit` with that seat keeps past selves; name others in data.partners "
                "or data.evaluation.seats"
            )
        return self._load(self.past[-1])
