"""The contract of learning algorithms: how the learner acts, and its losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from lightning import LightningModule
from torch import Tensor

from omg_lightning.actors import Actor
from omg_lightning.encoders import ModelSpec
from omg_lightning.samples import TrainingBatch, Values
from omg_lightning.types import GoalModel, OnPolicy


class Algorithm(LightningModule, ABC):
    """A learning algorithm: one class, in one file.

    Users choose it by `--model.algorithm NAME`, with its own arguments below that key. The first two arguments of its
    constructor are the `ModelSpec` and D, the length of the opponent model's goal vectors.
    `omg_lightning.testing.check_algorithm` checks a subclass.

    Args:
        spec: description of the game, and the networks.
        goal_size: D.

    Attributes:
        loss_weights: name and weight of each loss that `losses` can return. A loss without a weight raises an error;
            tensors without a gradient are logged as metrics.
        discount: per step; also for the discounted return of evaluations.
        on_policy: passes and minibatches of a round's episodes, for an algorithm that needs data of the current policy;
            None if the buffer may hold older episodes.
        searches: whether acting needs a game whose states can be stepped.
    """

    loss_weights: ClassVar[Mapping[str, float]] = {}
    discount: float = 1.0
    on_policy: OnPolicy | None = None
    searches: bool = False

    def __init__(self, spec: ModelSpec, goal_size: int) -> None:
        super().__init__()
        self.spec, self.goal_size = spec, goal_size
        self.weights: dict[str, float] = dict(self.loss_weights)  # the agent sets the user's weights here

    @abstractmethod
    def actor(self, opponent: GoalModel) -> Actor:
        """Return an actor that plays with the current weights and with `opponent`.

        Its `records` are the extra fields that `losses` finds in `Episodes.extras`.
        """

    @abstractmethod
    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Return the current losses by name, and metrics without a gradient.

        Args:
            batch: whole episodes; `batch.goals` are the co-players' goals for training, `batch.reward` the rewards.
        """

    def prepare(self, observation: Tensor) -> Tensor:
        """Return views `[M, *shape]` in the form that all networks read fastest; by default as float."""
        return observation.float()

    def values(self) -> Values | None:
        """Return the value head, which the subgoal selector uses; None without one."""
        return None

    def trains(self, name: str) -> bool:
        """Return whether the loss `name` has a weight above 0."""
        return self.weights.get(name, 0.0) > 0
