"""Predict a co-player's next action from its observation and its goal."""

import torch
import torch.nn.functional as F
from lightning import LightningModule
from torch import Tensor

from omg_lightning.encoders import ModelSpec
from omg_lightning.losses import masked_logits
from omg_lightning.types import View


class ActionPredictor(LightningModule):
    """Goal-conditioned co-player policies `pi_j(a_j | o_j, t, g_j)` on the co-player's own observation.

    Args:
        spec: description of the game, and the networks.
        goal_size: D, length of a goal vector.
    """

    def __init__(self, spec: ModelSpec, goal_size: int) -> None:
        super().__init__()
        self.goal_size = goal_size
        self.net = spec.make_goal_net(goal_size, spec.game.num_actions)

    def condition(self, goal: Tensor, seat: Tensor) -> Tensor:
        """Return the goal inputs of `forward` for goals `[M, D]` of seats, int64 `[M]`."""
        return self.net.condition(goal, seat)

    def forward(self, observation: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        """Return logits `[M, A]` for observations `[M, ...]` at `time` `[M]` under `condition`."""
        return self.net(observation, time, condition)

    def loss(
        self, observation: Tensor, time: Tensor, goal: Tensor, seat: Tensor, legal: Tensor, action: Tensor
    ) -> dict[str, Tensor]:
        """Return the cross entropy `coplayer` of the co-players' actions, and the accuracy `coplayer_top1`.

        Args:
            observation: observation of the co-player, `[m, ...]` in any form that the encoder accepts.
            time: float `[m]`.
            goal: float `[m, D]`.
            seat: int64 `[m]` the co-player's.
            legal: bool `[m, A]`.
            action: int64 `[m]`.
        """
        logits = masked_logits(self(observation, time, self.condition(goal, seat)), legal)
        count = max(len(action), 1)  # the mean of no samples is NaN
        return {
            "coplayer": F.cross_entropy(logits, action, reduction="sum") / count,
            "coplayer_top1": (logits.detach().argmax(-1) == action).sum() / count,
        }

    def likelihood(self, view: View, actions: Tensor) -> Tensor:
        """Return log probabilities `[L, P, G]` of `actions` `[L, P]` under each one-hot goal."""
        rows, seats = actions.shape
        time = view.time.repeat_interleave(seats)
        seat = torch.arange(seats, device=actions.device).repeat(rows)
        each = self.under_each_goal(view.observation.flatten(0, 1), time, seat, view.legal.flatten(0, 1))
        index = actions.flatten()[:, None, None].expand(-1, self.goal_size, 1)
        return each.gather(-1, index).view(rows, seats, -1)

    def mixture(self, observation: Tensor, time: Tensor, seat: Tensor, legal: Tensor, belief: Tensor) -> Tensor:
        """Return the log of `sum_g b(g) pi_j(a | o_j, t, g)`, float `[m, A]`.

        Args:
            observation: `[m, *shape]`.
            time: float `[m]`.
            seat: int64 `[m]`.
            legal: bool `[m, A]`.
            belief: float `[m, G]`.
        """
        return (self.under_each_goal(observation, time, seat, legal) + belief.log()[..., None]).logsumexp(1)

    def under_each_goal(self, observation: Tensor, time: Tensor, seat: Tensor, legal: Tensor) -> Tensor:
        """Return log policies `[m, G, A]` under each one-hot goal; each observation is encoded once."""
        rows, goals = len(observation), self.goal_size
        each = torch.eye(goals, device=observation.device).repeat(rows, 1)  # [m * G, G]
        condition = self.net.condition(each, seat.repeat_interleave(goals)).unflatten(0, (rows, goals))
        logits = self.net.under(observation, time, condition)
        return masked_logits(logits, legal[:, None]).log_softmax(-1)
