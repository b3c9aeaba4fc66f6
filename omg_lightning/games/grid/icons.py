"""Icons of the pictures: a pen in the coordinates of one cell, and a painter for each kind of object."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import matplotlib
from PIL import ImageDraw, ImageFont

Point = tuple[float, float]

# Okabe and Ito's palette (jfly.uni-koeln.de/color), which colour-blind people can tell apart. Captures use its orange.
SEAT_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
PAPER, TILE, INK, GOLD, GLOW = "#FFFFFF", "#EEF0F2", "#2B303A", "#E69F00", "#FBF0B2"


class Pen:
    """Draw on one square of the canvas in its own coordinates: (0, 0) is upper left, (1, 1) lower right."""

    def __init__(self, draw: ImageDraw.ImageDraw, x: float, y: float, size: float) -> None:
        self.draw, self.x, self.y, self.size = draw, x, y, size

    def part(self, cx: float, cy: float, size: float) -> "Pen":
        """Return a pen for the square of side `size` around (cx, cy)."""
        (x, y), length = self._at((cx - size / 2, cy - size / 2)), size * self.size
        return Pen(self.draw, x, y, length)

    def ellipse(self, cx: float, cy: float, rx: float, ry: float, fill: str, tilt: float = 0.0) -> None:
        """Fill an ellipse, turned clockwise by `tilt` degrees."""
        angles = [2 * math.pi * k / 48 for k in range(48)]
        cos, sin = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
        unturned = [(rx * math.cos(a), ry * math.sin(a)) for a in angles]
        self.polygon([(cx + x * cos - y * sin, cy + x * sin + y * cos) for x, y in unturned], fill)

    def polygon(self, points: Iterable[Point], fill: str) -> None:
        """Fill a polygon."""
        self.draw.polygon([self._at(point) for point in points], fill=fill)

    def line(self, points: Sequence[Point], width: float, fill: str) -> None:
        """Draw a line with round corners and ends."""
        self.draw.line([self._at(point) for point in points], fill=fill, width=round(width * self.size), joint="curve")
        for x, y in (points[0], points[-1]):
            self.ellipse(x, y, width / 2, width / 2, fill)

    def tile(self, fill: str, gap: float = 0.03, outline: str | None = None, width: float = 0.0) -> None:
        """Fill the square, with rounded corners."""
        box = (*self._at((gap, gap)), *self._at((1 - gap, 1 - gap)))
        self.draw.rounded_rectangle(box, 0.12 * self.size, fill, outline, round(width * self.size))

    def text(self, x: float, y: float, words: str, height: float, fill: str, anchor: str = "mm") -> None:
        """Write text; `anchor` as in Pillow: "mm" middle, "lm" left middle."""
        self.draw.text(self._at((x, y)), words, fill, _font(round(height * self.size)), anchor)

    def _at(self, point: Point) -> Point:
        return self.x + point[0] * self.size, self.y + point[1] * self.size


def draw_thing(pen: Pen, name: str, level: int | None = None) -> None:
    """Draw the object of the plane `name`: with its painter, or as a diamond with its first letter; and its level.

    Objects with numbers, such as `food_1`, share a painter, `foods`.
    """
    painter = PAINTERS.get(name) or PAINTERS.get(re.sub(r"_\d+$", "s", name))
    if painter is not None:
        painter(pen)
    else:
        pen.polygon([(0.5, 0.15), (0.85, 0.5), (0.5, 0.85), (0.15, 0.5)], "#8A919C")
        pen.text(0.5, 0.5, name[0].upper(), 0.3, PAPER)
    if level is not None:
        pen.text(0.5, 0.6, str(level), 0.36, PAPER)


def draw_disc(pen: Pen, seat: int, present: bool = True, level: int | None = None) -> None:
    """Draw a seat: its number on a disc of its colour, hollow if it has left; its level on a badge."""
    colour = SEAT_COLOURS[seat % len(SEAT_COLOURS)]
    pen.ellipse(0.5, 0.5, 0.49, 0.49, PAPER)
    pen.ellipse(0.5, 0.5, 0.44, 0.44, colour)
    if not present:
        pen.ellipse(0.5, 0.5, 0.36, 0.36, PAPER)
    pen.text(0.5, 0.51, str(seat), 0.5, PAPER if present else colour)
    if level is not None:
        badge = pen.part(0.86, 0.84, 0.5)
        badge.ellipse(0.5, 0.5, 0.5, 0.5, colour)
        badge.ellipse(0.5, 0.5, 0.42, 0.42, PAPER)
        badge.text(0.5, 0.52, str(level), 0.62, INK)


def _block(pen: Pen) -> None:
    """Draw a block."""
    pen.tile("#4A5160")
    pen.line([(0.14, 0.1), (0.86, 0.1)], 0.05, "#646C7D")


def _stag(pen: Pen) -> None:
    """Draw the head of a stag."""
    fur, dark, horn = "#9A5B2E", "#6B3D1C", "#5A4632"
    for side in (-1, 1):

        def flip(*points: Point, side: int = side) -> list[Point]:
            return [(0.5 + side * x, y) for x, y in points]

        pen.line(flip((0.07, 0.42), (0.13, 0.31), (0.25, 0.27), (0.31, 0.18), (0.31, 0.07)), 0.05, horn)  # the beam
        pen.line(flip((0.13, 0.31), (0.11, 0.17), (0.14, 0.09)), 0.045, horn)  # and its tines
        pen.line(flip((0.22, 0.28), (0.21, 0.17)), 0.045, horn)
        pen.line(flip((0.29, 0.22), (0.4, 0.18)), 0.045, horn)
        pen.ellipse(0.5 + side * 0.2, 0.45, 0.12, 0.055, dark, tilt=-side * 20)  # ear
    pen.polygon([(0.34, 0.42), (0.42, 0.37), (0.58, 0.37), (0.66, 0.42), (0.6, 0.74), (0.4, 0.74)], fur)
    pen.ellipse(0.5, 0.47, 0.165, 0.11, fur)
    pen.ellipse(0.5, 0.76, 0.115, 0.12, "#D9B48C")  # muzzle
    pen.ellipse(0.5, 0.81, 0.06, 0.042, "#2B1B10")  # nose
    for x in (0.41, 0.59):
        pen.ellipse(x, 0.52, 0.03, 0.037, "#2B1B10")


def _hare(pen: Pen) -> None:
    """Draw the head of a hare."""
    fur, pink, dark = "#A3A7AE", "#F3C6CC", "#2B303A"
    for side in (-1, 1):
        pen.ellipse(0.5 + side * 0.125, 0.28, 0.078, 0.23, fur, tilt=side * 10)
        pen.ellipse(0.5 + side * 0.127, 0.28, 0.036, 0.16, pink, tilt=side * 10)
    pen.ellipse(0.5, 0.65, 0.25, 0.23, fur)
    for side in (-1, 1):
        pen.ellipse(0.5 + side * 0.07, 0.745, 0.095, 0.075, "#E9EBED")  # cheeks
        pen.ellipse(0.5 + side * 0.11, 0.605, 0.033, 0.042, dark)
    pen.polygon([(0.455, 0.68), (0.545, 0.68), (0.5, 0.735)], "#D9828E")  # nose


def _drift(pen: Pen) -> None:
    """Draw a heap of snow: hills on flat ground, each with an outline and its shady side to the right."""

    def hill(cx: float, rx: float, height: float, fill: str) -> None:
        angles = [math.pi * k / 24 for k in range(25)]
        pen.polygon([(cx - rx * math.cos(a), 0.86 - height * math.sin(a) ** 1.3) for a in angles], fill)

    snow, shade, edge = "#FFFFFF", "#CFE1EF", "#7FA6C4"
    for cx, rx, height in ((0.52, 0.33, 0.62), (0.27, 0.25, 0.36), (0.76, 0.22, 0.28)):
        hill(cx, rx, height, edge)
        hill(cx, rx - 0.03, height - 0.035, shade)
        hill(cx - 0.03, rx - 0.06, height - 0.045, snow)
    pen.line([(0.04, 0.86), (0.96, 0.86)], 0.035, edge)


def _apple(pen: Pen) -> None:
    """Draw an apple."""
    skin, light = "#C8373B", "#E0676A"
    pen.line([(0.5, 0.34), (0.53, 0.2), (0.6, 0.12)], 0.055, "#6B4A2B")  # stalk
    pen.ellipse(0.7, 0.19, 0.14, 0.065, "#5C9A3C", tilt=-24)  # leaf
    for side in (-1, 1):
        pen.ellipse(0.5 + side * 0.135, 0.55, 0.235, 0.28, skin, tilt=side * 8)
        pen.ellipse(0.5 + side * 0.1, 0.75, 0.15, 0.14, skin)
    pen.ellipse(0.31, 0.45, 0.06, 0.1, light, tilt=22)


def _coin(owner: int) -> Callable[[Pen], None]:
    """Return a painter of a coin in the colour of a seat."""

    def draw(pen: Pen) -> None:
        pen.ellipse(0.5, 0.54, 0.37, 0.37, "#8A6508")  # its edge
        pen.ellipse(0.5, 0.5, 0.37, 0.37, GOLD)
        pen.ellipse(0.5, 0.5, 0.27, 0.27, SEAT_COLOURS[owner])
        pen.line([(0.39, 0.41), (0.45, 0.35)], 0.05, PAPER)  # a gleam

    return draw


def _counter(pen: Pen) -> None:
    """Draw a counter."""
    pen.tile("#C9A882")
    pen.line([(0.14, 0.1), (0.86, 0.1)], 0.05, "#DCC3A3")


def _pot(pen: Pen) -> None:
    """Draw a pot on a stove; the number of onions is written on it."""
    pen.tile("#7B828F")
    pen.ellipse(0.5, 0.82, 0.34, 0.08, "#4A5160")
    for side in (-1, 1):
        pen.line([(0.5 + side * 0.3, 0.46), (0.5 + side * 0.42, 0.46)], 0.07, INK)  # handles
    pen.polygon([(0.18, 0.36), (0.82, 0.36), (0.77, 0.84), (0.23, 0.84)], INK)
    pen.ellipse(0.5, 0.36, 0.32, 0.08, "#4A5160")


def _heap(thing: Callable[[Pen], None]) -> Callable[[Pen], None]:
    """Return a painter of a counter with a supply of an object."""

    def draw(pen: Pen) -> None:
        _counter(pen)
        for x, y in ((0.3, 0.34), (0.7, 0.34), (0.5, 0.66)):
            thing(pen.part(x, y, 0.5))

    return draw


def _hatch(pen: Pen) -> None:
    """Draw a serving hatch."""
    pen.tile("#8FB58C")
    pen.line([(0.24, 0.52), (0.45, 0.74), (0.76, 0.3)], 0.09, PAPER)


def _onion(pen: Pen) -> None:
    """Draw an onion."""
    pen.line([(0.5, 0.3), (0.5, 0.1)], 0.07, "#7A9A4A")
    pen.ellipse(0.5, 0.58, 0.34, 0.32, "#C98A2B")
    pen.polygon([(0.36, 0.32), (0.64, 0.32), (0.5, 0.14)], "#C98A2B")
    pen.ellipse(0.5, 0.58, 0.15, 0.3, "#E2AE58")


def _dish(pen: Pen) -> None:
    """Draw a dish."""
    pen.ellipse(0.5, 0.5, 0.4, 0.4, "#8A919C")
    pen.ellipse(0.5, 0.5, 0.37, 0.37, PAPER)
    pen.ellipse(0.5, 0.5, 0.24, 0.24, TILE)


def _soup(pen: Pen) -> None:
    """Draw a dish with soup; the number of onions in it is written on it."""
    _dish(pen)
    pen.ellipse(0.5, 0.52, 0.3, 0.3, "#B5651D")


def _cooking(pen: Pen) -> None:
    """Draw a badge for the steps until a soup is ready."""
    pen.ellipse(0.5, 0.56, 0.44, 0.44, "#D55E00")


def _ready(pen: Pen) -> None:
    """Draw a badge for a soup that is ready."""
    pen.ellipse(0.5, 0.56, 0.44, 0.44, "#009E73")
    pen.line([(0.32, 0.56), (0.46, 0.72), (0.7, 0.4)], 0.1, PAPER)


def _facing(row: int, column: int) -> Callable[[Pen], None]:
    """Return a painter of the edge of a cell that a player faces."""

    def draw(pen: Pen) -> None:
        x, y = 0.5 + 0.44 * column, 0.5 + 0.44 * row
        across, down = (0.0, 0.3) if column else (0.3, 0.0)
        pen.line([(x - across, y - down), (x + across, y + down)], 0.08, INK)

    return draw


# A game with other objects adds a painter under the name of its plane.
PAINTERS: dict[str, Callable[[Pen], None]] = {
    "blocks": _block,
    "stags": _stag,
    "hares": _hare,
    "drifts": _drift,
    "foods": _apple,
    "my_coin": _coin(0),  # pictures show the view of seat 0
    "their_coin": _coin(1),
    "counters": _counter,
    "pots": _pot,
    "onion_dispensers": _heap(_onion),
    "dish_dispensers": _heap(_dish),
    "hatches": _hatch,
    "onions": _onion,
    "dishes": _dish,
    "soups": _soup,
    "cooking": _cooking,
    "ready": _ready,
    "facing_north": _facing(-1, 0),
    "facing_south": _facing(1, 0),
    "facing_east": _facing(0, 1),
    "facing_west": _facing(0, -1),
}
# Position of an object in its cell, (x, y, size), if not the middle.
PLACES: dict[str, tuple[float, float, float]] = {
    **dict.fromkeys(("blocks", "counters", "pots", "onion_dispensers", "dish_dispensers", "hatches"), (0.5, 0.5, 1.0)),
    **{f"facing_{way}": (0.5, 0.5, 1.0) for way in ("north", "south", "east", "west")},
    "cooking": (0.78, 0.26, 0.46),
    "ready": (0.78, 0.26, 0.46),
}
# Symbols of objects in text, if not their first letter.
SIGNS = {
    "blocks": "#",
    "counters": "#",
    "facing_north": "^",
    "facing_south": "v",
    "facing_east": ">",
    "facing_west": "<",
}


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans-Bold.ttf")), size)
