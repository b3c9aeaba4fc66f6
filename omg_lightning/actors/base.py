"""The contract of actors. Players, learners, checkpoints and past selves are all actors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from omg_lightning.types import Episodes, Record, View, has_own, put, take

if TYPE_CHECKING:
    from omg_lightning.envs.base import Step, VectorEnv
    from omg_lightning.search import SearchResult


class Scene(NamedTuple):
    """One step of L environments: the input of actors."""

    env: VectorEnv  # names, sizes and, for a search, the rules and the state
    view: View
    generator: torch.Generator  # all randomness
    greedy: bool  # as in evaluations: take the best action, without exploration noise
    measure: bool = False  # scripts also report their action probabilities, to evaluate predictions


class Choice(NamedTuple):
    """An actor's decisions at one step of L environments."""

    mine: Tensor  # bool [L, P] the seats that it acts for
    action: Tensor  # int64 [L, P]; ignored where `mine` is False
    goal: Tensor | None = None  # float [L, P, D] inferred goals of all seats
    extras: Mapping[str, Tensor] = {}  # [L, P, ...] recorded with the action, see `Actor.records`
    notes: Mapping[str, float] = {}  # numbers for the log, such as the entropy of a root policy
    searched: SearchResult | None = None  # the roots, for viewers: [M*K, A], K trees for each of `mine.nonzero()`


class Actor(ABC):
    """Chooses the actions of some seats in many environments at once.

    An actor is immutable. Its state within an episode is `memory`, a value that is never changed in place. (A scripted
    player may keep internal state.) `prior` persists over consecutive episodes of the same players.

    Attributes:
        goal_size: D, length of the goal vectors in `Choice.goal`; 0 for none.
        records: extra fields of `Episodes` that `Choice.extras` and `observe` fill, by name.
        needs_true_goal: `with_true_goal` is called before each `act`.
        goals_are_cells: a goal vector has one entry per cell of a grid, and a last one for no cell.
    """

    goal_size: int = 0
    records: Mapping[str, Record] = {}
    needs_true_goal: bool = False
    goals_are_cells: bool = False

    def prior(self, batch_size: int) -> Tensor | None:
        """Return the prior before the first episode, leading B, or None."""
        return None

    @abstractmethod
    def start(self, env: VectorEnv, mine: Tensor, prior: Tensor | None, generator: torch.Generator) -> Any:
        """Return the memory at the start of an episode.

        Args:
            env: names and sizes.
            mine: bool `[B, P]` the seats that this actor plays.
            prior: the result of `prior` or `carry`.
            generator: all randomness.
        """

    @abstractmethod
    def act(self, memory: Any, scene: Scene) -> Choice:
        """Choose an action for each of its seats that is still active."""

    def observe(self, memory: Any, scene: Scene, actions: Tensor, step: Step) -> tuple[Any, Mapping[str, Tensor]]:
        """Return the memory after `actions`, int64 `[L, P]`, led to `step`; and extras, `[L, P, ...]`, of that step."""
        return memory, {}

    def keep(self, memory: Any, index: Tensor) -> Any:
        """Return the memory of the environments `index`, int64 `[R]`, only: the others have ended."""
        return take(memory, index)

    def restart(
        self,
        memory: Any,
        index: Tensor,
        env: VectorEnv,
        mine: Tensor,
        prior: Tensor | None,
        generator: torch.Generator,
    ) -> Any:
        """Return the memory after new episodes have begun in the environments `index`, int64 `[R]` of L.

        The other arguments are those of `start`, for all L environments, of which the others go on.
        """
        return put(memory, index, take(self.start(env, mine, prior, generator), index))

    @property
    def restarts(self) -> bool:
        """Whether `restart` fits: not if a subclass has a `keep` of its own, for a memory of another form."""
        return has_own("restart", "keep", type(self))

    def carry(self, prior: Tensor | None, episodes: Episodes) -> Tensor | None:
        """Return the prior of the next episode, after `episodes`."""
        return prior

    def with_true_goal(self, memory: Any, prior: Tensor | None, true_goal: Tensor) -> Any:
        """Return the memory given the current goals of the scripts, int64 `[L, P]`; `prior` has leading L."""
        return memory

    def true_goal(self, env: VectorEnv, memory: Any, view: View) -> Tensor | None:
        """Return the goals that its own seats pursue with their next actions, int64 `[L, P]`, NO_GOAL elsewhere.

        None if the actor pursues no declared goal. The seats act next at `view`.
        """
        return None

    def among(self, index: Tensor, batch_size: int) -> Actor:
        """Return this actor for the environments `index`, int64 `[R]`, of a batch, in this order."""
        return self
