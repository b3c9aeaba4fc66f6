"""Rewards for the steps on the way: a bonus for each declared goal that a seat achieves."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from omg_lightning.encoders import ModelSpec
from omg_lightning.rewards.base import Reward
from omg_lightning.types import ConfigError, Episodes, GoalModel


class GoalBonus(Reward):
    """Adds a bonus for each declared goal that a seat achieves itself: a shaped reward, where the game's own is rare.

    In Overcooked `{pot_onion: 3, take_dish: 3, take_soup: 5}` is the shaped reward of the original (Carroll et al.,
    NeurIPS 2019, arXiv 1910.05789).

    Args:
        bonus: by the names of the game's declared goals; a goal that is not named earns nothing more.

    Raises:
        ConfigError: a bonus is not finite, or the game declares no goal of that name.
    """

    def __init__(self, bonus: Mapping[str, float] | None = None) -> None:
        self.bonus = dict(bonus or {})
        for name, value in self.bonus.items():
            if not math.isfinite(value):
                raise ConfigError(f"model.reward.bonus of {name} is {value}: expected a finite number")

    def build(self, spec: ModelSpec) -> None:
        """Look up the goals."""
        super().build(spec)
        known = spec.game.goal_names
        if unknown := [name for name in self.bonus if name not in known]:
            raise ConfigError(
                f"model.reward.bonus names {unknown[0]!r}, but {spec.game.name} declares "
                f"{', '.join(known) or 'no goals'}: use names of its goals"
            )
        self._values = [*(float(self.bonus.get(name, 0.0)) for name in known), 0.0]  # the last for NO_GOAL, -1

    def reward(self, episodes: Episodes, opponent: GoalModel) -> Tensor:
        """Return the game's rewards and the bonus of what each seat achieved, float `[T, B, P]`; 0 at padding."""
        values = torch.tensor(self._values, device=episodes.reward.device)
        return torch.where(episodes.active, episodes.reward + values[episodes.achieved_goal], 0.0)
