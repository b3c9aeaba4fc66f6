"""Small networks: a goal-conditioned head over a trunk that reads the view, and the planes decoder."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omg_lightning.encoders.trunk import Trunk, TrunkKind
from omg_lightning.types import PlaneLogits

Sharing = Literal["shared", "roles", "separate"]


class GoalNet(nn.Module):
    """A network of a view, conditioned on a goal vector by feature-wise modulation (FiLM, arXiv 1709.07871).

    Modulation keeps a small goal vector from drowning in the wide features of the view. It depends on the goal
    alone, so a search, in which goals are fixed for each tree, computes `condition` once and not at every node.

    Args:
        observation_shape: `(C, h, w)`.
        goal_size: D, length of the goal vector; 0 for an unconditioned network.
        outputs: number of outputs.
        hidden: width.
        kind: trunk of the network.
        seats: P where the network is told which seat it stands for, so that seats can take on roles of their own; 0
            where all are alike to it.
        players: see `Trunk`, and `walls`.
        walls: the same.
    """

    def __init__(
        self,
        observation_shape: tuple[int, int, int],
        goal_size: int,
        outputs: int,
        hidden: int,
        kind: TrunkKind = "mlp",
        seats: int = 0,
        players: int = 1,
        walls: int | None = None,
    ) -> None:
        super().__init__()
        self.trunk, self.seats = Trunk(observation_shape, hidden, kind, players, walls), seats
        self.film = nn.Linear(goal_size + seats, 2 * hidden) if goal_size + seats else None
        self.mix = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, outputs)

    def condition(self, goal: Tensor, seat: Tensor) -> Tensor:
        """Scale and shift `[M, 2 * hidden]` for goals `[M, D]` and seats, int64 `[M]`; `[M, 0]` if unconditioned."""
        if self.seats:
            goal = torch.cat([goal, F.one_hot(seat, self.seats).to(goal.dtype)], -1)
        return goal if self.film is None else self.film(goal)

    def modulate(self, features: Tensor, condition: Tensor) -> Tensor:
        """Outputs `[..., outputs]` of features `[..., hidden]` under `condition` `[..., 2 * hidden]`."""
        if condition.shape[-1]:
            scale, shift = condition.chunk(2, dim=-1)
            features = torch.addcmul(features + shift, features, scale)
        return self.out(self.mix(features).relu_())

    def forward(self, observation: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        """Outputs `[M, outputs]` for views `[M, C, h, w]` at `time` `[M]` under `condition` `[M, 2 * hidden]`."""
        return self.modulate(self.trunk(observation, time), condition)

    def places(self, observation: Tensor) -> Tensor:
        """See `Trunk.places`."""
        return self.trunk.places(observation)

    def under(self, observation: Tensor, time: Tensor, conditions: Tensor) -> Tensor:
        """Outputs `[M, K, outputs]` for views under each of `conditions` `[M, K, ...]`; a view is read once."""
        out = self.modulate(self.trunk(observation, time)[:, None], conditions)
        return out.expand(-1, conditions.shape[1], -1)  # without conditions there was one for all K


class SeatNets(nn.Module):
    """A `GoalNet` of its own for each seat, behind the same calls: which one is asked is a part of the condition.

    Args:
        seats: P.
        make: makes the network of a seat.
    """

    def __init__(self, seats: int, make: Callable[[], GoalNet]) -> None:
        super().__init__()
        self.nets = nn.ModuleList([make() for _ in range(seats)])

    def condition(self, goal: Tensor, seat: Tensor) -> Tensor:
        """Conditions `[M, ... + 1]` for goals `[M, D]` and seats, int64 `[M]`; the last entry is the seat."""
        parts = self._each(seat, lambda net, rows: net.condition(goal[rows], seat[rows]))
        return torch.cat([parts, seat[:, None].to(parts.dtype)], -1)

    def forward(self, observation: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        """Outputs `[M, outputs]`, see `GoalNet.forward`."""
        own, seat = condition[:, :-1], condition[:, -1]
        return self._each(seat, lambda net, rows: net(observation[rows], time[rows], own[rows]))

    def places(self, observation: Tensor) -> Tensor:
        """See `Trunk.places`: all seats' trunks are alike."""
        return self.nets[0].places(observation)  # type: ignore[operator]

    def under(self, observation: Tensor, time: Tensor, conditions: Tensor) -> Tensor:
        """Outputs `[M, K, outputs]`, see `GoalNet.under`; the conditions of a view are all of one seat."""
        own, seat = conditions[..., :-1], conditions[:, 0, -1]
        return self._each(seat, lambda net, rows: net.under(observation[rows], time[rows], own[rows]))

    def _each(self, seat: Tensor, ask: Callable[[GoalNet, Tensor], Tensor]) -> Tensor:
        """Asks each seat's network about the rows of that seat `[M]`, and puts the answers in their places."""
        order = [(seat == k).nonzero()[:, 0] for k in range(len(self.nets))]
        answers = [ask(net, rows) for net, rows in zip(self.nets, order, strict=True)]  # type: ignore[arg-type]
        return torch.cat(answers)[torch.cat(order).argsort()]


def goal_net(
    observation_shape: tuple[int, int, int],
    goal_size: int,
    outputs: int,
    hidden: int,
    kind: TrunkKind,
    seats: int,
    sharing: Sharing,
    walls: int | None = None,
) -> GoalNet | SeatNets:
    """The network, or networks, of P seats: one for all, one that is told the seat, or one for each."""

    def make() -> GoalNet:
        told = seats if sharing == "roles" else 0
        return GoalNet(observation_shape, goal_size, outputs, hidden, kind, told, seats, walls)

    return SeatNets(seats, make) if sharing == "separate" else make()


class PlaneDecoder(nn.Module):
    """Decodes a vector into the planes of a view.

    Args:
        size: length of the vector.
        observation_shape: `(C, h, w)`.
        num_players: P, how many of the planes are players.
        hidden: width.
    """

    def __init__(self, size: int, observation_shape: tuple[int, int, int], num_players: int, hidden: int) -> None:
        super().__init__()
        planes, height, width = observation_shape
        self.shape = (num_players, planes - num_players, height, width)
        outputs = num_players * (height * width + 1) + (planes - num_players) * height * width
        self.layers = nn.Sequential(
            nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
        )

    def forward(self, code: Tensor) -> PlaneLogits:
        """Plane logits of codes `[M, size]`."""
        players, objects, height, width = self.shape
        flat = self.layers(code)
        cut = players * (height * width + 1)
        return PlaneLogits(
            flat[:, :cut].unflatten(-1, (players, height * width + 1)),
            flat[:, cut:].unflatten(-1, (objects, height, width)),
        )
