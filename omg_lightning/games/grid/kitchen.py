"""Kitchens of Overcooked: their layouts, and the effects of interactions as lookup tables for whole batches."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from omg_lightning.games.grid.layout import GridLayout
from omg_lightning.types import NO_GOAL, ConfigError

NORTH, SOUTH, EAST, WEST, STAY, INTERACT = range(6)  # actions; the first four are also directions of a player
STEPS = ((-1, 0), (1, 0), (0, 1), (0, -1))  # (row, column) of these four
FLOOR, COUNTER, POT, ONIONS, DISHES, HATCH = range(6)  # kinds of cells
MARKS = " XPODS"  # of these kinds in a grid
NOTHING, ONION, DISH, SOUP = range(4)  # objects in hands or on counters; SOUP + k is a soup of k + 1 onions
OBJECTS = SOUP + 3
FULL = 3  # onions in a pot
POT_ONION, TAKE_DISH, TAKE_SOUP, DELIVER, COOK = range(5)  # the declared goals

GRIDS: dict[str, tuple[str, ...]] = {  # by their names in JaxMARL; players start on 1 and 2
    "cramped_room": ("XXPXX", "O  2O", "X1  X", "XDXSX"),
    "asymm_advantages": ("XXXXXXXXX", "O XSXOX S", "X   P 1 X", "X2  P   X", "XXXDXDXXX"),
    "coord_ring": ("XXXPX", "X 1 P", "D2X X", "O   X", "XOSXX"),
    "forced_coord": ("XXXPX", "O X1P", "O2X X", "D X X", "XXXSX"),
    "counter_circuit": ("XXXPPXXX", "X  2   X", "D XXXX S", "X  1   X", "XXXOOXXX"),
}


class Kitchen(NamedTuple):
    """A grid without its players."""

    kinds: tuple[int, ...]  # of each cell, row by row
    starts: tuple[int, ...]  # cell of each player
    height: int
    width: int

    def cells(self, kind: int) -> list[int]:
        """Return the cells of this kind."""
        return [cell for cell, each in enumerate(self.kinds) if each == kind]


def read_grid(rows: Sequence[str]) -> Kitchen:
    """Read a grid in the format of the original.

    Args:
        rows: strings of equal length: `X` a counter, `P` a pot, `O` onions, `D` dishes, `S` a serving hatch, a
            space the floor, and `1`, `2`, ... the players' initial cells.

    Raises:
        ConfigError: a mark is unknown, lengths differ, the floor reaches the border, or a kind of cell is missing.
    """
    if isinstance(rows, str) or not all(isinstance(row, str) and row for row in rows) or not rows:
        raise ConfigError(f"grid={rows!r}: give a list of strings, one for each row; see Overcooked.")
    text, height, width = "".join(rows), len(rows), len(rows[0])
    if any(len(row) != width for row in rows):
        raise ConfigError(
            f"grid={list(rows)}: rows have {sorted({len(row) for row in rows})} marks; give rows of equal length."
        )
    digits = sorted(mark for mark in text if mark.isdigit())
    if unknown := sorted(set(text) - set(MARKS) - set(digits)):
        tomatoes = "; this game has no tomatoes" if unknown == ["T"] else ""
        raise ConfigError(f"grid: got the mark {unknown[0]!r}; expected one of {MARKS!r}, or a digit{tomatoes}.")
    if not digits or digits != [str(k + 1) for k in range(len(digits))]:
        raise ConfigError(f"grid: got the players {', '.join(digits) or 'none'}; give 1, 2, ... once each.")
    kinds = tuple(FLOOR if mark.isdigit() else MARKS.index(mark) for mark in text)
    for cell, kind in enumerate(kinds):
        row, column = divmod(cell, width)
        if kind == FLOOR and (row in (0, height - 1) or column in (0, width - 1)):
            raise ConfigError(f"grid: the floor reaches the border at {(row, column)}; put a counter, X, there.")
    for kind in (POT, ONIONS, DISHES, HATCH):
        if kind not in kinds:
            raise ConfigError(f"grid: there is no {MARKS[kind]}, so no soup can be served; add one.")
    return Kitchen(kinds, tuple(text.index(digit) for digit in digits), height, width)


class PotCodes(NamedTuple):
    """Codes of a pot's content: 0 to 3 onions that do not cook, then each number of onions and steps of cooking."""

    cook_time: int

    @property
    def size(self) -> int:
        """The number of codes; larger than that of objects on counters."""
        return FULL + 1 + FULL * (self.cook_time + 1)

    def cooking(self, onions: int, ticks: int) -> int:
        """Return the code of a soup of 1 to 3 onions that has cooked for `ticks` steps."""
        return FULL + 1 + (onions - 1) * (self.cook_time + 1) + ticks

    def read(self, code: int) -> tuple[int, int]:
        """Return the number of onions, and of steps of cooking, -1 for none."""
        if code <= FULL:
            return code, -1
        onions, ticks = divmod(code - FULL - 1, self.cook_time + 1)
        return onions + 1, ticks


class Outcome(NamedTuple):
    """The cell and the hands after an interaction, and the goal that it achieves."""

    content: int
    held: int
    goal: int = NO_GOAL


def interact(kind: int, content: int, held: int, pots: PotCodes, old_dynamics: bool) -> Outcome:
    """Return the outcome of an interaction with a cell: the rules of the game for one player.

    Taking a dish from the supply achieves `TAKE_DISH`, whether or not it is useful.

    Args:
        kind: of the cell.
        content: an object on a counter, or of `pots`.
        held: the object in its hands.
        pots: the codes of pots.
        old_dynamics: whether soups start to cook by themselves instead of by an interaction.
    """
    empty = held == NOTHING
    if kind == COUNTER and empty != (content == NOTHING):  # take or put down
        return Outcome(held, content)
    if kind == ONIONS and empty:
        return Outcome(content, ONION)
    if kind == DISHES and empty:
        return Outcome(content, DISH, TAKE_DISH)
    if kind == HATCH and held >= SOUP:
        return Outcome(content, NOTHING, DELIVER)
    if kind == POT:
        onions, ticks = pots.read(content)
        if held == ONION and ticks < 0 and onions < FULL:
            return Outcome(content + 1, NOTHING, POT_ONION)
        if held == DISH and ticks == pots.cook_time:
            return Outcome(0, SOUP + onions - 1, TAKE_SOUP)
        if empty and ticks < 0 and onions > 0 and not old_dynamics:
            return Outcome(pots.cooking(onions, 0), held, COOK)
    return Outcome(content, held)


def next_content(content: int, pots: PotCodes, old_dynamics: bool) -> int:
    """Return the content of a pot one step later."""
    onions, ticks = pots.read(content)
    if ticks < 0:
        return pots.cooking(FULL, 1) if old_dynamics and onions == FULL else content
    return pots.cooking(onions, min(ticks + 1, pots.cook_time))


def plane_names(num_players: int, cook_time: int) -> tuple[str, ...]:
    """Return the names of the planes.

    An object is on a counter, or in the hands of the player on its cell. `pots_level_3` marks a pot with three
    onions; `soups` without a level have one onion. The planes `cooking_level_1`, `_2`, `_4`, ... are the binary digits
    of the steps until a soup is ready.
    """
    players = ["self", *(f"other_{k}" for k in range(1, num_players))]
    places = ["counters", "pots", "onion_dispensers", "dish_dispensers", "hatches"]
    faces = [f"facing_{name}" for name in ("north", "south", "east", "west")]
    objects = ["onions", "dishes", "soups", *(f"soups_level_{k}" for k in range(2, FULL + 1))]
    inside = [*(f"pots_level_{k}" for k in range(1, FULL + 1)), "ready", "cooking"]
    left = [f"cooking_level_{1 << bit}" for bit in range(cook_time.bit_length())]
    return (*players, *places, *faces, *objects, *inside, *left)


def grid_layout(kitchen: Kitchen, cook_time: int) -> GridLayout:
    """Return what the planes mean."""
    players = len(kitchen.starts)
    return GridLayout(plane_names(players, cook_time), kitchen.height, kitchen.width, players, walls=players)


class Tables(NamedTuple):
    """The rules of a kitchen as tables, on one device. S cells, N contents, O objects, C planes."""

    kinds: Tensor  # int64 [S]
    ahead: Tensor  # int64 [S, 4] the cell in each direction of a cell; arbitrary off the floor
    pots: Tensor  # int64 [number of pots] their cells
    outcome: Tensor  # int64 [6 * N * O, 3] content, held, goal after an interaction, by kind, content and held
    later: Tensor  # int64 [N] content of a pot one step later
    serves: Tensor  # bool [N] a pot for which a dish is useful in the original: cooking, ready or partly full
    places: Tensor  # float [6 * N, C - P] planes of a cell, by kind and content
    people: Tensor  # float [4 * O, C - P] planes that a player adds to its cell, by its direction and its object


def make_tables(kitchen: Kitchen, pots: PotCodes, old_dynamics: bool, device: torch.device) -> Tables:
    """Compute the tables of a kitchen."""
    kinds, contents, objects = range(len(MARKS)), range(pots.size), range(OBJECTS)
    outcome = [interact(k, c, o, pots, old_dynamics) for k in kinds for c in contents for o in objects]
    names = plane_names(len(kitchen.starts), pots.cook_time)[len(kitchen.starts) :]
    read = [pots.read(content) for content in contents]
    area, width = len(kitchen.kinds), kitchen.width
    ahead = [[(cell + row * width + column) % area for row, column in STEPS] for cell in range(area)]

    def bits(marks: list[list[str]]) -> Tensor:
        return torch.tensor([[float(name in each) for name in names] for each in marks], device=device)

    return Tables(
        kinds=torch.tensor(kitchen.kinds, device=device),
        ahead=torch.tensor(ahead, device=device),
        pots=torch.tensor(kitchen.cells(POT), device=device),
        outcome=torch.tensor(outcome, device=device),
        later=torch.tensor([next_content(content, pots, old_dynamics) for content in contents], device=device),
        serves=torch.tensor([ticks >= 0 or 0 < onions < FULL for onions, ticks in read], device=device),
        places=bits([_marks(kind, content, pots) for kind in kinds for content in contents]),
        people=bits([[names[len(MARKS) - 1 + way], *_object_marks(o)] for way in range(4) for o in objects]),
    )


def _marks(kind: int, content: int, pots: PotCodes) -> list[str]:
    """Return the names of the planes that show a cell."""
    if kind == FLOOR:
        return []
    found = [("counters", "pots", "onion_dispensers", "dish_dispensers", "hatches")[kind - 1]]
    if kind == COUNTER:
        return found + _object_marks(content)
    if kind == POT:
        onions, ticks = pots.read(content)
        left = pots.cook_time - ticks
        found += [f"pots_level_{onions}"] if onions else []
        if ticks >= 0:
            found.append("cooking" if left else "ready")
            found += [f"cooking_level_{1 << bit}" for bit in range(left.bit_length()) if left >> bit & 1]
    return found


def _object_marks(thing: int) -> list[str]:
    """Return the names of the planes that show an object."""
    if thing < SOUP or thing >= OBJECTS:
        return [["onions"], ["dishes"]][thing - 1] if NOTHING < thing < SOUP else []
    onions = thing - SOUP + 1
    return ["soups", *([f"soups_level_{onions}"] if onions > 1 else [])]
