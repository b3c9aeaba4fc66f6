"""Markov Snowdrift Game: a cleared drift pays all players, and costs its shoveller (HOP, arXiv 2406.08002)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from gymnasium import spaces
from torch import Tensor

from omg_lightning.games import checks
from omg_lightning.games.base import Game
from omg_lightning.games.grid import blocks as pieces
from omg_lightning.games.grid.cells import cell_indices, exactly
from omg_lightning.games.grid.layout import GridLayout
from omg_lightning.games.grid.paths import Facts, all_walks, facts_told
from omg_lightning.games.grid.scripted import Cleaner, Defector
from omg_lightning.games.scripts import Player
from omg_lightning.types import NO_GOAL, ConfigError, ego_order

UP, DOWN, LEFT, RIGHT, STAY, SHOVEL = range(6)  # the first five as in `blocks`
PRESETS: dict[str, dict[str, int]] = {
    "msg": {"num_players": 4, "num_drifts": 6, "height": 8, "width": 8},
}
MOST_DRIFTS = 255  # a cell holds the number of its drift in one byte


class SnowdriftState(NamedTuple):
    """The state of the game, 16 + 8 P + h w bytes per row; a search stores one per node."""

    time: Tensor  # int64 [B] steps played
    left: Tensor  # int64 [B] number of drifts in `cells`; counting them each time is slow
    players: Tensor  # int64 [B, P] cell index
    cells: Tensor  # uint8 [B, h * w] k + 1 on the cell of drift k; 0 without a drift


class _Tables(NamedTuple):
    """Constants, on one device."""

    bits: Tensor  # uint8 [A] 1 << a
    moves: Tensor  # uint8 [h * w] bit a is set: action a, up to STAY, is legal on this cell
    deltas: Tensor  # int64 [A] change of the cell index by an action
    seats: Tensor  # int64 [P, P] row i is the ego order of seat i


class Snowdrift(Game):
    """The rules of the Markov Snowdrift Game, batched and pure.

    Players move simultaneously and never block each other. A player on a drift can shovel it, which removes it at once:
    every player, near or far, gets `drift_reward`, and the players that shovel it in that step share `shovel_cost`
    equally. No player leaves. An episode ends when no drift is left, or after `max_steps`. Illegal actions, and
    integers out of range, count as staying.

    The declared goals of a player are the drifts, and it achieves the one that it shovels. `drift_0`, `drift_1`, ...
    are numbered row by row by their position at the start, and each keeps its number for the whole episode. A player
    may achieve several goals in an episode, or none: then it has NO_GOAL.

    The largest mean return per seat is 30.0 in `msg`, with all drifts removed: (6 * 4 - 4) / 4 from each of the six. If
    no player shovels it is 0. A player that leaves the work to the others gets 36.

    Args:
        preset: `msg`, the published game; other arguments override its settings. Its sizes are also the default.
        num_players: P, players on the grid.
        num_drifts: drifts on the grid, at most 255.
        height: h, rows of the grid.
        width: w, columns of the grid.
        drift_reward: reward of every player for each removed drift.
        shovel_cost: cost of a drift, shared by the players that shovel it.
        max_steps: largest number of steps of an episode.
        prosocial: whether each player gets the mean reward.

    Raises:
        ConfigError: an argument is of the wrong kind or range, or the grid cannot hold the drifts.
    """

    num_actions = 6
    plane_names: tuple[str, ...]
    goal_names: tuple[str, ...]
    action_names: tuple[str, ...] = ("up", "down", "left", "right", "stay", "shovel")
    noop = STAY
    players: Mapping[str, Callable[[], Player]] = {"cleaner": Cleaner, "defector": Defector}
    scripts: tuple[str, ...] = ("cleaner", "defector")
    sparse_views = True
    has_board = True
    keeps_invariants = True  # `step` computes the legal actions itself

    def __init__(
        self,
        preset: str | None = None,
        *,
        num_players: int | None = None,
        num_drifts: int | None = None,
        height: int | None = None,
        width: int | None = None,
        drift_reward: float = 6.0,
        shovel_cost: float = 4.0,
        max_steps: int = 50,
        prosocial: bool = False,
    ) -> None:
        given = {"num_players": num_players, "num_drifts": num_drifts, "height": height, "width": width}
        num_players, num_drifts, height, width = checks.sizes("Snowdrift", PRESETS, preset, given, PRESETS["msg"])
        self.num_players = checks.whole("num_players", num_players, 1)
        self.num_drifts = checks.whole("num_drifts", num_drifts, 1)
        self.height = checks.whole("height", height, 1)
        self.width = checks.whole("width", width, 1)
        self.drift_reward = checks.number("drift_reward", drift_reward)
        self.shovel_cost = checks.number("shovel_cost", shovel_cost)
        self.max_steps = checks.whole("max_steps", max_steps, 1)
        self.prosocial = checks.flag("prosocial", prosocial)
        room = min(self.height * self.width, MOST_DRIFTS)
        if self.num_drifts > room:
            raise ConfigError(
                f"num_drifts={self.num_drifts}: height={self.height}, width={self.width} has room for {room}; use"
                " fewer drifts or a larger grid."
            )
        self.plane_names = ("self", *(f"other_{k}" for k in range(1, self.num_players)), "drifts")
        self.goal_names = tuple(f"drift_{k}" for k in range(self.num_drifts))
        # A player achieves a goal by shovelling on its cell.
        self.layout = GridLayout(self.plane_names, self.height, self.width, self.num_players, goal_action=SHOVEL)
        self.observation_space = spaces.MultiBinary(self.layout.shape)
        each = self.num_players * self.drift_reward - self.shovel_cost  # the team's reward for a drift
        self.team_bounds = self.num_drifts * min(0.0, each), self.num_drifts * max(0.0, each)
        seats = 0.0, self.drift_reward, self.drift_reward - self.shovel_cost  # left; removed by others; alone
        self.seat_bounds = self.num_drifts * min(seats), self.num_drifts * max(seats)
        if self.prosocial:
            self.seat_bounds = self.team_bounds[0] / self.num_players, self.team_bounds[1] / self.num_players
        self._facts = Facts.of(self.layout.shape, self.num_players, None)
        self._walks: dict[torch.device, Tensor] = {}
        self._tables: dict[torch.device, _Tables] = {}

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> "Snowdrift":
        """Build the game of the publication.

        Args:
            name: `msg`: 4 players, 6 drifts, 8x8.
            **overrides: constructor arguments that replace the preset's.

        Raises:
            ConfigError: the preset does not exist.
        """
        return cls(name, **overrides)

    def __repr__(self) -> str:
        names = "num_players num_drifts height width drift_reward shovel_cost max_steps prosocial"
        return f"Snowdrift({', '.join(f'{name}={getattr(self, name)!r}' for name in names.split())})"

    def reset(self, batch_size: int, generator: torch.Generator | None = None) -> SnowdriftState:
        """Draw `batch_size` layouts: drifts on distinct cells, players anywhere.

        Args:
            batch_size: B.
            generator: source of randomness; the state is on its device. None is torch's own CPU generator.
        """
        batch_size = checks.whole("batch_size", batch_size, 1)
        anywhere = torch.ones(
            batch_size, self.height * self.width, dtype=torch.bool, device=checks.device_of(generator)
        )
        drifts = pieces.draw_distinct(anywhere, self.num_drifts, generator)
        return self._build(pieces.draw_any(anywhere, self.num_players, generator), drifts)

    def place(
        self,
        batch_size: int = 1,
        *,
        players: Sequence[Sequence[int]],
        drifts: Sequence[Sequence[int]],
        device: torch.device | str = "cpu",
    ) -> SnowdriftState:
        """Return a batch of a given initial layout.

        Args:
            batch_size: B.
            players: P pairs `(row, column)`, by seat; they may share cells with each other and with drifts.
            drifts: `num_drifts` different pairs, in any order, because they are numbered row by row.
            device: of the state.

        Raises:
            ConfigError: a position is off the grid, two drifts share a cell, or a count differs from the constructor's.
        """
        batch_size = checks.whole("batch_size", batch_size, 1)
        given = {"players": (players, "num_players"), "drifts": (drifts, "num_drifts")}
        at = {}
        for name, (pairs, argument) in given.items():
            cells = cell_indices(name, pairs, self.height, self.width)
            exactly(name, cells, argument, getattr(self, argument))
            if name == "drifts" and len(set(cells)) != len(cells):
                raise ConfigError(f"drifts={drifts}: two drifts share a cell; give each a cell of its own.")
            at[name] = torch.tensor(cells, dtype=torch.int64, device=device).repeat(batch_size, 1)
        return self._build(at["players"], at["drifts"])

    def active(self, state: SnowdriftState) -> Tensor:
        """Return the seats that still play: bool `[B, P]`, all of a row or none of it."""
        running = (state.time < self.max_steps) & (state.left > 0)
        return running[:, None].repeat(1, self.num_players)

    def legal(self, state: SnowdriftState) -> Tensor:
        """Return which actions are legal: bool `[B, P, A]`. Once the episode is over, only staying."""
        return (self._codes(state)[..., None] & self._constants(state).bits) != 0

    def terminated(self, state: SnowdriftState) -> Tensor:
        """Return the seats of rows in which no drift is left: bool `[B, P]`."""
        return (state.left == 0)[:, None].repeat(1, self.num_players)

    def observe(self, state: SnowdriftState) -> Tensor:
        """Return every seat's own view: float32 `[B, P, P + 1, h, w]` of 0 and 1, planes as in `plane_names`."""
        batch, players = state.players.shape
        seats = self._constants(state).seats  # [P, P]
        planes = state.cells.new_zeros(batch, players, players + 1, self.height * self.width, dtype=torch.float32)
        planes[:, :, :players].scatter_(3, state.players[:, seats, None], 1.0)
        planes[:, :, players] = (state.cells != 0).float()[:, None]  # [B, 1, h * w]
        return planes.view(batch, players, players + 1, self.height, self.width)

    def observe_sparse(self, state: SnowdriftState, board: Tensor | None = None) -> Tensor:
        """Return the indices of the ones in the planes: int32 `[B, P, n]`, see `StagHunt.observe_sparse`.

        Args:
            state: the states to observe.
            board: of these states; if given, walking distances to all others and drifts are included, see `Facts`.
        """
        players = self.num_players
        seats = self._constants(state).seats  # [P, P]
        drifts = self._drift_cells(state)  # [B, num_drifts]
        area = self.height * self.width
        around = state.players[:, seats]  # [B, P, P]
        who = around + torch.arange(players, device=seats.device) * area
        there = drifts < area
        what = torch.where(there, drifts + players * area, (players + 1) * area)
        places = torch.cat([who, what[:, None].expand(-1, players, -1)], -1).int()
        if board is None:
            return places
        shown, kind = torch.ones_like(around, dtype=torch.bool), torch.zeros_like(drifts[0])
        found = facts_told(self._facts, board, around, shown, torch.where(there, drifts, 0), kind, there)
        return torch.cat([places, found], -1)

    def board(self, state: SnowdriftState) -> Tensor:
        """Return all walks on the open grid: int16 `[B, h * w, h * w]`, see `all_walks`; the same in each row."""
        device = state.cells.device
        if device not in self._walks:
            open_grid = torch.ones(1, self.height, self.width, dtype=torch.bool, device=device)
            self._walks[device] = all_walks(open_grid)
        return self._walks[device].expand(len(state.cells), -1, -1)

    def step(self, state: SnowdriftState, actions: Tensor) -> tuple[SnowdriftState, Tensor]:
        """Play joint actions.

        Args:
            state: the current states.
            actions: int64 `[B, P]` in seat order; an illegal one counts as staying.

        Returns:
            The next state, and rewards, float32 `[B, P]`.
        """
        acts = self._effective(state, actions)
        drift = state.cells.gather(1, state.players)  # uint8 [B, P]
        shovels = (acts == SHOVEL).float()
        workers = shovels.new_zeros(len(acts), self.num_drifts + 1).scatter_add_(1, drift.long(), shovels)  # by number
        beside = workers.gather(1, drift.long())  # [B, P] number of seats that shovel the drift on the own cell
        removed = (workers > 0).sum(1, keepdim=True)  # [B, 1]; number 0 is no drift
        rewards = self.drift_reward * removed - self.shovel_cost * shovels / beside.clamp(min=1)
        if self.prosocial:
            rewards = rewards.mean(1, keepdim=True).repeat(1, self.num_players)
        # All seats on a cell write the same value, so their order does not matter.
        cells = state.cells.scatter(1, state.players, torch.where(beside > 0, 0, drift))
        return SnowdriftState(
            time=state.time + self.active(state)[:, 0],
            left=state.left - removed[:, 0],
            players=state.players + self._constants(state).deltas[acts],
            cells=cells,
        ), rewards

    def realised(self, state: SnowdriftState, actions: Tensor) -> Tensor:
        """Return the drift that each seat shovels by these actions: int64 `[B, P]`, NO_GOAL for none."""
        shovels = self._effective(state, actions) == SHOVEL
        return torch.where(shovels, state.cells.gather(1, state.players).long() - 1, NO_GOAL)

    def _drift_cells(self, state: SnowdriftState) -> Tensor:
        """Return the cell of each drift: int64 `[B, num_drifts]`, `h * w` for one that is gone."""
        area = self.height * self.width
        cells = torch.arange(area, device=state.cells.device).expand_as(state.cells)
        where = cells.new_full((len(state.cells), self.num_drifts + 1), area)
        return where.scatter_(1, state.cells.long(), cells)[:, 1:]  # column 0 takes all the cells without a drift

    def _codes(self, state: SnowdriftState) -> Tensor:
        """Return each seat's legal actions as bits: uint8 `[B, P]`."""
        drift = (state.cells.gather(1, state.players) != 0).to(torch.uint8)
        code = self._constants(state).moves[state.players] | drift << SHOVEL
        return torch.where(self.active(state), code, 1 << STAY)

    def _effective(self, state: SnowdriftState, actions: Tensor) -> Tensor:
        """Replace illegal actions, and integers out of range, by staying: int64 `[B, P]`."""
        known = actions.clamp(0, self.num_actions - 1)
        allowed = (self._codes(state) >> known) & 1
        return torch.where((known == actions) & (allowed != 0), known, STAY)

    def _build(self, players: Tensor, drifts: Tensor) -> SnowdriftState:
        """Make an initial state of cell indices, int64 `[B, P]` and `[B, num_drifts]`, and number the drifts."""
        numbers = torch.arange(1, self.num_drifts + 1, dtype=torch.uint8, device=drifts.device)
        bare = torch.zeros(len(drifts), self.height * self.width, dtype=torch.uint8, device=drifts.device)
        cells = bare.scatter(1, drifts.sort(1).values, numbers.expand_as(drifts))
        time = torch.zeros_like(players[:, 0])
        return SnowdriftState(time, time + self.num_drifts, players, cells)

    def _constants(self, state: SnowdriftState) -> _Tables:
        """Return the tables on the state's device; they are cached."""
        device = state.cells.device
        if device not in self._tables:
            seats = torch.arange(self.num_players, device=device)
            everywhere = torch.ones(1, self.height, self.width, dtype=torch.bool, device=device)
            self._tables[device] = _Tables(
                bits=torch.tensor([1 << a for a in range(self.num_actions)], dtype=torch.uint8, device=device),
                moves=pieces.open_moves(everywhere).flatten(),
                deltas=torch.tensor([-self.width, self.width, -1, 1, 0, 0], device=device),
                seats=ego_order(seats.expand(self.num_players, -1), seats),
            )
        return self._tables[device]
