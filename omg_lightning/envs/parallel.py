"""PettingZoo's parallel interface for any game: it plays one row of the game's batch, and has no rules of its own."""

import inspect
import operator
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from pettingzoo import ParallelEnv
from torch import Tensor

from omg_lightning.games.base import Game, replace_illegal
from omg_lightning.games.grid.render import Capture, amount, captures_of, frame, text
from omg_lightning.spaces import check_space, is_binary
from omg_lightning.types import ConfigError

Observation = dict[str, NDArray]  # "observation": [*shape], ego first; "action_mask": int8 [A]
Infos = dict[str, dict[str, Any]]
_PETTINGZOO_PROBE = "options"  # PettingZoo's own API test resets with {"options": 1}: the one key that is ignored


class Moved(NamedTuple):
    """A step of the episode."""

    state: Any  # of the game before it, with B = 1
    actions: Tensor  # int64 [1, P] joint actions as given: an illegal one counts as the game's `noop`


class GameParallelEnv(ParallelEnv[str, Observation, int]):
    """Play one episode of a game at a time, with named agents (`hunter_0`, ...).

    - An observation is a dict: `observation` is the agent's own view, `action_mask` marks the legal actions with 1.
      Views of bits are float32; other views have the space of the game.
    - `infos` holds the mask, too. An illegal action counts as the game's `noop`; an integer out of range is an
      error.
    - `step` needs one action for each of `agents`. It ignores actions of agents that have left, so a client may always
      pass one for each of `possible_agents`. An agent that has left earns nothing more, not even in a `prosocial` game.
    - An agent that has left is *terminated* if the rules ended its episode, and *truncated* if `max_steps` did; see
      `Game.terminated`.
    - `reset(seed=s)` fixes this episode and all that follow until the next seed. Without any seed, episodes differ from
      run to run.

    A subclass sets the `name` in `metadata`, and the keys and entries of an exact start if the game has a `place`.

    Attributes:
        game: the rules, which a search can step from `game_state`.
        history: the steps of this episode so far. `reset` starts another list, so a caller that keeps this one can read
            a whole episode.

    Args:
        game: the rules. Exact starts need a method `place(batch_size, **options) -> state`.
        render_mode: "ansi" (`render` returns text), "human" (text is printed at every step), "rgb_array" (`render`
            returns a picture, uint8 `[H, W, 3]`; games on a grid only), or None.

    Raises:
        ConfigError: the game has no such render mode, or its observation space is neither `Box` nor `MultiBinary`.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012, PettingZoo declares it without ClassVar
        "name": "game_v0",
        "render_modes": ["human", "rgb_array", "ansi"],
        "render_fps": 3,
        "is_parallelizable": True,
    }
    layout_needs: ClassVar[tuple[str, ...]] = ()
    layout_may_have: ClassVar[tuple[str, ...]] = ()
    layout_entry: ClassVar[str] = "(row, column)"

    def __init__(self, game: Game, render_mode: str | None = None) -> None:
        if game.layout is None:
            modes = [mode for mode in self.metadata["render_modes"] if mode != "rgb_array"]
            self.metadata = {**self.metadata, "render_modes": modes}
        modes = self.metadata["render_modes"]
        if render_mode is not None and render_mode not in modes:
            why = ", because only games on a grid have pictures" if render_mode == "rgb_array" else ""
            raise ConfigError(
                f"render_mode={render_mode!r}: {game.name} expects one of {modes}{why}; choose one, or None"
            )
        self.game, self.render_mode = game, render_mode
        self.possible_agents = list(game.agent_names)
        self.agents: list[str] = []
        self._view_space = _view_space(game)
        self.state_space = self._view_space if game.layout is not None else _stacked(self._view_space, game.num_players)
        self.observation_spaces = {agent: self._observation_space() for agent in self.possible_agents}
        self.action_spaces = {agent: spaces.Discrete(game.num_actions) for agent in self.possible_agents}
        self._generator = torch.Generator()
        self._generator.seed()
        self._state: Any = None
        self.history: list[Moved] = []

    def observation_space(self, agent: str) -> spaces.Space:
        """Return the space of an agent's observations, the same object each time."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space:
        """Return the space of an agent's actions, the same object each time."""
        return self.action_spaces[agent]

    @property
    def game_state(self) -> Any:
        """The game's own state, with B = 1: a search can start from it."""
        if self._state is None:
            raise RuntimeError(f"{self.metadata['name']} has no episode yet; call reset() first")
        return self._state

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Observation], Infos]:
        """Start an episode.

        Args:
            seed: fixes this episode and those that follow; None continues the current random stream.
            options: an exact start, lists of `layout_entry` by key, instead of a random one. Give all needed keys or
                none.

        Raises:
            ConfigError: the seed is not an integer of 0 or more, or the options are incomplete, impossible or unknown.
        """
        if seed is not None:
            self._generator.manual_seed(_whole("seed", seed, 0, 1 << 63))
        start = self._exact_start(options)
        if start:
            self._state = self.game.place(1, **start)  # type: ignore[attr-defined]
        else:
            self._state = self.game.reset(1, self._generator)
        self.agents, self.history = list(self.possible_agents), []
        self._returns = [0.0] * self.game.num_players
        self._captures: list[Capture] = []
        self._played: dict[int, str] = {}
        self._print_if_human()
        observations = self._observations()
        return observations, self._infos(observations)

    def step(
        self, actions: Mapping[str, int]
    ) -> tuple[dict[str, Observation], dict[str, float], dict[str, bool], dict[str, bool], Infos]:
        """Play one action of each agent in `agents`; actions of agents that have left are ignored.

        Returns:
            Observations, rewards, terminations, truncations and infos of the agents that acted.

        Raises:
            RuntimeError: no episode is running: before `reset`, or after the end.
            ConfigError: an action is missing, not an integer or out of range, or its agent is not in `possible_agents`.
        """
        joint = self._joint(actions)
        if self.render_mode is not None:
            self._note(joint)
        self.history.append(Moved(self._state, joint))
        self._state, rewards = self.game.step(self._state, joint)
        seats = self._seats()
        earned = {agent: float(rewards[0, seat]) for agent, seat in seats.items()}
        for agent, seat in seats.items():
            self._returns[seat] += earned[agent]
        observations = self._observations()
        terminations, truncations = self._ends()
        self.agents = [agent for agent in self.agents if not terminations[agent] and not truncations[agent]]
        self._print_if_human()
        return observations, earned, terminations, truncations, self._infos(observations)

    def state(self) -> NDArray:
        """Return a global view of the game, in the dtype of the observations.

        On a grid every agent sees the whole board, so this is the view `[*shape]` of seat 0. In any other game it is
        the views of all seats, `[P, *shape]`, because one seat's view may not show everything.
        """
        views = self._views()
        return views if self.game.layout is None else views[0]

    def render(self) -> NDArray[np.uint8] | str | None:
        """Show the current state and the last step, as `render_mode` says."""
        if self.render_mode is None:
            warnings.warn("render() without a render_mode shows nothing; give one to parallel_env()", stacklevel=2)
            return None
        layout, title = self.game.layout, f"step {int(self.game_state.time[0])} of {self.game.max_steps}"
        if self.render_mode == "rgb_array" and layout is not None:
            names = layout.plane_names
            return frame(self.state(), names, title=title, returns=self._returns, captures=self._captures)
        words = f"{title}   {_by_seat({seat: amount(value) for seat, value in enumerate(self._returns)})}"
        if layout is not None:
            words += f"\n{text(self.state(), layout.plane_names)}"
        elif self._played:
            words += f"   played {_by_seat(self._played)}"
        words += "\n"
        if self.render_mode == "ansi":
            return words
        print(words)
        return None

    def close(self) -> None:
        """Drop the episode; `reset` starts another one."""
        self._state, self.agents = None, []

    def _print_if_human(self) -> None:
        if self.render_mode == "human":
            self.render()

    def _observation_space(self) -> spaces.Dict:
        mask = spaces.Box(0, 1, (self.game.num_actions,), np.int8)
        return spaces.Dict({"observation": self._view_space, "action_mask": mask})

    def _exact_start(self, options: Mapping[str, Any] | None) -> dict[str, Any]:
        """Check the options: a complete start, or empty for a random one."""
        if options is not None and not isinstance(options, Mapping):
            raise ConfigError(f"options={options!r}: expected a dict, or None; {self._example()}")
        start = {key: value for key, value in (options or {}).items() if key != _PETTINGZOO_PROBE}
        unknown = [key for key in start if key not in self.layout_needs + self.layout_may_have]
        missing = [key for key in self.layout_needs if key not in start] if start else []
        if unknown or missing:
            what = f"unknown {unknown}" if unknown else f"missing {missing}"
            raise ConfigError(f"options: {what}; {self._example()}")
        return start

    def _example(self) -> str:
        if not self.layout_needs:
            return f"{self.metadata['name']} has no options: omit them"
        may = "".join(f", '{key}': [] (not needed)" for key in self.layout_may_have)
        needs = ", ".join(f"'{key}': [{self.layout_entry}, ...]" for key in self.layout_needs)
        return f"an exact layout is a dict such as {{{needs}{may}}}"

    def _joint(self, actions: Mapping[str, int]) -> Tensor:
        """Check the actions and put them in seat order, int64 `[1, P]`; seats that have left play `noop`."""
        if not self.agents:
            reason = "the episode is over" if self._state is not None else "there is no episode yet"
            raise RuntimeError(f"step() of {self.metadata['name']}: {reason}; call reset() first")
        if not isinstance(actions, Mapping):
            raise ConfigError(f"actions={actions!r}: expected a dict of one action for each of {self.agents}")
        if unknown := [agent for agent in actions if agent not in self.possible_agents]:
            raise ConfigError(
                f"actions: {unknown[0]!r} is not an agent of this game; give actions for env.agents, now {self.agents}"
            )
        if missing := [agent for agent in self.agents if agent not in actions]:
            raise ConfigError(f"actions: got none for {missing}; give one for each of env.agents, now {self.agents}")
        joint = torch.full((1, self.game.num_players), self.game.noop)
        for agent, seat in self._seats().items():
            joint[0, seat] = _whole(f"action of {agent}", actions[agent], 0, self.game.num_actions)
        return joint

    def _seats(self) -> dict[str, int]:
        """Return the seat of each of `agents`."""
        return {agent: self.possible_agents.index(agent) for agent in self.agents}

    def _views(self) -> NDArray:
        """Return every seat's view in the agents' space, `[P, *shape]`."""
        return self.game.observe(self.game_state)[0].cpu().numpy().astype(self._view_space.dtype)

    def _observations(self) -> dict[str, Observation]:
        """Return the observation of each of `agents`, as copies."""
        views, masks = self._views(), self.game.legal(self._state)[0].cpu().numpy().astype(np.int8)
        return {
            agent: {"observation": np.array(views[seat]), "action_mask": masks[seat]}
            for agent, seat in self._seats().items()
        }

    def _infos(self, observations: dict[str, Observation]) -> Infos:
        return {agent: {"action_mask": seen["action_mask"].copy()} for agent, seen in observations.items()}

    def _ends(self) -> tuple[dict[str, bool], dict[str, bool]]:
        """Return which of `agents` are terminated and which are truncated."""
        active = self.game.active(self._state)[0].tolist()
        by_rule = self.game.terminated(self._state)[0].tolist()
        seats = self._seats()
        terminations = {agent: not active[seat] and by_rule[seat] for agent, seat in seats.items()}
        truncations = {agent: not active[seat] and not by_rule[seat] for agent, seat in seats.items()}
        return terminations, truncations

    def _note(self, joint: Tensor) -> None:
        """Store what `render` shows about the step that `joint`, int64 `[1, P]`, plays next."""
        game = self.game
        if game.layout is None:
            played = replace_illegal(joint, game.legal(self._state), game.noop)[0].tolist()
            self._played = {seat: game.action_names[played[seat]] for seat in self._seats().values()}
            return
        realised = game.realised(self._state, joint)[0].tolist()
        self._captures = captures_of(self.state(), realised, game.goal_names, game.layout.plane_names)


def checked_kwargs(kind: type, max_cycles: int | None, game_kwargs: dict[str, Any]) -> dict[str, Any]:
    """Check the keyword arguments that a user gave `parallel_env` for the game class `kind`.

    Returns:
        Arguments of the constructor of `kind`, `max_cycles` among them as `max_steps`.

    Raises:
        ConfigError: an argument is unknown, or `max_cycles` and `max_steps` differ.
    """
    known = list(inspect.signature(kind).parameters)
    if unknown := [name for name in game_kwargs if name not in known]:
        raise ConfigError(f"parallel_env: unknown {unknown}; expected {', '.join(known)} or max_cycles")
    if max_cycles is None:
        return game_kwargs
    if game_kwargs.get("max_steps", max_cycles) != max_cycles:
        raise ConfigError(
            f"max_cycles={max_cycles} and max_steps={game_kwargs['max_steps']} mean the same; give one of them"
        )
    return {**game_kwargs, "max_steps": max_cycles}


def _view_space(game: Game) -> spaces.Box:
    """Return the space of the agents' views: bits as float32, which networks read; else the game's own space."""
    space = check_space(game.observation_space, game.name)
    if isinstance(space, spaces.MultiBinary) or is_binary(space):
        return spaces.Box(0.0, 1.0, space.shape, np.float32)
    return space


def _stacked(space: spaces.Box, num_players: int) -> spaces.Box:
    """Return the space of the views of all seats, `[P, *shape]`."""
    return spaces.Box(np.stack([space.low] * num_players), np.stack([space.high] * num_players), dtype=space.dtype)


def _by_seat(values: Mapping[int, str]) -> str:
    """Write `0: x  1: y`."""
    return "  ".join(f"{seat}: {value}" for seat, value in values.items())


def _whole(what: str, value: Any, least: int, end: int) -> int:
    """Return `value`, an integer of any library, if `least <= value < end`; raise ConfigError otherwise."""
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise ConfigError(f"{what}: got {value!r}; expected an integer, {least} to {end - 1}") from None
    if not least <= number < end:
        raise ConfigError(f"{what}: got {number}; expected an integer, {least} to {end - 1}")
    return number
