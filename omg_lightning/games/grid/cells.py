"""Checks of positions on a grid that a user gives."""

from collections.abc import Sequence
from numbers import Integral

from omg_lightning.types import ConfigError


def cell_indices(name: str, positions: Sequence[Sequence[int]], height: int, width: int) -> list[int]:
    """Convert `(row, column)` pairs to cell indices, or raise ConfigError for one that is not on the grid."""
    try:
        pairs = [(row, column) for row, column in positions]
    except (TypeError, ValueError):
        raise ConfigError(f"{name}={positions!r}: expected a list of pairs (row, column); give one.") from None
    cells = []
    for row, column in pairs:
        on_grid = all(isinstance(x, Integral) and not isinstance(x, bool) for x in (row, column))
        if not (on_grid and 0 <= row < height and 0 <= column < width):
            raise ConfigError(
                f"{name}: got ({row!r}, {column!r}); expected whole numbers, 0 <= row < {height} and"
                f" 0 <= column < {width}; move it onto the grid."
            )
        cells.append(int(row) * width + int(column))
    return cells


def exactly(name: str, cells: Sequence[int], argument: str, count: int) -> None:
    """Raise ConfigError unless there are `count` cells, as the game's `argument` sets."""
    if len(cells) != count:
        raise ConfigError(
            f"{name}: got {len(cells)} positions; expected {count}, this game's {argument}: give this many, or build"
            f" the game with another {argument}."
        )
