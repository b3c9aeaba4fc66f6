"""Policy and value of the learner, conditioned on the inferred goals of its co-players."""

import torch
from lightning import LightningModule
from torch import Tensor

from omg_lightning.encoders import ModelSpec

DECAY = 0.99  # of the moving averages of returns, for each batch


class PolicyModule(LightningModule):
    """Policy and value in one network, conditioned on the goals of all co-players.

    The value head predicts returns normalised by their mean and standard deviation; its outputs are converted to the
    game's units. Returns differ by orders of magnitude between games. A network learns values of order 1 fast, and the
    loss of larger values would dominate the policy loss in shared layers. Mean and deviation are moving averages over
    batches (van Hasselt et al. 2016, arXiv 1602.07714; with PPO: Yu et al. 2022, arXiv 2103.01955).

    Args:
        spec: description of the game, and the networks.
        goal_size: D, length of one goal vector.
    """

    mean: Tensor
    variance: Tensor
    weight: Tensor

    def __init__(self, spec: ModelSpec, goal_size: int) -> None:
        super().__init__()
        goals = (spec.game.num_players - 1) * goal_size
        self.net = spec.make_goal_net(goals, spec.game.num_actions + 1)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("variance", torch.ones(()))
        self.register_buffer("weight", torch.zeros(()))  # of all returns so far: it tends to 1

    @property
    def deviation(self) -> Tensor:
        """The returns' standard deviation; at least a hundredth of their mean, since all returns may be equal."""
        return torch.maximum(self.variance.sqrt(), self.mean.abs() / 100).clamp(min=1e-6)

    def prepare(self, observation: Tensor) -> Tensor:
        """Return views in the form that this class of networks reads fastest."""
        return self.net.prepare(observation)

    def condition(self, goals: Tensor, seat: Tensor) -> Tensor:
        """Return the condition of `forward` from co-players' goals `[M, P-1, D]`, in ego order, and egos `[M]`."""
        return self.net.condition(goals.flatten(1), seat)

    def forward(self, observation: Tensor, time: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits `[M, A]` and value `[M]` of views `[M, ...]` at `time` `[M]` under `condition`."""
        out = self.net(observation, time, condition)
        return out[:, :-1], self.mean + self.deviation * out[:, -1]

    def goal_values(self, observation: Tensor, time: Tensor, goals: Tensor, seat: Tensor) -> Tensor:
        """Return values `[M, K]` of views from seats `[M]` under each of K sets of goals, `[M, K, P-1, D]`."""
        sets = goals.shape[:2]
        condition = self.condition(goals.flatten(0, 1), seat.repeat_interleave(sets[1]))
        values = self.net.under(observation, time, condition.unflatten(0, sets))[..., -1]
        return self.mean + self.deviation * values

    @torch.no_grad()
    def follow(self, returns: Tensor) -> None:
        """Update mean and variance with the returns `[M]` of a batch; an empty batch changes nothing."""
        if not len(returns):
            return
        self.weight.copy_(DECAY * self.weight + 1 - DECAY)
        # 1 for the first batch, so that no initial value enters; never above 1 by rounding: the variance is positive.
        share = ((1 - DECAY) / self.weight).clamp(max=1)
        apart = returns.mean() - self.mean
        spread = returns.var(correction=0) + (1 - share) * apart**2
        self.variance.copy_((1 - share) * self.variance + share * spread)
        self.mean.add_(share * apart)

    def value_error(self, value: Tensor, returns: Tensor) -> Tensor:
        """Return squared errors `[M]` of values `[M]`, in units of the returns' variance."""
        return ((value - returns) / self.deviation) ** 2
