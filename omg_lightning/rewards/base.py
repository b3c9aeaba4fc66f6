"""The contract of rewards that are learned from, and the game's own."""

from abc import ABC, abstractmethod

from torch import Tensor

from omg_lightning.types import Episodes, GoalModel


class Reward(ABC):
    """Rewards for learning only; returns that are reported are always the game's own.

    It is chosen by `--model.reward NAME`, with its own arguments below that key.

    Attributes:
        same_as_game: True for the game's own rewards, the only ones that a search can plan with.
    """

    same_as_game: bool = False

    @abstractmethod
    def reward(self, episodes: Episodes, opponent: GoalModel) -> Tensor:
        """Return the rewards to learn from, float `[T, B, P]`.

        Args:
            episodes: whole episodes, `[T, B, P, ...]`.
            opponent: the learner's opponent model, for rewards that depend on predictions.
        """


class GameReward(Reward):
    """The game's own rewards."""

    same_as_game = True

    def reward(self, episodes: Episodes, opponent: GoalModel) -> Tensor:
        """Return the game's rewards, float `[T, B, P]`."""
        return episodes.reward
