"""The coin game: coins of two colours, each owned by a player (LOLA, arXiv 1709.04326, section 5.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from gymnasium import spaces
from torch import Tensor

from omg_lightning.games import checks
from omg_lightning.games.base import Game
from omg_lightning.games.grid.blocks import draw_any, draw_distinct
from omg_lightning.games.grid.cells import cell_indices, exactly
from omg_lightning.games.grid.layout import GridLayout
from omg_lightning.games.scripts import Player, ScriptedPlayer, uniform
from omg_lightning.types import NO_GOAL, ConfigError, ego_order

MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1), (0, 0))  # (row, column) of up, down, left, right, stay
MY_COIN, THEIR_COIN = range(2)  # the declared goals
_FACTOR, _SUMMAND, _SHIFT = 6364136223846793005, 1442695040888963407, 33  # Knuth's MMIX generator, and its good bits


class CoinState(NamedTuple):
    """Everything the rules need."""

    time: Tensor  # int64 [B] steps played
    players: Tensor  # int64 [B, 2] cell index
    coin: Tensor  # int64 [B] cell index
    owner: Tensor  # int64 [B] the seat whose colour the coin has
    luck: Tensor  # int64 [B] hidden random state, from which future coins are drawn


class CoinGame(Game):
    """Two players walk on a grid on which there is always one coin, of the colour of one of them.

    A player that steps on a coin takes it and gets 1, whatever its colour; if it has the other player's colour, the
    other player loses 2. So leaving the other's coins is best for both, but taking them tempts each. Both move
    simultaneously and never block each other, and the edges of the grid are joined. When a coin is taken, the next one
    lies on a random cell without a player, in a random colour. If both step on a coin in the same step, each gets half
    of the reward and of the loss: 1/2 each, and -1 for the owner. So no seat is favoured; the mean is that of a fair
    draw for the coin.

    The rules are those of LOLA's game, except for three points on which published code differs: colours are drawn (some
    code alternates them), ties are shared (some code favours one colour), and a player may stay.

    The declared goals of a player are the coins by colour, from its perspective: `my_coin` and `their_coin`. It
    achieves the one that it takes. The next coin is drawn from `CoinState.luck`, which `reshuffle` resamples: a search
    does so in each tree, so that it does not foresee future coins. The encoder `Paths` is of little use here,
    because it ignores that the edges are joined.

    Selfish players take every coin that they can reach, equally many of both colours, and have a mean return of 0;
    players that take only their own coins get 1 for each.

    Args:
        height: h, rows of the grid.
        width: w, columns of the grid; at least 3 cells in all.
        max_steps: an episode is over after this many steps.

    Raises:
        ConfigError: an argument is of the wrong kind or range.
    """

    num_players, num_actions = 2, 5
    action_names: tuple[str, ...] = ("up", "down", "left", "right", "stay")
    goal_names: tuple[str, ...] = ("my_coin", "their_coin")
    noop = len(MOVES) - 1
    scripts: tuple[str, ...] = ("cooperative", "selfish")

    def __init__(self, height: int = 3, width: int = 3, max_steps: int = 50) -> None:
        self.height = checks.whole("height", height, 1)
        self.width = checks.whole("width", width, 1)
        self.max_steps = checks.whole("max_steps", max_steps, 1)
        if self.height * self.width < 3:
            raise ConfigError(
                f"height={height}, width={width}: a coin and two players need at least 3 cells; enlarge the grid."
            )
        names = ("self", "other_1", *self.goal_names)
        self.layout = GridLayout(names, self.height, self.width, self.num_players, owned=self.num_players)
        self.observation_space = spaces.MultiBinary(self.layout.shape)
        self.seat_bounds = -2.0 * self.max_steps, 1.0 * self.max_steps
        self.team_bounds = -1.0 * self.max_steps, 1.0 * self.max_steps
        self.players: Mapping[str, Callable[[], Player]] = {"cooperative": Cooperative, "selfish": Selfish}
        self._ways: dict[torch.device, Tensor] = {}

    def __repr__(self) -> str:
        return f"CoinGame(height={self.height}, width={self.width}, max_steps={self.max_steps})"

    def reset(self, batch_size: int, generator: torch.Generator | None = None) -> CoinState:
        """Draw `batch_size` initial states: players anywhere, a coin of a random colour on a cell without a player."""
        batch_size, device = checks.whole("batch_size", batch_size, 1), checks.device_of(generator)
        anywhere = torch.ones(batch_size, self.height * self.width, dtype=torch.bool, device=device)
        players = draw_any(anywhere, 2, generator)
        coin = draw_distinct(anywhere.scatter(1, players, False), 1, generator)[:, 0]
        owner = torch.randint(2, (batch_size,), generator=generator, device=device)
        time = torch.zeros_like(owner)
        return self.reshuffle(CoinState(time, players, coin, owner, time), generator)

    def reshuffle(self, state: CoinState, generator: torch.Generator | None) -> CoinState:
        """Resample the future coins."""
        luck = torch.randint(2**62, state.luck.shape, generator=generator, device=state.luck.device)
        return state._replace(luck=luck)

    def place(
        self,
        batch_size: int = 1,
        *,
        players: Sequence[Sequence[int]],
        my_coin: Sequence[Sequence[int]] = (),
        their_coin: Sequence[Sequence[int]] = (),
        device: torch.device | str = "cpu",
    ) -> CoinState:
        """Return a batch of a given initial state; future coins are the same in each call.

        Args:
            batch_size: B.
            players: 2 pairs `(row, column)`, by seat; they may share a cell.
            my_coin: a list of one pair: the coin, if it has seat 0's colour.
            their_coin: a list of one pair: the coin, if it has seat 1's colour.
            device: of the state.

        Raises:
            ConfigError: a position is off the grid, the coin is missing or under a player, or there are two.
        """
        batch_size = checks.whole("batch_size", batch_size, 1)
        cells = cell_indices("players", players, self.height, self.width)
        exactly("players", cells, "num_players", 2)
        mine, theirs = (
            cell_indices(name, pairs, self.height, self.width)
            for name, pairs in (("my_coin", my_coin), ("their_coin", their_coin))
        )
        if len(mine) + len(theirs) != 1 or {*mine, *theirs} & set(cells):
            raise ConfigError(
                f"my_coin={my_coin}, their_coin={their_coin}: expected one coin in all, on a cell without a player; "
                "give one of the two a list of one pair (row, column)."
            )
        time = torch.zeros(batch_size, dtype=torch.int64, device=device)
        at = torch.tensor(cells, device=device).expand(batch_size, -1).contiguous()
        return CoinState(time, at, time + (mine + theirs)[0], time + len(theirs), time)

    def observe(self, state: CoinState) -> Tensor:
        """Return every seat's own view: float32 `[B, 2, 4, h, w]` of 0 and 1: self, the other, my coin, their coin."""
        batch, cells = len(state.time), self.height * self.width
        planes = torch.zeros(batch, 2, 4, cells, device=state.coin.device)
        seats = torch.arange(2, device=state.coin.device)
        around = ego_order(state.players.repeat_interleave(2, 0), seats.repeat(batch)).view(batch, 2, 2)
        planes[:, :, :2].scatter_(3, around[..., None], 1.0)
        whose = 2 + (state.owner[:, None] != seats).long()  # [B, 2] the plane of the coin
        index = (whose * cells + state.coin[:, None])[..., None]
        return planes.flatten(2).scatter_(2, index, 1.0).view(batch, 2, 4, self.height, self.width)

    def step(self, state: CoinState, actions: Tensor) -> tuple[CoinState, Tensor]:
        """Play joint actions, int64 `[B, 2]`: the next state, and rewards, float32 `[B, 2]`."""
        players = self._moved(state.players, actions)
        takes = (players == state.coin[:, None]).float()
        share = takes / takes.sum(1, keepdim=True).clamp(min=1)
        owns = state.owner[:, None] == torch.arange(2, device=actions.device)
        rewards = share - 2 * torch.where(owns, share.flip(1), 0.0)
        coin, owner, luck = self._next_coin(players, state.luck)
        taken = takes.any(1)
        return CoinState(
            state.time + 1,
            players,
            torch.where(taken, coin, state.coin),
            torch.where(taken, owner, state.owner),
            torch.where(taken, luck, state.luck),
        ), rewards

    def realised(self, state: CoinState, actions: Tensor) -> Tensor:
        """Return the colour of the coin that each seat takes, int64 `[B, 2]`, or NO_GOAL."""
        takes = self._moved(state.players, actions) == state.coin[:, None]
        whose = (state.owner[:, None] != torch.arange(2, device=actions.device)).long()
        return torch.where(takes, whose, NO_GOAL)

    def ways(self, device: torch.device) -> Tensor:
        """Return which actions bring a player nearer to a cell, bool `[S, S, A]`, by own and target cell."""
        if device not in self._ways:
            cells = torch.arange(self.height * self.width, device=device)
            around = self._moved(cells[:, None].expand(-1, len(MOVES)), torch.arange(len(MOVES), device=device))
            distance = self._distance(cells[:, None], cells)  # [S, S]
            self._ways[device] = (distance[around] < distance[:, None]).transpose(1, 2)
        return self._ways[device]

    def _moved(self, cells: Tensor, actions: Tensor) -> Tensor:
        """Return the cells `[..., P]` after `actions`; the edges are joined."""
        step = torch.tensor(MOVES, device=actions.device)[actions]
        row = (cells // self.width + step[..., 0]) % self.height
        column = (cells % self.width + step[..., 1]) % self.width
        return row * self.width + column

    def _distance(self, one: Tensor, other: Tensor) -> Tensor:
        """Return the distance between cells; paths may cross an edge."""
        down, right = (one // self.width - other // self.width).abs(), (one % self.width - other % self.width).abs()
        return torch.minimum(down, self.height - down) + torch.minimum(right, self.width - right)

    def _next_coin(self, players: Tensor, luck: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Draw a cell without a player and a colour for each row: int64 `[B]` each, and the next random state."""
        first, second = players.amin(1), players.amax(1)
        free = self.height * self.width - 1 - (first != second).long()
        luck = luck * _FACTOR + _SUMMAND  # int64 wraps around
        cell = ((luck >> _SHIFT) & 0x3FFFFFFF) % free  # the n-th free cell
        cell = cell + (cell >= first)
        cell = cell + ((cell >= second) & (first != second))
        luck = luck * _FACTOR + _SUMMAND
        return cell, ((luck >> _SHIFT) & 0x3FFFFFFF) % 2, luck


class Selfish(ScriptedPlayer):
    """Goes to the coin, whatever its colour, by a shortest path; uniformly among several.

    Its goal changes with each coin, so it has no fixed declared goal.
    """

    seeks: tuple[int, ...] = (MY_COIN, THEIR_COIN)

    def needs(self) -> tuple[str, ...]:
        """Return the names of the planes of coins."""
        return CoinGame.goal_names

    def action_probabilities(self, observation: Tensor, legal: Tensor) -> Tensor:
        """Return `[B, A]`: uniform over the moves that lead to the coin, or all on staying where it seeks none."""
        game: Any = getattr(self._game, "game", self._game)
        view = observation.flatten(2) > 0  # [B, 4, h*w]
        own, coins = view[:, 0].int().argmax(-1), view[:, [2 + goal for goal in self.seeks]].any(1)
        wanted = game.ways(legal.device)[own, coins.int().argmax(-1)] & coins.any(-1, keepdim=True) & legal
        wanted[:, game.noop] |= ~wanted.any(-1)
        return uniform(wanted)


class Cooperative(Selfish):
    """Goes only to coins of its own colour, and stays while the coin is the other's."""

    goal = "my_coin"
    seeks = (MY_COIN,)
