"""Policy and value of the ego, given what it takes the co-players' goals to be."""

from lightning import LightningModule
from torch import Tensor

from omg_lightning.encoders import ModelSpec


class PolicyModule(LightningModule):
    """Policy and value in one network, conditioned on the goals of all co-players.

    Args:
        spec: the game and the networks.
        goal_size: D, length of one goal vector.
    """

    def __init__(self, spec: ModelSpec, goal_size: int) -> None:
        super().__init__()
        goals = (spec.game.num_players - 1) * goal_size
        self.net = spec.make_goal_net(goals, spec.game.num_actions + 1)

    def prepare(self, observation: Tensor) -> Tensor:
        """Return views in the form that this network, and every one of its kind, reads fastest."""
        return self.net.prepare(observation)

    def condition(self, goals: Tensor, seat: Tensor) -> Tensor:
        """Return what `forward` needs of co-players' goals `[M, P-1, D]`, in ego order, and the ego's seat `[M]`."""
        return self.net.condition(goals.flatten(1), seat)

    def forward(self, observation: Tensor, time: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits `[M, A]` and value `[M]` of views `[M, ...]` at `time` `[M]` under `condition`."""
        out = self.net(observation, time, condition)
        return out[:, :-1], out[:, -1]

    def goal_values(self, observation: Tensor, time: Tensor, goals: Tensor, seat: Tensor) -> Tensor:
        """Return values `[M, K]` of views from seats `[M]` under each of K sets of goals, `[M, K, P-1, D]`."""
        sets = goals.shape[:2]
        condition = self.condition(goals.flatten(0, 1), seat.repeat_interleave(sets[1]))
        return self.net.under(observation, time, condition.unflatten(0, sets))[..., -1]
