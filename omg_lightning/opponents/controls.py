"""Controls that withhold the inferred goals of an opponent model, to measure whether goals change play."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from omg_lightning.types import Episodes, Estimate, GoalModel, View

_SEED = 104_729  # the shuffled order is the same in each episode: acting is a pure function


class Control(ABC):
    """An opponent model that withholds the goals of another one, as its subclass defines.

    Args:
        source: the model whose goals are withheld.
    """

    def __init__(self, source: GoalModel) -> None:
        self.source = source
        self.size, self.needs_true_goal, self.records = source.size, source.needs_true_goal, source.records
        self.goals_change, self.goals_are_cells = source.goals_change, source.goals_are_cells
        self.condition, self.predict, self.next_goal = source.condition, source.predict, source.next_goal
        self.as_seen = source.as_seen

    def prior(self, batch_size: int) -> Tensor:
        """Return the prior of the source, float `[B, P, ...]`."""
        return self.source.prior(batch_size)

    def start(self, prior: Tensor, true_goal: Tensor) -> Any:
        """Return the source's memory from `[B, P, ...]` and `[B, P]`."""
        return self.source.start(prior, true_goal)

    @abstractmethod
    def infer(self, memory: Any, view: View) -> Estimate:
        """Return the uninformative goals."""

    def uninformed(self, memory: Any, view: View) -> Estimate:
        """Return the goals before any observation."""
        return self.source.uninformed(memory, view)

    @abstractmethod
    def update(self, memory: Any, view: View, actions: Tensor, achieved: Tensor) -> Any:
        """Return the memory after a step."""

    def carry(self, prior: Tensor, episodes: Episodes) -> Tensor:
        """Return the source's prior of the next episode."""
        return self.source.carry(prior, episodes)


class Ranked(NamedTuple):
    """The memory of shuffled goals."""

    inner: Any  # of the source itself, leading L
    rank: Tensor  # float [L] a row gets the goals of the row with the next rank


class ShuffledGoals(Control):
    """Gives each environment the goals that were inferred in another one, for the same seat at the same step.

    Shuffled goals have the usual distribution, but no information about the co-players. Environments form a circle in a
    random order, fixed per episode. Each gets the goals of the next environment that is still running; the last one
    gets its own.

    Args:
        source: infers the goals.
    """

    def start(self, prior: Tensor, true_goal: Tensor) -> Ranked:
        """Return the source's memory from `[B, P, ...]` and `[B, P]`, and the order of the circle."""
        rank = torch.rand(len(true_goal), generator=torch.Generator().manual_seed(_SEED)).to(true_goal.device)
        return Ranked(self.source.start(prior, true_goal), rank)

    def infer(self, memory: Ranked, view: View) -> Estimate:
        """Return the goals of another environment."""
        order = memory.rank.argsort()
        giver = torch.empty_like(order)
        giver[order] = order.roll(-1)  # [L]
        found = self.source.infer(memory.inner, view)
        return Estimate(found.point[giver], lambda trees, generator: found.draw(trees, generator)[giver])

    def update(self, memory: Ranked, view: View, actions: Tensor, achieved: Tensor) -> Ranked:
        """Update the source, which continues to infer every seat's own goals."""
        return memory._replace(inner=self.source.update(memory.inner, view, actions, achieved))


class UninformedGoals(Control):
    """Samples random goals, without any update within or between episodes; see `OpponentModel.uninformed`.

    Args:
        source: the model whose goals are withheld.
    """

    def __init__(self, source: GoalModel) -> None:
        super().__init__(source)
        self.needs_true_goal = False

    def infer(self, memory: Any, view: View) -> Estimate:
        """Return the goals before any observation."""
        return self.source.uninformed(memory, view)

    def update(self, memory: Any, view: View, actions: Tensor, achieved: Tensor) -> Any:
        """Return the memory unchanged."""
        return memory

    def carry(self, prior: Tensor, episodes: Episodes) -> Tensor:
        """Return the prior unchanged."""
        return prior
