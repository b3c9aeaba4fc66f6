"""Rewards that include the rewards of the others."""

from torch import Tensor

from omg_lightning.rewards.base import Reward
from omg_lightning.types import ConfigError, Episodes, GoalModel


class Prosocial(Reward):
    """Mixes each seat's reward with the mean over all seats.

    A seat that has left gets no reward, because it has no more steps to train on.

    Args:
        weight: weight of the mean; with 1 every seat gets the mean, with 0 its own reward.

    Raises:
        ConfigError: the weight is not between 0 and 1.
    """

    def __init__(self, weight: float = 1.0) -> None:
        if not 0 <= weight <= 1:
            raise ConfigError(f"model.reward.weight is {weight}: it must lie between 0 and 1")
        self.weight = weight

    def reward(self, episodes: Episodes, opponent: GoalModel) -> Tensor:
        """Return `(1 - weight) * own + weight * mean`, float `[T, B, P]`; 0 at padding."""
        own = episodes.reward
        mixed = (1 - self.weight) * own + self.weight * own.mean(-1, keepdim=True)
        return mixed * episodes.active
