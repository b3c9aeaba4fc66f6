"""A forager's observation: planes of bits, or the vector of the original."""

from typing import NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from omg_lightning.games.grid.foraging_start import Sizes, highest_food
from omg_lightning.games.grid.layout import GridLayout
from omg_lightning.games.grid.paths import Facts, facts_told
from omg_lightning.types import ego_order


class ForagingState(NamedTuple):
    """The state of the game; a search stores one per node."""

    time: Tensor  # int64 [B] steps played
    players: Tensor  # int64 [B, P] cell index
    levels: Tensor  # int64 [B, P]
    foods: Tensor  # int64 [B, F] cell of food k, also when it is gone
    food_levels: Tensor  # int64 [B, F] 0 for a food that is gone
    total: Tensor  # float32 [B] sum of the levels of all foods at the start


def grid_layout(sizes: Sizes) -> GridLayout:
    """Return the meaning of the planes.

    After the players there is one plane for each food; for each level above the lowest one, a plane of the players
    that have it; and for each food and each level above 1, a plane that shows the food if it has this level.
    """
    players, foods = sizes.num_players, sizes.num_foods
    names = ["self", *(f"other_{k}" for k in range(1, players)), *(f"food_{k}" for k in range(foods))]
    names += [f"player_level_{level}" for level in _shown(*sizes.player_levels)]
    names += [f"food_{k}_level_{level}" for k in range(foods) for level in _shown(1, highest_food(sizes))]
    goal_planes = tuple(range(players, players + foods))
    return GridLayout(tuple(names), sizes.height, sizes.width, players, goal_planes=goal_planes)


def vector_space(sizes: Sizes) -> spaces.Box:
    """Return the space of the vector view: (row, column, level) of each food, the viewer, and each other player."""
    highest = [sizes.height - 1, sizes.width - 1]
    low = [-1, -1, 0] * (sizes.num_foods + sizes.num_players)
    high = [*highest, highest_food(sizes)] * sizes.num_foods
    high += [*highest, sizes.player_levels[1]] * sizes.num_players
    return spaces.Box(np.array(low, np.float32), np.array(high, np.float32), dtype=np.float32)


class Things(NamedTuple):
    """All entries of the planes after those of players, n at most."""

    cells: Tensor  # int64 [B, n]
    planes: Tensor  # int64 [B, n]; arbitrary for absent ones
    there: Tensor  # bool [B, n]


def things_of(state: ForagingState, sizes: Sizes) -> Things:
    """Return the foods, and the marks of levels."""
    players, foods, (low, high), most = sizes.num_players, sizes.num_foods, sizes.player_levels, highest_food(sizes)
    first = players + foods + high - low  # plane of level 2 of food 0
    numbers = torch.arange(foods, device=state.foods.device).expand_as(state.foods)
    there = state.food_levels > 0
    found = [Things(state.foods, players + numbers, there)]
    if high > low:
        marked, planes = state.levels > low, players + foods + state.levels - low - 1
        if players > 2:  # three or more players may share a cell
            same = (state.players[:, :, None] == state.players[:, None]) & (planes[:, :, None] == planes[:, None])
            marked = marked & ~(same & marked[:, None]).tril(-1).any(2)
        found.append(Things(state.players, planes, marked))
    if most > 1:
        found.append(Things(state.foods, first + numbers * (most - 1) + state.food_levels - 2, state.food_levels > 1))
    return Things(*(torch.cat(field, 1) for field in zip(*found, strict=True)))


def sparse(state: ForagingState, sizes: Sizes, layout: GridLayout, seats: Tensor, walks: Tensor | None) -> Tensor:
    """Return the indices of the ones in the planes: int32 `[B, P, n]`, `C * h * w` for none.

    Args:
        state: the states to observe.
        sizes: of the game.
        layout: of the planes.
        seats: int64 `[P, P]` row i is the ego order of seat i.
        walks: of `all_walks`; if given, the facts of walks follow, see `Facts`.
    """
    players, area = sizes.num_players, layout.cells
    around = state.players[:, seats]  # [B, P, P]
    cells, planes, there = things_of(state, sizes)
    who = around + area * torch.arange(players, device=seats.device)
    what = torch.where(there, cells + area * planes, area * len(layout.plane_names))
    places = torch.cat([who, what[:, None].expand(-1, players, -1)], 2).int()
    if walks is None:
        return places
    facts, shown = Facts.of(layout.shape, players, None), torch.ones_like(around, dtype=torch.bool)
    kind = torch.where(there, planes - players, 0)[:, None]  # [B, 1, n]
    found = facts_told(facts, walks, around, shown, torch.where(there, cells, 0), kind, there)
    return torch.cat([places, found], 2)


def planes(places: Tensor, layout: GridLayout) -> Tensor:
    """Return the planes, float32 `[B, P, C, h, w]`, of sparse views `[B, P, n]`."""
    flat = torch.zeros(*places.shape[:2], layout.cells * len(layout.plane_names) + 1, device=places.device)
    return flat.scatter_(2, places.long(), 1.0)[..., :-1].unflatten(2, layout.shape)


def vector(state: ForagingState, sizes: Sizes, sight: int) -> Tensor:
    """Return the vector views, float32 `[B, P, 3 F + 3 P]`.

    Triples (row, column, level): of the foods, the viewer, and the other players in the order of their seats; (-1, -1,
    0) for one that is gone or out of sight. Rows and columns count from the upper left corner of the viewer's sight. In
    the original, visible entries come first, foods row by row; in Jumanji's variant food k, and each other player,
    keeps its index. In the original a player near the border observes players further away than `sight`, but not foods.
    """
    original, width, players = sizes.variant == "lbforaging", sizes.width, sizes.num_players
    seats = torch.arange(players, device=state.players.device)
    order = torch.stack([torch.cat([seats[i : i + 1], seats[:i], seats[i + 1 :]]) for i in range(players)])
    own = _pairs(state.players, width)[:, :, None]  # [B, P, 1, 2]
    corner = own - own.clamp(max=sight)  # upper left corner of each viewer's sight
    others = _pairs(state.players, width)[:, order] - corner  # [B, P, P, 2]
    foods = _pairs(state.foods, width)[:, None] - corner  # [B, P, F, 2]
    near = ((foods + corner - own).abs() <= sight).all(-1) & (state.food_levels > 0)[:, None]
    if original:
        met = ((others >= 0) & (others <= 2 * sight)).all(-1)
    else:
        met = ((others + corner - own).abs() <= sight).all(-1)
    seen_foods = _triples(foods, state.food_levels[:, None], near)
    seen_players = _triples(others, state.levels[:, order], met)
    if original:
        seen_foods, seen_players = _seen_first(seen_foods, near), _seen_first(seen_players, met)
    return torch.cat([seen_foods.flatten(2), seen_players.flatten(2)], 2).float()


def ego_seats(num_players: int, device: torch.device) -> Tensor:
    """Return the ego order of each seat, int64 `[P, P]`."""
    seats = torch.arange(num_players, device=device)
    return ego_order(seats.expand(num_players, -1), seats)


def _shown(low: int, high: int) -> range:
    """Return the levels that have a plane: all but the lowest one."""
    return range(low + 1, high + 1)


def _pairs(cells: Tensor, width: int) -> Tensor:
    """Return (row, column), int64 `[..., 2]`, of cells `[...]`."""
    return torch.stack([cells // width, cells % width], -1)


def _triples(pairs: Tensor, levels: Tensor, seen: Tensor) -> Tensor:
    """Return triples `[B, P, n, 3]` of pairs `[B, P, n, 2]` and levels; masked where not visible, bool `[B, P, n]`."""
    found = torch.cat([pairs, levels.expand(pairs.shape[:-1])[..., None]], -1)
    return torch.where(seen[..., None], found, found.new_tensor([-1, -1, 0]))


def _seen_first(triples: Tensor, seen: Tensor) -> Tensor:
    """Put the visible triples `[B, P, n, 3]`, bool `[B, P, n]`, first, in their order."""
    first = (~seen).long().sort(stable=True, dim=2).indices
    return triples.gather(2, first[..., None].expand_as(triples))
