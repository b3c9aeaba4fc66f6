"""Random layouts of a grid, for a whole batch at once: block pieces, connectivity, cells for prey and hunters.

Cells are numbered row by row: cell `r * width + c` is row r, column c.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from omg_lightning.games.checks import device_of
from omg_lightning.games.grid.paths import STEPS
from omg_lightning.types import ConfigError

UP, DOWN, LEFT, RIGHT, STAY = range(5)  # the first actions of every game on a grid

# One drawing per kind; rotations and reflections are derived (S stands for S and Z, L for L and J).
PIECES = {
    "I3": ("###",),
    "L3": ("##", "#."),
    "I": ("####",),
    "O": ("##", "##"),
    "T": ("###", ".#."),
    "S": (".##", "##."),
    "L": ("###", "#.."),
}
LARGEST_PIECE = 4  # cells
MAX_REDRAWS = 1000  # rounds of drawing, besides a few per piece, before a layout counts as impossible
CANDIDATES = 256  # least number of pieces to try in a round, divided among the unfinished layouts
_RING, _SIDES = 14, 10  # cells around the largest piece, and sides of its outline
STUCK = 300  # number of consecutive rejected pieces after which a layout is restarted


def draw_blocks(
    batch_size: int,
    height: int,
    width: int,
    num_blocks: int,
    generator: torch.Generator | None = None,
    redraws: int = MAX_REDRAWS,
) -> Tensor:
    """Place `num_blocks` pieces of random kind, orientation and position; all free cells stay connected.

    Pieces are placed one after the other; a piece that overlaps another or disconnects the free cells is drawn again.
    The time to try a piece does not depend on the size of the grid, see `_Layouts`.

    Args:
        batch_size: B, the number of independent layouts.
        height: h, rows of the grid.
        width: w, columns of the grid.
        num_blocks: pieces in each layout.
        generator: source of randomness; the layouts are on its device.
        redraws: number of rounds of drawing, besides four per piece.

    Returns:
        bool `[B, h * w]`, True on blocks.

    Raises:
        ConfigError: no layout was found in these rounds: the pieces do not fit, or hardly ever do.
    """
    device = device_of(generator)
    shapes = _shapes(height, width, device)
    layouts = _Layouts(batch_size, height, width, num_blocks, device)
    rejected = torch.zeros(batch_size, dtype=torch.int64, device=device)  # pieces in a row
    for _ in range(redraws + 4 * num_blocks):
        rows = (layouts.placed < num_blocks).nonzero()[:, 0]  # only the unfinished layouts
        if len(rows) == 0 or shapes is None:
            break
        tries = -(-max(CANDIDATES, batch_size) // len(rows))
        kind, corner = _draw_pieces(shapes, len(rows) * tries, layouts.width, generator)
        fits = layouts.fit(rows.repeat_interleave(tries), shapes, kind, corner).view(-1, tries)
        first = fits.to(torch.uint8).argmax(1) + torch.arange(len(rows), device=device) * tries
        found = fits.any(1)  # the first piece that fits, as if drawn one after the other
        layouts.lay(rows[found], shapes, kind[first[found]], corner[first[found]])
        rejected[rows] = torch.where(found, 0, rejected[rows] + tries)
        stuck = rows[rejected[rows] >= STUCK]
        layouts.clear(stuck)
        rejected[stuck] = 0
    if bool((layouts.placed == num_blocks).all()):
        return layouts.blocks()
    raise ConfigError(
        f"num_blocks={num_blocks} on a grid of height={height}, width={width}: found no layout of this many pieces"
        " of 3 and 4 cells with all free cells connected; lower num_blocks or enlarge height or width."
    )


def draw_distinct(free: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw `count` different free cells per row, in random order: int64 `[B, count]` from bool `[B, h * w]`."""
    scores = torch.rand(free.shape, generator=generator, device=free.device)
    return torch.where(free, scores, -1.0).topk(count, dim=1).indices


def draw_any(free: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw `count` free cells per row, repeats allowed: int64 `[B, count]` from bool `[B, h * w]`."""
    return torch.multinomial(free.float(), count, replacement=True, generator=generator)


def open_moves(free: Tensor) -> Tensor:
    """Return the moves of each cell: uint8 `[B, h, w]` from bool, bit a for action a, up to STAY; a block has 0."""
    free = free.to(torch.uint8)
    code = torch.full_like(free, 1 << STAY)
    code[:, 1:] |= free[:, :-1] << UP
    code[:, :-1] |= free[:, 1:] << DOWN
    code[:, :, 1:] |= free[:, :, :-1] << LEFT
    code[:, :, :-1] |= free[:, :, 1:] << RIGHT
    return code * free


class _Shapes(NamedTuple):
    """Every orientation that fits the grid, S of them. Cells are numbered on the grid with a frame of one cell."""

    cells: Tensor  # int64 [S, 4] of the piece in the upper left corner; a 3-cell piece repeats its first one
    ring: Tensor  # int64 [S, 15] cells around it; then its first cell, which stands for none
    sides: Tensor  # int64 [S, 10] index in `ring` of the cell beyond each side
    corners: Tensor  # int64 [S, 10 * 3] and of the cells that meet at each corner, three for each
    rows: Tensor  # int64 [S] number of positions from top to bottom
    columns: Tensor  # int64 [S] number of positions from left to right
    weight: Tensor  # float [S] probability: kinds are equally likely, and so are the orientations of a kind


class _Layouts:
    """Unfinished layouts, all with connected free cells, and the groups of touching pieces.

    An obstacle is a set of pieces that touch, even at a corner; the frame around the grid counts as a piece. A new
    piece meets obstacles along stretches of its outline. It disconnects the free cells if and only if it meets the same
    obstacle along two stretches, because both together enclose the cells between them (Euler's formula). So the
    cells around the piece are enough, and no flood fill is needed.
    """

    def __init__(self, batch_size: int, height: int, width: int, num_blocks: int, device: torch.device) -> None:
        self.size, self.width = (height + 2, width + 2), width + 2
        frame = torch.ones(self.size, dtype=torch.int64, device=device)
        frame[1:-1, 1:-1] = 0
        self.piece = frame.flatten().repeat(batch_size, 1)  # [B, S] 0 on free cells, 1 on the frame, then 2, 3, ...
        self.obstacle = torch.arange(num_blocks + 2, device=device).repeat(
            batch_size, 1
        )  # [B, n] obstacle of each piece
        self.placed = torch.zeros(
            batch_size, dtype=torch.int64, device=device
        )  # [B] number of pieces without the frame

    def fit(self, rows: Tensor, shapes: _Shapes, kind: Tensor, corner: Tensor) -> Tensor:
        """Return whether pieces `kind` `[M]` fit at `corner` `[M]` of the layouts `rows` `[M]`: bool `[M]`."""
        apart = (self._at(rows, shapes.cells[kind], corner) == 0).all(1)
        around = self._around(rows, shapes, kind, corner)
        beside = around > 0
        sides = beside.gather(1, shapes.sides[kind]).sum(1)
        corners = beside.gather(1, shapes.corners[kind]).unflatten(1, (-1, 3)).any(2).sum(1)
        known = around.sort(1).values
        obstacles = ((known[:, 1:] != known[:, :-1]) & (known[:, 1:] > 0)).sum(1) + (known[:, 0] > 0)
        return apart & (corners - sides == obstacles)  # a stretch has one corner more than it has sides

    def lay(self, rows: Tensor, shapes: _Shapes, kind: Tensor, corner: Tensor) -> None:
        """Place a piece that fits in each of the different `rows`, int64 `[M]`."""
        around = self._around(rows, shapes, kind, corner)
        new = self.placed[rows] + 2
        self.piece[rows[:, None], shapes.cells[kind] + corner[:, None]] = new[:, None]
        met = torch.zeros_like(self.obstacle[rows], dtype=torch.bool).scatter_(1, around, True)
        met[:, 0] = False  # free cells
        self.obstacle[rows] = torch.where(met.gather(1, self.obstacle[rows]), new[:, None], self.obstacle[rows])
        self.placed[rows] += 1

    def clear(self, rows: Tensor) -> None:
        """Restart the layouts `rows`."""
        self.piece[rows] = self.piece[rows].where(self.piece[rows] == 1, 0)
        self.obstacle[rows] = torch.arange(self.obstacle.shape[1], device=rows.device)
        self.placed[rows] = 0

    def blocks(self) -> Tensor:
        """Return the cells with blocks, without the frame: bool `[B, h * w]`."""
        return self.piece.unflatten(1, self.size)[:, 1:-1, 1:-1].flatten(1) > 0

    def _around(self, rows: Tensor, shapes: _Shapes, kind: Tensor, corner: Tensor) -> Tensor:
        """Return the obstacles of the cells around pieces, int64 `[M, 15]`; 0 for free cells and for none."""
        piece = self._at(rows, shapes.ring[kind], corner)
        piece[:, -1] = 0
        return self.obstacle[rows[:, None], piece]

    def _at(self, rows: Tensor, cells: Tensor, corner: Tensor) -> Tensor:
        return self.piece[rows[:, None], cells + corner[:, None]]


def _orientations(drawing: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the different rotations and reflections of a drawing."""
    found, current = set(), tuple(drawing)
    for _ in range(4):
        current = tuple("".join(column) for column in zip(*current[::-1], strict=True))  # a quarter turn
        found |= {current, current[::-1]}
    return sorted(found)


@lru_cache(maxsize=64)
def _shapes(height: int, width: int, device: torch.device) -> _Shapes | None:
    """Return a table of the orientations that fit a grid, or None if no piece does."""
    entries = []
    for drawing in PIECES.values():
        fitting = [o for o in _orientations(drawing) if len(o) <= height and len(o[0]) <= width]
        for shape in fitting:
            places = height - len(shape) + 1, width - len(shape[0]) + 1
            entries.append((*_outline(shape, width + 2), *places, 1 / len(fitting)))
    if not entries:
        return None
    return _Shapes._make(torch.tensor(column, device=device) for column in zip(*entries, strict=True))


def _outline(shape: Sequence[str], width: int) -> tuple[list[int], list[int], list[int], list[int]]:
    """Return cells, ring, sides and corners of an orientation, as in `_Shapes`, on a framed grid of this width."""
    cells = [(r + 1, c + 1) for r, line in enumerate(shape) for c, mark in enumerate(line) if mark == "#"]
    near = [(r + a, c + b) for r, c in cells for a, b in product((-1, 0, 1), repeat=2)]
    ring = [cell for cell in dict.fromkeys(near) if cell not in cells]
    beyond = [(r + a, c + b) for r, c in cells for a, b in STEPS]
    sides = [ring.index(cell) for cell in beyond if cell in ring]
    meeting = dict.fromkeys((r + a, c + b) for r, c in cells for a, b in product((0, 1), repeat=2))  # corners
    corners = []
    for r, c in meeting:  # the corner to the upper left of cell (r, c)
        outside = [ring.index(cell) for cell in product((r - 1, r), (c - 1, c)) if cell in ring]
        corners += outside + [_RING] * (3 - len(outside))  # none: a corner inside the piece
    numbers = [[r * width + c for r, c in each] for each in (cells, ring)]
    first = numbers[0][0]
    return (
        _padded(numbers[0], LARGEST_PIECE, first),
        _padded(numbers[1], _RING + 1, first),
        _padded(sides, _SIDES, _RING),
        _padded(corners, 3 * _SIDES, _RING),
    )


def _padded(values: list[int], length: int, fill: int) -> list[int]:
    return values + [fill] * (length - len(values))


def _draw_pieces(shapes: _Shapes, count: int, width: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Draw orientations, and positions of the upper left corners on a framed grid of this width: int64 `[count]`."""
    kind = torch.multinomial(shapes.weight, count, replacement=True, generator=generator)
    places = torch.stack([shapes.rows[kind], shapes.columns[kind]])  # [2, M]
    corner = torch.randint(2**31, (2, count), generator=generator, device=kind.device) % places
    return kind, corner[0] * width + corner[1]
