"""The contract of rewards for learning, and the game's own reward."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from omg_lightning.encoders import ModelSpec
from omg_lightning.samples import TrainingBatch
from omg_lightning.types import Episodes, GoalModel


class Reward(ABC):
    """Rewards for training; reported returns are always those of the game.

    Users choose it by `--model.reward NAME`, with its own arguments below that key.
    `omg_lightning.testing.check_reward` checks a subclass. A reward with parameters also inherits `torch.nn.Module`,
    makes its networks in `build`, and names its losses in `loss_weights`.

    Attributes:
        same_as_game: True for the game's own rewards, the only ones that a search can plan with.
        loss_weights: name and weight of each loss that `losses` can return.
    """

    same_as_game: bool = False
    loss_weights: ClassVar[Mapping[str, float]] = {}

    def build(self, spec: ModelSpec) -> None:
        """Store names and sizes, and make networks, for a reward with parameters; the agent calls this once, first."""
        self.spec = spec

    @abstractmethod
    def reward(self, episodes: Episodes, opponent: GoalModel) -> Tensor:
        """Return the training rewards, float `[T, B, P]`, finite everywhere and without a gradient.

        Args:
            episodes: whole episodes, `[T, B, P, ...]`.
            opponent: the learner's opponent model, for rewards that depend on predictions.
        """

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Return the losses that are due, by name, and metrics without a gradient; none by default."""
        return {}


class GameReward(Reward):
    """The game's own rewards."""

    same_as_game = True

    def reward(self, episodes: Episodes, opponent: GoalModel) -> Tensor:
        """Return the game's rewards, float `[T, B, P]`."""
        return episodes.reward


def others_mean(reward: Tensor) -> Tensor:
    """Return the mean reward of all other seats, float `[..., P]` of rewards `[..., P]`; 0 for a seat that is alone."""
    return (reward.sum(-1, keepdim=True) - reward) / max(reward.shape[-1] - 1, 1)
