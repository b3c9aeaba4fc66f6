"""PettingZoo's parallel interface for any game: one row of its batch, and no rules here."""

import inspect
import operator
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from pettingzoo import ParallelEnv
from torch import Tensor

from omg_lightning.games.grid.render import Capture, captures_of, frame, text
from omg_lightning.games.base import Game
from omg_lightning.types import ConfigError

Observation = dict[str, NDArray]  # "observation": float32 [C, h, w], ego first; "action_mask": int8 [A]
Infos = dict[str, dict[str, Any]]
_PETTINGZOO_PROBE = "options"  # PettingZoo's own API test resets with {"options": 1}: the one key that is ignored


class GameParallelEnv(ParallelEnv[str, Observation, int]):
    """One episode of a game at a time, played by named agents (`hunter_0`, ...).

    - An agent that has left the board is *terminated* and leaves `agents`. When the episode is over, those still there
      are *truncated* if `max_steps` ended it, and *terminated* if a rule did (such as `steps_after_first_hunt`).
    - What is legal is in the observation and in `infos`, as `action_mask`. A masked action counts as the game's
      `noop`; an integer that is no action at all is an error.
    - `step` needs exactly one action for each of `agents`. An agent that has left acts no more, and is paid no more:
      what a `prosocial` game would still give it goes nowhere.
    - `reset(seed=s)` fixes all that follows, until the next seed: a later `reset()` goes on with the same random
      numbers. Without any seed, the episodes differ from run to run.

    Subclasses name themselves in `metadata` and the keys of an exact layout.

    Args:
        game: the rules; if exact layouts are wanted, with a `place(batch_size, **layout) -> state`.
        render_mode: "rgb_array" (a picture, uint8 `[H, W, 3]`), "ansi" (a string), "human" (printed at every step) or
            None.

    Raises:
        ConfigError: there is no such render mode.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012, PettingZoo declares it without ClassVar
        "name": "game_v0",
        "render_modes": ["human", "rgb_array", "ansi"],
        "render_fps": 3,
        "is_parallelizable": True,
    }
    layout_needs: ClassVar[tuple[str, ...]] = ()
    layout_may_have: ClassVar[tuple[str, ...]] = ()

    def __init__(self, game: Game, render_mode: str | None = None) -> None:
        modes = self.metadata["render_modes"]
        if render_mode is not None and render_mode not in modes:
            raise ConfigError(f"render_mode={render_mode!r}: expected None or one of {modes}; choose one of these")
        self.game, self.render_mode = game, render_mode
        self.possible_agents = [f"{game.agent_name}_{seat}" for seat in range(game.num_players)]
        self.agents: list[str] = []
        self.state_space = spaces.Box(0.0, 1.0, game.observation_shape, np.float32)
        self.observation_spaces = {agent: self._observation_space() for agent in self.possible_agents}
        self.action_spaces = {agent: spaces.Discrete(game.num_actions) for agent in self.possible_agents}
        self._generator = torch.Generator()
        self._generator.seed()
        self._state: Any = None

    def observation_space(self, agent: str) -> spaces.Space:
        """Returns the space of what an agent sees, the same object each time."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space:
        """Returns the space of an agent's actions, the same object each time."""
        return self.action_spaces[agent]

    @property
    def game_state(self) -> Any:
        """The game's own state, with B = 1: for a planner, or for tests."""
        if self._state is None:
            raise RuntimeError(f"{self.metadata['name']} has no episode yet; call reset() first")
        return self._state

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Observation], Infos]:
        """Starts an episode.

        Args:
            seed: fixes this episode and those that follow; None goes on with the random numbers there are.
            options: an exact layout, lists of (row, column) by key, instead of a random one. All needed keys or none.

        Raises:
            ConfigError: the seed is no integer of 0 or more, or the layout is incomplete, impossible or unknown.
        """
        if seed is not None:
            self._generator.manual_seed(_whole("seed", seed, 0, 1 << 63))
        layout = self._layout(options)
        if layout:
            self._state = self.game.place(1, **layout)  # type: ignore[attr-defined]
        else:
            self._state = self.game.reset(1, self._generator)
        self.agents = list(self.possible_agents)
        self._returns = [0.0] * self.game.num_players
        self._captures: list[Capture] = []
        self._print_if_human()
        observations = self._observations()
        return observations, self._infos(observations)

    def step(
        self, actions: Mapping[str, int]
    ) -> tuple[dict[str, Observation], dict[str, float], dict[str, bool], dict[str, bool], Infos]:
        """Plays one action of each agent in `agents`.

        Returns:
            Observations, rewards, terminations, truncations and infos of all who acted.

        Raises:
            RuntimeError: there is no episode: before `reset`, or after its end.
            ConfigError: an action is missing, not an integer or out of range, or for someone not in `agents`.
        """
        joint = self._joint(actions)
        if self.render_mode is not None:
            self._captures = self._find_captures(joint)
        before = self._state
        self._state, rewards = self.game.step(before, joint)
        seats = [self.possible_agents.index(agent) for agent in self.agents]
        earned = {agent: float(rewards[0, seat]) for agent, seat in zip(self.agents, seats, strict=True)}
        for agent, seat in zip(self.agents, seats, strict=True):
            self._returns[seat] += earned[agent]
        observations = self._observations()
        terminations, truncations = self._ends(observations)
        self.agents = [agent for agent in self.agents if not terminations[agent] and not truncations[agent]]
        self._print_if_human()
        return observations, earned, terminations, truncations, self._infos(observations)

    def state(self) -> NDArray[np.float32]:
        """Returns the whole board, float32 `[C, h, w]`: player planes in the order of seats, as seat 0 sees it."""
        return self.game.observe(self.game_state)[0, 0].cpu().numpy().astype(np.float32)

    def render(self) -> NDArray[np.uint8] | str | None:
        """Shows the board as it is, and what has been taken in the last step."""
        if self.render_mode is None:
            warnings.warn("render() without a render_mode shows nothing; give one to parallel_env()", stacklevel=2)
            return None
        board, names, title = self.state(), self.game.plane_names, self._title()
        if self.render_mode == "rgb_array":
            return frame(board, names, title=title, returns=self._returns, captures=self._captures)
        scores = "  ".join(f"{seat}: {value:.1f}" for seat, value in enumerate(self._returns))
        words = f"{title}   {scores}\n{text(board, names)}\n"
        if self.render_mode == "ansi":
            return words
        print(words)
        return None

    def close(self) -> None:
        """Forgets the episode; `reset` starts another."""
        self._state, self.agents = None, []

    def _title(self) -> str:
        return f"step {int(self.game_state.time[0])} of {self.game.max_steps}"

    def _print_if_human(self) -> None:
        if self.render_mode == "human":
            self.render()

    def _observation_space(self) -> spaces.Dict:
        mask = spaces.Box(0, 1, (self.game.num_actions,), np.int8)
        return spaces.Dict(
            {"observation": spaces.Box(0.0, 1.0, self.game.observation_shape, np.float32), "action_mask": mask}
        )

    def _layout(self, options: Mapping[str, Any] | None) -> dict[str, Any]:
        """Checks the options: a complete layout, or empty for a random one."""
        if options is not None and not isinstance(options, Mapping):
            raise ConfigError(f"options={options!r}: expected a dict such as {self._example()}, or None")
        layout = {key: value for key, value in (options or {}).items() if key != _PETTINGZOO_PROBE}
        unknown = [key for key in layout if key not in self.layout_needs + self.layout_may_have]
        missing = [key for key in self.layout_needs if key not in layout] if layout else []
        if unknown or missing:
            what = f"unknown {unknown}" if unknown else f"missing {missing}"
            raise ConfigError(f"options: {what}; an exact layout is a dict such as {self._example()}")
        return layout

    def _example(self) -> str:
        may = "".join(f", '{key}': [] (not needed)" for key in self.layout_may_have)
        return "{" + ", ".join(f"'{key}': [(row, column), ...]" for key in self.layout_needs) + may + "}"

    def _joint(self, actions: Mapping[str, int]) -> Tensor:
        """Checks the actions by name and puts them in seat order, int64 `[1, P]`; `noop` for those who have left."""
        if not self.agents:
            reason = "the episode is over" if self._state is not None else "there is no episode yet"
            raise RuntimeError(f"step() of {self.metadata['name']}: {reason}; call reset() first")
        if not isinstance(actions, Mapping):
            raise ConfigError(f"actions={actions!r}: expected a dict of one action for each of {self.agents}")
        for agent in actions:
            if agent not in self.agents:
                why = "has left the game" if agent in self.possible_agents else "is no agent of this game"
                raise ConfigError(f"actions: {agent!r} {why}; give actions for env.agents, now {self.agents}, only")
        if missing := [agent for agent in self.agents if agent not in actions]:
            raise ConfigError(f"actions: none for {missing}; give one for each of env.agents, now {self.agents}")
        joint = torch.full((1, self.game.num_players), self.game.noop)
        for agent, action in actions.items():
            seat = self.possible_agents.index(agent)
            joint[0, seat] = _whole(f"action of {agent}", action, 0, self.game.num_actions)
        return joint

    def _observations(self) -> dict[str, Observation]:
        """Returns what each of `agents` sees, each in arrays of its own."""
        views = self.game.observe(self._state)[0].cpu().numpy().astype(np.float32)
        masks = self.game.legal(self._state)[0].cpu().numpy().astype(np.int8)
        seats = {agent: self.possible_agents.index(agent) for agent in self.agents}
        return {a: {"observation": views[s].copy(), "action_mask": masks[s].copy()} for a, s in seats.items()}

    def _infos(self, observations: dict[str, Observation]) -> Infos:
        return {agent: {"action_mask": seen["action_mask"].copy()} for agent, seen in observations.items()}

    def _ends(self, observations: dict[str, Observation]) -> tuple[dict[str, bool], dict[str, bool]]:
        """Says who of those who acted is terminated and who truncated."""
        active = self.game.active(self._state)[0].tolist()
        out_of_time = int(self._state.time[0]) >= self.game.max_steps
        terminations, truncations = {}, {}
        for agent, seen in observations.items():
            over = not active[self.possible_agents.index(agent)]
            left = not seen["observation"][0].any()  # plane 0 is the agent itself
            truncations[agent] = over and out_of_time and not left
            terminations[agent] = over and not truncations[agent]
        return terminations, truncations

    def _find_captures(self, joint: Tensor) -> list[Capture]:
        """Says what these actions take, and who takes it, for the picture of the step."""
        realised = self.game.realised(self._state, joint)[0].tolist()
        players = self.state()[: self.game.num_players]  # [P, h, w] in the order of seats
        return captures_of(players, realised, self.game.goal_names, self.game.plane_names)


def checked_kwargs(kind: type, max_cycles: int | None, game_kwargs: dict[str, Any]) -> dict[str, Any]:
    """Checks what a user gave `parallel_env` for the game `kind`: arguments of its constructor, and `max_cycles`.

    Raises:
        ConfigError: an argument is unknown, or `max_cycles` and `max_steps` differ.
    """
    known = list(inspect.signature(kind).parameters)
    if unknown := [name for name in game_kwargs if name not in known]:
        raise ConfigError(f"parallel_env: unknown {unknown}; expected preset, max_cycles or some of {known}")
    if max_cycles is None:
        return game_kwargs
    if game_kwargs.get("max_steps", max_cycles) != max_cycles:
        raise ConfigError(
            f"max_cycles={max_cycles} and max_steps={game_kwargs['max_steps']} mean the same; give one of them"
        )
    return {**game_kwargs, "max_steps": max_cycles}


def _whole(what: str, value: Any, least: int, end: int) -> int:
    """Returns an integer of any library's kind if `least <= value < end`, and complains otherwise."""
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise ConfigError(f"{what}: got {value!r}; expected an integer, {least} to {end - 1}") from None
    if not least <= number < end:
        raise ConfigError(f"{what}: got {number}; expected an integer, {least} to {end - 1}")
    return number
