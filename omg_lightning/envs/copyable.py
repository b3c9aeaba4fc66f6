"""Make a searchable game of a third-party environment whose state can be copied."""

from __future__ import annotations

import copyreg
import io
import pickle
import sys
from operator import attrgetter
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import Space
from numpy.typing import NDArray
from pettingzoo import ParallelEnv
from torch import Tensor

from omg_lightning.envs.adapter import Adapter, Row, blame, load, short_name
from omg_lightning.games.base import Game, replace_illegal
from omg_lightning.games.checks import whole
from omg_lightning.types import ConfigError

PROOF_EPISODES, PROOF_STEPS = 2, 200  # episodes and steps that test the copies
LOOKAHEAD = 3  # steps that another copy plays in between, as in a search


class CopyState(NamedTuple):
    """States of B environments, as values."""

    time: Tensor  # int64 [B] steps played
    data: Tensor  # uint8 [B, N] the environment itself, pickled, padded with zeros
    observation: Tensor  # [B, P, *shape]
    legal: Tensor  # bool [B, P, A]
    active: Tensor  # bool [B, P]
    terminated: Tensor  # bool [B, P] seats that have left by the rules


class CopyableGame(Game):
    """A third-party PettingZoo environment as a game that can be searched, because its state can be copied.

    A state is the pickled environment, so it is a value: the same state and actions give the same step, in any order.
    `copy.deepcopy` is not enough: it rebuilds many PettingZoo environments (`EzPickle`) from their arguments and
    silently loses their state. Here all attributes are copied. Copies share spaces, code and objects that cannot be
    pickled (windows, fonts, locks), which do not count as state.

    The constructor tests the copies. It plays two episodes with random actions, then plays them again beside a copy
    that is copied before each step, while other copies play other actions. All observations, masks, rewards and ends
    must be equal; otherwise the constructor raises an error.

    Random numbers that the environment draws in `step` are part of its state, so a search knows future random events.
    If this matters, play the game with `PettingZooEnv` and `--model.algorithm PPO`.

    Seats, observations, actions and masks are those of `PettingZooEnv`. All agents must be present after a reset.

    Args:
        make: see `PettingZooEnv`.
        kwargs: see `PettingZooEnv`.
        max_steps: see `PettingZooEnv`.
        state_bytes: N, bytes for a state. By default a quarter more than the test needed, plus 1 KiB.

    Raises:
        ConfigError: the environment cannot be made, does not fit, or its copies differ from it.
    """

    keeps_invariants = True  # `noop` of a third-party game is not always legal

    def __init__(
        self,
        make: str,
        kwargs: dict[str, Any] | None = None,
        max_steps: int | None = None,
        state_bytes: int | None = None,
    ) -> None:
        self.make, self.kwargs, self.state_bytes = make, dict(kwargs or {}), state_bytes
        env = load(make, self.kwargs)
        adapter = self._adapter = Adapter(self.name, env, self.kwargs, max_steps)
        self.num_players, self.num_actions, self.max_steps = adapter.num_players, adapter.num_actions, adapter.max_steps
        self.observation_space, self.noop = adapter.observation_space, adapter.noop
        self.action_names, self.agent_names = adapter.action_names, adapter.agent_names
        self._copier = _Copier(self.name, env)
        self._start = self._copier.dump(env)  # every episode starts from this copy, so that episodes are independent
        longest = _prove(adapter, self._copier, self._start)
        self._room = longest + longest // 4 + 1024 if state_bytes is None else whole("state_bytes", state_bytes, 1)

    def __reduce__(self) -> tuple[Any, ...]:
        """Make a copy from the arguments: the game itself has no state."""
        return type(self), (self.make, self.kwargs, self.max_steps, self.state_bytes)

    @property
    def name(self) -> str:
        """Name of the environment, for messages."""
        return short_name(self.make)

    def reset(self, batch_size: int, generator: torch.Generator | None = None) -> CopyState:
        """Start `batch_size` episodes, each with a seed drawn from `generator`."""
        device = torch.device("cpu") if generator is None else generator.device
        seeds = torch.randint(2**31 - 1, (batch_size,), generator=generator, device=device).tolist()
        rows, data = [], []
        for seed in seeds:
            env = self._copier.load(self._start)
            rows.append(self._adapter.reset(env, seed))
            data.append(self._packed(env))
            if not rows[-1].active.all():
                raise ConfigError(_late(self._adapter, rows[-1]))
        return CopyState(
            time=torch.zeros(batch_size, dtype=torch.int64, device=device),
            data=_stacked(data, device),
            observation=_stacked([row.observation for row in rows], device),
            legal=_stacked([row.legal for row in rows], device),
            active=_stacked([row.active for row in rows], device),
            terminated=_stacked([row.terminated for row in rows], device),
        )

    def observe(self, state: CopyState) -> Tensor:
        """Return every seat's own view, `[B, P, *shape]`."""
        return state.observation.clone()

    def legal(self, state: CopyState) -> Tensor:
        """Return which actions are legal, bool `[B, P, A]`; `noop` may be illegal for a seat that is active."""
        return state.legal.clone()

    def active(self, state: CopyState) -> Tensor:
        """Return the seats that still play, bool `[B, P]`."""
        return state.active.clone()

    def terminated(self, state: CopyState) -> Tensor:
        """Return which seats have left by the rules, bool `[B, P]`."""
        return state.terminated.clone()

    def step(self, state: CopyState, actions: Tensor) -> tuple[CopyState, Tensor]:
        """Play joint actions, int64 `[B, P]`, each in a copy of its environment."""
        device = state.data.device
        joint = replace_illegal(actions, state.legal, self.noop).tolist()
        running = state.active.any(-1).cpu()
        after = CopyState(*(field.clone() for field in state))
        reward = torch.zeros(actions.shape, device=device)
        index = running.nonzero()[:, 0].tolist()
        if not index:
            return after, reward
        rows, data = [], []
        now = CopyState(*(field.cpu() for field in state))
        for b in index:
            env = self._copier.load(now.data[b].numpy().tobytes())
            rows.append(self._adapter.step(env, _row(now, b), int(now.time[b]), joint[b]))
            data.append(self._packed(env))
        at = torch.tensor(index, device=device)
        after.time[at] += 1
        after.data[at] = _stacked(data, device)
        after.observation[at] = _stacked([row.observation for row in rows], device)
        after.legal[at] = _stacked([row.legal for row in rows], device)
        after.active[at] = _stacked([row.active for row in rows], device)
        after.terminated[at] |= _stacked([row.terminated for row in rows], device)
        reward[at] = _stacked([row.reward for row in rows], device)
        return after, reward

    def _packed(self, env: ParallelEnv) -> NDArray[np.uint8]:
        """Return a copy of an environment as uint8 `[N]`."""
        data = self._copier.dump(env)
        if len(data) > self._room:
            raise ConfigError(
                f"{self.name}: a state has {len(data)} bytes; expected at most {self._room}, which was measured in "
                f"random play or given: set state_bytes of CopyableGame to more than {len(data)}"
            )
        packed = np.zeros(self._room, np.uint8)
        packed[: len(data)] = np.frombuffer(data, np.uint8)
        return packed


def _stacked(arrays: list[NDArray[Any]], device: torch.device) -> Tensor:
    return torch.from_numpy(np.stack(arrays)).to(device)


def _row(state: CopyState, b: int) -> Row:
    """Return the last row of environment `b`."""
    active = state.active[b].numpy()
    no_seat = np.zeros_like(active)
    views, legal = state.observation[b].numpy(), state.legal[b].numpy()
    return Row(views, legal, active, ~active, no_seat.astype(np.float32), no_seat, no_seat)


def _late(adapter: Adapter, row: Row) -> str:
    absent = adapter.agent_names[int((~row.active).argmax())]
    return (
        f"{adapter.name}: {absent} is missing after reset; CopyableGame expected all agents from the start, which a "
        "search needs: play it with PettingZooEnv and --model.algorithm PPO"
    )


def _prove(adapter: Adapter, copier: _Copier, start: bytes) -> int:
    """Play an environment and copies of it, and raise an error unless all results are equal.

    Returns:
        The size of its largest copy, in bytes.
    """
    random = np.random.default_rng(0)
    longest = len(start)
    for seed in range(PROOF_EPISODES):
        rows, played = _play_alone(adapter, copier.load(start), seed, random)
        original = copier.load(start)
        _compare(adapter, rows[0], adapter.reset(original, seed), "a second episode with the same seed")
        data = copier.dump(original)
        for time, actions in enumerate(played):
            longest = max(longest, len(data))
            copy = copier.load(data)  # from the second step on a copy of a copy, as in a search
            found = adapter.step(copy, rows[time], time, actions)
            _compare(adapter, rows[time + 1], found, "a copy")
            found = adapter.step(original, rows[time], time, actions)
            _compare(adapter, rows[time + 1], found, "the environment beside its copies")
            _wander(adapter, copier.load(data), rows[time], time, random)
            data = copier.dump(copy)
        longest = max(longest, len(data))
    return longest


def _play_alone(
    adapter: Adapter, env: ParallelEnv, seed: int, random: np.random.Generator
) -> tuple[list[Row], list[list[int]]]:
    """Play an episode with random actions; return the rows, and the actions between them."""
    rows, played = [adapter.reset(env, seed)], []
    if not rows[0].active.all():
        raise ConfigError(_late(adapter, rows[0]))
    for time in range(min(adapter.max_steps, PROOF_STEPS)):
        if not rows[-1].active.any():
            break
        played.append(_any_legal(rows[-1], random))
        rows.append(adapter.step(env, rows[-1], time, played[-1]))
    return rows, played


def _wander(adapter: Adapter, env: ParallelEnv, row: Row, time: int, random: np.random.Generator) -> None:
    """Play some random steps in a copy, and reset it: another branch of a search, which must not affect the others."""
    for ahead in range(LOOKAHEAD):
        if time + ahead < adapter.max_steps and row.active.any():
            row = adapter.step(env, row, time + ahead, _any_legal(row, random))
    adapter.reset(env, 1)


def _any_legal(row: Row, random: np.random.Generator) -> list[int]:
    return [int(random.choice(np.flatnonzero(legal))) for legal in row.legal]


def _compare(adapter: Adapter, expected: Row, found: Row, what: str) -> None:
    for field, one, other in zip(Row._fields, expected, found, strict=True):
        if not np.array_equal(one, other, equal_nan=one.dtype.kind == "f"):
            raise ConfigError(
                f"{adapter.name}: {what} has another {field} than the original environment, so its state cannot be "
                "copied; CopyableGame expected equal ones: play it with PettingZooEnv and --model.algorithm PPO"
            )


class _Copier:
    """Turns an environment into bytes and back.

    All objects are pickled by their attributes, also an `EzPickle`. Objects that are not part of the state are shared:
    they are listed once, in the environment given here, and bytes refer to them by number. A new object that cannot be
    pickled, such as a window that each reset opens, is represented by the first object of its type.

    Args:
        name: of the environment, for messages.
        env: the environment whose shared objects to list.
    """

    def __init__(self, name: str, env: ParallelEnv) -> None:
        self._name = name
        self.shared: list[Any] = []
        self._number: dict[int, int] = {}  # number of a shared object by its id; `shared` keeps it alive
        self._of_type: dict[type, int] = {}
        self._open = True
        self.dump(env)
        self._open = False

    def dump(self, env: ParallelEnv) -> bytes:
        """Return a copy of `env` as bytes."""
        file = io.BytesIO()
        try:
            _Pickler(file, self).dump(env)
        except Exception as error:
            raise ConfigError(
                f"{self._name}: its state cannot be copied ({type(error).__name__}: {' '.join(str(error).split())}); "
                "CopyableGame needs that: play it with PettingZooEnv and --model.algorithm PPO"
            ) from error
        return file.getvalue()

    def load(self, data: bytes) -> ParallelEnv:
        """Return the environment in `data`, which may end with zeros."""
        with blame(self._name, "making a copy"):
            return _Unpickler(io.BytesIO(data), self).load()

    def number(self, found: Any) -> int | None:
        """Return the number of a shared object; None for one that is not shared."""
        if self._open and id(found) not in self._number:
            self._number[id(found)] = len(self.shared)
            self._of_type.setdefault(type(found), len(self.shared))
            self.shared.append(found)
        return self._number.get(id(found))

    def stand_in(self, found: Any) -> int | None:
        """Return the number of an object that cannot be pickled, or of the first of its type."""
        number = self.number(found)
        return self._of_type.get(type(found)) if number is None else number


class _Pickler(pickle.Pickler):
    """Pickles attributes unchanged, and shared objects by number."""

    def __init__(self, file: io.BytesIO, copier: _Copier) -> None:
        super().__init__(file, protocol=5)
        self._copier = copier

    def reducer_override(self, found: Any) -> Any:
        """Return how to pickle `found`, as `__reduce_ex__` does."""
        if (
            type(found) is np.ndarray or type(found) in copyreg.dispatch_table
        ):  # pickle handles these itself, and faster
            return NotImplemented
        if isinstance(found, type | FunctionType | ModuleType):  # code
            number = None if _importable(found) else self._copier.number(found)
            return NotImplemented if number is None else (_shared, (number,))
        if isinstance(found, Space) and (number := self._copier.number(found)) is not None:
            return _shared, (number,)
        if "_ezpickle_args" in getattr(found, "__dict__", ()):
            return copyreg.__newobj__, (type(found),), found.__dict__, None, None, _set_attributes  # type: ignore[attr-defined]
        try:
            return found.__reduce_ex__(5)
        except Exception:
            if (number := self._copier.stand_in(found)) is None:
                raise
            return _shared, (number,)


class _Unpickler(pickle.Unpickler):
    """Finds shared objects by number."""

    def __init__(self, file: io.BytesIO, copier: _Copier) -> None:
        super().__init__(file)
        self._shared = copier.shared

    def find_class(self, module: str, name: str) -> Any:
        """Return a class or function; for `_shared`, the function that finds shared objects."""
        if name == _shared.__name__ and module == __name__:
            return self._shared.__getitem__
        return super().find_class(module, name)


def _shared(number: int) -> Any:
    """Represent shared object `number` in a pickle; `_Unpickler` replaces this function by the list of them."""
    raise NotImplementedError


def _set_attributes(made: Any, attributes: dict[str, Any]) -> None:
    vars(made).update(attributes)


def _importable(code: Any) -> bool:
    """Return whether a function or class can be imported by its name, so that pickle stores the name."""
    try:
        return attrgetter(code.__qualname__)(sys.modules[code.__module__]) is code
    except (AttributeError, KeyError):
        return False
