"""How far it is to walk, and which way: shortest paths around walls, for whole batches of grids.

Cells are numbered row by row. The first steps of the shortest paths between two cells are a set of moves: bit k of a
number of 0 to 15 is set where a shortest path may begin with step k of `STEPS`.
"""

from typing import NamedTuple

import torch
from torch import Tensor

STEPS = ((-1, 0), (1, 0), (0, -1), (0, 1))  # up, down, left, right: (row, column)
WAYS = 16  # sets of first steps
UNREACHABLE = 1 << 20  # a distance larger than any path on any grid, and small enough to add to


class Facts(NamedTuple):
    """What is told of each thing that a viewer sees: its distance and the first steps to it, each with a place.

    Such places follow those of the flattened planes and the one that stands for none, `C * h * w`.
    """

    walls: int | None  # plane of the cells that nobody can walk on
    kinds: tuple[int, ...]  # planes whose things are told of: all but the viewer's own and the walls
    far: int  # distances are told apart up to this one
    start: int  # the first place

    @classmethod
    def of(cls, observation_shape: tuple[int, int, int], walls: int | None) -> "Facts":
        """The facts that there are in views of planes `(C, h, w)`."""
        planes, height, width = observation_shape
        kinds = tuple(plane for plane in range(1, planes) if plane != walls)
        return cls(walls, kinds, 2 * (height + width) - 1, planes * height * width + 1)

    @property
    def size(self) -> int:
        """How many different facts there are."""
        return len(self.kinds) * self.each

    @property
    def each(self) -> int:
        """How many there are of one kind: distances, and sets of first steps."""
        return self.far + 1 + WAYS


def grow(reached: Tensor, free: Tensor) -> Tensor:
    """Adds the free neighbours (up, down, left, right) of the cells reached; all three are bool `[B, h, w]`."""
    return _spread(reached) & free


def distance_to(targets: Tensor, free: Tensor) -> Tensor:
    """Counts the steps from every cell to the nearest target: breadth-first search, all rows of the batch at once.

    Args:
        targets: bool `[B, h, w]` where to go.
        free: bool `[B, h, w]` where one can walk.

    Returns:
        int64 `[B, h, w]`; UNREACHABLE on blocks and where no path leads to a target.
    """
    reached = targets & free
    missing = torch.zeros_like(free, dtype=torch.int64)
    while True:  # each turn reaches at least one new cell in some row, or is the last: at most h * w turns
        grown = grow(reached, free)
        if torch.equal(grown, reached):
            return torch.where(reached, missing, UNREACHABLE)
        missing += ~reached  # one more step for whoever was not yet there
        reached = grown


def walks_from(start: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """Distances from one cell to all others, and the first steps of the shortest paths there.

    Args:
        start: bool `[B, h, w]` one cell, or none.
        free: bool `[B, h, w]` where one can walk.

    Returns:
        int32 `[B, h, w]` distances, and uint8 sets of first steps: UNREACHABLE and 0 where no path leads, 0 and 0 at
        the start.
    """
    start = start & free
    open_cells = (free & ~start).to(torch.uint8)
    frontier = torch.zeros_like(open_cells)
    for k, moved in enumerate(_moved(start)):
        frontier |= moved.to(torch.uint8) << k
    frontier *= open_cells
    ways, distance = frontier.clone(), torch.zeros_like(free, dtype=torch.int32)
    while frontier.any():
        distance += open_cells
        open_cells *= frontier == 0
        frontier = _spread(frontier) * open_cells  # the frontier's own ways alone are handed on
        ways |= frontier
    return distance.masked_fill_((ways == 0) & ~start, UNREACHABLE), ways


def all_walks(free: Tensor) -> Tensor:
    """Every shortest path of grids, free bool `[B, h, w]`: int16 `[B, S, S]`, `WAYS * distance + first steps`.

    The distance is cut to what `Facts` tells apart.
    """
    rows, height, width = free.shape
    cells = height * width
    start = torch.eye(cells, dtype=torch.bool, device=free.device).view(1, cells, height, width)
    start = start.expand(rows, -1, -1, -1).flatten(0, 1)
    distance, ways = walks_from(start, free.repeat_interleave(cells, 0))
    return pack(distance, ways, height, width).view(rows, cells, cells)


def pack(distance: Tensor, ways: Tensor, height: int, width: int) -> Tensor:
    """Distance and first steps, as of `walks_from`, in one int16; who cannot get there is as far away as can be."""
    return (distance.clamp(max=2 * (height + width) - 1) * WAYS + ways).to(torch.int16)


def facts_of(planes: Tensor, facts: Facts) -> Tensor:
    """The places of the facts that hold in views, planes `[M, C, h, w]`: int32 `[M, n]`, or that of none.

    A viewer that is not there is told nothing.
    """
    view = planes > 0
    free = torch.ones_like(view[:, 0]) if facts.walls is None else ~view[:, facts.walls]
    distance, ways = (x.flatten(1) for x in walks_from(view[:, 0], free))
    things = view[:, list(facts.kinds)].flatten(2) & view[:, :1].flatten(2).any(-1, keepdim=True)  # [M, K, h * w]
    row, kind, cell = things.nonzero(as_tuple=True)
    walks = distance[row, cell].clamp(max=facts.far) * WAYS + ways[row, cell]
    told = fact_places(walks[:, None], kind[:, None], torch.ones_like(row[:, None], dtype=torch.bool), facts)
    return torch.cat([in_rows(part, row, len(planes), facts.start - 1) for part in told.unbind(1)], 1)


def in_rows(values: Tensor, row: Tensor, rows: int, fill: int) -> Tensor:
    """Values `[n]` side by side in their rows, and `fill` behind: `[rows, most]`, at least one column.

    `row` `[n]` is in ascending order.
    """
    count = torch.bincount(row, minlength=rows)
    column = torch.arange(len(row), device=row.device) - (count.cumsum(0) - count)[row]
    table = values.new_full((rows, max(int(count.max()), 1) if rows else 1), fill)
    table[row, column] = values
    return table


def fact_places(walks: Tensor, kind: Tensor, there: Tensor, facts: Facts) -> Tensor:
    """Where the facts of things are: int32 `[..., 2 n]` of n things, and the place for none where nothing is told.

    Args:
        walks: int `[..., n]` from the viewer to each, as of `all_walks`.
        kind: int64 `[n]`, or `[..., n]`, of each: an index of `facts.kinds`.
        there: bool `[..., n]` it is there.
        facts: the facts that there are.
    """
    none, code = facts.start - 1, walks.int()
    first = (facts.start + kind * facts.each).int()
    far, way = first + code // WAYS, first + (facts.far + 1) + code % WAYS
    return torch.cat([torch.where(there, far, none), torch.where(there, way, none)], -1)


def _spread(x: Tensor) -> Tensor:
    """Each cell's own bits and those of its neighbours, `[B, h, w]`."""
    spread = x.clone()
    spread[:, 1:] |= x[:, :-1]
    spread[:, :-1] |= x[:, 1:]
    spread[:, :, 1:] |= x[:, :, :-1]
    spread[:, :, :-1] |= x[:, :, 1:]
    return spread


def _moved(x: Tensor) -> list[Tensor]:
    """Bool `[B, h, w]` moved by each of `STEPS`; what leaves the grid is lost."""
    found = [torch.zeros_like(x) for _ in STEPS]
    found[0][:, :-1] = x[:, 1:]
    found[1][:, 1:] = x[:, :-1]
    found[2][:, :, :-1] = x[:, :, 1:]
    found[3][:, :, 1:] = x[:, :, :-1]
    return found
