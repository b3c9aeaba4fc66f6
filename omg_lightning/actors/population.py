"""The learners that can take a seat: the one in training, checkpoints, and past selves."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from omg_lightning.actors.base import Actor
from omg_lightning.actors.seating import CHECKPOINT, LEARNER
from omg_lightning.types import ConfigError

Weights = dict[str, Tensor]


class Population:
    """Returns actors by the names of seats; caches loaded checkpoints and past selves.

    Args:
        every: online rounds between two past selves.
        keep: number of past selves; the oldest ones are dropped.
    """

    def __init__(self, every: int, keep: int) -> None:
        self.every, self.keep = every, keep
        self.past: list[Weights] = []  # the learner's past selves, the newest last
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
        """Set the learner's callables, see `EpisodeDataModule.attach`."""
        self._learner, self._load, self._weights = learner, load, weights

    def learners(self, seats: Sequence[str]) -> dict[str, Actor]:
        """Return the actors of these seats, and always the learner in training: it infers goals even without a seat."""
        if self._learner is None or self._load is None:
            raise ConfigError("the data module has no learner yet: pass one with `attach`, as Agent.setup does")
        for name in seats:
            if name.startswith(CHECKPOINT) and name not in self._loaded:
                self._loaded[name] = self._load(name.removeprefix(CHECKPOINT))
        return {LEARNER: self._learner()} | {name: self._loaded[name] for name in seats if name in self._loaded}

    def past_self(self, online_round: int, generator: torch.Generator) -> Actor:
        """Store a copy of the learner when one is due, and sample one of the stored copies."""
        if self._weights is None or self._load is None:
            raise ConfigError("the data module cannot copy its learner: pass a function for its weights with `attach`")
        if not self.past or online_round % self.every == 0:
            self.past = [*self.past, self._weights()][-self.keep :]
        index = int(torch.randint(len(self.past), (1,), generator=generator, device=generator.device))
        return self._load(self.past[index])

    def newest_past_self(self) -> Actor:
        """Return the newest past self, for evaluations."""
        if not self.past or self._load is None:
            raise ConfigError(
                "the seat `past` has no past self: only `fit` with that seat stores some; give other names in "
                "data.partners or data.evaluation.seats"
            )
        return self._load(self.past[-1])
