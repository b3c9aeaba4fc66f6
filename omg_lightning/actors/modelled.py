"""Actors with an opponent model: they infer goals, and decide given the inferred goals."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from omg_lightning.actors.base import Actor, Choice, Scene
from omg_lightning.envs.base import Step, VectorEnv
from omg_lightning.search import SearchResult
from omg_lightning.types import Episodes, Estimate, GoalModel, Record


class Memory(NamedTuple):
    """The memory within an episode; leading L."""

    mine: Tensor  # bool [L, P] the seats that it plays
    opponent: Any  # memory of the opponent model
    own: Any  # memory of the subclass


class Decision(NamedTuple):
    """Decisions of M egos."""

    action: Tensor  # int64 [M]
    extras: Mapping[str, Tensor]  # [M, ...] see `Actor.records`
    notes: Mapping[str, float] = {}
    searched: SearchResult | None = None  # see `Choice`


@dataclass(frozen=True)
class ModelActor(Actor):
    """Infers the goals of all seats at each step, and decides for its own seats.

    Args:
        opponent: infers goals, see `omg_lightning.opponents.OpponentModel`.
    """

    opponent: GoalModel

    @property
    def goal_size(self) -> int:  # type: ignore[override]
        """D."""
        return self.opponent.size

    @property
    def needs_true_goal(self) -> bool:  # type: ignore[override]
        """As in the opponent model."""
        return self.opponent.needs_true_goal

    @property
    def goals_are_cells(self) -> bool:  # type: ignore[override]
        """As in the opponent model."""
        return self.opponent.goals_are_cells

    @property
    def records(self) -> Mapping[str, Record]:  # type: ignore[override]
        """What the opponent model records; a subclass adds its own."""
        return self.opponent.records

    def prior(self, batch_size: int) -> Tensor:
        """Return the opponent model's prior, leading B."""
        return self.opponent.prior(batch_size)

    def start(self, env: VectorEnv, mine: Tensor, prior: Tensor | None, generator: torch.Generator) -> Memory:
        """Start the opponent model, without true goals."""
        assert prior is not None
        unknown = torch.full_like(mine, -1, dtype=torch.int64)
        return Memory(mine, self.opponent.start(prior, unknown), None)

    def with_true_goal(self, memory: Memory, prior: Tensor | None, true_goal: Tensor) -> Memory:
        """Restart the opponent model with the current true goals, which may change within an episode."""
        assert prior is not None
        return memory._replace(opponent=self.opponent.start(prior, true_goal))

    def act(self, memory: Memory, scene: Scene) -> Choice:
        """Infer goals, then decide for all of its seats that are still active."""
        active = scene.view.active
        estimate = of_present(self.opponent.infer(memory.opponent, scene.view), active)
        mine = memory.mine & active
        action = torch.zeros_like(active, dtype=torch.int64)
        extras = {
            name: torch.zeros(*active.shape, *record.shape, dtype=record.dtype, device=active.device)
            for name, record in self.records.items()
        } | dict(estimate.extras)
        notes: Mapping[str, float] = {}
        searched = None
        if bool(mine.any()):
            rows, ego = mine.nonzero(as_tuple=True)
            found = self.decide(memory, scene, estimate, rows, ego)
            action[rows, ego], notes, searched = found.action, found.notes, found.searched
            for name, values in found.extras.items():
                extras[name][rows, ego] = values
        return Choice(mine, action, estimate.point, extras, notes, searched)

    @abstractmethod
    def decide(self, memory: Memory, scene: Scene, estimate: Estimate, rows: Tensor, ego: Tensor) -> Decision:
        """Decide for M egos.

        Args:
            memory: of the episode so far.
            scene: the step.
            estimate: goals of all seats, leading L.
            rows: int64 `[M]` environment of each decision.
            ego: int64 `[M]` seat of each decision.
        """

    def observe(self, memory: Memory, scene: Scene, actions: Tensor, step: Step) -> tuple[Memory, Mapping[str, Tensor]]:
        """Update the opponent model with all actions and achieved goals."""
        return memory._replace(opponent=self.opponent.update(memory.opponent, scene.view, actions, step.achieved)), {}

    def carry(self, prior: Tensor | None, episodes: Episodes) -> Tensor:
        """Return the opponent model's prior of the next episode."""
        assert prior is not None
        return self.opponent.carry(prior, episodes)


def of_present(estimate: Estimate, active: Tensor) -> Estimate:
    """Return the estimate with goals set to 0 for seats that have left, as in training; `active` is bool `[L, P]`."""

    def draw(trees: int, generator: torch.Generator) -> Tensor:
        return torch.where(active[:, None, :, None], estimate.draw(trees, generator), 0.0)

    return Estimate(torch.where(active[..., None], estimate.point, 0.0), draw, estimate.extras)
