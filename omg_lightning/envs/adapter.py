"""Translates between one PettingZoo environment and arrays in seat order; `PettingZooEnv` and `CopyableGame` use it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.spaces.utils import flatten, flatten_space
from numpy.typing import NDArray
from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils.conversions import (
    aec_to_parallel,
    turn_based_aec_to_parallel,
    turn_based_aec_to_parallel_wrapper,
)

from omg_lightning.games.checks import whole
from omg_lightning.spaces import Space, check_space, dtype_of, is_binary
from omg_lightning.types import ConfigError
from omg_lightning.users_code import place_of

DEFAULT_MAX_STEPS = 1000  # if neither the user nor the environment sets a limit
MASK = "action_mask"  # PettingZoo's key, in a Dict observation or in the infos


class Row(NamedTuple):
    """The result of a reset or a step of one environment, in seat order."""

    observation: NDArray[Any]  # [P, *shape] a seat that has left keeps its last view
    legal: NDArray[np.bool_]  # [P, A]
    active: NDArray[np.bool_]  # [P]
    left: NDArray[np.bool_]  # [P] was active before, and is no longer
    reward: NDArray[np.float32]  # [P]
    terminated: NDArray[np.bool_]  # [P] with this step
    truncated: NDArray[np.bool_]  # [P] with this step


def load(make: str, kwargs: Mapping[str, Any]) -> ParallelEnv:
    """Make one environment with PettingZoo's parallel interface.

    An AEC environment is converted: by `aec_to_parallel` if its metadata say `is_parallelizable`, and else by
    `turn_based_aec_to_parallel`, so that one step is the turn of one agent.

    Args:
        make: dotted path of a function that returns the environment.
        kwargs: its arguments.

    Raises:
        ConfigError: the function cannot be imported, fails, or returns no PettingZoo environment.
    """
    function = _import(make)
    with blame(make, f"the call with kwargs {dict(kwargs)}"):
        env = function(**kwargs)
        if isinstance(env, AECEnv):
            parallel = env.metadata.get("is_parallelizable", False)
            env = aec_to_parallel(env) if parallel else turn_based_aec_to_parallel(env)
    if not isinstance(env, ParallelEnv):
        raise ConfigError(
            f"{make} returned {type(env).__name__}; expected a pettingzoo ParallelEnv or AECEnv: give the path of "
            "such a function, for example mpe2.simple_tag_v3.parallel_env"
        )
    return env


def short_name(make: str) -> str:
    """Return the name of an environment for messages: the path without its usual last word."""
    module, _, last = make.rpartition(".")
    return module if last in ("parallel_env", "env", "raw_env") else make


def _import(make: str) -> Any:
    """Import the function at a dotted path."""
    module, _, last = make.rpartition(".") if isinstance(make, str) else ("", "", "")
    if not module or not all(part.isidentifier() for part in make.split(".")):
        raise ConfigError(f"make={make!r}: give the dotted path of a function, such as mpe2.simple_tag_v3.parallel_env")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(_missing(make, module, error.name or module)) from error
    except Exception as error:
        raise ConfigError(f"make={make}: the import of {module} failed with {_one_line(error)}") from error
    if not callable(getattr(found, last, None)):
        raise ConfigError(f"make={make}: {module} has no function {last}: correct the name")
    return getattr(found, last)


def _missing(make: str, module: str, name: str) -> str:
    """Return a message with the package to install, or with the wrong name."""
    package = name.partition(".")[0]
    if package == module.partition(".")[0] and package != name:
        return f"make={make}: {name.rpartition('.')[0]} has no module {name.rpartition('.')[2]}; check the spelling"
    family = module.split(".")[1] if module.startswith("pettingzoo.") else ""
    wanted = f"'pettingzoo[{family}]'" if family else package
    return (
        f"make={make} needs the package {package}, which is not installed: pip install {wanted} (or correct the path)"
    )


@contextmanager
def blame(name: str, what: str) -> Iterator[None]:
    """Turn an error in third-party code into a one-line ConfigError that names the environment."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        place = place_of(error)
        where = "" if place is None else f" in {place.method} ({place.line})"
        raise ConfigError(
            f"{name}: {what} failed inside the environment with {_one_line(error)}{where}; check its arguments (kwargs)"
        ) from error


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


class Adapter:
    """The seats, spaces and masks of an environment; the methods get the environment as an argument.

    - Seats are the agents in the order of `possible_agents`, or of `agents` after a reset if it is missing.
    - Views: a Dict loses its `action_mask`; if a single entry remains, this is the view. If all agents have a `Box`
      or `MultiBinary` of the same shape (rank 1 or more), views keep that shape. Else they are flattened as by
      gymnasium, and padded with zeros to the longest. The dtype is NumPy's common type, so that values are unchanged.
    - Actions: `Discrete` only, padded to the largest; action a of a seat is `start + a` of its space. Masks come from
      the observation's `action_mask`, or else the info's; else all actions of the agent are legal.
    - A turn-based game gets one more action, `wait`: the only legal one of agents that are not on turn.

    Args:
        name: of the environment, for messages.
        env: one environment, to read agents and spaces.
        kwargs: its arguments.
        max_steps: see `PettingZooEnv`.
        probe: reset `env` once, so that errors are raised now.

    Raises:
        ConfigError: the agents, a space or the first observations do not fit.
    """

    def __init__(
        self, name: str, env: ParallelEnv, kwargs: Mapping[str, Any], max_steps: int | None, probe: bool = True
    ) -> None:
        self.name = name
        self.turn_based = isinstance(env, turn_based_aec_to_parallel_wrapper)
        with blame(name, "asking for its agents and spaces"):
            self._agents = [
                _Agent(name, key, env.observation_space(key), env.action_space(key)) for key in _keys(name, env)
            ]
            self.max_steps = self._limit(env, kwargs, max_steps)
        self.keys = [agent.key for agent in self._agents]  # in seat order
        self.num_players = len(self._agents)
        self.agent_names = tuple(str(agent.key) for agent in self._agents)
        actions = max(agent.num_actions for agent in self._agents)
        self.action_names = tuple(f"action_{action}" for action in range(actions)) + ("wait",) * self.turn_based
        self.num_actions = len(self.action_names)
        self.noop = actions if self.turn_based else 0
        self.observation_space = _common_space(name, [agent.space for agent in self._agents])
        self._dtype = torch.zeros((), dtype=dtype_of(self.observation_space)).numpy().dtype
        if probe:
            self.reset(env, 0)

    def reset(self, env: ParallelEnv, seed: int) -> Row:
        """Start an episode of `env`."""
        views = np.zeros((self.num_players, *(self.observation_space.shape or ())), self._dtype)
        no_seat = np.zeros(self.num_players, dtype=bool)
        with blame(self.name, f"reset(seed={seed})"):
            observations, infos = env.reset(seed=seed)
            here = self._here(env)
            if not here.any():
                raise ConfigError(
                    f"{self.name}: env.agents is empty after reset; expected some of {list(self.agent_names)}: correct "
                    "reset of the environment"
                )
            self._read(views, observations, here)
            legal = self._legal(env, observations, infos, here)
        return Row(views, legal, here, no_seat, no_seat.astype(np.float32), no_seat, no_seat)

    def show(self, env: ParallelEnv, observations: Mapping[Any, Any], infos: Mapping[Any, Any] | None) -> Row:
        """Return the row of `observations`, the last ones that `env` returned.

        For an active agent without an observation, the view is 0, and all its actions count as legal.
        """
        views = np.zeros((self.num_players, *(self.observation_space.shape or ())), self._dtype)
        no_seat = np.zeros(self.num_players, dtype=bool)
        with blame(self.name, "asking what its agents see"):
            here = self._here(env)
            seen = here & np.array([agent.key in observations for agent in self._agents])
            self._read(views, observations, seen)
            legal = self._legal(env, observations, infos, seen)
            for seat in np.flatnonzero(here & ~seen):
                legal[seat, : self._agents[seat].num_actions] = True
        return Row(views, legal, here, no_seat, no_seat.astype(np.float32), no_seat, no_seat)

    def numbered(self, actions: Mapping[Any, Any]) -> list[int]:
        """Return the agents' actions in this project's numbering, one per seat; `noop` for a missing one."""
        if unknown := [key for key in actions if key not in self.keys]:
            raise ConfigError(
                f"{self.name}: {unknown[0]!r} is not an agent; expected actions of {list(self.agent_names)}"
            )
        return [
            self.noop if actions.get(agent.key) is None else int(actions[agent.key]) - agent.first_action
            for agent in self._agents
        ]

    def native(self, seat: int, action: int) -> int | None:
        """Return a seat's action in the environment's numbering; None for waiting until it is on turn."""
        return None if self.turn_based and action == self.noop else action + self._agents[seat].first_action

    def step(self, env: ParallelEnv, row: Row, time: int, actions: Sequence[int]) -> Row:
        """Play the step after `row`, the last result of `env`.

        Args:
            env: changed in place.
            row: unchanged.
            time: the number of steps before this one; step `max_steps` truncates all remaining agents.
            actions: P legal actions; the environment gets only those of active seats, and no `wait`.

        Raises:
            ConfigError: the environment fails, or breaks PettingZoo's contract.
        """
        acts = [(seat, agent) for seat, agent in enumerate(self._agents) if row.active[seat]]
        given = {
            agent.key: actions[seat] + agent.first_action
            for seat, agent in acts
            if not (self.turn_based and actions[seat] == self.noop)
        }
        views, reward = row.observation.copy(), np.zeros(self.num_players, np.float32)
        terminated, truncated = np.zeros((2, self.num_players), dtype=bool)
        with blame(self.name, f"step({given})"):
            observations, rewards, terminations, truncations, infos = env.step(given)
            here = self._here(env)
            for seat, agent in acts:
                reward[seat] = self._of(rewards, agent, "reward")
                terminated[seat] = self._of(terminations, agent, "termination")
                truncated[seat] = self._of(truncations, agent, "truncation")
            terminated |= row.active & ~here & ~truncated  # left without termination or truncation
            truncated &= ~terminated
            ended = terminated | truncated
            left = row.left | ended
            active = here & ~left
            if active.any() and (here & left).any():
                self._refuse(here & left, ended)
            seen = np.array([agent.key in observations for agent in self._agents])
            self._read(views, observations, active | (ended & seen))
            if time + 1 >= self.max_steps:
                truncated, left, active = truncated | active, left | active, np.zeros_like(active)
            legal = self._legal(env, observations, infos, active)
        return Row(views, legal, active, left, reward, terminated, truncated)

    def _here(self, env: ParallelEnv) -> NDArray[np.bool_]:
        """Return which seats are in `env.agents`, bool `[P]`."""
        present, known = set(env.agents), {agent.key for agent in self._agents}
        if unknown := present - known:
            raise ConfigError(
                f"{self.name}: agent {unknown.pop()!r} appeared, which is none of {list(self.agent_names)}; expected "
                "all agents in possible_agents: add it there"
            )
        return np.array([agent.key in present for agent in self._agents])

    def _of(self, values: Mapping[Any, Any], agent: _Agent, what: str) -> Any:
        if agent.key not in values:
            raise ConfigError(
                f"{self.name}: step returned no {what} of {agent.key}, which acted; expected one for each agent that "
                "acted: correct step of the environment"
            )
        return values[agent.key]

    def _refuse(self, present: NDArray[np.bool_], ended: NDArray[np.bool_]) -> None:
        """Raise ConfigError: a seat that has left is in `env.agents`."""
        seat = int(present.argmax())
        how = "ended with this step but is still in env.agents" if ended[seat] else "left and came back to env.agents"
        raise ConfigError(
            f"{self.name}: {self.agent_names[seat]} {how}; expected an agent that ends to leave env.agents for the rest"
            " of the episode: correct the environment, or list all later agents in possible_agents"
        )

    def _read(self, views: NDArray[Any], observations: Mapping[Any, Any], who: NDArray[np.bool_]) -> None:
        """Write the observations of the seats `who` into `views` `[P, *shape]`."""
        for seat in np.flatnonzero(who):
            agent = self._agents[seat]
            if agent.key not in observations:
                raise ConfigError(
                    f"{self.name}: no observation of {agent.key}, which is in env.agents; expected one for each agent: "
                    "correct reset and step of the environment"
                )
            value = agent.view(observations[agent.key])
            out = views[seat] if value.shape == views[seat].shape else views[seat][: value.size]
            value = value.reshape(out.shape)
            out[...] = value
            if out.dtype.kind != "f" and not np.array_equal(out, value):
                raise ConfigError(
                    f"{self.name}: {agent.key} observes {value[out != value][0]}, outside of its observation_space; "
                    f"expected values of {agent.space}: correct the space or the observation"
                )

    def _legal(
        self,
        env: ParallelEnv,
        observations: Mapping[Any, Any],
        infos: Mapping[Any, Any] | None,
        active: NDArray[np.bool_],
    ) -> NDArray[np.bool_]:
        """Return the legal actions, bool `[P, A]`: only `noop` for a seat that is not active or not on turn."""
        legal = np.zeros((self.num_players, self.num_actions), dtype=bool)
        on_turn = env.aec_env.agent_selection if self.turn_based and active.any() else None
        for seat, agent in enumerate(self._agents):
            if not active[seat] or (self.turn_based and agent.key != on_turn):
                legal[seat, self.noop] = True
                continue
            legal[seat, : agent.num_actions] = agent.mask(observations[agent.key], (infos or {}).get(agent.key))
            if not legal[seat].any():
                raise ConfigError(
                    f"{self.name}: the action_mask of {agent.key} allows no action; expected one for each agent "
                    "in env.agents: correct the mask"
                )
        return legal

    def _limit(self, env: ParallelEnv, kwargs: Mapping[str, Any], given: int | None) -> int:
        """Return `max_steps`: the given one, or the environment's own limit, counted in turns if it is turn-based."""
        if given is not None:
            return whole("max_steps", given, 1)
        for name in ("max_cycles", "max_steps"):
            for found in (kwargs.get(name), getattr(env.unwrapped, name, None)):
                if isinstance(found, Integral) and not isinstance(found, bool) and int(found) >= 1:
                    return int(found) * (len(self._agents) if self.turn_based else 1)
        return DEFAULT_MAX_STEPS


class _Agent:
    """One agent of an environment: its key there, its view and its actions."""

    def __init__(self, name: str, key: Any, view: spaces.Space, actions: spaces.Space) -> None:
        if not isinstance(actions, spaces.Discrete):
            raise ConfigError(
                f"{name}: the action_space of {key} is {actions}; expected Discrete: choose discrete actions where the "
                "environment has them (of mpe2: kwargs {continuous_actions: false})"
            )
        self.name, self.key = name, key
        self.num_actions, self.first_action = int(actions.n), int(actions.start)
        self._entry: str | None = None  # key of the only entry of a Dict besides the mask
        if isinstance(view, spaces.Dict):
            rest = {entry: space for entry, space in view.spaces.items() if entry != MASK}
            if len(rest) == 1:
                self._entry, view = next(iter(rest.items()))
            else:
                view = spaces.Dict(rest)
        self._source = view
        self._plain = isinstance(view, spaces.Box | spaces.MultiBinary)
        try:
            self.space: spaces.Space = view if self._plain else flatten_space(view)
        except NotImplementedError:
            self.space = view  # `_common_space` raises the error

    def view(self, observation: Any) -> NDArray[Any]:
        """Return an observation without its mask, in the shape of `space`."""
        if self._entry is not None:
            observation = observation[self._entry]
        elif isinstance(observation, Mapping):
            observation = {entry: value for entry, value in observation.items() if entry != MASK}
        # gymnasium's `flatten` would silently cast a Box, so a Box is used unchanged
        value = np.asarray(observation if self._plain else flatten(self._source, observation))
        if value.shape != self.space.shape:
            raise ConfigError(
                f"{self.name}: {self.key} observes an array of shape {value.shape}; expected {self.space.shape}, as "
                "its observation_space says: correct the space or the observation"
            )
        return value if value.ndim else value.reshape(1)

    def mask(self, observation: Any, info: Any) -> NDArray[np.bool_]:
        """Return which of its own actions are legal, bool `[num_actions]`."""
        mask = observation.get(MASK) if isinstance(observation, Mapping) else None
        if mask is None and isinstance(info, Mapping):
            mask = info.get(MASK)
        found = np.ones(self.num_actions, dtype=bool) if mask is None else np.asarray(mask).astype(bool)
        if found.shape != (self.num_actions,):
            raise ConfigError(
                f"{self.name}: the action_mask of {self.key} has shape {found.shape}; expected {(self.num_actions,)}, "
                "one entry for each action: correct the mask"
            )
        return found


def _keys(name: str, env: ParallelEnv) -> list[Any]:
    """Return the agents in seat order."""
    if possible := getattr(env, "possible_agents", None):
        return list(possible)
    found = []
    for seed in (0, 1):
        env.reset(seed=seed)
        found.append(list(env.agents))
    if found[0] != found[1] or not found[0]:
        raise ConfigError(
            f"{name} has no possible_agents, and its agents after two resets are {found[0]} and {found[1]}; expected "
            "the same agents in each episode: set possible_agents in the environment"
        )
    return found[0]


def _common_space(name: str, views: Sequence[spaces.Space]) -> Space:
    """Return a space for the views of all agents: their shape if it is the same, else a vector for the longest."""
    for view in views:
        if not isinstance(view, spaces.Box | spaces.MultiBinary):
            raise ConfigError(
                f"{name}: an observation_space is {view}, which gymnasium cannot flatten to a Box; expected Box, "
                "Discrete, MultiBinary, MultiDiscrete, or Tuple or Dict of them: wrap the environment"
            )
    shapes = [tuple(view.shape or ()) for view in views]
    same = len(set(shapes)) == 1 and shapes[0]
    shape = shapes[0] if same else (max(int(np.prod(one)) for one in shapes),)
    dtype = np.result_type(*(_number_type(view) for view in views))

    def padded(bound: NDArray[Any]) -> NDArray[Any]:
        flat = np.zeros(int(np.prod(shape)), dtype)  # padding is 0
        flat[: bound.size] = bound.ravel()
        return flat.reshape(shape)

    boxes = [view if isinstance(view, spaces.Box) else spaces.Box(0, 1, view.shape, np.int8) for view in views]
    low = np.minimum.reduce([padded(box.low) for box in boxes])
    high = np.maximum.reduce([padded(box.high) for box in boxes])
    space = check_space(spaces.Box(low, high, dtype=dtype.type), name)
    return spaces.MultiBinary(shape) if is_binary(space) else space


def _number_type(view: spaces.Space) -> np.dtype[Any]:
    """Return a dtype that holds the values of a space, and that torch supports."""
    dtype = np.dtype(view.dtype)
    if dtype.kind == "b":
        return np.dtype(np.int8)
    wide = dtype.kind == "u" and dtype.itemsize > 1  # torch supports few unsigned integers but uint8
    return np.promote_types(dtype, np.int8) if wide else dtype
