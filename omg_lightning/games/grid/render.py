"""Draw a grid game from the view of seat 0: as a picture (`frame`), as text (`text`), as an animation (GIF)."""

import io
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from omg_lightning.files import replacing
from omg_lightning.games.grid.icons import GLOW, GOLD, INK, PAPER, PLACES, SIGNS, TILE, Pen, draw_disc, draw_thing
from omg_lightning.types import NO_GOAL, ConfigError

SUPERSAMPLING = 3  # draw this many times larger and scale down: smooth edges
MARGIN, _TITLE, _FOOTER = 0.25, 0.6, 0.7  # in cells


class Capture(NamedTuple):
    """An object captured in the last step; a plain tuple in this order works, too."""

    row: int
    column: int
    kind: str  # "stag", "hare" or "drift": a plane's name without its plural s
    seats: tuple[int, ...] = ()  # seats that captured it
    level: int | None = None  # if such objects have levels


def captures_of(
    planes: ArrayLike, realised: Sequence[int], goal_names: Sequence[str], plane_names: Sequence[str]
) -> list[Capture]:
    """Return the captures of a step, derived from the goals that the seats achieved.

    Args:
        planes: `[C, h, w]` the view of seat 0 before the step; the planes of players are enough, unless goals have
            planes of their own. The plane of a seat without a goal is not read.
        realised: P goals, or NO_GOAL. Goal `stag`, or `drift_2`, captures an object in the plane `stags`, or `drifts`,
            under the player; goal `food_1` with a plane of that name captures the object there. Where that plane is
            empty, the seat means another one: what is `my_coin` to it is `their_coin` in the view of seat 0. A goal
            without a plane of its name captures nothing.
        goal_names: the names of the goals.
        plane_names: the names of the planes.

    Returns:
        One entry for each captured object, with all seats that captured it together.
    """
    board = np.asarray(planes)
    taken: dict[tuple[int, int, str], tuple[int, ...]] = {}
    for seat, goal in enumerate(realised):
        name = goal_names[goal] if goal != NO_GOAL else ""
        own = name in plane_names
        if own or _kind(name) + "s" in plane_names:
            planes_of = [name, *(other for other in goal_names if other in plane_names)] if own else []
            there = [np.argwhere(board[plane_names.index(each)]) for each in planes_of] or [np.argwhere(board[seat])]
            row, column = next(cells for cells in there if len(cells))[0].tolist()
            taken[row, column, name] = (*taken.get((row, column, name), ()), seat)
    return [
        Capture(row, column, _kind(name), seats, _level(board[:, row, column], plane_names, name))
        for (row, column, name), seats in taken.items()
    ]


def frame(
    planes: ArrayLike,
    plane_names: Sequence[str],
    *,
    title: str = "",
    returns: Sequence[float] = (),
    captures: Iterable[Sequence] = (),
    cell: int = 64,
) -> NDArray[np.uint8]:
    """Draw the board from seat 0's view. The size depends only on h, w and `cell`, so frames can be animated.

    Args:
        planes: `[C, h, w]` one view of seat 0, so that plane k of the first P shows seat k.
        plane_names: C names; "self" and "other_k" are players; "player_level_2" marks players of a level, and
            "food_0_level_2" the object of plane "food_0", with the lowest level if no such plane has it; all others are
            drawn by the painter of that name, or of `foods` for "food_0".
        title: text above the board, such as the step.
        returns: P numbers for the line below the board, which marks seats that have left; no line if empty.
        captures: captures of this step, see `Capture`.
        cell: side of a cell in pixels.

    Returns:
        uint8 `[H, W, 3]`.

    Raises:
        ConfigError: `planes` is not one view, or does not fit the names.
    """
    board = _checked(planes, plane_names)
    (_, height, width), unit = board.shape, cell * SUPERSAMPLING
    size = (math.ceil((width + 2 * MARGIN) * cell), math.ceil((height + _TITLE + _FOOTER) * cell))
    canvas = Image.new("RGB", (size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING), PAPER)
    pen = Pen(ImageDraw.Draw(canvas), 0, 0, unit)
    pen.text(MARGIN + 0.05, _TITLE / 2, title, 0.3, INK, "lm")
    taken = {(c.row, c.column): c for c in (Capture(*capture) for capture in captures)}
    for row, column in np.ndindex(height, width):
        square = pen.part(MARGIN + column + 0.5, _TITLE + row + 0.5, 1)
        _draw_cell(square, board[:, row, column], plane_names, taken.get((row, column)))
    present = [bool(board[plane].any()) for plane in _seats(plane_names)]
    _draw_returns(pen, width, _TITLE + height + _FOOTER / 2, returns, present)
    return np.asarray(canvas.resize(size, Image.Resampling.LANCZOS))


def board_only(picture: NDArray[np.uint8], cell: int) -> NDArray[np.uint8]:
    """Remove the title and the line below the board from a picture that `frame` drew with cells of `cell` pixels."""
    return picture[int(_TITLE * cell) : len(picture) - int(_FOOTER * cell)]


def text(planes: ArrayLike, plane_names: Sequence[str]) -> str:
    """Return the board, seat 0's view `[C, h, w]`, as text: seats are digits, objects the first letter of their plane.

    A stag is `S`, a hare `H`, a block or a counter `#`, a free cell `.`; marks on one cell are joined, as in `S01`.
    With levels, `F3` is a food of level 3, and `0:2` seat 0 with level 2; `^`, `v`, `<` and `>` show where a
    player faces.

    Raises:
        ConfigError: `planes` is not one view, or does not fit the names.
    """
    board = _checked(planes, plane_names)
    seats = _seats(plane_names)
    things = {p: name for p, name in enumerate(plane_names) if p not in seats and not _is_level(name)}

    def marks(stack: NDArray) -> str:
        found = ""
        for plane, name in things.items():
            if stack[plane]:
                level = _level(stack, plane_names, name)
                found += SIGNS.get(name, name[0].upper()) + ("" if level is None else str(level))
        here = [seat for seat, plane in enumerate(seats) if stack[plane]]
        level = _level(stack, plane_names, "player") if len(here) == 1 else None
        return found + "".join(str(seat) for seat in here) + ("" if level is None else f":{level}")

    cells = [[marks(stack) or "." for stack in row] for row in np.moveaxis(board, 0, -1)]
    wide = max(len(word) for line in cells for word in line)
    return "\n".join(" ".join(word.ljust(wide) for word in line).rstrip() for line in cells)


def gif_bytes(frames: Sequence[NDArray[np.uint8]], fps: float = 3) -> bytes:
    """Make an endless animation that shows the last frame longer. All frames share one palette, to avoid flicker.

    Args:
        frames: uint8 `[H, W, 3]` each, all of one size.
        fps: frames per second, at most 50: viewers slow down faster animations.

    Returns:
        The content of a GIF file.

    Raises:
        ConfigError: there are no frames, their sizes differ, or `fps` is out of range.
    """
    sizes = {np.shape(picture) for picture in frames}
    if len(sizes) != 1:
        raise ConfigError(
            f"got frames of sizes {sorted(sizes)}: expected one size for a GIF; give frames of one episode"
        )
    if not 0 < fps <= 50:
        raise ConfigError(f"fps={fps}: expected a number above 0 and at most 50, which viewers can show; choose one")
    pixels = np.concatenate([picture[::2, ::2] for picture in frames])
    palette = Image.fromarray(pixels).quantize(256)
    images = [Image.fromarray(picture).quantize(palette=palette, dither=Image.Dither.NONE) for picture in frames]
    durations = [round(1000 / fps)] * (len(images) - 1) + [round(3000 / fps)]
    stream = io.BytesIO()
    images[0].save(stream, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0)
    return stream.getvalue()


def write_gif(frames: Sequence[NDArray[np.uint8]], path: str | Path, fps: float = 3) -> None:
    """Write `gif_bytes` to a file atomically."""
    content = gif_bytes(frames, fps)
    with replacing(path) as file:
        file.write(content)


def _draw_cell(pen: Pen, stack: NDArray, names: Sequence[str], capture: Capture | None) -> None:
    """Draw one cell; `stack` `[C]` holds its entry in each plane."""
    pen.tile(TILE)
    seats = [seat for seat, plane in enumerate(_seats(names)) if stack[plane]]
    shown = [n for n, there in zip(names, stack, strict=True) if there and not _is_player(n) and not _is_level(n)]
    things = [(name, _level(stack, names, name)) for name in shown]
    strength = _level(stack, names, "player") if len(seats) == 1 else None
    if capture is not None:
        pen.tile(GLOW, outline=GOLD, width=0.055)
        things.append((capture.kind + "s", capture.level))
        seats = sorted({*seats, *capture.seats})
    for name, level in things:
        draw_thing(pen.part(*PLACES.get(name, (0.5, 0.36, 0.64) if seats else (0.5, 0.5, 0.94))), name, level)
    _draw_seats(pen, seats, any(name not in PLACES for name, _ in things), strength)


def _draw_seats(pen: Pen, seats: Sequence[int], crowded: bool, level: int | None) -> None:
    """Draw the seats of one cell side by side: in the lower part if the cell also holds an object.

    `level` is that of a seat alone on its cell.
    """
    columns = len(seats) if crowded else math.ceil(math.sqrt(len(seats)))
    for k, seat in enumerate(seats):
        rows = math.ceil(len(seats) / columns)
        across = min(columns, len(seats) - k // columns * columns)  # number of seats in this row
        size = min(0.36, 0.88 / columns) if crowded else 0.72 if columns == 1 else 0.88 / columns
        x = 0.5 + (k % columns - (across - 1) / 2) * size
        y = 0.8 if crowded else 0.5 + (k // columns - (rows - 1) / 2) * size
        draw_disc(pen.part(x, y, size), seat, level=level)


def amount(value: float) -> str:
    """Return a reward as text with one decimal, or with two if it has more."""
    return f"{value:.1f}" if abs(10 * value - round(10 * value)) < 1e-3 else f"{value:.2f}"


def _draw_returns(pen: Pen, width: int, y: float, returns: Sequence[float], present: Sequence[bool]) -> None:
    """Write each seat's return beside its disc, which is hollow if the seat has left."""
    step = width / max(len(returns), 1)
    size = min(0.42, step * 0.42)
    for seat, value in enumerate(returns):
        x = MARGIN + seat * step + 0.05
        draw_disc(pen.part(x + size / 2, y, size), seat, present[seat])
        pen.text(x + 1.15 * size, y, amount(value), 0.66 * size, INK, "lm")


def _checked(planes: ArrayLike, names: Sequence[str]) -> NDArray[np.bool_]:
    """Return one view as booleans, `[C, h, w]`."""
    board = np.asarray(planes) > 0
    if board.ndim != 3 or len(board) != len(names):
        raise ConfigError(
            f"planes of shape {board.shape}: expected [C, h, w] with C = {len(names)}, one plane for each of {names}; "
            "give one seat's view without the batch"
        )
    return board


def _is_player(name: str) -> bool:
    return name == "self" or name.startswith("other_")


def _is_level(name: str) -> bool:
    return re.fullmatch(r".+_level_\d+", name) is not None


def _kind(name: str) -> str:
    """Return the kind of an object, by the name of its plane or goal: `food` for `food_1`."""
    return re.sub(r"_\d+$", "", name)


def _level(stack: NDArray, names: Sequence[str], thing: str) -> int | None:
    """Return the level of an object, or of a `player`, in a cell, `stack` `[C]`; None if such objects have no levels.

    It is the sum of the planes of levels that are 1, so these may be the levels, or their binary digits.
    """
    levels = {k: int(name.rpartition("_")[2]) for k, name in enumerate(names) if name.startswith(f"{thing}_level_")}
    if not levels:
        return None
    return sum(level for k, level in levels.items() if stack[k]) or min(levels.values()) - 1


def _seats(names: Sequence[str]) -> list[int]:
    """Return the planes of seats 0, 1, ..."""
    return [plane for plane, name in enumerate(names) if _is_player(name)]
