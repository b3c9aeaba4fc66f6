"""The contract between a game and everything else: pure functions on a batch of states."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from omg_lightning.types import NO_GOAL

if TYPE_CHECKING:
    from omg_lightning.games.grid.layout import GridLayout
    from omg_lightning.games.scripts import Player
    from omg_lightning.spaces import Space


class Game(ABC):
    """Rules of a simultaneous-move game, batched and pure.

    A state is a NamedTuple of tensors with leading B. It has a field `time`, int64 `[B]`: the number of steps played.
    Every method returns new tensors and leaves its inputs as they were, runs on the device of its inputs, and treats
    the rows of a batch independently. `omg_lightning.testing.check_game` checks all of it.

    A subclass must set `num_players`, `num_actions`, `max_steps` and `observation_space`, and implement `reset`,
    `observe` and `step`. All other attributes and methods have defaults.

    The base class keeps three invariants, so that a subclass only states its rules: an illegal action counts as `noop`;
    a finished row does not change; a seat that has left earns nothing (unless `prosocial`). For this it wraps the
    methods `legal`, `step` and `realised` of each subclass. A game that keeps the invariants itself sets
    `keeps_invariants` and saves the time.

    Attributes:
        num_players: P, the number of seats.
        num_actions: A, the same for every seat.
        max_steps: every episode is over after this many steps at the latest.
        observation_space: gymnasium `Box` of any shape and dtype, or `MultiBinary`: the space of one seat's
            observation. The buffer, players and networks use these values.
        action_names: A names; by default `action_0`, `action_1`, ...
        agent_names: P names; by default `player_0`, `player_1`, ...
        goal_names: the declared goals of a player, such as `("stag", "hare")`; none by default.
        noop: the action that replaces an illegal one, and the only legal one of a seat that has left. A game that keeps
            the invariants itself may forbid it to active seats; the first legal action replaces an illegal one there.
        seat_bounds: smallest and largest undiscounted return of a seat in an episode; None if unknown. Intervals are
            clipped to them.
        team_bounds: bounds of the sum over all seats.
        prosocial: whether each player gets the mean reward, also after it has left.
        players: scripted players of this game, by their names in `seats`.
        scripts: the names of two of them, the cooperator first. The offline phase mixes the two, and tests play beside
            them. Empty for none.
        layout: meaning of an observation, for games on a grid; else None.
        sparse_views: whether `observe_sparse` is implemented.
        has_board: whether `board` is implemented.
    """

    num_players: int
    num_actions: int
    max_steps: int
    observation_space: Space
    goal_names: tuple[str, ...] = ()
    noop: int = 0
    seat_bounds: tuple[float, float] | None = None
    team_bounds: tuple[float, float] | None = None
    prosocial: bool = False
    players: Mapping[str, Callable[[], Player]] = {}
    scripts: tuple[str, ...] = ()
    layout: GridLayout | None = None
    sparse_views: bool = False
    has_board: bool = False
    keeps_invariants: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Wrap the rules of a subclass with the invariants."""
        super().__init_subclass__(**kwargs)
        if not cls.keeps_invariants:
            for name, guard in _GUARDS.items():
                if name in cls.__dict__:
                    setattr(cls, name, guard(cls.__dict__[name]))

    @property
    def name(self) -> str:
        """Name of the game, for messages and checkpoints."""
        return type(self).__name__

    @property
    def observation_shape(self) -> tuple[int, ...]:
        """Shape of one seat's view."""
        return tuple(self.observation_space.shape or ())

    @cached_property
    def action_names(self) -> tuple[str, ...]:
        """A names."""
        return tuple(f"action_{action}" for action in range(self.num_actions))

    @cached_property
    def agent_names(self) -> tuple[str, ...]:
        """P names."""
        return tuple(f"player_{seat}" for seat in range(self.num_players))

    @abstractmethod
    def reset(self, batch_size: int, generator: torch.Generator | None = None) -> Any:
        """Draw `batch_size` initial states on the generator's device."""

    @abstractmethod
    def observe(self, state: Any) -> Tensor:
        """Return every seat's own view, `[B, P, *observation_space.shape]`; the seat itself comes first in it."""

    @abstractmethod
    def step(self, state: Any, actions: Tensor) -> tuple[Any, Tensor]:
        """Play joint actions, int64 `[B, P]` in seat order: the next state, and rewards, float32 `[B, P]`.

        The next state has `time` increased by one.
        """

    def legal(self, state: Any) -> Tensor:
        """Return which actions are legal, bool `[B, P, A]`; by default all. A seat that has left can only `noop`."""
        legal = self.active(state)[..., None].repeat(1, 1, self.num_actions)
        legal[..., self.noop] = True
        return legal

    def active(self, state: Any) -> Tensor:
        """Return the seats that still play, bool `[B, P]`; all False after the episode. By default until `max_steps`.

        All seats are active at the start, and one that has left does not return.
        """
        return (state.time < self.max_steps)[:, None].repeat(1, self.num_players)

    def terminated(self, state: Any) -> Tensor:
        """Return which inactive seats ended by the rules, bool `[B, P]`; the others were cut off by `max_steps`.

        By default a seat that is inactive at `max_steps` was cut off, and one that is inactive earlier was not.
        """
        return ~self.active(state) & (state.time < self.max_steps)[:, None]

    def realised(self, state: Any, actions: Tensor) -> Tensor:
        """Return the declared goal that each seat achieves by `actions`, int64 `[B, P]`, or NO_GOAL, the default."""
        return torch.full_like(actions, NO_GOAL)

    def reshuffle(self, state: Any, generator: torch.Generator) -> Any:
        """Resample the hidden part of a state, such as the order of a deck of cards; unchanged by default.

        `reset` draws all randomness of a game and stores it in the state, so that `step` is a deterministic function. A
        search calls this method at the root of each tree, so that it does not use information hidden from all players.
        """
        return state

    def observe_sparse(self, state: Any, board: Any = None) -> Tensor:
        """Return views as the indices of their ones, see `omg_lightning.encoders.Encoder`: int32 `[B, P, n]`.

        Args:
            state: the states to observe.
            board: result of `board`; if given, distances are included, for encoders that read them.
        """
        raise NotImplementedError(f"{type(self).__name__} has no sparse views")

    def board(self, state: Any) -> Any:
        """Return the constants of the episodes of `state`, for `observe_sparse`."""
        raise NotImplementedError(f"{type(self).__name__} has no board")


def _guarded_legal(rules: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @functools.wraps(rules)
    def legal(self: Game, state: Any) -> Tensor:
        found = rules(self, state) & self.active(state)[..., None]
        found[..., self.noop] = True
        return found

    return legal


def replace_illegal(actions: Tensor, legal: Tensor, noop: int) -> Tensor:
    """Replace every illegal action by `noop`, or by the first legal action if `noop` is illegal too.

    Args:
        actions: int64 `[L, P]`; an index out of range is illegal.
        legal: bool `[L, P, A]`.
        noop: see `Game`.

    Returns:
        int64 `[L, P]`.
    """
    known = actions.clamp(0, legal.shape[-1] - 1)
    fits = legal.gather(-1, known[..., None])[..., 0] & (known == actions)
    instead = torch.where(legal[..., noop], noop, legal.byte().argmax(-1))
    return torch.where(fits, actions, instead)


def _guarded_step(rules: Callable[..., tuple[Any, Tensor]]) -> Callable[..., tuple[Any, Tensor]]:
    @functools.wraps(rules)
    def step(self: Game, state: Any, actions: Tensor) -> tuple[Any, Tensor]:
        active = self.active(state)
        after, rewards = rules(self, state, replace_illegal(actions, self.legal(state), self.noop))
        running = active.any(-1)
        kept = (
            torch.where(running.view(-1, *[1] * (new.dim() - 1)), new, old)
            for new, old in zip(after, state, strict=True)
        )
        earns = running[:, None] if self.prosocial else active
        return type(after)(*kept), torch.where(earns, rewards.float(), 0.0)

    return step


def _guarded_realised(rules: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @functools.wraps(rules)
    def realised(self: Game, state: Any, actions: Tensor) -> Tensor:
        found = rules(self, state, replace_illegal(actions, self.legal(state), self.noop))
        return torch.where(self.active(state), found, NO_GOAL)

    return realised


_GUARDS: dict[str, Callable[..., Any]] = {
    "legal": _guarded_legal,
    "step": _guarded_step,
    "realised": _guarded_realised,
}
