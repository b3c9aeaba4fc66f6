"""Level-Based Foraging: players whose levels sum to a food's level load it together (Albrecht and Ramamoorthy 2013).

Rules of the package `lbforaging` 2.0 (Christianos et al., arXiv 2006.07169; environments `Foraging-...-v3`), and as a
variant of its own those of Jumanji 1.1.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from gymnasium import spaces
from torch import Tensor

from omg_lightning.games import checks
from omg_lightning.games.base import Game
from omg_lightning.games.grid import foraging_start as starts
from omg_lightning.games.grid import foraging_views as views
from omg_lightning.games.grid.foragers import forager_kinds
from omg_lightning.games.grid.foraging_start import Sizes, Start, Variant
from omg_lightning.games.grid.foraging_views import ForagingState
from omg_lightning.games.grid.paths import all_walks
from omg_lightning.games.scripts import Player
from omg_lightning.types import NO_GOAL, ConfigError

NONE, NORTH, SOUTH, WEST, EAST, LOAD = range(6)
ViewKind = Literal["planes", "vector"]


class _Tables(NamedTuple):
    """Constants, on one device."""

    inside: Tensor  # bool [h * w, 4] the neighbour in each direction is on the grid
    deltas: Tensor  # int64 [A] change of the cell index by an action
    seats: Tensor  # int64 [P, P] row i is the ego order of seat i


class LevelBasedForaging(Game):
    """The rules of Level-Based Foraging, batched and pure.

    Players and foods have levels. A player loads from one of the four cells beside a food. Players that load the same
    food in the same step take it if their levels sum to at least its level, and share its level in proportion to
    theirs; otherwise the food stays. Rewards are divided by the sum of the levels of all foods at the start, so that
    the team's return is 1 if all are taken, and less otherwise. No player can walk onto a food. Players move
    simultaneously; if two or more would be on one cell, each of them stays (so two may swap cells, and with three or
    more players one may share a cell with another that could not leave it). An episode is over when no food is left,
    or after `max_steps`. Illegal actions, and integers out of range, count as `none`.

    At the start players stand anywhere, no two on one cell, with levels from `min_player_level` to `max_player_level`.
    Foods lie off the border, none of them beside another (straight or diagonally) or two cells away in its row or
    column, with levels from `min_food_level` to the sum of the three lowest levels of players; with `force_coop` each
    has that sum, so that two players are both needed. A food without room is omitted.

    The declared goals of a player are the foods: `food_0`, `food_1`, ... are numbered row by row at the
    start, and each keeps its number. All players that share a food achieve it.

    **Presets** have the names of the original: `8x8-2p-3f` is 8 rows, 8 columns, 2 players and 3 foods; `-coop` at the
    end stands for `force_coop`, `2s-` in front for a sight of 2 cells. They are those of `lbforaging` 2.0 (`-v3`):
    players of level 1 and 2, 50 steps. Earlier versions of the package have other levels.

    **The variant without levels**, such as `7x7-2p-3f-no-levels`, is another game: Jumanji 1.1 as jax-aht plays it
    (`variant="jumanji"`). Its differences:

    - All levels are 1, and a food has that of two players, or of three (Jumanji draws levels that change nothing: two
      players are always both needed).
    - No player can move to a cell with another player, even if that one is about to leave it.
    - Foods may be diagonal to each other, and two cells apart; a player that loads between two foods loads both. It
      counts as achieving the one with the lower number.
    - Players start in rows whose index is neither the row nor the column of a food, as in Jumanji's generator.
    - Every player gets the mean reward (`prosocial`), and an episode has 100 steps.

    Args:
        preset: a name as above; other arguments override its settings. Without a preset, the four sizes must be
            given.
        num_players: P, players on the grid.
        num_foods: F, foods on the grid.
        height: h, rows of the grid.
        width: w, columns of the grid.
        sight: number of cells that a player observes in each direction; None is the whole grid. A limited sight needs
            the vector view. A search is not limited: it starts from the true state.
        min_player_level: the lowest level of a player.
        max_player_level: the highest level of a player.
        min_food_level: the lowest level of a food.
        max_food_level: the highest level of a food; None is the sum of the three lowest levels of players.
        force_coop: whether each food has the highest level.
        penalty: cost of a failed loading, for each player that loads.
        max_steps: largest number of steps of an episode; 50 in the original, 100 in Jumanji's variant.
        view: `planes` of bits, for an unlimited sight (see `omg_lightning.games.grid.foraging_views`), or the `vector`
            of the original; by default planes if the sight is not limited.
        variant: the rules of `lbforaging` or of `jumanji`.
        prosocial: whether each player gets the mean reward.

    Raises:
        ConfigError: an argument is of the wrong kind or range, or missing, or the grid is too small.
    """

    num_actions = 6
    action_names: tuple[str, ...] = ("none", "north", "south", "west", "east", "load")
    goal_names: tuple[str, ...]
    num_foods: int
    height: int
    width: int
    sight: int | None
    min_player_level: int
    max_player_level: int
    min_food_level: int
    max_food_level: int | None
    noop = NONE
    keeps_invariants = True  # `step` computes the legal actions itself

    def __init__(
        self,
        preset: str | None = None,
        *,
        num_players: int | None = None,
        num_foods: int | None = None,
        height: int | None = None,
        width: int | None = None,
        sight: int | None = None,
        min_player_level: int | None = None,
        max_player_level: int | None = None,
        min_food_level: int | None = None,
        max_food_level: int | None = None,
        force_coop: bool | None = None,
        penalty: float = 0.0,
        max_steps: int | None = None,
        view: ViewKind | None = None,
        variant: Variant | None = None,
        prosocial: bool | None = None,
    ) -> None:
        given = {
            "num_players": num_players,
            "num_foods": num_foods,
            "height": height,
            "width": width,
            "sight": sight,
            "min_player_level": min_player_level,
            "max_player_level": max_player_level,
            "min_food_level": min_food_level,
            "max_food_level": max_food_level,
            "force_coop": force_coop,
            "max_steps": max_steps,
            "variant": variant,
            "prosocial": prosocial,
        }
        found = _ORIGINAL | ({} if preset is None else starts.preset_settings(preset))
        found |= {name: value for name, value in given.items() if value is not None}
        if missing := [n for n in ("num_players", "num_foods", "height", "width") if n not in found]:
            raise ConfigError(f"LevelBasedForaging got no {', '.join(missing)}: give them, or a preset like 8x8-2p-3f.")
        for name, least in _LEAST.items():
            setattr(self, name, checks.whole(name, found[name], least) if found.get(name) is not None else None)
        self.force_coop, self.prosocial = (checks.flag(name, found[name]) for name in ("force_coop", "prosocial"))
        self.penalty = checks.number("penalty", penalty)
        self.variant: Variant = _one_of("variant", found["variant"], ("lbforaging", "jumanji"))
        self.sizes = Sizes(
            self.num_players,
            self.num_foods,
            self.height,
            self.width,
            (self.min_player_level, self.max_player_level),
            (self.min_food_level, self.max_food_level),
            self.force_coop,
            self.variant,
        )
        self._check_levels_and_room()
        sees_all = self.sight is None or self.sight >= max(self.height, self.width) - 1
        default: ViewKind = "planes" if sees_all else "vector"
        self.view: ViewKind = _one_of("view", default if view is None else view, ("planes", "vector"))
        if self.view == "planes" and not sees_all:
            raise ConfigError(f"view='planes' shows the whole grid, but sight={self.sight}: remove view or sight.")
        self.goal_names = tuple(f"food_{k}" for k in range(self.num_foods))
        layout = views.grid_layout(self.sizes)
        self._layout = layout
        self.layout = layout if self.view == "planes" else None
        self.sparse_views = self.has_board = self.view == "planes"
        self.observation_space = (
            spaces.MultiBinary(layout.shape) if self.view == "planes" else views.vector_space(self.sizes)
        )
        self.players: Mapping[str, Callable[[], Player]] = forager_kinds(self.goal_names) if sees_all else {}
        self.scripts = ("secret_order", "greedy") if sees_all else ()
        lost = self.penalty * self.max_steps
        self.team_bounds = min(0.0, -lost * self.num_players), 1.0 + max(0.0, -lost * self.num_players)
        self.seat_bounds = min(0.0, -lost), 1.0 + max(0.0, -lost)
        if self.prosocial:
            self.seat_bounds = self.team_bounds[0] / self.num_players, self.team_bounds[1] / self.num_players
        self._tables: dict[torch.device, _Tables] = {}
        self._walks: dict[torch.device, Tensor] = {}

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> "LevelBasedForaging":
        """Build a game by its name in the original.

        Args:
            name: such as `8x8-2p-3f`, `8x8-2p-2f-coop` or `7x7-2p-3f-no-levels`.
            **overrides: constructor arguments that replace the preset's.

        Raises:
            ConfigError: the preset does not exist.
        """
        return cls(name, **overrides)

    def __repr__(self) -> str:
        names = (
            "num_players num_foods height width sight min_player_level max_player_level min_food_level max_food_level"
            " force_coop penalty max_steps view variant prosocial"
        )
        return f"LevelBasedForaging({', '.join(f'{name}={getattr(self, name)!r}' for name in names.split())})"

    def reset(self, batch_size: int, generator: torch.Generator | None = None) -> ForagingState:
        """Draw `batch_size` layouts and levels.

        Args:
            batch_size: B.
            generator: source of randomness; the state is on its device. None is torch's own CPU generator.
        """
        return _state(starts.draw(self.sizes, checks.whole("batch_size", batch_size, 1), generator))

    def place(
        self,
        batch_size: int = 1,
        *,
        players: Sequence[Sequence[int]],
        foods: Sequence[Sequence[int]],
        device: torch.device | str = "cpu",
    ) -> ForagingState:
        """Return a batch of a given initial layout.

        Args:
            batch_size: B.
            players: P triples `(row, column, level)`, by seat.
            foods: at most F triples `(row, column, level)`, in any order, because they are numbered row by row.
            device: of the state.

        Raises:
            ConfigError: an entry is off the grid, a food on the border or too close to another one, two share a cell, a
                level is not possible in this game, or a count differs from the constructor's.
        """
        batch_size = checks.whole("batch_size", batch_size, 1)
        return _state(starts.placed(self.sizes, batch_size, players, foods, device))

    def active(self, state: ForagingState) -> Tensor:
        """Return the seats that still play: bool `[B, P]`, all of a row or none of it."""
        running = (state.time < self.max_steps) & (state.food_levels > 0).any(1)
        return running[:, None].repeat(1, self.num_players)

    def terminated(self, state: ForagingState) -> Tensor:
        """Return the seats of rows in which no food is left: bool `[B, P]`."""
        return (state.food_levels == 0).all(1, keepdim=True).repeat(1, self.num_players)

    def legal(self, state: ForagingState) -> Tensor:
        """Return which actions are legal: bool `[B, P, A]`. Once the episode is over, only `none`."""
        return self._legal(state, self._food_around(state))

    def observe(self, state: ForagingState) -> Tensor:
        """Return every seat's own view, float32: planes `[B, P, C, h, w]` of bits, or vectors `[B, P, 3 F + 3 P]`."""
        if self.layout is not None:
            return views.planes(self.observe_sparse(state), self.layout)
        return views.vector(state, self.sizes, max(self.height, self.width) if self.sight is None else self.sight)

    def observe_sparse(self, state: ForagingState, board: Tensor | None = None) -> Tensor:
        """Return the indices of the ones in the flattened planes: int32 `[B, P, n]`, `C * h * w` for none.

        Args:
            state: the states to observe.
            board: of these states; if given, walking distances to all others and foods are included, see `Facts`.
        """
        return views.sparse(state, self.sizes, self._layout, self._constants(state).seats, board)

    def board(self, state: ForagingState) -> Tensor:
        """Return all walks on the grid, int16 `[B, h * w, h * w]`, see `all_walks`: the same in each row.

        They ignore foods and other players.
        """
        device = state.players.device
        if device not in self._walks:
            open_grid = torch.ones(1, self.height, self.width, dtype=torch.bool, device=device)
            self._walks[device] = all_walks(open_grid)
        return self._walks[device].expand(len(state.players), -1, -1)

    def step(self, state: ForagingState, actions: Tensor) -> tuple[ForagingState, Tensor]:
        """Play joint actions.

        Args:
            state: the current states.
            actions: int64 `[B, P]` in seat order; an illegal one counts as `none`.

        Returns:
            The next state, and rewards, float32 `[B, P]`.
        """
        acts, weight, taken = self._play(state, actions)
        share = state.food_levels / (weight.sum(1).clamp(min=1) * state.total[:, None]) * taken  # [B, F]
        rewards = (weight * share[:, None]).sum(2)
        if self.penalty:
            rewards = rewards - self.penalty * ((weight > 0) & ~taken[:, None]).any(2)
        if self.prosocial:
            rewards = rewards.mean(1, keepdim=True).repeat(1, self.num_players)
        target = state.players + self._constants(state).deltas[acts]
        clash = (target[:, :, None] == target[:, None]).sum(2) > 1
        return state._replace(
            time=state.time + self.active(state)[:, 0],
            players=torch.where(clash, state.players, target),
            food_levels=torch.where(taken, 0, state.food_levels),
        ), rewards

    def realised(self, state: ForagingState, actions: Tensor) -> Tensor:
        """Return the food that each seat takes, alone or with others, by these actions: int64 `[B, P]`, or NO_GOAL."""
        _, weight, taken = self._play(state, actions)
        takes = (weight > 0) & taken[:, None]
        return torch.where(takes.any(2), takes.byte().argmax(2), NO_GOAL)

    def _play(self, state: ForagingState, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the effective actions, each seat's contribution to loading each food, and the taken foods.

        Shapes: int64 `[B, P]`; levels, int64 `[B, P, F]`; and bool `[B, F]`.
        """
        food = self._food_around(state)
        known = actions.clamp(0, self.num_actions - 1)
        allowed = self._legal(state, food).gather(2, known[..., None])[..., 0] & (known == actions)
        acts = torch.where(allowed, known, NONE)
        weight = food.any(2) * torch.where(acts == LOAD, state.levels, 0)[..., None]
        return acts, weight, (weight.sum(1) >= state.food_levels) & (state.food_levels > 0)

    def _legal(self, state: ForagingState, food: Tensor) -> Tensor:
        """Return which actions are legal, given the result of `_food_around`."""
        blocked = food.any(3)
        free = self._constants(state).inside[state.players] & ~blocked
        if self.variant == "jumanji":
            free &= ~(self._steps(state)[..., None] == state.players[:, None, None]).any(3)
        active = self.active(state)[..., None]
        found = torch.cat([active, free, blocked.any(2, keepdim=True)], 2) & active
        found[..., NONE] = True
        return found

    def _steps(self, state: ForagingState) -> Tensor:
        """Return the four cells around each player, int64 `[B, P, 4]`; indices beyond the border are not neighbours."""
        return state.players[..., None] + self._constants(state).deltas[NORTH:LOAD]

    def _food_around(self, state: ForagingState) -> Tensor:
        """Return which food is in which direction beside each player: bool `[B, P, 4, F]`.

        No food is on the border, so a cell beyond it never counts as one with a food.
        """
        there = state.foods.masked_fill(
            state.food_levels == 0, -2 * self.width
        )  # a food that is gone is beside no player
        return self._steps(state)[..., None] == there[:, None, None]

    def _check_levels_and_room(self) -> None:
        """Raise ConfigError if no initial state is possible."""
        (low, high), (least, most) = self.sizes.player_levels, self.sizes.food_levels
        if low > high:
            raise ConfigError(
                f"min_player_level={low} is above max_player_level={high}: lower it, or raise max_player_level."
            )
        certain = min(self.num_players, starts.MOST_LOADERS) * low if most is None else most
        if least > certain:
            name = "max_food_level" if most is not None else "the sum of the three lowest levels of players, as low as"
            raise ConfigError(f"min_food_level={least} is above {name} {certain}: lower it.")
        inner = max(self.height - 2, 0) * max(self.width - 2, 0)
        if inner <= self.num_players:
            raise ConfigError(
                f"height={self.height}, width={self.width}: {inner} cells are off the border, but {self.num_players} "
                "players may stand there and a food must be there: use a larger grid."
            )

    def _constants(self, state: ForagingState) -> _Tables:
        """Return the tables on the state's device; they are cached."""
        device = state.players.device
        if device not in self._tables:
            rows, columns = (torch.arange(n, device=device) for n in (self.height, self.width))
            row, column = torch.meshgrid(rows, columns, indexing="ij")
            edges = (row > 0, row < self.height - 1, column > 0, column < self.width - 1)
            self._tables[device] = _Tables(
                inside=torch.stack(edges, -1).flatten(0, 1),
                deltas=torch.tensor([0, -self.width, self.width, -1, 1, 0], device=device),
                seats=views.ego_seats(self.num_players, device),
            )
        return self._tables[device]


_ORIGINAL: dict[str, Any] = {
    "min_player_level": 1, "max_player_level": 2, "min_food_level": 1, "force_coop": False, "max_steps": 50,
    "variant": "lbforaging", "prosocial": False,
}  # fmt: skip
_LEAST = {
    "num_players": 1, "num_foods": 1, "height": 1, "width": 1, "sight": 1, "min_player_level": 1,
    "max_player_level": 1, "min_food_level": 1, "max_food_level": 1, "max_steps": 1,
}  # fmt: skip


def _state(start: Start) -> ForagingState:
    """Return the initial state of an episode."""
    time, total = torch.zeros_like(start.players[:, 0]), start.food_levels.sum(1).float()
    return ForagingState(time, start.players, start.levels, start.foods, start.food_levels, total)


def _one_of(name: str, value: Any, known: tuple[str, ...]) -> Any:
    """Return `value`, or raise ConfigError unless it is one of those known."""
    if value not in known:
        raise ConfigError(f"{name}={value!r}: expected one of {', '.join(known)}; choose one of these.")
    return value
