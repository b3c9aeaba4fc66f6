"""A game off the grid, for tests of everything that must not assume one: its views are short vectors of numbers."""

from typing import NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from omg_lightning.envs import GameParallelEnv
from omg_lightning.games import Game
from omg_lightning.types import ego_order

END, MIDDLE = 100, 50
WAIT, WALK, RUN = range(3)
DISTANCE = torch.tensor([0, 30, 60])  # of each action


class LineState(NamedTuple):
    time: Tensor  # int64 [B]
    place: Tensor  # int64 [B, P] 0 .. END


class LineGame(Game):
    """Players start at a random place before the middle of a line, and leave at its end with reward 1.

    A view holds the places of all players, ego first. Running is illegal from the middle on.

    Args:
        num_players: P, at most 3.
        max_steps: every episode is over after this many steps at the latest.
        dtype: of the views.
    """

    num_actions = 3
    action_names = ("wait", "walk", "run")
    noop = WAIT

    def __init__(self, num_players: int = 2, max_steps: int = 6, dtype: type = np.float32) -> None:
        self.num_players, self.max_steps = num_players, max_steps
        self.agent_names = ("ada", "bo", "cy")[:num_players]
        self.observation_space = spaces.Box(0, END, (num_players,), dtype)

    def reset(self, batch_size: int, generator: torch.Generator | None = None) -> LineState:
        place = torch.randint(MIDDLE, (batch_size, self.num_players), generator=generator)
        return LineState(torch.zeros(batch_size, dtype=torch.int64), place)

    def place(self, batch_size: int, *, places: list[int]) -> LineState:
        return LineState(torch.zeros(batch_size, dtype=torch.int64), torch.tensor([places] * batch_size))

    def active(self, state: LineState) -> Tensor:
        return (state.place < END) & (state.time < self.max_steps)[:, None]

    def terminated(self, state: LineState) -> Tensor:
        return state.place == END

    def legal(self, state: LineState) -> Tensor:
        legal = torch.ones(*state.place.shape, self.num_actions, dtype=torch.bool)
        legal[..., RUN] = state.place < MIDDLE
        return legal

    def observe(self, state: LineState) -> Tensor:
        batch, players = state.place.shape
        ego = torch.arange(players).repeat(batch)
        views = ego_order(state.place.repeat_interleave(players, 0), ego).view(batch, players, players)
        return views.to(torch.from_numpy(np.zeros(1, self.observation_space.dtype)).dtype)

    def step(self, state: LineState, actions: Tensor) -> tuple[LineState, Tensor]:
        place = (state.place + DISTANCE[actions]).clamp(max=END)
        return LineState(state.time + 1, place), ((place == END) & (state.place < END)).float()


class LineEnv(GameParallelEnv):
    """`LineGame` as a PettingZoo environment; `options={"places": [...]}` sets the exact start."""

    metadata = {**GameParallelEnv.metadata, "name": "line_v0"}  # noqa: RUF012, as in the parent
    layout_needs = ("places",)
