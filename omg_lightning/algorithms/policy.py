"""Policy and value of the ego, given what it takes the co-players' goals to be."""

from lightning import LightningModule
from torch import Tensor

from omg_lightning.losses import masked_logits, soft_cross_entropy
from omg_lightning.encoders.networks import Sharing, goal_net
from omg_lightning.encoders.trunk import TrunkKind


class PolicyModule(LightningModule):
    """Prior policy and value for the search, conditioned on the goals of all co-players.

    Args:
        observation_shape: `(C, h, w)`.
        num_players: P.
        num_actions: A.
        goal_size: D, length of one goal vector.
        hidden: width.
        trunk: kind of `Trunk`.
        sharing: of the network among the seats that it plays.
        walls: see `Trunk`.
    """

    def __init__(
        self,
        observation_shape: tuple[int, int, int],
        num_players: int,
        num_actions: int,
        goal_size: int,
        hidden: int = 128,
        trunk: TrunkKind = "mlp",
        sharing: Sharing = "shared",
        walls: int | None = None,
    ) -> None:
        super().__init__()
        goals = (num_players - 1) * goal_size
        self.net = goal_net(observation_shape, goals, num_actions + 1, hidden, trunk, num_players, sharing, walls)

    def places(self, observation: Tensor) -> Tensor:
        """The form of views `[M, C, h, w]` that this network, and every one of its kind, reads fastest: see `Trunk`."""
        return self.net.places(observation)

    def condition(self, goals: Tensor, seat: Tensor) -> Tensor:
        """What `forward` takes of the co-players' goals `[M, P-1, D]`, in ego order, and the ego's seat `[M]`."""
        return self.net.condition(goals.flatten(1), seat)

    def forward(self, observation: Tensor, time: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Logits `[M, A]` and value `[M]` of views `[M, C, h, w]` at `time` `[M]` under `condition`."""
        out = self.net(observation, time, condition)
        return out[:, :-1], out[:, -1]

    def goal_values(self, observation: Tensor, time: Tensor, goals: Tensor, seat: Tensor) -> Tensor:
        """Values `[M, K]` of views from seats `[M]` under each of K sets of goals, `[M, K, P-1, D]`."""
        sets = goals.shape[:2]
        condition = self.condition(goals.flatten(0, 1), seat.repeat_interleave(sets[1]))
        return self.net.under(observation, time, condition.unflatten(0, sets))[..., -1]

    def loss(
        self,
        observation: Tensor,
        time: Tensor,
        goals: Tensor,
        seat: Tensor,
        legal: Tensor,
        policy: Tensor,
        value: Tensor,
    ) -> dict[str, Tensor]:
        """Cross entropy to the search's policy, `policy`, and squared error to the return, `value`.

        Args:
            observation: the ego's view at planned steps, `[m, ...]` in either form that `Trunk` reads.
            time: float `[m]`.
            goals: float `[m, P-1, D]` the co-players' goals in ego order.
            seat: int64 `[m]` the ego's.
            legal: bool `[m, A]`.
            policy: float `[m, A]` root policies.
            value: float `[m]` discounted returns.
        """
        logits, predicted = self(observation, time, self.condition(goals, seat))
        count = max(len(value), 1)  # an empty mean is NaN; offline there are no planned steps
        return {
            "policy": soft_cross_entropy(masked_logits(logits, legal), policy).sum() / count,
            "value": ((predicted - value) ** 2).sum() / count,
        }

    def value_loss(
        self, observation: Tensor, time: Tensor, goals: Tensor, seat: Tensor, value: Tensor
    ) -> dict[str, Tensor]:
        """The loss `value` alone; arguments as in `loss`."""
        _, predicted = self(observation, time, self.condition(goals, seat))
        return {"value": ((predicted - value) ** 2).sum() / max(len(value), 1)}
