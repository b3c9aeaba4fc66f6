"""The contract of environments: a batch of environments, stepped together."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from inspect import signature
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from omg_lightning.games.base import Game
from omg_lightning.types import NO_GOAL, ConfigError, has_own, put, take

if TYPE_CHECKING:
    from omg_lightning.games.grid.layout import GridLayout
    from omg_lightning.games.scripts import Player
    from omg_lightning.spaces import Space


class Step(NamedTuple):
    """The result of a reset or a step of L environments; rows in the order of the environments."""

    observation: Tensor  # [L, P, *shape] each seat's own view after the step, also if the episode is over
    legal: Tensor  # bool [L, P, A] for the next action
    active: Tensor  # bool [L, P] seats that still play
    reward: Tensor  # float32 [L, P] of this step; 0 after a reset
    terminated: Tensor  # bool [L, P] seats that ended with this step by the rules
    truncated: Tensor  # bool [L, P] seats that were cut off with this step by a time limit
    achieved: Tensor  # int64 [L, P] the declared goal that each seat achieved by this step, or NO_GOAL


class VectorEnv(ABC):
    """B environments, played in parallel. They are stateful; one object plays one batch at a time.

    A subclass sets the attributes and implements `reset`, `step` and `keep`, and `restart` if it can.
    `omg_lightning.testing.check_env` checks them. An illegal action is replaced as by `replace_illegal`. Seats that
    have left, and environments that are over, have no effect.

    Attributes:
        name: of the game, for messages and checkpoints.
        num_players: P, the number of seats.
        num_actions: A, the same for every seat.
        max_steps: every episode is over after this many steps at the latest.
        observation_space: gymnasium `Box` or `MultiBinary`, the space of one seat's view.
        action_names: A names.
        agent_names: P names.
        goal_names: the declared goals of a player; none by default.
        noop: the action that replaces an illegal one, and the only legal one of a seat that is not active. Always legal
            in our games; third-party masks may forbid it.
        players: scripted players of this game, by name.
        scripts: the names of two of them, the cooperator first, or none.
        layout: what a view means, for games on a grid; else None.
        seat_bounds: smallest and largest undiscounted return of a seat, see `Game`; None if unknown.
        team_bounds: those of the sum of all seats.
        game: the rules, where states can be stepped by a search; else None.
    """

    name: str
    num_players: int
    num_actions: int
    max_steps: int
    observation_space: Space
    action_names: tuple[str, ...]
    agent_names: tuple[str, ...]
    goal_names: tuple[str, ...] = ()
    noop: int = 0
    players: Mapping[str, Callable[[], Player]] = {}
    scripts: tuple[str, ...] = ()
    layout: GridLayout | None = None
    seat_bounds: tuple[float, float] | None = None
    team_bounds: tuple[float, float] | None = None
    game: Game | None = None

    @property
    def state(self) -> Any:
        """The state of `game`, leading L, from which a search starts."""
        raise NotImplementedError(f"{self.name} has no state from which a search can start")

    @abstractmethod
    def reset(self, batch_size: int, generator: torch.Generator) -> Step:
        """Start `batch_size` episodes; all randomness comes from `generator`."""

    @abstractmethod
    def step(self, actions: Tensor) -> Step:
        """Play joint actions, int64 `[L, P]` in seat order."""

    @abstractmethod
    def keep(self, index: Tensor) -> None:
        """Keep only the environments `index`, int64 `[R]`, in this order."""

    def restart(self, index: Tensor, generator: torch.Generator) -> Step:
        """Start new episodes in the environments `index`, int64 `[R]`, while the others go on: the step of these R.

        Optional: an environment without it is reset when all of its episodes are over, so `test` takes longer.
        """
        raise NotImplementedError(f"{self.name} can only be reset as a whole")

    @property
    def restarts(self) -> bool:
        """Whether `restart` is implemented."""
        return has_own("restart", "reset", type(self))


class RulesEnv(VectorEnv):
    """Plays a `Game`.

    Args:
        game: the rules.
    """

    def __init__(self, game: Game) -> None:
        self.game: Game = game
        self.name = type(game).__name__
        self.num_players, self.num_actions, self.max_steps = game.num_players, game.num_actions, game.max_steps
        self.observation_space, self.noop = game.observation_space, game.noop
        self.action_names, self.agent_names, self.goal_names = game.action_names, game.agent_names, game.goal_names
        self.players, self.scripts, self.layout = game.players, game.scripts, game.layout
        self.seat_bounds, self.team_bounds = game.seat_bounds, game.team_bounds
        self._state: Any = None

    @property
    def state(self) -> Any:
        """The game's state, leading L."""
        return self._state

    def reset(self, batch_size: int, generator: torch.Generator) -> Step:
        """Draw `batch_size` initial states."""
        self._state = self.game.reset(batch_size, generator)
        return self._first(self._state)

    def step(self, actions: Tensor) -> Step:
        """Play joint actions, int64 `[L, P]`."""
        before, state = self.game.active(self._state), self._state
        achieved = self.game.realised(state, actions)
        self._state, reward = self.game.step(state, actions)
        active = self.game.active(self._state)
        ended = before & ~active
        terminated = ended & self.game.terminated(self._state)
        return self._step(self._state, active, reward, terminated, ended & ~terminated, achieved)

    def keep(self, index: Tensor) -> None:
        """Keep only the environments `index`, int64 `[R]`."""
        self._state = take(self._state, index)

    def restart(self, index: Tensor, generator: torch.Generator) -> Step:
        """Draw new initial states for the environments `index`, int64 `[R]`."""
        fresh = self.game.reset(len(index), generator)
        self._state = put(self._state, index, fresh)
        return self._first(fresh)

    def _first(self, state: Any) -> Step:
        """Return the step after a reset to `state`."""
        active = self.game.active(state)
        over = torch.zeros_like(active)
        reward = torch.zeros(active.shape, dtype=torch.float32, device=active.device)
        return self._step(state, active, reward, over, over, torch.full(active.shape, NO_GOAL, device=active.device))

    def _step(self, state: Any, active: Tensor, *rest: Tensor) -> Step:
        return Step(self.game.observe(state), self.game.legal(state), active, *rest)


def describe(env: VectorEnv) -> dict[str, Any]:
    """Return the name of a game and its options as plain values: equal only for equal games.

    An option is the attribute of the same name; objects are represented by their `repr` without the address.
    """
    made = env if env.game is None else env.game
    options = {name: getattr(made, name) for name in signature(type(made)).parameters if name in vars(made)}
    return {
        "name": env.name,
        **json.loads(json.dumps(options, default=lambda value: re.sub(" at 0x[0-9a-f]+", "", str(value)))),
    }


def as_env(game: Game | VectorEnv) -> VectorEnv:
    """Return `game` as a `VectorEnv`: a `Game` in a `RulesEnv`, a `VectorEnv` unchanged.

    Raises:
        ConfigError: `game` is neither.
    """
    if isinstance(game, Game):
        return RulesEnv(game)
    if not isinstance(game, VectorEnv):
        raise ConfigError(
            f"the game is {game!r}; expected an instance of Game or VectorEnv: make one, such as "
            "StagHunt('2h1s_4x4'), or wrap a PettingZoo environment in PettingZooEnv"
        )
    return game
