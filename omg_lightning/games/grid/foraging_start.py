"""Initial states of Level-Based Foraging: names of presets, random layouts, given layouts."""

import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from omg_lightning.games import checks
from omg_lightning.games.grid.blocks import draw_distinct
from omg_lightning.games.grid.cells import cell_indices
from omg_lightning.types import ConfigError

Variant = Literal["lbforaging", "jumanji"]
_NAME = re.compile(r"(?:(\d+)s-)?(\d+)x(\d+)-(\d+)p-(\d+)f(-coop|-no-levels)?")
_NO_LEVELS = {
    "variant": "jumanji", "max_player_level": 1, "force_coop": True, "prosocial": True, "max_steps": 100
}  # fmt: skip
MOST_LOADERS = 3  # the highest level of a food is the sum of this many lowest levels of players


class Start(NamedTuple):
    """Positions and levels at the start of an episode."""

    players: Tensor  # int64 [B, P] cells
    levels: Tensor  # int64 [B, P]
    foods: Tensor  # int64 [B, F] cells, row by row; h * w for one without room
    food_levels: Tensor  # int64 [B, F]; 0 for one without room


class Sizes(NamedTuple):
    """Settings of a random start."""

    num_players: int
    num_foods: int
    height: int
    width: int
    player_levels: tuple[int, int]  # the lowest and the highest one
    food_levels: tuple[int, int | None]  # likewise; None: the sum of the three lowest levels of the row's players
    force_coop: bool
    variant: Variant


def preset_settings(preset: str) -> dict[str, Any]:
    """Return the constructor arguments of a preset's name.

    Raises:
        ConfigError: the name is not a preset.
    """
    found = _NAME.fullmatch(preset) if isinstance(preset, str) else None
    if found is None:
        raise ConfigError(
            f"preset={preset!r}: expected rows x columns, players and foods, such as 8x8-2p-3f, 8x8-2p-2f-coop, "
            "2s-8x8-2p-3f (sight of 2 cells) or 7x7-2p-3f-no-levels; choose such a name."
        )
    sight, height, width, players, foods = (None if word is None else int(word) for word in found.groups()[:5])
    settings: dict[str, Any] = {"height": height, "width": width, "num_players": players, "num_foods": foods}
    if sight is not None:
        settings["sight"] = sight
    if found[6] == "-coop":
        settings["force_coop"] = True
    return settings | (_NO_LEVELS if found[6] == "-no-levels" else {})


def highest_food(sizes: Sizes) -> int:
    """Return the highest level that a food can have."""
    most = min(sizes.num_players, MOST_LOADERS) * sizes.player_levels[1]
    return most if sizes.food_levels[1] is None else sizes.food_levels[1]


def draw(sizes: Sizes, batch_size: int, generator: torch.Generator | None) -> Start:
    """Draw random starts, with the probabilities of the variant's own package."""
    device = checks.device_of(generator)
    low, high = sizes.player_levels
    levels = torch.randint(low, high + 1, (batch_size, sizes.num_players), generator=generator, device=device)
    everywhere = torch.ones(batch_size, sizes.height * sizes.width, dtype=torch.bool, device=device)
    if sizes.variant == "lbforaging":
        players = draw_distinct(everywhere, sizes.num_players, generator)
        foods = _draw_foods(sizes, everywhere.scatter(1, players, False), generator)
    else:
        foods = _draw_foods(sizes, everywhere, generator)
        players = draw_distinct(_rows_without_numbers(sizes, foods), sizes.num_players, generator)
    least, most = sizes.food_levels
    highest = levels.sort(1).values[:, :MOST_LOADERS].sum(1) if most is None else torch.full_like(levels[:, 0], most)
    span = (highest if sizes.force_coop else highest - least + 1)[:, None]
    drawn = torch.rand(foods.shape, generator=generator, device=device, dtype=torch.float64)
    food_levels = span.expand_as(foods) if sizes.force_coop else (drawn * span).long() + least
    return Start(players, levels, foods, torch.where(foods < sizes.height * sizes.width, food_levels, 0))


def _draw_foods(sizes: Sizes, free: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw the cells of foods, int64 `[B, F]`, one after the other among the free cells `[B, S]` that may have one."""
    cells = torch.arange(sizes.height * sizes.width, device=free.device)
    row, column = cells // sizes.width, cells % sizes.width
    inside = (row > 0) & (row < sizes.height - 1) & (column > 0) & (column < sizes.width - 1)
    close = _close(sizes.variant, (row[:, None] - row).abs(), (column[:, None] - column).abs())  # [S, S]
    allowed, foods = free & inside, []
    for _ in range(sizes.num_foods):
        some = allowed.any(1, keepdim=True)
        cell = torch.multinomial(torch.where(some, allowed, inside).float(), 1, generator=generator)
        foods.append(torch.where(some, cell, len(cells)))
        allowed = allowed & ~close[cell[:, 0]]
    return torch.cat(foods, 1).sort(1).values


def _close(variant: Variant, rows: Any, columns: Any) -> Any:
    """Return whether cells this many rows and columns apart are too close for two foods; numbers or tensors."""
    if variant == "jumanji":
        return rows + columns <= 1
    return ((rows <= 1) & (columns <= 1)) | ((rows + columns <= 2) & (rows * columns == 0))


def _rows_without_numbers(sizes: Sizes, foods: Tensor) -> Tensor:
    """Return the cells on which Jumanji lets players start: bool `[B, S]`.

    Its generator masks whole rows of the grid: each row whose index is the row or the column of a food. The first and
    the last row are never masked.
    """
    rows = torch.ones(len(foods), sizes.height, dtype=torch.bool, device=foods.device)
    numbers = torch.cat([foods // sizes.width, foods % sizes.width], 1)  # of a food without room: h, and 0
    there = torch.cat([foods, foods], 1) < sizes.height * sizes.width
    rows = rows.scatter(1, torch.where(there, numbers.clamp(max=sizes.height - 1), 0), False)
    rows[:, 0] = rows[:, -1] = True  # foods lie inside, so their numbers lie between
    return rows.repeat_interleave(sizes.width, 1)


def placed(
    sizes: Sizes,
    batch_size: int,
    players: Sequence[Sequence[int]],
    foods: Sequence[Sequence[int]],
    device: torch.device | str,
) -> Start:
    """Return a user's start, see `LevelBasedForaging.place`."""
    at: dict[str, tuple[list[int], list[int]]] = {}
    counts = (("players", players, sizes.num_players), ("foods", foods, sizes.num_foods))
    for name, given, count in counts:
        cells, levels = _cells_and_levels(name, given, sizes)
        if len(cells) != count and not (name == "foods" and 0 < len(cells) < count):
            least = "1 to " if name == "foods" else ""
            raise ConfigError(
                f"{name}: got {len(cells)} entries; expected {least}{count}, this game's num_{name}: give this many, "
                f"or build the game with another num_{name}."
            )
        at[name] = cells, levels
    _check_apart(sizes, at["players"][0], at["foods"][0])
    order = sorted(zip(*at["foods"], strict=True))
    order += [(sizes.height * sizes.width, 0)] * (sizes.num_foods - len(order))
    columns = (*at["players"], [cell for cell, _ in order], [level for _, level in order])
    return Start(*(torch.tensor(each, dtype=torch.int64, device=device).repeat(batch_size, 1) for each in columns))


def _cells_and_levels(name: str, given: Sequence[Sequence[int]], sizes: Sizes) -> tuple[list[int], list[int]]:
    """Return the cells and levels of `(row, column, level)` entries, or raise ConfigError."""
    try:
        entries = [(row, column, level) for row, column, level in given]
    except (TypeError, ValueError):
        raise ConfigError(f"{name}={given!r}: expected a list of triples (row, column, level); give one.") from None
    cells = cell_indices(name, [entry[:2] for entry in entries], sizes.height, sizes.width)
    low, high = sizes.player_levels if name == "players" else (1, highest_food(sizes))
    for entry in entries:
        level = entry[2]
        if not isinstance(level, int) or isinstance(level, bool) or not low <= level <= high:
            raise ConfigError(
                f"{name}: got the level {level!r} in {entry}; expected a whole number, {low} to {high}: change it, or "
                f"build the game with other levels of {name}."
            )
    return cells, [entry[2] for entry in entries]


def _check_apart(sizes: Sizes, players: list[int], foods: list[int]) -> None:
    """Raise ConfigError if the variant's rules exclude this start."""
    width, where = sizes.width, [divmod(cell, sizes.width) for cell in foods]
    for row, column in where:
        if not (0 < row < sizes.height - 1 and 0 < column < width - 1):
            raise ConfigError(f"foods: ({row}, {column}) is on the border; expected an inner cell: move it.")
        for other in where:
            if other > (row, column) and _close(sizes.variant, other[0] - row, abs(other[1] - column)):
                raise ConfigError(
                    f"foods: ({row}, {column}) and {other} are closer than this game allows; move one of them."
                )
    taken = players + foods
    if len(set(foods)) != len(foods) or len(set(taken)) != len(taken):
        cell = next(cell for cell in taken if taken.count(cell) > 1)
        raise ConfigError(
            f"players, foods: two of them share the cell {divmod(cell, width)}; give each a cell of its own."
        )
