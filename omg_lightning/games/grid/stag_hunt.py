"""Markov Stag-Hunt: hunters on a grid take a hare alone or a stag together (HOP, arXiv 2406.08002)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from gymnasium import spaces
from torch import Tensor

from omg_lightning.games import checks
from omg_lightning.games.base import Game
from omg_lightning.games.grid import blocks as pieces
from omg_lightning.games.grid.blocks import DOWN, LEFT, RIGHT, STAY, UP
from omg_lightning.games.grid.cells import cell_indices, exactly
from omg_lightning.games.grid.layout import GridLayout
from omg_lightning.games.grid.scripted import NearestHare, NearestStag
from omg_lightning.games.grid.stag_hunt_views import HUNT_HARE, HUNT_STAG, Board, StagHuntState, Views
from omg_lightning.games.scripts import Player
from omg_lightning.types import NO_GOAL, ConfigError

__all__ = [
    "DOWN", "HUNT_HARE", "HUNT_STAG", "LEFT", "PRESETS", "RIGHT", "STAY", "UP", "Board", "StagHunt", "StagHuntState"
]  # fmt: skip

PRESETS: dict[str, dict[str, int]] = {
    "4h1s": {"num_players": 4, "num_stags": 1, "num_hares": 4, "height": 8, "width": 8, "num_blocks": 5},
    "4h2s": {"num_players": 4, "num_stags": 2, "num_hares": 4, "height": 8, "width": 8, "num_blocks": 5},
    "4h1s_6x6": {"num_players": 4, "num_stags": 1, "num_hares": 4, "height": 6, "width": 6, "num_blocks": 4},
    "4h1s_4x4": {"num_players": 4, "num_stags": 1, "num_hares": 4, "height": 4, "width": 4, "num_blocks": 0},
    "2h1s_4x4": {"num_players": 2, "num_stags": 1, "num_hares": 2, "height": 4, "width": 4, "num_blocks": 0},
}
_NO_PREY = (1 << HUNT_STAG) - 1  # the bits of moving and staying
_TRIAL_LAYOUTS = 64  # drawn at construction, with an eighth of the redraws, to check that the pieces fit


class _Tables(NamedTuple):
    """Constants, on one device."""

    bits: Tensor  # uint8 [A] 1 << a
    deltas: Tensor  # int64 [A] change of the cell index by an action
    strength: Tensor  # float [P]


class StagHunt(Game):
    """The rules of Markov Stag-Hunt, batched and pure.

    Hunters move simultaneously and never block each other; prey never moves. All hunters of the same stag in the same
    step form a group: two or more catch it and share `stag_reward` by strength; a single one catches nothing. One is
    enough for a hare; several share `hare_reward` equally. A capture removes the prey and all its hunters. Illegal
    actions, and integers out of range, count as staying.

    With `prosocial`, each of the P seats receives the mean over all P seats of the step's rewards, **including the
    seats that have left** while the episode runs: so the team's return is the same with and without it, and leaving
    early costs no share. Only in this case does a seat that has left get a reward.

    Best mean reward per seat: 3.0 in `4h1s` and its smaller grids (two take the stag and the other two a hare each,
    or all four the stag: (10 + 1 + 1) / 4), 5.0 in `4h2s` and `2h1s_4x4`; if all take hares, 1.0.

    Args:
        preset: a published game, see `preset`; other arguments override its settings. Without a preset, give the five
            sizes.
        num_players: P, hunters on the grid.
        num_stags: stags on the grid.
        num_hares: hares on the grid.
        height: h, rows of the grid.
        width: w, columns of the grid.
        num_blocks: block pieces of 3 or 4 cells, placed so that the free cells stay connected.
        stag_reward: reward of a stag, shared by the hunters that catch it.
        hare_reward: reward of a hare, shared by the hunters that catch it.
        max_steps: largest number of steps of an episode.
        steps_after_first_hunt: an episode also ends this many steps after the step of its first capture; 0 ends it with
            that step, None (the default) never.
        strength: P positive weights by which hunters share a stag; None for equal shares.
        prosocial: whether each player gets the mean reward.

    Raises:
        ConfigError: an argument is of the wrong kind or range, the grid cannot hold the prey beside the blocks, or
            the blocks do not fit.
    """

    num_actions = 7
    plane_names: tuple[str, ...]
    goal_names: tuple[str, ...] = ("stag", "hare")
    action_names: tuple[str, ...] = ("up", "down", "left", "right", "stay", "hunt_stag", "hunt_hare")
    noop = STAY
    players: Mapping[str, Callable[[], Player]] = {"nearest_stag": NearestStag, "nearest_hare": NearestHare}
    scripts: tuple[str, ...] = ("nearest_stag", "nearest_hare")
    sparse_views = True
    has_board = True
    keeps_invariants = True  # `step` computes the legal actions itself

    def __init__(
        self,
        preset: str | None = None,
        *,
        num_players: int | None = None,
        num_stags: int | None = None,
        num_hares: int | None = None,
        height: int | None = None,
        width: int | None = None,
        num_blocks: int | None = None,
        stag_reward: float = 10.0,
        hare_reward: float = 1.0,
        max_steps: int = 35,
        steps_after_first_hunt: int | None = None,
        strength: Sequence[float] | None = None,
        prosocial: bool = False,
    ) -> None:
        given = {
            "num_players": num_players,
            "num_stags": num_stags,
            "num_hares": num_hares,
            "height": height,
            "width": width,
            "num_blocks": num_blocks,
        }
        num_players, num_stags, num_hares, height, width, num_blocks = checks.sizes(
            "StagHunt", PRESETS, preset, given, {"num_blocks": 0}
        )
        self.num_players = checks.whole("num_players", num_players, 1)
        self.num_stags = checks.whole("num_stags", num_stags, 0)
        self.num_hares = checks.whole("num_hares", num_hares, 0)
        self.height = checks.whole("height", height, 1)
        self.width = checks.whole("width", width, 1)
        self.num_blocks = checks.whole("num_blocks", num_blocks, 0)
        self.stag_reward = checks.number("stag_reward", stag_reward)
        self.hare_reward = checks.number("hare_reward", hare_reward)
        self.max_steps = checks.whole("max_steps", max_steps, 1)
        self.steps_after_first_hunt = steps_after_first_hunt
        if steps_after_first_hunt is not None:
            self.steps_after_first_hunt = checks.whole("steps_after_first_hunt", steps_after_first_hunt, 0)
        self.strength = _strength(strength, self.num_players)
        self.prosocial = checks.flag("prosocial", prosocial)
        others = tuple(f"other_{k}" for k in range(1, self.num_players))
        self.plane_names = ("self", *others, "blocks", "stags", "hares")
        self.agent_names = tuple(f"hunter_{seat}" for seat in range(self.num_players))
        self.layout = GridLayout(self.plane_names, self.height, self.width, self.num_players, walls=self.num_players)
        self.observation_space = spaces.MultiBinary(self.layout.shape)
        self._views = Views(self.layout.shape, self.num_stags, self.num_hares)
        self._tables: dict[torch.device, _Tables] = {}
        self._check_room()
        self.seat_bounds, self.team_bounds = self._bounds()

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> "StagHunt":
        """Build one of the games of the publications.

        Args:
            name: `4h1s`, `4h2s`, `4h1s_6x6`, `4h1s_4x4` or `2h1s_4x4`: hunters, stags, and the grid unless 8x8.
            **overrides: constructor arguments that replace the preset's.

        Raises:
            ConfigError: the preset does not exist.
        """
        return cls(name, **overrides)

    def __repr__(self) -> str:
        names = (
            "num_players num_stags num_hares height width num_blocks stag_reward hare_reward max_steps"
            " steps_after_first_hunt strength prosocial"
        )
        return f"StagHunt({', '.join(f'{name}={getattr(self, name)!r}' for name in names.split())})"

    def reset(self, batch_size: int, generator: torch.Generator | None = None) -> StagHuntState:
        """Draw `batch_size` layouts: blocks, prey on distinct free cells, hunters on any free cells.

        Args:
            batch_size: B.
            generator: source of randomness; the state is on its device. None is torch's own CPU generator.
        """
        batch_size = checks.whole("batch_size", batch_size, 1)
        blocks = pieces.draw_blocks(batch_size, self.height, self.width, self.num_blocks, generator)
        prey = pieces.draw_distinct(~blocks, self.num_stags + self.num_hares, generator)
        hunters = pieces.draw_any(~blocks, self.num_players, generator)
        return self._build(blocks, hunters, prey[:, : self.num_stags], prey[:, self.num_stags :])

    def place(
        self,
        batch_size: int = 1,
        *,
        hunters: Sequence[Sequence[int]],
        stags: Sequence[Sequence[int]],
        hares: Sequence[Sequence[int]],
        blocks: Sequence[Sequence[int]] = (),
        device: torch.device | str = "cpu",
    ) -> StagHuntState:
        """Return a batch of a given initial layout.

        Args:
            batch_size: B.
            hunters: P pairs `(row, column)`, by seat; they may share cells with each other and with prey.
            stags: `num_stags` pairs.
            hares: `num_hares` pairs; no two preys on one cell.
            blocks: any number of pairs: single cells, which need not form pieces.
            device: of the state.

        Raises:
            ConfigError: a position is off the grid or on a block, two preys share a cell, or a count differs from
                the constructor's.
        """
        batch_size = checks.whole("batch_size", batch_size, 1)
        given = {"hunters": hunters, "stags": stags, "hares": hares, "blocks": blocks}
        cells = {name: cell_indices(name, pairs, self.height, self.width) for name, pairs in given.items()}
        counts = {"hunters": "num_players", "stags": "num_stags", "hares": "num_hares"}
        for name, argument in counts.items():
            exactly(name, cells[name], argument, getattr(self, argument))
            if blocked := set(cells[name]) & set(cells["blocks"]):
                pair = divmod(min(blocked), self.width)
                raise ConfigError(f"{name}: {pair} is on a block; expected a free cell: move it, or remove the block.")
        prey = cells["stags"] + cells["hares"]
        if len(set(prey)) != len(prey):
            raise ConfigError(f"stags={stags}, hares={hares}: two preys share a cell; give each a cell of its own.")
        at = {
            name: torch.tensor(c, dtype=torch.int64, device=device).expand(batch_size, -1) for name, c in cells.items()
        }
        free = torch.zeros(batch_size, self.height * self.width, dtype=torch.bool, device=device)
        return self._build(free.scatter(1, at["blocks"], True), at["hunters"].clone(), at["stags"], at["hares"])

    def active(self, state: StagHuntState) -> Tensor:
        """Return the seats that still play: bool `[B, P]`; all False once the episode is over."""
        return state.present & (state.time < state.closes)[:, None]

    def legal(self, state: StagHuntState) -> Tensor:
        """Return which actions are legal: bool `[B, P, A]`. Only staying is legal for a seat that has left."""
        codes = torch.where(self.active(state), state.cells.gather(1, state.hunters), 1 << STAY)
        return (codes[..., None] & self._constants(state).bits) != 0

    def terminated(self, state: StagHuntState) -> Tensor:
        """Return the seats that left with a capture, or whose episode ended after one: bool `[B, P]`."""
        closed = (state.time >= state.closes) & (state.closes < self.max_steps)
        return ~state.present | closed[:, None]

    def observe(self, state: StagHuntState) -> Tensor:
        """Return every seat's own view: float32 `[B, P, P + 3, h, w]` of 0 and 1, planes as in `plane_names`."""
        return self._views.planes(state)

    def observe_sparse(self, state: StagHuntState, board: Board | None = None) -> Tensor:
        """Return the indices of the ones in the flattened planes: int32 `[B, P, n]`.

        Planes are nearly empty: summing rows of weights over these indices replaces a dense layer and is many times
        faster, and a search reads millions of states.

        Args:
            state: the states to observe.
            board: of these states; if given, walking distances to all others and preys are included, see `Facts`.

        Returns:
            The indices; `(P + 3) * h * w` stands for none.
        """
        return self._views.places(state, board)

    def board(self, state: StagHuntState) -> Board:
        """Return the constants of the episodes of `state`, for many sparse views of them."""
        return self._views.board(state)

    def step(self, state: StagHuntState, actions: Tensor) -> tuple[StagHuntState, Tensor]:
        """Play joint actions.

        Args:
            state: the current states.
            actions: int64 `[B, P]` in seat order; an illegal one counts as staying.

        Returns:
            The next state, and rewards, float32 `[B, P]`.
        """
        here, active = state.cells.gather(1, state.hunters), self.active(state)
        acts = self._effective(here, active, actions)
        hunting, caught, cleared = self._hunt(state, here, acts)
        rewards = torch.where(acts == HUNT_STAG, self.stag_reward, self.hare_reward).float() * caught
        if self.strength is None:
            rewards = rewards / hunting.clamp(min=1)
        else:
            weight = torch.where(acts == HUNT_STAG, self._constants(state).strength, 1.0) * (acts >= HUNT_STAG)
            rewards = rewards * (weight / self._on_cell(state, weight).clamp(min=torch.finfo(weight.dtype).tiny))
        if self.prosocial:
            rewards = rewards.mean(1, keepdim=True).expand_as(rewards).contiguous()
        return self._advance(state, here, active, acts, caught, cleared), rewards

    def realised(self, state: StagHuntState, actions: Tensor) -> Tensor:
        """Return the capture of each seat by these actions: int64 `[B, P]`, 0 a stag, 1 a hare, NO_GOAL none."""
        here = state.cells.gather(1, state.hunters)
        acts = self._effective(here, self.active(state), actions)
        _, caught, _ = self._hunt(state, here, acts)
        return torch.where(caught, acts - HUNT_STAG, NO_GOAL)  # goals have the order of the hunt actions

    def _advance(
        self, state: StagHuntState, here: Tensor, active: Tensor, acts: Tensor, caught: Tensor, cleared: Tensor
    ) -> StagHuntState:
        """Return the next state: `acts` `[B, P]` are legal, `cleared` marks hunters on a cell that loses its prey."""
        # All seats on a cell write the same value, so their order does not matter.
        cells = state.cells.scatter(1, state.hunters, torch.where(cleared, here & _NO_PREY, here))
        closes = state.closes
        if self.steps_after_first_hunt is not None:
            soon = torch.where(caught.any(1), state.time + 1 + self.steps_after_first_hunt, self.max_steps)
            closes = torch.minimum(closes, soon)  # later captures only give later times
        return StagHuntState(
            time=state.time + active.any(1),
            closes=closes,
            hunters=state.hunters + self._constants(state).deltas.take(acts),
            present=state.present & ~caught,
            cells=cells,
        )

    def _effective(self, here: Tensor, active: Tensor, actions: Tensor) -> Tensor:
        """Replace illegal actions, and invalid integers, by staying: int64 `[B, P]`; `here` is the seats' cells."""
        known = actions.clamp(0, self.num_actions - 1)
        allowed = (here >> known) & 1
        return torch.where((known == actions) & active & (allowed != 0), known, STAY)

    def _hunt(self, state: StagHuntState, here: Tensor, acts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the outcome of hunts; `acts` `[B, P]` are legal, so all hunters on one cell hunt the same prey.

        Returns:
            The number of hunters on each seat's cell, int16; whether the seat catches prey, bool; and whether its cell
            loses its prey, bool: `[B, P]` each.
        """
        after = acts >= HUNT_STAG
        hunting = self._on_cell(state, after.to(torch.int16))
        needed = 1 + (here >> HUNT_STAG & 1)
        cleared = hunting >= needed
        return hunting, after & cleared, cleared

    def _on_cell(self, state: StagHuntState, x: Tensor) -> Tensor:
        """Sum `x` `[B, P]` over the seats on the same cell: `[B, P]`. A scatter is faster than P x P comparisons."""
        return x.new_zeros(state.cells.shape).scatter_add_(1, state.hunters, x).gather(1, state.hunters)

    def _build(self, blocks: Tensor, hunters: Tensor, stags: Tensor, hares: Tensor) -> StagHuntState:
        """Return an initial state of blocks, bool `[B, h * w]`, and cell indices, int64 `[B, ...]`."""
        batch = len(blocks)
        cells = pieces.open_moves(~blocks.view(batch, self.height, self.width)).flatten(1)
        for prey, action in ((stags, HUNT_STAG), (hares, HUNT_HARE)):
            cells = cells.scatter(1, prey, cells.gather(1, prey) | 1 << action)
        time = torch.zeros_like(hunters[:, 0])
        return StagHuntState(time, time + self.max_steps, hunters, torch.ones_like(hunters, dtype=torch.bool), cells)

    def _constants(self, state: StagHuntState) -> _Tables:
        """Return the tables on the state's device; they are cached."""
        device = state.cells.device
        if device not in self._tables:
            self._tables[device] = _Tables(
                bits=torch.tensor([1 << a for a in range(self.num_actions)], dtype=torch.uint8, device=device),
                deltas=torch.tensor([-self.width, self.width, -1, 1, 0, 0, 0], device=device),
                strength=torch.tensor(self.strength or [1.0] * self.num_players, dtype=torch.float32, device=device),
            )
        return self._tables[device]

    def _bounds(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return the smallest and largest return of a seat, and of the team: each hunter captures at most once."""
        most = min(self.num_stags, self.num_players // 2)  # a stag takes two hunters
        teams = [
            stags * self.stag_reward + hares * self.hare_reward
            for stags in range(most + 1)
            for hares in (0, min(self.num_hares, self.num_players - 2 * stags))
        ]
        team = min(teams), max(teams)
        if self.prosocial:
            return (team[0] / self.num_players, team[1] / self.num_players), team
        strength = self.strength or (1.0,)
        share = max(strength) / (max(strength) + min(strength))  # the strongest with the weakest
        seats = 0.0, self.hare_reward, share * self.stag_reward
        return (min(seats), max(seats)), team

    def _check_room(self) -> None:
        """Raise ConfigError unless the grid holds the prey and the blocks, at their largest size."""
        taken, area = pieces.LARGEST_PIECE * self.num_blocks, self.height * self.width
        prey = self.num_stags + self.num_hares
        if max(prey, 1) > area - taken:
            raise ConfigError(
                f"num_stags={self.num_stags}, num_hares={self.num_hares}, num_blocks={self.num_blocks}: {prey} preys"
                f" need one free cell each, but height={self.height}, width={self.width} has {area}, of which"
                f" {taken} may be blocks; use fewer preys or blocks, or a larger grid."
            )
        if self.num_blocks:
            trial = torch.Generator().manual_seed(0)
            redraws = pieces.MAX_REDRAWS // 8
            pieces.draw_blocks(_TRIAL_LAYOUTS, self.height, self.width, self.num_blocks, trial, redraws)


def _strength(strength: Sequence[float] | None, num_players: int) -> tuple[float, ...] | None:
    """Check the strengths; None stands for equal ones."""
    if strength is None:
        return None
    wanted = f"expected {num_players} positive numbers, one for each player; set strength to these or to None."
    if isinstance(strength, str) or not isinstance(strength, Sequence) or len(strength) != num_players:
        raise ConfigError(f"strength={strength!r}: {wanted}")
    values = tuple(checks.number("strength", x) for x in strength)
    if min(values) <= 0:
        raise ConfigError(f"strength={strength!r}: {wanted}")
    return values
