"""Walking distances and directions: shortest paths around walls, for whole batches of grids.

Cells are numbered row by row. The first steps of the shortest paths between two cells are a set of moves: bit k of a
number of 0 to 15 is set where a shortest path may begin with step k of `STEPS`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

STEPS = ((-1, 0), (1, 0), (0, -1), (0, 1))  # up, down, left, right: (row, column)
_BITS = len(STEPS)
WAYS = 1 << _BITS  # number of sets of first steps
UNREACHABLE = 1 << 20  # a distance larger than any path on any grid, and small enough to add to


NOWHERE = torch.iinfo(torch.int16).max // WAYS * WAYS  # walk of an absent player: longer than any other
NEAR = 16  # distances in facts about two walkers: 0 to 14, and farther


class Facts(NamedTuple):
    """Indices of facts about walking distances; each fact is one binary input.

    For each other player and each object in an observation: its distance, and the set of first steps towards it. For
    each object, also the pair of distances of the viewer and of the nearest other player, and the same with the second
    nearest: they show whether another player comes, and which one arrives first.

    The indices follow those of the flattened planes and the index for none, `C * h * w`.
    """

    players: int  # P, number of their planes
    walls: int | None  # plane of impassable cells
    things: tuple[int, ...]  # planes of objects
    far: int  # largest distance with a fact of its own
    start: int  # the first index

    @classmethod
    def of(cls, observation_shape: tuple[int, int, int], players: int, walls: int | None) -> "Facts":
        """Return the facts for observations with planes `(C, h, w)`, the first P of players."""
        planes, height, width = observation_shape
        things = tuple(plane for plane in range(players, planes) if plane != walls)
        return cls(players, walls, things, 2 * (height + width) - 1, planes * height * width + 1)

    @property
    def size(self) -> int:
        """Number of different facts."""
        return (self.players - 1 + len(self.things)) * self.each + len(self.things) * self.races

    @property
    def each(self) -> int:
        """Number of facts about the viewer's walks to one other player, or to a kind of object."""
        return self.far + 1 + WAYS

    @property
    def races(self) -> int:
        """Number of facts about two walks to a kind of object."""
        return 2 * NEAR * NEAR


def grow(reached: Tensor, free: Tensor) -> Tensor:
    """Add the free neighbours (up, down, left, right) of the cells reached; all three are bool `[B, h, w]`."""
    return _spread(reached) & free


def distance_to(targets: Tensor, free: Tensor) -> Tensor:
    """Count the steps from every cell to the nearest target: breadth-first search, all rows of the batch at once.

    Args:
        targets: bool `[B, h, w]` target cells.
        free: bool `[B, h, w]` passable cells.

    Returns:
        int64 `[B, h, w]`; UNREACHABLE on blocks and without a path to a target.
    """
    reached = targets & free
    missing = torch.zeros_like(free, dtype=torch.int64)
    while True:  # each iteration reaches a new cell in some row, or is the last: at most h * w iterations
        grown = grow(reached, free)
        if torch.equal(grown, reached):
            return torch.where(reached, missing, UNREACHABLE)
        missing += ~reached  # one more step for cells not reached yet
        reached = grown


def walks_from(start: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """Return distances from one cell to all others, and the first steps of the shortest paths there.

    Args:
        start: bool `[B, h, w]` one cell, or none.
        free: bool `[B, h, w]` passable cells.

    Returns:
        int32 `[B, h, w]` distances, and uint8 sets of first steps: UNREACHABLE and 0 without a path, 0 and 0 at
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
        frontier = _spread(frontier) * open_cells  # only the frontier's own directions spread
        ways |= frontier
    return distance.masked_fill_((ways == 0) & ~start, UNREACHABLE), ways


def all_walks(free: Tensor) -> Tensor:
    """Return every shortest path of grids, free bool `[B, h, w]`: int16 `[B, S, S]`, `WAYS * distance + first steps`.

    Distances are clipped to the largest one of `Facts`.
    """
    rows, height, width = free.shape
    cells = height * width
    start = torch.eye(cells, dtype=torch.bool, device=free.device).view(1, cells, height, width)
    start = start.expand(rows, -1, -1, -1).flatten(0, 1)
    distance, ways = walks_from(start, free.repeat_interleave(cells, 0))
    return pack(distance, ways).view(rows, cells, cells)


def pack(distance: Tensor, ways: Tensor) -> Tensor:
    """Return distance and first steps, as of `walks_from`, in one int16; unreachable cells get the largest distance."""
    _, height, width = distance.shape
    return (distance.clamp(max=2 * (height + width) - 1) * WAYS + ways).to(torch.int16)


def facts_of(planes: Tensor, facts: Facts) -> Tensor:
    """Return the indices of the facts that hold in views, planes `[M, C, h, w]`: int32 `[M, n]`, or the index for none.

    For an absent viewer no fact holds.
    """
    view = planes > 0
    free = torch.ones_like(view[:, 0]) if facts.walls is None else ~view[:, facts.walls]
    walkers = view[:, : facts.players].flatten(2)  # [M, P, h * w]
    there, at = walkers.any(-1), walkers.to(torch.uint8).argmax(-1)  # [M, P]
    walks = _walks_of(at, free)  # [M, P, h * w]
    seen = torch.cat([walkers[:, 1:], view[:, list(facts.things)].flatten(2)], 1) & there[:, :1, None]
    row, kind, cell = seen.nonzero(as_tuple=True)
    theirs = torch.where(there[row], walks[row, :, cell], NOWHERE).t()[..., None]  # [P, N, 1]
    kind, all_seen = kind[:, None], torch.ones_like(row[:, None], dtype=torch.bool)
    told = walk_places(theirs[0], kind, all_seen, facts)
    thing = kind - (facts.players - 1)
    races = race_places(theirs[0], theirs.unbind(), thing, thing >= 0, facts)
    return torch.cat([in_rows(part, row, len(planes), facts.start - 1) for part in (*told.t(), *races.t())], 1)


def _walks_of(at: Tensor, free: Tensor) -> Tensor:
    """Return walks as of `all_walks`, int32 `[M, P, S]`, from cells `[M, P]` on grids `[M, h, w]`, each once."""
    _, height, width = free.shape
    secret = torch.Generator().manual_seed(0)  # grids are distinguished by a random 62-bit number for each free cell
    keys = torch.randint(2**62, (height * width + 1,), generator=secret, device="cpu").to(free.device)
    grid = torch.where(free.flatten(1), keys[:-1], 0).sum(1, keepdim=True)
    found, pair = torch.unique(grid + at * keys[-1], return_inverse=True)  # modulo 2^64
    first = torch.empty_like(found).scatter_(0, pair.flatten(), torch.arange(pair.numel(), device=pair.device))
    row, cell = first // at.shape[1], at.flatten()[first]
    start = torch.zeros(len(first), height * width, dtype=torch.bool, device=free.device).scatter_(
        1, cell[:, None], True
    )
    walks = pack(*walks_from(start.view(-1, height, width), free[row]))
    return walks.flatten(1).int()[pair]


def in_rows(values: Tensor, row: Tensor, rows: int, fill: int) -> Tensor:
    """Return values `[n]` side by side in their rows, padded with `fill`: `[rows, most]`, at least one column.

    `row` `[n]` is in ascending order.
    """
    count = torch.bincount(row, minlength=rows)
    column = torch.arange(len(row), device=row.device) - (count.cumsum(0) - count)[row]
    table = values.new_full((rows, max(int(count.max()), 1) if rows else 1), fill)
    table[row, column] = values
    return table


def facts_told(
    facts: Facts, walks: Tensor, around: Tensor, shown: Tensor, things: Tensor, kind: Tensor, there: Tensor
) -> Tensor:
    """Return the indices of the facts that hold in every seat's view, from known walks: int32 `[B, P, m]`.

    Args:
        facts: all facts.
        walks: int16 `[B, S, S]` of `all_walks`.
        around: int64 `[B, P, P]` cells of all players, for each seat in its ego order.
        shown: bool `[B, P, P]` which of them are present.
        things: int64 `[B, n]` cells of the objects; arbitrary for absent ones.
        kind: int64 `[n]` kind of each, index in `facts.things`.
        there: bool `[B, n]` whether it is present.
    """
    batch, players, _ = around.shape
    known, cells = walks.flatten(1), walks.shape[-1]
    at, present = around[..., 0], shown[..., 0]
    beside = known.gather(1, (around[..., 1:] + around[..., :1] * cells).view(batch, -1)).view(batch, players, -1)
    pairs = at[..., None] * cells + things[:, None]  # [B, P, n]
    own = known.gather(1, pairs.view(batch, -1)).view_as(pairs)
    every = torch.where(present[..., None], own, NOWHERE)[:, :, None].unbind(1)  # P of [B, 1, n]
    seen = there[:, None] & shown[..., :1]
    told = [
        walk_places(beside, torch.arange(players - 1, device=at.device), shown[..., 1:] & shown[..., :1], facts),
        walk_places(own, kind + players - 1, seen, facts),
        race_places(own, every, kind, seen, facts),
    ]
    return torch.cat(told, -1)


def walk_places(walks: Tensor, kind: Tensor, there: Tensor, facts: Facts) -> Tensor:
    """Return indices of facts about the viewer's own walks: int32 `[..., 2 n]`, the index for none without a fact.

    Args:
        walks: int `[..., n]` from the viewer to each other player or object, see `all_walks`.
        kind: int `[n]`, or as `walks`: 0 to P-2 for players, from P-1 on for kinds of objects.
        there: bool `[..., n]` whether it is present.
        facts: all facts.
    """
    none, code = facts.start - 1, walks.int()
    first = (facts.start + kind * facts.each).int()
    far, way = first + (code >> _BITS), first + (facts.far + 1) + (code & WAYS - 1)  # faster than to divide
    return torch.cat([torch.where(there, far, none), torch.where(there, way, none)], -1)


def race_places(own: Tensor, walks: Sequence[Tensor], thing: Tensor, there: Tensor, facts: Facts) -> Tensor:
    """Return indices of facts about two walks to an object: int32 `[..., 2 n]`, the index for none without a fact.

    Args:
        own: int `[..., n]` the viewer's walks to objects, see `all_walks`.
        walks: walks of every player, with the viewer, that broadcast to `own`; NOWHERE for players that have left.
        thing: int `[n]`, or as `own`, kind of each object: index in `facts.things`.
        there: bool `[..., n]` whether it is present.
        facts: all facts.
    """
    none, mine = facts.start - 1, _steps(own)
    first = torch.full_like(_steps(walks[0]), NEAR - 1)
    second, third = first, first
    for each in map(_steps, walks):  # the three nearest: one of them may be the viewer
        third = torch.minimum(third, torch.maximum(second, each))
        second = torch.minimum(second, torch.maximum(first, each))
        first = torch.minimum(first, each)
    nearest, next_nearest = torch.where(mine <= first, second, first), torch.where(mine <= second, third, second)
    start = facts.start + (facts.players - 1 + len(facts.things)) * facts.each
    place = (start + thing * facts.races).int() + mine * NEAR
    told = place + nearest, place + NEAR * NEAR + next_nearest
    return torch.cat([torch.where(there, each, none) for each in told], -1)


def _steps(walks: Tensor) -> Tensor:
    """Return the number of steps of walks, clipped to the largest one in races, int32."""
    return (walks.int() >> _BITS).clamp_(max=NEAR - 1)


def _spread(x: Tensor) -> Tensor:
    """Return each cell's own bits combined with those of its neighbours, `[B, h, w]`."""
    spread = x.clone()
    spread[:, 1:] |= x[:, :-1]
    spread[:, :-1] |= x[:, 1:]
    spread[:, :, 1:] |= x[:, :, :-1]
    spread[:, :, :-1] |= x[:, :, 1:]
    return spread


def _moved(x: Tensor) -> list[Tensor]:
    """Return bool `[B, h, w]` shifted by each of `STEPS`; entries that leave the grid are dropped."""
    found = [torch.zeros_like(x) for _ in STEPS]
    found[0][:, :-1] = x[:, 1:]
    found[1][:, 1:] = x[:, :-1]
    found[2][:, :, :-1] = x[:, :, 1:]
    found[3][:, :, 1:] = x[:, :, :-1]
    return found
