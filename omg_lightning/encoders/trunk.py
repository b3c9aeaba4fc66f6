"""What reads a view: the first layer of every network."""

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omg_lightning.games.grid.paths import Facts, facts_of, in_rows

TrunkKind = Literal["mlp", "centred", "paths", "conv"]


class Trunk(nn.Module):
    """Reads one view and the time into features.

    `mlp` is one dense layer over the flattened planes: on small boards it is by far the cheapest on a CPU.
    `centred` is the same over planes that are moved so that the viewer is in the middle, and over its absolute place:
    what lies two cells to the left is the same input wherever the viewer is, so much less is to be learned. It costs
    no more, for the ones are few. `paths` is told, besides, how far it is to walk to each other player and thing,
    which first steps lead there, and who else is near (`omg_lightning.games.grid.paths.Facts`): around walls that is hard to
    learn to see. `conv` is the published 3x3 16-32-32 stack (HOP, ICML 2024, appendix) and a dense layer.

    Args:
        observation_shape: `(C, h, w)`; plane 0 is the viewer.
        hidden: number of features.
        kind: `mlp`, `centred`, `paths` or `conv`.
        players: P, how many of the planes are players, for `paths`.
        walls: the plane of cells that nobody can walk on, for `paths`.
    """

    frame: Tensor

    def __init__(
        self,
        observation_shape: tuple[int, int, int],
        hidden: int,
        kind: TrunkKind = "mlp",
        players: int = 1,
        walls: int | None = None,
    ) -> None:
        super().__init__()
        self.shape, self.centred = observation_shape, kind in ("centred", "paths")
        self.facts = Facts.of(observation_shape, players, walls) if kind == "paths" else None
        planes, height, width = observation_shape
        layers: list[nn.Module] = []
        if kind == "conv":
            for channels in (16, 32, 32):
                layers += [nn.Conv2d(planes, channels, 3, padding=1), nn.ReLU()]
                planes = channels
        self.planes = nn.Sequential(*layers, nn.Flatten())
        inputs = planes * (2 * height - 1) * (2 * width - 1) if self.centred else planes * height * width
        self.inputs = inputs + (self.facts.size if self.facts else 0)
        self.dense = nn.Linear(self.inputs + 1, hidden)
        if self.centred:
            bound = (planes * height * width + 1) ** -0.5  # as many inputs as `mlp` has can be other than 0
            nn.init.uniform_(self.dense.weight, -bound, bound)
        facts = self.facts.size if self.facts else 0
        self.register_buffer("frame", _frame(observation_shape, facts), persistent=False)
        self._known: tuple[tuple[Any, ...], Tensor, Tensor] | None = None  # see `_tables`

    def forward(self, observation: Tensor, time: Tensor) -> Tensor:
        """Features, float `[M, hidden]`, of views at `time` `[M]`, the share of the episode gone.

        Views are planes `[M, C, h, w]`, or what a game's sparse `observe` gives: integers `[M, n]`, the places in the
        flattened planes where there is a 1, and `C * h * w` for none. For `paths` they name the `Facts`, too.
        """
        if len(self.planes) > 1:
            flat = self.planes(self._dense(observation))
            return self.dense(torch.cat([flat, time[:, None].to(flat.dtype)], dim=-1)).relu_()
        # Planes are nearly empty: to sum the weights of what is not 0 is several times faster than to multiply all.
        places, weights = self._sparse(observation) if observation.is_floating_point() else (observation, None)
        table, clock = self._tables()
        if self.centred:
            places = self._centre(places)
        late = torch.addcmul(self.dense.bias, time[:, None].to(clock.dtype), clock)
        return late.add_(F.embedding_bag(places, table, mode="sum", per_sample_weights=weights)).relu_()

    def places(self, observation: Tensor) -> Tensor:
        """The form of views `[M, C, h, w]` that all trunks like this read fastest, so that each need not look for it.

        Places, see `forward`; the planes as they are where they hold anything but 0 and 1, and for `conv`.
        """
        if len(self.planes) > 1:
            return observation
        places, weights = self._sparse(observation)
        return places if bool(((weights == 0) | (weights == 1)).all()) else observation

    def _tables(self) -> tuple[Tensor, Tensor]:
        """The weights of each place, `[inputs + 1, hidden]`, with zeros for none; and of the time, `[hidden]`.

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

    def _sparse(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        """Planes `[M, C, h, w]` as places, int32 `[M, n]`, and what is there, `[M, n]`; with the facts, for `paths`."""
        flat, rows = planes.flatten(1), len(planes)
        row, place = flat.nonzero(as_tuple=True)
        places = in_rows(place.int(), row, rows, flat.shape[1])
        weights = in_rows(flat[row, place].to(self.dense.weight), row, rows, 0)
        if self.facts is None:
            return places, weights
        told = facts_of(planes, self.facts)
        return torch.cat([places, told], 1), F.pad(weights, (0, told.shape[1]), value=1.0)

    def _centre(self, places: Tensor) -> Tensor:
        """Places `[M, n]` where they are once the viewer, who keeps its absolute place, is moved to the middle."""
        _, height, width = self.shape
        columns, area = 2 * width - 1, height * width
        own = places.amin(1, keepdim=True)  # the viewer's, for it is in the first plane
        own = torch.where(own < area, own, 0)
        still = self.frame.index_select(0, places.flatten()).view_as(places)
        moved = still - (own // width * columns + own % width)
        stays = places < area
        if self.facts:
            stays |= places >= self.facts.start
        return torch.where(stays, still, moved).clamp_max_(self.inputs)


def for_codes(kind: TrunkKind) -> TrunkKind:
    """The kind of trunk for codes of whole states, which must say where things are: `centred` reads that poorly."""
    return "mlp" if kind in ("centred", "paths") else kind


def _frame(shape: tuple[int, int, int], facts: int) -> Tensor:
    """For each place in flattened planes, and none, where it is in planes centred on the first cell.

    Plane 0 stays as it is. What stands for none is so large that it still is after being moved. The places of facts,
    after it, follow the centred planes: `[C * h * w + 1 + facts]`.
    """
    planes, height, width = shape
    rows, columns = 2 * height - 1, 2 * width - 1
    plane, row, column = (torch.arange(size, dtype=torch.int32) for size in shape)
    centred = (row[:, None] + height - 1) * columns + column + width - 1  # [h, w]
    frame = plane[:, None, None] * rows * columns + centred
    frame[0] = row[:, None] * width + column
    inputs = planes * rows * columns
    told = inputs + torch.arange(facts, dtype=torch.int32)
    return torch.cat([frame.flatten(), frame.new_tensor([inputs + facts + rows * columns]), told])
