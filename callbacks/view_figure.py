"""Draw observations and distributions over them: each object with its probability in each cell."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from omg_lightning.games.grid.icons import INK, PAPER, SEAT_COLOURS, TILE, Pen, draw_disc, draw_thing

_CELL, _FOOTER = 96, 0.5  # pixels of a cell; height of the line below the board, in cells
_VISIBLE = 0.01  # smaller probabilities are not drawn
_KEY = (
    "Disc: a player; its area is the probability of this cell.  Other objects: opacity is the probability.\n"
    "Ring below the board: a player that has left; its area is the probability."
)


class Picture(NamedTuple):
    """The distribution over one observation."""

    cells: Tensor  # float [C, h, w] probability of a 1
    absent: Tensor  # float [P] probability that the player has left


class Example(NamedTuple):
    """One row of the figure: observation, inferred subgoal and future of seat `seat`."""

    label: str
    seat: int
    pictures: tuple[Picture, Picture, Picture, Picture]  # true, decoded, subgoal, selected
    ahead: int  # steps between the first and the last picture


def goal_figure(rows: Sequence[Example], plane_names: Sequence[str], titles: Sequence[str]) -> Figure:
    """Draw one row of pictures for each example."""
    height, width = rows[0].pictures[0].cells.shape[1:] if rows else (1, 1)
    tall = 1.62 * (height + _FOOTER) / width
    size, dpi = (7.6, tall * max(len(rows), 1) + 1.3), 35.0 * min(max(width, 4), 10)  # small cells stay legible
    figure = Figure(figsize=size, dpi=dpi, layout="constrained")
    grid = figure.subplots(max(len(rows), 1), 4, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=9, color=INK)
    for line, row in zip(grid, rows, strict=False):
        for axes, picture in zip(line, row.pictures, strict=True):
            axes.imshow(belief_picture(picture, plane_names, row.seat))
        line[0].text(-0.06, 0.5, row.label, transform=line[0].transAxes, ha="right", va="center", fontsize=8.5)
        line[3].text(0.99, -0.01, f"t + {row.ahead}", transform=line[3].transAxes, ha="right", va="top", fontsize=8.5)
    figure.supxlabel(_KEY, fontsize=8.5, color=INK)
    return figure


def belief_picture(picture: Picture, plane_names: Sequence[str], ego: int) -> NDArray[np.uint8]:
    """Draw the distribution over one observation of seat `ego`. Each plane has its own position in a cell.

    Returns:
        uint8 `[H, W, 3]`.
    """
    cells, absent = picture.cells.cpu().numpy(), picture.absent.cpu().numpy()
    (_, height, width), players = cells.shape, len(absent)
    canvas = Image.new("RGB", (width * _CELL, int((height + _FOOTER) * _CELL)), PAPER)
    small = [plane for plane, name in enumerate(plane_names) if plane >= players and name != "blocks"]
    slots = _slots([*small, *range(players)])
    for row, column in np.ndindex(height, width):
        square = Pen(ImageDraw.Draw(canvas), column * _CELL, row * _CELL, _CELL)
        square.tile(TILE)
        for plane in sorted(range(len(plane_names)), key=slots.__contains__):  # blocks are drawn below everything else
            likely, place = float(cells[plane, row, column]), square.part(*slots.get(plane, (0.5, 0.5, 1.0)))
            if plane < players:
                _draw_player(place, likely, (ego + plane) % players)
            elif likely > _VISIBLE:
                fade(canvas, place, partial(draw_thing, name=plane_names[plane]), likely)
    for k, likely in enumerate(absent):
        place = Pen(ImageDraw.Draw(canvas), 0, height * _CELL, _CELL).part(k * 0.5 + 0.3, _FOOTER / 2, 0.46)
        _draw_player(place, float(likely), (ego + k) % players, present=False)
    return np.asarray(canvas)


def _slots(planes: Sequence[int]) -> dict[int, tuple[float, float, float]]:
    """Return the position of each plane within a cell: (x, y, size)."""
    columns = math.ceil(math.sqrt(len(planes)))
    rows = math.ceil(len(planes) / columns)
    return {
        plane: ((k % columns + 0.5) / columns, (k // columns + 0.5) / rows, 0.94 / columns)
        for k, plane in enumerate(planes)
    }


def _draw_player(place: Pen, likely: float, seat: int, present: bool = True) -> None:
    """Draw a disc whose area is the probability, with its number if it is legible."""
    if likely > 0.3:
        draw_disc(place.part(0.5, 0.5, likely**0.5), seat, present)
    elif likely > _VISIBLE:
        radius = 0.44 * likely**0.5
        place.ellipse(0.5, 0.5, radius, radius, SEAT_COLOURS[seat % len(SEAT_COLOURS)])
        if not present:
            place.ellipse(0.5, 0.5, 0.7 * radius, 0.7 * radius, PAPER)


def fade(canvas: Image.Image, place: Pen, paint: Callable[[Pen], None], opacity: float) -> None:
    """Paint into a square of the canvas with some opacity."""
    box = (round(place.x), round(place.y), round(place.x + place.size), round(place.y + place.size))
    before = canvas.crop(box)
    after = before.copy()
    paint(Pen(ImageDraw.Draw(after), 0, 0, place.size))
    canvas.paste(Image.blend(before, after, opacity), box)


def true_picture(view: Tensor, absent: Tensor) -> Picture:
    """Return the picture of a true observation `[C, h, w]`, with probabilities 0 and 1."""
    there = view[: absent.shape[1]].flatten(1).sum(1)
    return Picture(view.float(), (there == 0).float())
