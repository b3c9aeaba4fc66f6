"""Games without a grid, for tests: views of every kind of number, and a `VectorEnv` that has no rules."""

from typing import NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from omg_lightning.envs.base import Step, VectorEnv
from omg_lightning.games import Game
from omg_lightning.games.base import replace_illegal
from omg_lightning.types import NO_GOAL

INFINITE = np.inf
# By name: the space of a view, and three views that a seat can have.
VIEWS = {
    "reals": (spaces.Box(-INFINITE, INFINITE, (2,), np.float32), [[0.5, -1.7], [1e-8, 3e7], [-0.25, 2.5]]),
    "doubles": (spaces.Box(-INFINITE, INFINITE, (1,), np.float64), [[0.1], [-1 / 3], [2.0**40 + 1]]),
    "counts": (spaces.Box(0, 100_000, (2,), np.int32), [[300, 70_000], [0, 1], [255, 256]]),
    "long counts": (spaces.Box(0, 2**40, (1,), np.int64), [[2**40], [70_000], [0]]),
    "unsigned counts": (spaces.Box(0, 65_535, (2,), np.uint16), [[300, 65_535], [0, 1], [255, 256]]),
    "negative": (spaces.Box(-128, 127, (3,), np.int8), [[-128, 127, -1], [0, 0, 1], [-5, 5, -5]]),
    "bytes": (spaces.Box(0, 255, (2, 2), np.uint8), [[[255, 0], [1, 2]], [[3, 4], [5, 6]], [[7, 8], [9, 10]]]),
    "truth values": (spaces.Box(0, 1, (2,), np.bool_), [[True, False], [False, True], [True, True]]),
    "bits": (spaces.MultiBinary(3), [[1, 0, 0], [0, 1, 1], [1, 1, 1]]),
    "a number": (spaces.Box(-10, 10, (), np.float32), [0.5, -1.75, 9.0]),
    "a whole number": (spaces.Box(-10, 1000, (), np.int16), [300, -7, 1000]),
    "a table": (
        spaces.Box(-INFINITE, INFINITE, (2, 3), np.float32),
        [[[0.5, -1.7, 0.0], [1.0, 2.0, 3.0]], [[-1.0, 0.0, 1.0], [9.5, 9.25, 9.125]], [[7.0] * 3, [-7.0] * 3]],
    ),
}


class NumberState(NamedTuple):
    time: Tensor  # int64 [B]
    place: Tensor  # int64 [B, P] which of the three views a seat has
    leaves: Tensor  # int64 [B, P] the time at which a seat leaves


class NumberGame(Game):
    """Each seat has one of three views and moves on to another by its action; it leaves at a time drawn at the start.

    A seat earns 1 for action 1.

    Args:
        kind: a name of `VIEWS`.
        num_players: P.
        max_steps: the longest episode.
    """

    def __init__(self, kind: str = "reals", num_players: int = 2, max_steps: int = 5) -> None:
        self.kind, self.num_players, self.num_actions, self.max_steps = kind, num_players, 3, max_steps
        self.observation_space, views = VIEWS[kind]
        dtype = {np.dtype(np.uint16): torch.int32}.get(self.observation_space.dtype)
        own = torch.from_numpy(np.zeros(1, self.observation_space.dtype)).dtype
        self.views = torch.tensor(views, dtype=dtype or own)

    def reset(self, batch_size: int, generator: torch.Generator | None = None) -> NumberState:
        size = (batch_size, self.num_players)
        place = torch.randint(3, size, generator=generator)
        leaves = torch.randint(1, self.max_steps + 1, size, generator=generator)
        return NumberState(torch.zeros(batch_size, dtype=torch.int64), place, leaves)

    def active(self, state: NumberState) -> Tensor:
        return state.time[:, None] < state.leaves

    def observe(self, state: NumberState) -> Tensor:
        return self.views.to(state.place.device)[state.place]

    def step(self, state: NumberState, actions: Tensor) -> tuple[NumberState, Tensor]:
        return NumberState(state.time + 1, (state.place + actions) % 3, state.leaves), (actions == 1).float()


class Countdown(VectorEnv):
    """An environment without rules that can be stepped from a state: every seat counts down, and leaves at 0.

    A view holds the own number and whether it is the largest. Action 1 counts down by 2, and is illegal at 1. A seat
    earns what it counts down. Seats that reach 0 are terminated; `max_steps` truncates the others.

    Args:
        num_players: P.
        max_steps: the longest episode.
    """

    name, num_actions, noop = "Countdown", 2, 0
    action_names = ("one", "two")

    def __init__(self, num_players: int = 2, max_steps: int = 4) -> None:
        self.num_players, self.max_steps = num_players, max_steps
        self.agent_names = tuple(f"counter_{seat}" for seat in range(num_players))
        self.observation_space = spaces.Box(0, 9, (2,), np.float32)

    def reset(self, batch_size: int, generator: torch.Generator) -> Step:
        self.number = torch.randint(1, 10, (batch_size, self.num_players), generator=generator)
        self.time = torch.zeros(batch_size, dtype=torch.int64)
        nobody = torch.zeros(self.number.shape, dtype=torch.bool)
        return self._step(torch.zeros(self.number.shape), nobody, nobody)

    def step(self, actions: Tensor) -> Step:
        before = self.active
        down = (replace_illegal(actions, self.legal, self.noop) + 1) * before
        self.number = self.number - down
        self.time = self.time + before.any(-1)
        terminated = before & (self.number == 0)
        return self._step(down.float(), terminated, before & ~terminated & ~self.active)

    def keep(self, index: Tensor) -> None:
        self.number, self.time = self.number[index], self.time[index]

    @property
    def active(self) -> Tensor:
        return (self.number > 0) & (self.time < self.max_steps)[:, None]

    @property
    def legal(self) -> Tensor:
        return torch.stack([torch.ones_like(self.active), self.active & (self.number > 1)], -1)

    def _step(self, reward: Tensor, terminated: Tensor, truncated: Tensor) -> Step:
        largest = self.number == self.number.amax(-1, keepdim=True)
        view = torch.stack([self.number, largest], -1).float()
        achieved = torch.full(self.number.shape, NO_GOAL)
        return Step(view, self.legal, self.active, reward, terminated, truncated, achieved)
