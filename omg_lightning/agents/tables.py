"""Adapters from each kind of environment to an agent's observations: one `Table` each, with one interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pettingzoo import AECEnv, ParallelEnv
from torch import Tensor

from omg_lightning.envs.adapter import Adapter
from omg_lightning.envs.base import RulesEnv, Step, VectorEnv
from omg_lightning.envs.parallel import GameParallelEnv, Moved
from omg_lightning.games import Game
from omg_lightning.search.tree import map_state
from omg_lightning.types import NO_GOAL, ConfigError


class Table(ABC):
    """An environment from the perspective of one seat, with the observations of all seats, for B episodes.

    Attributes:
        env: names, sizes and, for a search, the rules and the state.
        single: there is one episode, so actions are plain numbers.
        live: the environment's views can be read at any time, without an observation from the user.
        shows_after: `after` returns the next views of all seats.
        whole: the last step had the views of all seats, not only the own one.
        same_rules: `env` describes its rules completely, so that they can be compared with those of the training.
    """

    env: VectorEnv
    single: bool = False
    live: bool = False
    shows_after: bool = True
    whole: bool = True
    same_rules: bool = True

    @abstractmethod
    def look(self, given: Any, legal: Any, seat: int) -> Step:
        """Return the current views of all seats, from the user's arguments of `act`.

        Args:
            given: depends on the kind of environment.
            legal: a mask of the own legal actions, or None.
            seat: the own one.
        """

    def missed(self, seen: int) -> Sequence[Moved]:
        """Return the steps of the episode after the first `seen`, if the environment records them."""
        return ()

    def restart(self) -> None:  # noqa: B027  nothing to forget, by default
        """Accept any step at the next `look`: it starts an episode, or goes back in one."""

    def joint(self, actions: Any) -> Tensor:
        """Return joint actions, int64 `[B, P]`, from the user's arguments of `observe`."""
        return torch.as_tensor(actions)

    @abstractmethod
    def after(self, actions: Tensor, found: Any) -> Step:
        """Return the step that joint `actions`, int64 `[B, P]`, led to; `found` is the outcome as the user knows it."""

    def native(self, action: int, seat: int) -> int | None:
        """Return an action as the environment numbers it."""
        return action


class Board(RulesEnv):
    """A game whose state the caller holds.

    Args:
        game: the rules.
        device: of the state.
    """

    def __init__(self, game: Game, device: torch.device) -> None:
        super().__init__(game)
        self._device = device

    def put(self, state: Any) -> Step:
        """Set the state and return its views."""
        self._state = map_state(lambda x: x.to(self._device), state)
        return self._first(self._state)


class GameTable(Table):
    """B states of a game, which the user steps: `act(state)`, `observe(actions)`."""

    env: Board

    def __init__(self, game: Game, batch_size: int, device: torch.device) -> None:
        self.env, self.batch_size = Board(game, device), batch_size
        self._expected: Tensor | None = None  # int64 [B] the time of the next state

    def look(self, given: Any, legal: Any, seat: int) -> Step:
        """Look at a state of the game."""
        time = getattr(given, "time", None)
        if not isinstance(time, Tensor) or len(time) != self.batch_size:
            got = f"{len(time)} states" if isinstance(time, Tensor) else f"a {type(given).__name__}"
            raise ConfigError(
                f"act got {got}; expected the state of {self.env.name} in {self.batch_size} copies, as reset and "
                "step of the game return it: pass that state"
            )
        step = self.env.put(given)
        now = self.env.state.time
        if self._expected is not None and not bool(((now == self._expected) | ~step.active.any(-1)).all()):
            raise ConfigError(
                f"act got a state after {int(now.max())} steps, but the agent expected {int(self._expected.max())}: "
                "call agent.observe(actions) after each step, or agent.rewind(steps)"
            )
        self._expected = now
        return step

    def restart(self) -> None:
        """Accept any state next."""
        self._expected = None

    def after(self, actions: Tensor, found: Any) -> Step:
        """Step the rules."""
        step = self.env.step(actions)
        self._expected = self.env.state.time
        return step


class OwnTable(Table):
    """One of this project's games in PettingZoo's interface: `act(observation)`; it records its own history."""

    env: Board
    single = True
    live = True

    def __init__(self, zoo: GameParallelEnv, device: torch.device) -> None:
        self.zoo, self.env = zoo, Board(zoo.game, device)
        self._episode: list[Moved] | None = None  # the history of the current episode

    def look(self, given: Any, legal: Any, seat: int) -> Step:
        """Read the environment's state; the given observation must be the seat's view of it."""
        if self._episode is None:
            self._episode = self.zoo.history
        elif self._episode is not self.zoo.history:
            raise ConfigError(f"{self.env.name} was reset, but the agent was not: call agent.reset(env, seat) first")
        step = self.env.put(self.zoo.game_state)
        name = self.zoo.possible_agents[seat]
        if isinstance(given, Mapping) and name in given:
            given = given[name]
        if isinstance(given, Mapping):
            given = given.get("observation")
        own = step.observation[0, seat].cpu().numpy()
        if given is not None and not np.array_equal(np.asarray(given), own):
            raise ConfigError(
                f"act got another observation than the current one of {name}: pass observations[{name!r}] as the last "
                "reset or step returned it"
            )
        return step

    def missed(self, seen: int) -> Sequence[Moved]:
        """Return the steps after the first `seen`, also of a finished episode."""
        episode = self.zoo.history if self._episode is None else self._episode
        return episode[seen:]

    def after(self, actions: Tensor, found: Any) -> Step:
        """Step the rules."""
        return self.env.step(actions)


class _Foreign(VectorEnv):
    """Names and sizes of an environment that the caller steps."""

    def __init__(self, adapter: Adapter) -> None:
        self.name, self.num_players, self.num_actions = adapter.name, adapter.num_players, adapter.num_actions
        self.max_steps, self.observation_space, self.noop = adapter.max_steps, adapter.observation_space, adapter.noop
        self.action_names, self.agent_names = adapter.action_names, adapter.agent_names

    def reset(self, batch_size: int, generator: torch.Generator) -> Step:
        """Raise an error: the user steps the environment."""
        raise NotImplementedError(f"the user steps {self.name}, not the agent")

    def step(self, actions: Tensor) -> Step:
        """Raise an error: the user steps the environment."""
        raise NotImplementedError(f"the user steps {self.name}, not the agent")

    def keep(self, index: Tensor) -> None:
        """Raise an error: the user steps the environment."""
        raise NotImplementedError(f"the user steps {self.name}, not the agent")


class ForeignTable(Table):
    """Any other PettingZoo `ParallelEnv`: `act(observation)`, or `act(observations)` with those of all agents."""

    single = True
    shows_after = False
    same_rules = False

    def __init__(self, zoo: ParallelEnv, max_steps: int, device: torch.device) -> None:
        self._device = device
        name = str((getattr(zoo, "metadata", None) or {}).get("name", type(zoo).__name__))
        self.zoo, self.adapter = zoo, Adapter(name, zoo, {}, max_steps, probe=False)
        self.env = _Foreign(self.adapter)

    def look(self, given: Any, legal: Any, seat: int) -> Step:
        """Translate observations."""
        keys = self.adapter.keys
        everyone = isinstance(given, Mapping) and keys[seat] in given
        observations = given if everyone else {keys[seat]: given}
        infos = None if legal is None else {keys[seat]: {"action_mask": legal}}
        row = self.adapter.show(self.zoo, observations, infos)
        self.whole = all(key in observations for key, here in zip(keys, row.active, strict=True) if here)
        return Step(
            observation=self._of_one(row.observation),
            legal=self._of_one(row.legal),
            active=self._of_one(row.active),
            reward=self._of_one(row.reward),
            terminated=self._of_one(row.terminated),
            truncated=self._of_one(row.truncated),
            achieved=torch.full((1, self.env.num_players), NO_GOAL, device=self._device),
        )

    def joint(self, actions: Any) -> Tensor:
        """Return joint actions from the dict that the user passed to `env.step`."""
        if not isinstance(actions, Mapping):
            raise ConfigError(f"observe got {type(actions).__name__}; expected a dict: pass the argument of env.step")
        return torch.tensor([self.adapter.numbered(actions)])

    def after(self, actions: Tensor, found: Any) -> Step:
        """Return the rewards; nothing else of the next step is known."""
        device = actions.device
        no_seat = torch.zeros(actions.shape, dtype=torch.bool, device=device)
        rewards = found if isinstance(found, Mapping) else {}
        reward = torch.tensor([[float(rewards.get(key, 0.0)) for key in self.adapter.keys]], device=device)
        blank = torch.zeros(*actions.shape, *(self.env.observation_space.shape or ()), device=device)
        legal = torch.ones(*actions.shape, self.env.num_actions, dtype=torch.bool, device=device)
        return Step(blank, legal, ~no_seat, reward, no_seat, no_seat, torch.full_like(actions, NO_GOAL))

    def native(self, action: int, seat: int) -> int | None:
        """Return an action as the environment numbers it; None for waiting."""
        return self.adapter.native(seat, action)

    def _of_one(self, field: Any) -> Tensor:
        """Return an array `[P, ...]` as a batch of one."""
        return torch.from_numpy(np.ascontiguousarray(field))[None].to(self._device)


class VectorTable(Table):
    """B copies in a `VectorEnv`: `act(step)` with the result of its reset or step, `observe(actions, step)`."""

    def __init__(self, env: VectorEnv, batch_size: int) -> None:
        self.env, self.batch_size = env, batch_size

    def look(self, given: Any, legal: Any, seat: int) -> Step:
        """Return the given step unchanged."""
        if not isinstance(given, Step) or len(given.active) != self.batch_size:
            raise ConfigError(
                f"act got {type(given).__name__}; expected the Step of {self.batch_size} copies that reset or step of "
                f"{self.env.name} returned: pass that Step"
            )
        return given

    def after(self, actions: Tensor, found: Any) -> Step:
        """Return the step that the user passed."""
        if not isinstance(found, Step):
            raise ConfigError(f"observe got no Step of {self.env.name}: call agent.observe(actions, env.step(actions))")
        return found


def table_of(env: Any, batch_size: int | None, max_steps: int, device: torch.device) -> Table:
    """Return the table of an environment.

    Args:
        env: a PettingZoo environment, ours or a third party's; a `Game` or a `VectorEnv`, played in a batch.
        batch_size: B, for a `Game` or a `VectorEnv`; else None.
        max_steps: of a third party's episodes.
        device: where the agent's networks run.

    Raises:
        ConfigError: `env` is none of them, or `batch_size` does not fit it.
    """
    if isinstance(env, Game | VectorEnv):
        if batch_size is None or batch_size < 1:
            raise ConfigError(
                f"reset got batch_size={batch_size} with a {type(env).__name__}: give the number of copies, 1 or more"
            )
        return GameTable(env, batch_size, device) if isinstance(env, Game) else VectorTable(env, batch_size)
    if batch_size is not None:
        raise ConfigError(
            f"reset got batch_size={batch_size} with a PettingZoo environment, which runs one episode: omit batch_size"
        )
    inner = getattr(env, "unwrapped", env)
    if isinstance(inner, GameParallelEnv):
        return OwnTable(inner, device)
    if isinstance(env, ParallelEnv):
        return ForeignTable(env, max_steps, device)
    kind = "an AECEnv" if isinstance(env, AECEnv) else f"a {type(env).__name__}"
    raise ConfigError(
        f"reset got {kind}; expected a pettingzoo ParallelEnv, a Game or a VectorEnv: convert an AECEnv with "
        "pettingzoo.utils.conversions.aec_to_parallel"
    )
