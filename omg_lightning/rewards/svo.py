"""Social value orientation: an angle weighs the other players' rewards against a seat's own."""

import math
from typing import Literal

import torch
from torch import Tensor

from omg_lightning.rewards.base import Reward, others_mean
from omg_lightning.types import ConfigError, Episodes, GoalModel


class SVO(Reward):
    """Weighs a seat's own reward r against the mean reward o of all other seats by an angle.

    At 0 degrees a seat is selfish, at 45 prosocial, at 90 altruistic, at -45 competitive. Two forms:

    - `ring`: `cos(angle) * r + sin(angle) * o` (the ring measure of Liebrand 1984; Schwarting et al. 2019,
      https://doi.org/10.1073/pnas.1820676116).
    - `angle`: `r - weight * |angle - atan2(o, r)|`, in radians: the reward minus the weighted distance of the achieved
      angle from the target angle (McKee et al. 2020, arXiv 2002.02325). If r and o are both 0, the angle is undefined
      and the second term is 0.

    A seat that has left gets no reward, because it has no more steps to train on.

    Args:
        angle: target angle in degrees, from -180 to 180.
        form: `ring` or `angle`.
        weight: weight of the distance between angles; for the form `angle` only.

    Raises:
        ConfigError: a setting is out of range.
    """

    def __init__(self, angle: float = 45.0, form: Literal["ring", "angle"] = "ring", weight: float = 0.2) -> None:
        if not -180 <= angle <= 180:
            raise ConfigError(f"model.reward.angle is {angle}: it must lie between -180 and 180 degrees")
        if form not in ("ring", "angle"):
            raise ConfigError(f"model.reward.form is {form!r}: expected ring or angle")
        if not 0 <= weight < math.inf:
            raise ConfigError(f"model.reward.weight is {weight}: it must be at least 0 and finite")
        self.angle, self.form, self.weight = math.radians(angle), form, weight

    def reward(self, episodes: Episodes, opponent: GoalModel) -> Tensor:
        """Return the weighted rewards, float `[T, B, P]`; 0 at padding."""
        own, others = episodes.reward, others_mean(episodes.reward)
        if self.form == "ring":
            mixed = math.cos(self.angle) * own + math.sin(self.angle) * others
        else:
            apart = (self.angle - torch.atan2(others, own)).abs()
            apart = torch.minimum(apart, 2 * math.pi - apart)  # the shorter way around the circle
            mixed = own - self.weight * torch.where((own == 0) & (others == 0), 0.0, apart)
        return mixed * episodes.active
