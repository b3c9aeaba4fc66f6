"""Small networks: a trunk that reads a view, a goal-conditioned head, and the planes decoder."""

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omg_lightning.types import PlaneLogits

TrunkKind = Literal["mlp", "conv"]


class Trunk(nn.Module):
    """Reads one view and the time into features.

    `mlp` is one dense layer over the flattened planes: on small boards it is by far the cheaper on a CPU.
    `conv` is the published 3x3 16-32-32 stack (HOP, ICML 2024, appendix) and a dense layer.

    Args:
        observation_shape: `(C, h, w)`.
        hidden: number of features.
        kind: `mlp` or `conv`.
    """

    def __init__(self, observation_shape: tuple[int, int, int], hidden: int, kind: TrunkKind = "mlp") -> None:
        super().__init__()
        self.shape = observation_shape
        planes, height, width = observation_shape
        layers: list[nn.Module] = []
        if kind == "conv":
            for channels in (16, 32, 32):
                layers += [nn.Conv2d(planes, channels, 3, padding=1), nn.ReLU()]
                planes = channels
        self.planes = nn.Sequential(*layers, nn.Flatten())
        self.dense = nn.Linear(planes * height * width + 1, hidden)
        self._known: tuple[tuple[Any, ...], Tensor, Tensor] | None = None  # see `_tables`

    def forward(self, observation: Tensor, time: Tensor) -> Tensor:
        """Features, float `[M, hidden]`, of views at `time` `[M]`, the share of the episode gone.

        Views are planes `[M, C, h, w]`, or what a game's sparse `observe` gives: integers `[M, n]`, the places in the
        flattened planes where there is a 1, and `C * h * w` for none.
        """
        if observation.is_floating_point() or len(self.planes) > 1:
            flat = self.planes(self._dense(observation))
            return self.dense(torch.cat([flat, time[:, None].to(flat.dtype)], dim=-1)).relu_()
        places, clock = self._tables()
        late = torch.addcmul(self.dense.bias, time[:, None].to(clock.dtype), clock)
        return late.add_(F.embedding_bag(observation, places, mode="sum")).relu_()

    def _tables(self) -> tuple[Tensor, Tensor]:
        """The weights of each place, `[C * h * w + 1, hidden]`, with zeros for none; and of the time, `[hidden]`.

        A search reads millions of views with the same weights: what was made for these very weights is used again.
        """
        weight = self.dense.weight
        learning = torch.is_grad_enabled() or weight.is_inference()
        key = () if learning else (weight._version, weight.data_ptr(), weight.dtype, weight.device)
        if learning or self._known is None or self._known[0] != key:
            places = torch.cat([weight[:, :-1].t(), torch.zeros_like(weight[:, :1]).t()])
            clock = weight[:, -1].contiguous()
            if learning:
                return places, clock
            self._known = key, places, clock
        return self._known[1:]

    def _dense(self, observation: Tensor) -> Tensor:
        """Planes `[M, C, h, w]` of a view in either form."""
        if observation.is_floating_point():
            return observation
        flat = self.dense.weight.new_zeros(len(observation), math.prod(self.shape) + 1)
        return flat.scatter_(1, observation.long(), 1.0)[:, :-1].unflatten(1, self.shape)


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
    """

    def __init__(
        self,
        observation_shape: tuple[int, int, int],
        goal_size: int,
        outputs: int,
        hidden: int,
        kind: TrunkKind = "mlp",
    ) -> None:
        super().__init__()
        self.trunk = Trunk(observation_shape, hidden, kind)
        self.film = nn.Linear(goal_size, 2 * hidden) if goal_size else None
        self.mix = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, outputs)

    def condition(self, goal: Tensor) -> Tensor:
        """Scale and shift `[M, 2 * hidden]` for goals `[M, D]`; empty `[M, 0]` for an unconditioned network."""
        return goal[:, :0] if self.film is None else self.film(goal)

    def modulate(self, features: Tensor, condition: Tensor) -> Tensor:
        """Outputs `[M, outputs]` for features `[M, hidden]` under `condition` of `condition()`."""
        if condition.shape[-1]:
            scale, shift = condition.chunk(2, dim=-1)
            features = torch.addcmul(features + shift, features, scale)
        return self.out(self.mix(features).relu_())

    def forward(self, observation: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        """Outputs `[M, outputs]` for views `[M, C, h, w]` at `time` `[M]` under `condition` `[M, 2 * hidden]`."""
        return self.modulate(self.trunk(observation, time), condition)


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
