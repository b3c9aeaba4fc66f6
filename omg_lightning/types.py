"""The records that cross folders, and the shape letters, once.

Letters used in every shape comment: B environments, P seats, A actions, T time, K trees, N tree nodes,
G discrete goals, D size of a goal vector, C observation planes, h and w grid height and width, M rows of a
flat batch. One order: views are ego first (`ego_order`); actions and rewards are in seat order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

NO_GOAL = -1  # nothing realised, or nothing declared


class ConfigError(ValueError):
    """A mistake in what the user asked for. The command line prints it as one line; it is a `ValueError` elsewhere."""


def ego_order(x: Tensor, ego: Tensor) -> Tensor:
    """Turns seat order into ego order: the ego first, then seats ego+1, ego+2, ... (mod P). The only such place.

    Args:
        x: `[M, P, ...]` anything per seat, in seat order.
        ego: int64 `[M]` the ego seat of each row.

    Returns:
        `[M, P, ...]` with row m rolled so that seat `ego[m]` comes first.
    """
    rows, seats = x.shape[:2]
    index = (ego[:, None] + torch.arange(seats, device=x.device)) % seats  # [M, P]
    return x[torch.arange(rows, device=x.device)[:, None], index]


class Episodes(NamedTuple):
    """Whole episodes, time-major and padded to the longest; `active` says what is real.

    Entries at steps where `active` is False (the seat has left, or the episode is over) are padding: never samples.
    """

    observation: Tensor  # uint8 [T, B, P, C, h, w] each seat's own view, ego first
    legal: Tensor  # bool [T, B, P, A]
    action: Tensor  # int64 [T, B, P] in seat order
    reward: Tensor  # float [T, B, P]
    active: Tensor  # bool [T, B, P]
    planned: Tensor  # bool [T, B, P] the action came from a learner's search, so `policy` is a target
    policy: Tensor  # float [T, B, P, A] root policy of the search
    value: Tensor  # float [T, B, P] return from this step on: discounted, or see `PlannerConfig.trace`
    goal: Tensor  # float [T, B, P, D] what the learners took seat p's goal to be when they acted
    realised: Tensor  # int64 [T, B, P] declared goal that seat p realised by this step's action, or NO_GOAL
    truth: Tensor  # int64 [T, B, P] declared goal that seat p's script pursues, or NO_GOAL: never seen by a learner
    script_best: Tensor  # float [T, B, P] largest probability in its script, or 0 if not known: never seen either


class View(NamedTuple):
    """What is to be seen of L environments at one step, from every seat."""

    observation: Tensor  # float [L, P, C, h, w] ego first
    legal: Tensor  # bool [L, P, A]
    time: Tensor  # float [L] share of the episode that is gone
    active: Tensor  # bool [L, P]


class Batch(NamedTuple):
    """What a training step gets: episodes, and when they were drawn."""

    episodes: Episodes
    env_steps: int  # environment steps played so far
    offline: bool  # drawn in the offline phase, on scripted line-ups


class Lap(NamedTuple):
    """A stretch of the adaptation protocol, in which every relationship went on by so many environment steps.

    One row for each of E whole episodes; those of a relationship in the order in which they were played.
    """

    partner: Tensor  # int64 [E] who sat beside the learner: its place in the data module's `partners`
    relationship: Tensor  # int64 [E] the players who meet again and again; numbered within the partner
    returns: Tensor  # float [E, P] undiscounted
    length: Tensor  # int64 [E] environment steps
    batches: tuple[Batch, ...] = ()  # what the networks are to learn from now; none where they do not learn
    last: bool = False  # these partners are done: what the networks learned with them is to be forgotten


class PlaneLogits(NamedTuple):
    """What a decoder says of a view: where each player is, and what lies on each cell."""

    players: Tensor  # float [M, P, h * w + 1] one class per cell, the last is 'absent'
    objects: Tensor  # float [M, C - P, h, w] log odds of a 1


def take(record: Any, index: Tensor) -> Any:
    """Indexes the leading dimension of every tensor in a (nested) NamedTuple; `None` stays `None`."""
    if record is None:
        return None
    if isinstance(record, Tensor):
        return record[index]
    return type(record)(*(take(field, index) for field in record))


class Estimate(NamedTuple):
    """What a goal source says of every seat's goal at one step."""

    point: Tensor  # float [L, P, D] belief or mean; this is stored with the episode
    draw: Callable[[int, torch.Generator], Tensor]  # K, generator -> float [L, K, P, D], one goal for each tree


class GoalSource(Protocol):
    """Where goals come from: one object for each value of the switch `goals`.

    Goals are about a seat and shared by all who watch it. `prior` lives across the episodes that the same players
    play in a row; `memory` lives within an episode, is a value that is passed on and never changed in place, and
    has the environments as its leading dimension.
    """

    size: int

    def prior(self, batch: int, seats: int, device: torch.device) -> Tensor:
        """What is believed before the first episode: float `[B, P, G]`."""

    def start(self, prior: Tensor, truth: Tensor) -> Any:
        """Memory at the start of an episode, from the prior and the scripts' goals, int64 `[B, P]`."""

    def infer(self, memory: Any, view: View) -> Estimate:
        """Goals of all seats at the current step."""

    def update(self, memory: Any, view: View, actions: Tensor) -> Any:
        """Memory after all have seen `actions`, int64 `[L, P]` in seat order, played at `view`."""

    def realised(self, episodes: Episodes) -> Tensor:
        """The goal that each seat realised last in whole episodes: int64 `[B, P]`, or NO_GOAL."""

    def carry(self, prior: Tensor, realised: Tensor) -> Tensor:
        """Prior of the next episode, after one that realised the goals `realised`, int64 `[B, P]`."""


@dataclass(frozen=True)
class PlannerConfig:
    """How a learner plans.

    Args:
        rule: selection rule of the search, `puct` or `gumbel`.
        c_puct: weight of the prior in PUCT; published 1 for Stag-Hunt and 15 for Snowdrift.
        discount: per step.
        policy: what is played and learned: `values`, softmax(beta * Q) of the root values averaged over trees (HOP,
            ICML 2024); or `search`, what the search itself answers, averaged over trees: shares of visits under
            `puct`, as in AlphaZero, the improved policy under `gumbel`. It follows the prior where values are alike.
        beta: of `values`.
        trace: lambda of the value's target: 1 for the discounted return of what was played (default), lower to rely on
            the root values of the steps that follow, which know what better play would earn.
        rescale: of `values`: let Q run from 0 to 1 over the legal actions first, so that choices are as sharp where one
            point is at stake as where ten are.
        temperature: of `search` alone: what is played and learned goes by its answer to the power of 1 / temperature,
            as in AlphaGo Zero. Below 1, of ways that are equally good one is soon preferred, and play can be foretold.
    """

    rule: Literal["puct", "gumbel"] = "puct"
    c_puct: float = 1.0
    discount: float = 0.95
    policy: Literal["values", "search"] = "values"
    beta: float = 2.0
    rescale: bool = False
    temperature: float = 1.0
    trace: float = 1.0

    def __post_init__(self) -> None:
        if self.rule not in ("puct", "gumbel"):
            raise ConfigError(f"planner.rule is {self.rule!r}: expected puct or gumbel")
        if self.policy not in ("values", "search"):
            raise ConfigError(f"planner.policy is {self.policy!r}: expected values or search")
        if not 0 < self.discount <= 1:
            raise ConfigError(f"planner.discount is {self.discount}: it must be above 0 and at most 1")
        if not 0 <= self.trace <= 1:
            raise ConfigError(f"planner.trace is {self.trace}: it must lie between 0 and 1")
        if not 0 < self.temperature < float("inf"):
            raise ConfigError(f"planner.temperature is {self.temperature}: it must be above 0 and finite")
        if self.temperature != 1 and self.policy != "search":
            raise ConfigError(
                f"planner.temperature is {self.temperature}, but planner.policy is {self.policy!r}, which only beta "
                "sharpens: set planner.policy to search, or leave planner.temperature at 1"
            )
        if not (0 <= self.c_puct < float("inf") and 0 < self.beta < float("inf")):
            raise ConfigError(f"planner.c_puct is {self.c_puct} and beta {self.beta}: expected >= 0 and > 0, finite")


class Learner(NamedTuple):
    """A learner's callables and numbers: all that a rollout needs to know of it."""

    source: GoalSource
    policy: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]  # view, time, condition -> logits, value
    # goals of the co-players in ego order [M, P-1, D], the ego's seat [M] -> condition
    policy_condition: Callable[[Tensor, Tensor], Tensor]
    coplayer: Callable[[Tensor, Tensor, Tensor], Tensor]  # view, time, condition -> logits
    coplayer_condition: Callable[[Tensor, Tensor], Tensor]  # goals [M, D], whose they are: seats [M] -> condition
    trees: int
    simulations: int
    planner: PlannerConfig
    sparse: bool = False  # policy and coplayer also read views as lists of places, see `Trunk.forward`
    paths: bool = False  # these must name the facts of `omg_lightning.paths.Facts`, too
