"""Random layouts of a grid, for a whole batch at once: block pieces, connectivity, cells for prey and hunters.

Cells are numbered row by row: cell `r * width + c` is row r, column c.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from omg_lightning.games.checks import device_of
from omg_lightning.games.grid.paths import grow
from omg_lightning.types import ConfigError

UP, DOWN, LEFT, RIGHT, STAY = range(5)  # the first actions of every game on a grid

# One drawing per kind; rotations and reflections follow (so S stands for S and Z, L for L and J).
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
MAX_REDRAWS = 1000  # rounds of drawing, beside a few per piece, before a layout counts as impossible
CANDIDATES = 256  # pieces to try in a round at least, shared out among the layouts that are not finished
STUCK = 300  # this many rejected pieces in a row and the layout is begun anew


def connected(free: Tensor) -> Tensor:
    """Says in which grids all free cells hang together by moves up, down, left and right.

    Args:
        free: bool `[B, h, w]`.

    Returns:
        bool `[B]`; a grid without a free cell is not connected.
    """
    rows, height, width = free.shape
    flat = free.flatten(1)
    start = flat.to(torch.uint8).argmax(1, keepdim=True)  # [B, 1] the first free cell
    reached = (torch.zeros_like(flat).scatter(1, start, True) & flat).view(rows, height, width)
    for _ in range(height * width):
        grown = grow(reached, free)
        if torch.equal(grown, reached):
            break
        reached = grown
    return (reached == free).flatten(1).all(1) & flat.any(1)


def draw_blocks(
    batch_size: int,
    height: int,
    width: int,
    num_blocks: int,
    generator: torch.Generator | None = None,
    redraws: int = MAX_REDRAWS,
) -> Tensor:
    """Lays `num_blocks` pieces of random kind, orientation and place, apart from each other, free cells connected.

    Pieces are laid one after the other; one that overlaps another or cuts the free cells in two is drawn again.

    Args:
        batch_size: B, the number of independent layouts.
        height: h, rows of the grid.
        width: w, columns of the grid.
        num_blocks: pieces in each layout.
        generator: where the randomness comes from; the layouts are on its device.
        redraws: how many rounds of drawing to allow, beside four per piece.

    Returns:
        bool `[B, h * w]`, True on blocks.

    Raises:
        ConfigError: the rounds are used up: the pieces do not fit, or hardly ever do.
    """
    device = device_of(generator)
    blocks = torch.zeros(batch_size, height * width, dtype=torch.bool, device=device)
    placed, rejected = torch.zeros(2, batch_size, dtype=torch.int64, device=device)  # [B] each
    shapes = _shapes(height, width, device)
    for _ in range(redraws + 4 * num_blocks):
        rows = (placed < num_blocks).nonzero()[:, 0]  # only the unfinished layouts
        if len(rows) == 0:
            return blocks
        if shapes is None:
            break
        tries = -(-max(CANDIDATES, batch_size) // len(rows))
        tried, fits = _lay_piece(blocks[rows].repeat_interleave(tries, 0), shapes, (height, width), generator)
        first = fits.view(-1, tries).to(torch.uint8).argmax(1) + torch.arange(len(rows), device=device) * tries
        tried, fits = tried[first], fits[first]  # the first that fits, as if drawn one after the other
        failures = torch.where(fits, 0, rejected[rows] + tries)
        stuck = failures >= STUCK
        blocks[rows] = tried & ~stuck[:, None]
        placed[rows] = torch.where(stuck, 0, placed[rows] + fits)
        rejected[rows] = torch.where(stuck, 0, failures)
    if bool((placed == num_blocks).all()):
        return blocks
    raise ConfigError(
        f"num_blocks={num_blocks} on a grid of height={height}, width={width}: found no layout of that many pieces"
        " of 3 and 4 cells with all free cells connected; lower num_blocks or enlarge height or width."
    )


def draw_distinct(free: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
    """Draws `count` different free cells per row, in random order: int64 `[B, count]` from bool `[B, h * w]`."""
    scores = torch.rand(free.shape, generator=generator, device=free.device)
    return torch.where(free, scores, -1.0).topk(count, dim=1).indices


def draw_any(free: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
    """Draws `count` free cells per row, repeats allowed: int64 `[B, count]` from bool `[B, h * w]`."""
    return torch.multinomial(free.float(), count, replacement=True, generator=generator)


def open_moves(free: Tensor) -> Tensor:
    """Says which moves each cell allows: uint8 `[B, h, w]` from bool, bit a for action a, up to STAY; a block has 0."""
    free = free.to(torch.uint8)
    code = torch.full_like(free, 1 << STAY)
    code[:, 1:] |= free[:, :-1] << UP
    code[:, :-1] |= free[:, 1:] << DOWN
    code[:, :, 1:] |= free[:, :, :-1] << LEFT
    code[:, :, :-1] |= free[:, :, 1:] << RIGHT
    return code * free


class _Shapes(NamedTuple):
    """Every orientation that fits the grid, S of them."""

    offsets: Tensor  # int64 [S, 4] cell indices with the piece in the top left corner; a 3-cell piece repeats one
    rows: Tensor  # int64 [S] how many places there are from top to bottom
    columns: Tensor  # int64 [S] and from left to right
    weight: Tensor  # float [S] probability: kinds are equally likely, and so are the orientations of a kind


def _orientations(drawing: Sequence[str]) -> list[tuple[str, ...]]:
    """Lists the different rotations and reflections of a drawing."""
    found, current = set(), tuple(drawing)
    for _ in range(4):
        current = tuple("".join(column) for column in zip(*current[::-1], strict=True))  # a quarter turn
        found |= {current, current[::-1]}
    return sorted(found)


@lru_cache(maxsize=64)
def _shapes(height: int, width: int, device: torch.device) -> _Shapes | None:
    """Tabulates the orientations that fit a grid, or returns None when no piece does."""
    entries = []
    for drawing in PIECES.values():
        fitting = [o for o in _orientations(drawing) if len(o) <= height and len(o[0]) <= width]
        for shape in fitting:
            cells = [r * width + c for r, line in enumerate(shape) for c, mark in enumerate(line) if mark == "#"]
            padded = (cells + cells[:1])[:LARGEST_PIECE]
            entries.append((padded, height - len(shape) + 1, width - len(shape[0]) + 1, 1 / len(fitting)))
    if not entries:
        return None
    offsets, rows, columns, weight = zip(*entries, strict=True)
    return _Shapes(
        offsets=torch.tensor(offsets, device=device),
        rows=torch.tensor(rows, device=device),
        columns=torch.tensor(columns, device=device),
        weight=torch.tensor(weight, dtype=torch.float32, device=device),
    )


def _lay_piece(
    blocks: Tensor, shapes: _Shapes, size: tuple[int, int], generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Tries one random piece per row: the blocks `[M, h * w]` with it where it fits, and bool `[M]` where it does."""
    count = len(blocks)
    kind = torch.multinomial(shapes.weight, count, replacement=True, generator=generator)  # [M]
    places = torch.stack([shapes.rows[kind], shapes.columns[kind]])  # [2, M]
    corner = torch.randint(2**31, (2, count), generator=generator, device=blocks.device) % places
    cells = shapes.offsets[kind] + (corner[0] * size[1] + corner[1])[:, None]  # [M, 4]
    tried = blocks.scatter(1, cells, True)
    fits = ~blocks.gather(1, cells).any(1)
    apart = fits.nonzero()[:, 0]  # the flood fill is the dear part: only where it can still matter
    fits[apart] = connected(~tried[apart].view(-1, *size))
    return torch.where(fits[:, None], tried, blocks), fits
