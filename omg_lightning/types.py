"""The records that several folders share, and the letters of shapes.

Letters used in every shape comment: B environments, L environments still running, P seats, A actions, T time, K trees,
N tree nodes, G discrete goals, D size of a goal vector, M rows of a flat batch. `*shape` is the shape of one seat's
view. One order: views are ego first (`ego_order`); actions and rewards are in seat order.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

NO_GOAL = -1  # no goal achieved, or no goal declared


class ConfigError(ValueError):
    """An invalid setting or argument of the user. The command line prints it as one line; it is a `ValueError`."""


def ego_order(x: Tensor, ego: Tensor) -> Tensor:
    """Convert seat order to ego order: the ego first, then seats ego+1, ego+2, ... (mod P). All code uses it.

    Args:
        x: `[M, P, ...]` values per seat, in seat order.
        ego: int64 `[M]` the ego seat of each row.

    Returns:
        `[M, P, ...]` with row m rolled so that seat `ego[m]` comes first.
    """
    rows, seats = x.shape[:2]
    index = (ego[:, None] + torch.arange(seats, device=x.device)) % seats  # [M, P]
    return x[torch.arange(rows, device=x.device)[:, None], index]


class Record(NamedTuple):
    """An extra field of `Episodes`: its shape and dtype for each seat and step."""

    shape: tuple[int, ...] = ()
    dtype: torch.dtype = torch.float32
    per_action: bool = False  # the last dimension is the actions, so it is permuted when a board is rotated


class Episodes(NamedTuple):
    """Whole episodes, time-major and padded to the longest; `active` marks real steps.

    Entries at steps where `active` is False (the seat has left, or the episode is over) are padding: never samples.
    """

    observation: Tensor  # [T, B, P, *shape] each seat's own view, ego first, in the dtype of the observation space
    legal: Tensor  # bool [T, B, P, A]
    action: Tensor  # int64 [T, B, P] in seat order
    reward: Tensor  # float [T, B, P]
    active: Tensor  # bool [T, B, P]
    terminated: Tensor  # bool [T, B, P] the seat ended with this step by the rules
    truncated: Tensor  # bool [T, B, P] the seat was cut off with this step by a time limit
    learner: Tensor  # bool [T, B, P] the learner in training chose the action, so `extras` are filled
    goal: Tensor  # float [T, B, P, D] goal of seat p that the opponent model inferred when the learner acted
    achieved_goal: Tensor  # int64 [T, B, P] declared goal that seat p achieved by this step's action, or NO_GOAL
    true_goal: Tensor  # int64 [T, B, P] declared goal that seat p's script pursues, or NO_GOAL: hidden from learners
    extras: dict[str, Tensor]  # [T, B, P, ...] records of the algorithm; `script_best` in evaluations

    def map(self, fn: Callable[[Tensor], Tensor]) -> "Episodes":
        """Apply `fn` to every tensor."""
        extras = {name: fn(field) for name, field in self.extras.items()}
        return Episodes._make([*map(fn, self[:-1]), extras])

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name; those of `extras` by their own names."""
        return {**dict(zip(self._fields[:-1], self[:-1], strict=True)), **self.extras}


class View(NamedTuple):
    """Observations of L environments at one step, from every seat."""

    observation: Tensor  # [L, P, *shape] ego first
    legal: Tensor  # bool [L, P, A]
    time: Tensor  # float [L] elapsed share of the episode
    active: Tensor  # bool [L, P]
    reward: Tensor  # float [L, P] of the step that led here; 0 at the start


class Batch(NamedTuple):
    """Episodes of one training step, and the step."""

    episodes: Episodes
    env_steps: int  # environment steps played so far
    offline: bool  # drawn in the offline phase, on scripted line-ups


class OnPolicy(NamedTuple):
    """Settings for data of the current policy: each round's episodes are used in several passes, then dropped."""

    epochs: int  # passes over the episodes of a round
    minibatches: int  # number of minibatches in each pass


class AdaptationSegment(NamedTuple):
    """A segment of the adaptation protocol: each relationship has played a fixed number of environment steps.

    One row for each of E whole episodes; the episodes of a relationship are in the order of play.
    """

    partner: Tensor  # int64 [E] the learner's partner: index in the data module's `strangers`
    relationship: Tensor  # int64 [E] number of the relationship; no two have the same one
    returns: Tensor  # float [E, P] undiscounted
    length: Tensor  # int64 [E] environment steps
    batches: tuple[Batch, ...] = ()  # training batches for the networks; empty if they do not learn
    last: bool = False  # the last segment with these partners: networks are reset after it


def take(record: Any, index: Tensor) -> Any:
    """Index the leading dimension of every tensor in a (nested) NamedTuple; `None` stays `None`."""
    if record is None:
        return None
    if isinstance(record, Tensor):
        return record[index]
    return type(record)(*(take(field, index) for field in record))


def put(record: Any, index: Tensor, rows: Any) -> Any:
    """Return a copy of a (nested) NamedTuple with `rows` at `index` of the leading dimension; `None` stays `None`."""
    if record is None:
        return None
    if isinstance(record, Tensor):
        return record.index_copy(0, index, rows)
    return type(record)(*(put(field, index, new) for field, new in zip(record, rows, strict=True)))


def has_own(method: str, beside: str, kind: type) -> bool:
    """Return whether `kind` gets `method` from the class that gives it `beside`, or from a subclass of that class.

    A class that overrides only `beside` has a state of its own, of which an inherited `method` knows nothing.
    """
    owner = {name: next((base for base in kind.__mro__ if name in vars(base)), object) for name in (method, beside)}
    return method in vars(owner[method]) and issubclass(owner[method], owner[beside])


class Estimate(NamedTuple):
    """The inferred goals of every seat at one step."""

    point: Tensor  # float [L, P, D] belief or mean; stored with the episode
    draw: Callable[[int, torch.Generator], Tensor]  # K, generator -> float [L, K, P, D], one goal for each tree
    extras: Mapping[str, Tensor] = {}  # [L, P, ...] recorded beside the goals, see `GoalModel.records`


class GoalModel(Protocol):
    """The interface of an opponent model while acting; `omg_lightning.opponents.OpponentModel` implements it.

    Each seat has one goal, shared by its observers. `prior` persists over consecutive episodes of the same players.
    `memory` lasts for one episode; it is an immutable value whose leading dimension is the environments.
    """

    @property
    def size(self) -> int:
        """D, length of a goal vector."""

    @property
    def needs_true_goal(self) -> bool:
        """Whether `start` is called again at each step with the current goals of the scripts."""

    @property
    def goals_change(self) -> bool:
        """Whether the search calls `next_goal`."""

    @property
    def goals_are_cells(self) -> bool:
        """Whether a goal vector has one entry per cell of a grid, and a last one for no cell."""

    @property
    def records(self) -> Mapping[str, Record]:
        """Extra fields of `Episodes` that `Estimate.extras` fills, by name."""

    def prior(self, batch_size: int) -> Tensor:
        """Belief before the first episode: float `[B, P, ...]`."""

    def start(self, prior: Tensor, true_goal: Tensor) -> Any:
        """Memory at the start of an episode, from the prior and the scripts' goals, int64 `[B, P]`."""

    def infer(self, memory: Any, view: View) -> Estimate:
        """Goals of all seats at the current step."""

    def uninformed(self, memory: Any, view: View) -> Estimate:
        """Goals of all seats before any observation; `memory` is that of the start."""

    def update(self, memory: Any, view: View, actions: Tensor, achieved: Tensor) -> Any:
        """Memory after the actions, int64 `[L, P]` in seat order, that all seats played at `view`."""

    def carry(self, prior: Tensor, episodes: Episodes) -> Tensor:
        """Prior of the next episode, after `episodes`."""

    def as_seen(self, goal: Tensor, ego: Tensor) -> Tensor:
        """Goals `[M, P, D]` of all seats, in seat order, from the perspective of the egos, int64 `[M]`."""

    def condition(self, goal: Tensor, seat: Tensor) -> Tensor:
        """The goal inputs of `predict` for goals `[M, D]` of seats `[M]`; computed once if goals do not change."""

    def predict(self, observation: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        """Logits `[M, A]` of the actions of co-players that see `observation` at `time` `[M]`."""

    def next_goal(self, goal: Tensor, view: View, achieved: Tensor, generator: torch.Generator) -> Tensor:
        """Goals `[L, P, D]` after a step that led to `view` and achieved `achieved`, int64 `[L, P]`."""
