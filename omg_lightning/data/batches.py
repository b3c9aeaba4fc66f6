"""The episodes of one training batch after the other: samples of the buffer, or passes over the newest round."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from omg_lightning import ranks
from omg_lightning.actors import Actor
from omg_lightning.data.buffer import EpisodeBuffer
from omg_lightning.data.settings import TrainingConfig
from omg_lightning.games.grid.symmetry import Symmetries
from omg_lightning.types import Episodes, OnPolicy


class Batches:
    """Draws the batches of a round. A run that is resumed within a round first repeats its earlier draws.

    Args:
        training: sizes.
        symmetries: of the board, for augmentation; None for none.
    """

    def __init__(self, training: TrainingConfig, symmetries: Symmetries | None) -> None:
        self.training, self.symmetries = training, symmetries
        self._drawn = 0  # batches of this round so far
        self._passes: Iterator[Episodes] | None = None  # over this round, for on-policy algorithms
        self._before: Tensor | None = None  # state of their generator before the first batch

    def count(self, plan: OnPolicy | None) -> int:
        """Return the number of batches of a round."""
        return self.training.steps_per_epoch if plan is None else plan.epochs * plan.minibatches

    def begin(self) -> None:
        """Begin a new round."""
        self._drawn, self._passes = 0, None

    def draw(
        self, buffer: EpisodeBuffer, plan: OnPolicy | None, learner: Callable[[], Actor], random: torch.Generator
    ) -> Episodes:
        """Return the next batch.

        Args:
            buffer: with the episodes.
            plan: passes and minibatches of the newest round, for on-policy algorithms.
            learner: returns the learner in training, which knows how its records turn with the board.
            random: all randomness.
        """
        if plan is None:
            count = self.training.batch_size // ranks.size()
            episodes = self._turned(buffer.sample(count, random), learner, random)
        else:
            episodes = self._next_of_passes(buffer, plan, learner, random)
        self._drawn = (self._drawn + 1) % self.count(plan)
        return episodes

    def state_dict(self) -> dict[str, Any]:
        """Return how far the round is."""
        return {"drawn": self._drawn, "before_passes": self._before}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict`; earlier versions stored neither entry."""
        self._drawn, self._before = state.get("drawn", 0), state.get("before_passes")

    def _next_of_passes(
        self, buffer: EpisodeBuffer, plan: OnPolicy, learner: Callable[[], Actor], random: torch.Generator
    ) -> Episodes:
        if self._passes is None or self._drawn == 0:
            if self._drawn and self._before is not None:
                random.set_state(self._before)
            self._before = random.get_state()
            self._passes = buffer.passes(plan.epochs, plan.minibatches, random)
            for _ in range(self._drawn):
                self._turned(next(self._passes), learner, random)
        return self._turned(next(self._passes), learner, random)

    def _turned(self, episodes: Episodes, learner: Callable[[], Actor], random: torch.Generator) -> Episodes:
        """Return episodes on a randomly rotated or reflected board, if so configured."""
        if self.symmetries is None:
            return episodes
        index = int(torch.randint(len(self.symmetries), (1,), generator=random))
        own = learner()
        per_action = [name for name, record in own.records.items() if record.per_action]
        return self.symmetries.apply(episodes, index, own.goals_are_cells, per_action)
