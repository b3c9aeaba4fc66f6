"""Overcooked: two cooks share a kitchen and deliver soups together (Carroll et al., NeurIPS 2019, arXiv 1910.05789).

Rules of the package `overcooked` 0.2.1, a fork of `overcooked_ai`. This is a batched version of its
`OvercookedGridworld.get_state_transition`, for kitchens without tomatoes and with orders of three-onion soups.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from gymnasium import spaces
from torch import Tensor

from omg_lightning.games import checks
from omg_lightning.games.base import Game
from omg_lightning.games.grid import kitchen as kitchens
from omg_lightning.games.grid.cells import cell_indices, exactly
from omg_lightning.games.grid.cooks import COOKS
from omg_lightning.games.grid.kitchen import DELIVER, DISH, INTERACT, OBJECTS, SOUP, STAY, TAKE_DISH
from omg_lightning.games.grid.layout import GridLayout
from omg_lightning.games.scripts import Player
from omg_lightning.types import NO_GOAL, ConfigError, ego_order

_OBJECTS = ("nothing", "onion", "dish", "soup_1", "soup_2", "soup")  # by their numbers
_FACES = ("north", "south", "east", "west")


class OvercookedState(NamedTuple):
    """The state of the game; a search stores one per node."""

    time: Tensor  # int64 [B] steps played
    players: Tensor  # int64 [B, P] cell index
    facing: Tensor  # int64 [B, P] 0 to 3: north, south, east, west
    held: Tensor  # int64 [B, P] object, see `kitchen`
    content: Tensor  # int64 [B, h * w] object on a counter, content of a pot (see `PotCodes`), 0 elsewhere


class Overcooked(Game):
    """Cooks put three onions into a pot, wait until the soup is ready, take it with a dish and serve it.

    A move turns the player, and moves it if the cell is floor. If two players would end up on one cell, or swap
    cells, all players stay, but they turn. An interaction acts on the cell that a player faces: take an onion or a
    dish from its supply; put the held object on a counter, or take the object there; put an onion into a
    pot; start to cook, with empty hands; take a ready soup with a dish; serve a soup. Interactions come before
    moves, those of the first seat before those of the second. A soup cooks for `cook_time` steps, including the step in
    which it starts. Serving a soup of three onions gives the team 20; soups with fewer onions give nothing.
    The episode is over after `max_steps`. All actions are always legal.

    The team's return is that of the original, which has one reward for all. By default each player gets the mean
    (`prosocial`); otherwise the player that serves gets all of it.

    The declared goals of a player are `pot_onion`, `take_dish`, `take_soup`, `deliver`, and `cook` if soups do not
    start by themselves. `take_dish` counts when the original calls it useful: no dish lies on a counter, and fewer
    dishes are in hands than pots are cooking, ready or partly full. `omg_lightning.rewards.GoalBonus` with 3, 3 and 5
    for the first three is the shaped reward of the original.

    Args:
        preset: a kitchen by its name in JaxMARL: `cramped_room`, `asymm_advantages`, `coord_ring`, `forced_coord` or
            `counter_circuit`; by default the first.
        grid: a kitchen of your own instead, in the original's format: a list of strings of `X` counter, `P` pot, `O`
            onions, `D` dishes, `S` serving hatch, space floor, and `1`, `2`, ... the players' initial cells.
        cook_time: steps until a soup is ready.
        old_dynamics: soups start to cook by themselves with three onions, as in the paper and in JaxMARL;
            else a player must start them.
        prosocial: whether each player gets the mean reward.
        max_steps: number of steps of an episode.

    Raises:
        ConfigError: the preset does not exist, the grid is not a kitchen, or an argument is of the wrong kind or range.
    """

    num_actions = 6
    action_names: tuple[str, ...] = ("north", "south", "east", "west", "stay", "interact")
    goal_names: tuple[str, ...]
    layout: GridLayout
    noop = STAY
    scripts: tuple[str, ...] = ("onion_carrier", "dish_carrier")
    delivery_reward = 20.0

    def __init__(
        self,
        preset: str | None = None,
        *,
        grid: Sequence[str] | None = None,
        cook_time: int = 20,
        old_dynamics: bool = False,
        prosocial: bool = True,
        max_steps: int = 400,
    ) -> None:
        if preset is not None and grid is not None:
            raise ConfigError(f"got preset={preset!r} and a grid, which are two kitchens; give one of them.")
        name = "cramped_room" if preset is None else preset
        if name not in kitchens.GRIDS:
            raise ConfigError(f"preset={name!r}: expected one of {', '.join(kitchens.GRIDS)}; choose one of these.")
        self.kitchen = kitchens.read_grid(kitchens.GRIDS[name] if grid is None else grid)
        self.kitchen_name = name if grid is None else "/".join(grid)
        self.cook_time = checks.whole("cook_time", cook_time, 1)
        self.old_dynamics = checks.flag("old_dynamics", old_dynamics)
        self.prosocial = checks.flag("prosocial", prosocial)
        self.max_steps = checks.whole("max_steps", max_steps, 1)
        self.num_players = len(self.kitchen.starts)
        self.agent_names = tuple(f"cook_{seat}" for seat in range(self.num_players))
        self.pot_codes = kitchens.PotCodes(self.cook_time)
        self.goal_names = ("pot_onion", "take_dish", "take_soup", "deliver", *(() if old_dynamics else ("cook",)))
        self.layout = kitchens.grid_layout(self.kitchen, self.cook_time)
        self.observation_space = spaces.MultiBinary(self.layout.shape)
        self.players: Mapping[str, Callable[[], Player]] = COOKS
        # Two soups from one pot are at least the cooking time apart, plus one step to take the first.
        soups = len(self.kitchen.cells(kitchens.POT)) * -(-self.max_steps // (self.cook_time + 1))
        self.team_bounds = 0.0, self.delivery_reward * soups
        self.seat_bounds = 0.0, self.team_bounds[1] / (self.num_players if self.prosocial else 1)
        self._tables: dict[torch.device, kitchens.Tables] = {}

    def __repr__(self) -> str:
        names = "cook_time old_dynamics prosocial max_steps"
        return f"Overcooked({self.kitchen_name!r}, {', '.join(f'{n}={getattr(self, n)!r}' for n in names.split())})"

    def reset(self, batch_size: int, generator: torch.Generator | None = None) -> OvercookedState:
        """Return `batch_size` equal initial states: players on their start cells, facing north, with empty hands."""
        device, rows = checks.device_of(generator), checks.whole("batch_size", batch_size, 1)
        players = torch.tensor(self.kitchen.starts, device=device).repeat(rows, 1)
        none = torch.zeros_like(players)
        content = none.new_zeros(rows, len(self.kitchen.kinds))
        return OvercookedState(none[:, 0].clone(), players, none, none.clone(), content)

    def place(
        self,
        batch_size: int = 1,
        *,
        players: Sequence[Sequence[Any]],
        objects: Sequence[Sequence[Any]] = (),
        pots: Sequence[Sequence[int]] = (),
        device: torch.device | str = "cpu",
    ) -> OvercookedState:
        """Return a batch of a given situation.

        Args:
            batch_size: B.
            players: P entries `(row, column, facing, held)`, by seat; `facing` is north, south, east or west, and
                `held` nothing, onion, dish, soup, or soup_1 and soup_2 for a soup of fewer onions.
            objects: `(row, column, object)` on counters.
            pots: `(row, column, onions, steps)`, with the steps of cooking, -1 for a pot that does not cook.
            device: of the state.

        Raises:
            ConfigError: an entry has another form, or is not on a suitable cell of the grid.
        """
        rows = checks.whole("batch_size", batch_size, 1)
        who = self._cells("players", players, 4, kitchens.FLOOR)
        exactly("players", who, "num_players", self.num_players)
        content = [0] * len(self.kitchen.kinds)
        for cell, (_, _, name) in zip(self._cells("objects", objects, 3, kitchens.COUNTER), objects, strict=True):
            content[cell] = _index("objects", name, _OBJECTS)
        for cell, (_, _, onions, ticks) in zip(self._cells("pots", pots, 4, kitchens.POT), pots, strict=True):
            known = {self.pot_codes.read(code): code for code in range(self.pot_codes.size)}
            if (onions, ticks) not in known:
                raise ConfigError(
                    f"pots: got {onions!r} onions after {ticks!r} steps; expected 0 to 3 that do not cook, -1, or 1 to "
                    f"3 after 0 to {self.cook_time} steps: change it."
                )
            content[cell] = known[onions, ticks]
        facing = [_index("players", entry[2], _FACES) for entry in players]
        held = [_index("players", entry[3], _OBJECTS) for entry in players]
        fields = (torch.tensor(field, device=device).repeat(rows, 1) for field in (who, facing, held, content))
        return OvercookedState(torch.zeros(rows, dtype=torch.int64, device=device), *fields)

    def observe(self, state: OvercookedState) -> Tensor:
        """Return every seat's own view, float32 `[B, P, C, h, w]` of 0 and 1; see `kitchen.plane_names`."""
        tables, (rows, seats) = self._constants(state), state.players.shape
        codes = tables.kinds * self.pot_codes.size + state.content  # [B, S]
        shared = tables.places[codes]  # [B, S, C - P]
        where = state.players[..., None].expand(-1, -1, shared.shape[-1])
        shared = shared.scatter_add(1, where, tables.people[state.facing * OBJECTS + state.held])
        views = torch.zeros(rows, seats, self.layout.shape[0], self.layout.cells, device=codes.device)
        views[:, :, seats:] = shared.transpose(1, 2)[:, None]
        order = torch.arange(seats, device=codes.device)
        around = ego_order(state.players.repeat_interleave(seats, 0), order.repeat(rows)).view(rows, seats, seats)
        views[:, :, :seats].scatter_(3, around[..., None], 1.0)
        return views.unflatten(3, (self.layout.height, self.layout.width))

    def step(self, state: OvercookedState, actions: Tensor) -> tuple[OvercookedState, Tensor]:
        """Play joint actions, int64 `[B, P]`: the next state, and rewards, float32 `[B, P]`."""
        tables = self._constants(state)
        held, content, goals = self._interact(state, actions)
        served = (goals == DELIVER) & (state.held == SOUP + kitchens.FULL - 1)
        rewards = served * self.delivery_reward
        if self.prosocial:
            rewards = rewards.mean(1, keepdim=True).repeat(1, self.num_players)
        moves = actions < STAY
        facing = torch.where(moves, actions, state.facing)
        ahead = tables.ahead[state.players, facing]
        target = torch.where(moves & (tables.kinds[ahead] == kitchens.FLOOR), ahead, state.players)
        crossed = (target[:, :, None] == state.players[:, None]) & (state.players[:, :, None] == target[:, None])
        meet = (target[:, :, None] == target[:, None]) | crossed  # [B, P, P]
        stuck = meet.triu(1).flatten(1).any(1, keepdim=True)
        inside = tables.later[content[:, tables.pots]]
        content = content.index_copy(1, tables.pots, inside)
        players = torch.where(stuck, state.players, target)
        return OvercookedState(state.time + 1, players, facing, held, content), rewards

    def realised(self, state: OvercookedState, actions: Tensor) -> Tensor:
        """Return the goal that each seat achieves by these actions: int64 `[B, P]`, or NO_GOAL."""
        return self._interact(state, actions)[2]

    def _interact(self, state: OvercookedState, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Let the seats interact one after the other.

        Returns:
            Held objects, int64 `[B, P]`; contents of cells, int64 `[B, S]`; and goals, int64 `[B, P]`.
        """
        tables, contents = self._constants(state), self.pot_codes.size
        serves = tables.serves[state.content[:, tables.pots]].sum(1)  # as before the step
        ahead = tables.ahead[state.players, state.facing]  # [B, P]
        held, content, goals = list(state.held.unbind(1)), state.content, []
        for seat, cell in enumerate(ahead.unbind(1)):
            inside = content.gather(1, cell[:, None])[:, 0]
            found = tables.outcome[(tables.kinds[cell] * contents + inside) * OBJECTS + held[seat]]  # [B, 3]
            does = actions[:, seat] == INTERACT
            goal = torch.where(does, found[:, 2], NO_GOAL)
            lying = (content == DISH) & (tables.kinds == kitchens.COUNTER)
            carried = torch.stack(held).eq(DISH).sum(0)
            useless = lying.any(1) | (carried >= serves)
            goals.append(torch.where((goal == TAKE_DISH) & useless, NO_GOAL, goal))
            content = content.scatter(1, cell[:, None], torch.where(does, found[:, 0], inside)[:, None])
            held[seat] = torch.where(does, found[:, 1], held[seat])
        return torch.stack(held, 1), content, torch.stack(goals, 1)

    def _cells(self, name: str, entries: Sequence[Sequence[Any]], length: int, kind: int) -> list[int]:
        """Return the cells of entries that begin with (row, column), or raise ConfigError."""
        if any(not isinstance(entry, Sequence) or len(entry) != length for entry in entries):
            raise ConfigError(f"{name}={entries!r}: expected entries of {length}; see Overcooked.place.")
        cells = cell_indices(name, [entry[:2] for entry in entries], self.kitchen.height, self.kitchen.width)
        for cell in cells:
            if self.kitchen.kinds[cell] != kind or cells.count(cell) > 1:
                what = ("the floor", "a counter", "a pot")[kind]
                at = divmod(cell, self.kitchen.width)
                raise ConfigError(f"{name}: got {at}; expected {what}, each cell once: move it.")
        return cells

    def _constants(self, state: OvercookedState) -> kitchens.Tables:
        """Return the tables on the state's device; they are cached."""
        device = state.players.device
        if device not in self._tables:
            self._tables[device] = kitchens.make_tables(self.kitchen, self.pot_codes, self.old_dynamics, device)
        return self._tables[device]


def _index(what: str, name: Any, names: tuple[str, ...]) -> int:
    """Return the index of a name, or raise ConfigError."""
    if name not in names:
        raise ConfigError(f"{what}: got {name!r}; expected one of {', '.join(names)}; choose one of these.")
    return names.index(name)
