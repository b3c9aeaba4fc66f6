"""The contract of opponent models: one class per model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from lightning import LightningModule
from torch import Tensor
from torchmetrics import Metric

from omg_lightning.encoders import ModelSpec
from omg_lightning.events import watched
from omg_lightning.losses import masked_logits
from omg_lightning.opponents.action_predictor import ActionPredictor
from omg_lightning.samples import TrainingBatch
from omg_lightning.types import ConfigError, Episodes, Estimate, Record, View


@dataclass(frozen=True)
class MixtureConfig:
    """Probability that policy and value train on goals in hindsight instead of inferred goals (OMG, NeurIPS 2024).

    Args:
        start: initial probability; 0.5 as published.
        steps: environment steps over which it falls linearly to 0; 50,000 as published.
    """

    start: float = 0.5
    steps: int = 50_000

    def __post_init__(self) -> None:
        if not 0 <= self.start <= 1 or self.steps < 1:
            raise ConfigError(
                f"mixture.start is {self.start} and mixture.steps {self.steps}: expected a probability and at least 1"
            )

    def share(self, env_steps: int) -> float:
        """Return the probability after a number of environment steps."""
        return self.start * max(0.0, 1 - env_steps / self.steps)


class Targets(NamedTuple):
    """Goals of every seat at every step, in hindsight."""

    inferred: Tensor  # float [T, B, P, D] inferred while acting
    label: Tensor  # float [T, B, P, D] in hindsight
    known: Tensor  # bool [T, B, P] whether there is a label
    share: float = 0.0  # probability that the policy is trained on the label
    cache: Any = None  # inputs of `losses`, so that nothing is computed twice


class BeliefView(NamedTuple):
    """A belief over named goals, for figures."""

    values: Tensor  # float [..., K]
    names: tuple[str, ...] | None  # K names; None for learned codes, which have none

    @property
    def labels(self) -> tuple[str, ...]:
        """The K names; learned codes are called `code_0`, `code_1`, ..."""
        return self.names or tuple(f"code_{code}" for code in range(self.values.shape[-1]))


class OpponentModel(LightningModule, ABC):
    """Infers the goals of the other players, predicts their actions, and trains both.

    Each seat has one goal, a vector of length D that all its observers share, unless `as_seen` returns another one. A
    subclass defines the goals: it implements `targets`, and overrides the other methods as needed. The defaults are for
    an opponent model without memory. Users choose it by `--model.opponent NAME`, with its own arguments below that key.
    The first argument of the constructor is the `ModelSpec`. `testing.check_opponent` checks a subclass.

    While acting, `prior` persists over consecutive episodes of the same players. `memory` lasts for one episode. It is
    an immutable value whose leading dimension is the environments. A model must not read `Episodes.true_goal`, unless
    it sets `needs_true_goal`.

    Args:
        spec: description of the game, and the networks.
        size: D, length of a goal vector.
        online: train the co-player policies in the online phase, too; False freezes them after the offline phase.
        mixture: how often the policy trains on goals in hindsight.

    Attributes:
        loss_weights: name and weight of each loss that `losses` can return. A loss without a weight raises an error;
            tensors without a gradient are logged as metrics.
        needs_true_goal: `start` is called again at each step with the current goals of the scripts.
        goals_change: the search calls `next_goal` at every node.
        goals_are_cells: a goal vector has one entry per cell of a grid, and a last one for no cell. Augmentation then
            rotates and reflects it with the board.
        records: extra fields of `Episodes` that `Estimate.extras` fills, by name.
    """

    loss_weights: ClassVar[Mapping[str, float]] = {"coplayer": 1.0}
    needs_true_goal: bool = False
    goals_change: bool = False
    goals_are_cells: bool = False
    records: Mapping[str, Record] = {}

    def __init__(
        self, spec: ModelSpec, size: int, online: bool = True, mixture: MixtureConfig = MixtureConfig()
    ) -> None:
        super().__init__()
        self.spec, self.size, self.online, self.mixture = spec, size, online, mixture
        self.predictor = ActionPredictor(spec, size)
        self.weights: dict[str, float] = dict(self.loss_weights)  # the agent sets the user's weights here

    # Acting ---------------------------------------------------------------------------------------------------------

    def prior(self, batch_size: int) -> Tensor:
        """Return the prior of the first episode, float `[B, P, ...]`; empty by default."""
        return torch.zeros(batch_size, self.spec.game.num_players, 0, device=self.device)

    def start(self, prior: Tensor, true_goal: Tensor) -> Any:
        """Return the memory at the start of an episode; by default the prior.

        Args:
            prior: `[B, P, ...]`.
            true_goal: int64 `[B, P]` current goals of the scripts; NO_GOAL unless `needs_true_goal`.
        """
        return prior

    @abstractmethod
    def infer(self, memory: Any, view: View) -> Estimate:
        """Return the goals of all seats at the current step."""

    def uninformed(self, memory: Any, view: View) -> Estimate:
        """Return the goals of all seats before any observation: a control that measures the effect of inference.

        Args:
            memory: the value that `start` returned.
            view: the current step.
        """
        return self.infer(memory, view)

    def update(self, memory: Any, view: View, actions: Tensor, achieved: Tensor) -> Any:
        """Return the memory after a step; unchanged by default.

        Args:
            memory: before the step.
            view: the observations before the step.
            actions: int64 `[L, P]` in seat order.
            achieved: int64 `[L, P]` the declared goal that each seat achieved, or NO_GOAL.
        """
        return memory

    def carry(self, prior: Tensor, episodes: Episodes) -> Tensor:
        """Return the prior of the next episode, after whole episodes `[T, B, P, ...]`; unchanged by default."""
        return prior

    def as_seen(self, goal: Tensor, ego: Tensor) -> Tensor:
        """Return the goals of all seats from the perspective of the egos; by default all egos share them.

        Args:
            goal: float `[M, P, D]` in seat order, as in `Estimate.point` and `Episodes.goal`.
            ego: int64 `[M]`.
        """
        return goal

    def condition(self, goal: Tensor, seat: Tensor) -> Tensor:
        """Return the inputs of `predict` that depend on goals, float `[M, D]`, and seats, int64 `[M]`, alone.

        A search computes them once.
        """
        return self.predictor.condition(goal, seat)

    def predict(self, observation: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        """Return logits `[M, A]` of the actions of co-players, `log pi_j(a_j | o_j, t, g_j)` up to a constant.

        Args:
            observation: observations of the co-players, `[M, ...]` in any form that their encoder accepts.
            time: float `[M]`.
            condition: the result of `condition`.
        """
        return self.predictor(observation, time, condition)

    def next_goal(self, goal: Tensor, view: View, achieved: Tensor, generator: torch.Generator) -> Tensor:
        """Return the goals after a step of a search, float `[L, P, D]`; unchanged by default. See `goals_change`.

        Args:
            goal: float `[L, P, D]` before the step.
            view: after the step.
            achieved: int64 `[L, P]` the declared goal that each seat achieved by the step, or NO_GOAL.
            generator: all randomness.
        """
        return goal

    # Learning -------------------------------------------------------------------------------------------------------

    @abstractmethod
    def targets(self, batch: TrainingBatch) -> Targets:
        """Return the goals of all seats in hindsight. `TrainingBatch.targets` calls it once for a batch."""

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Return the current losses by name, and metrics without a gradient; by default `coplayer_losses`."""
        return self.coplayer_losses(batch, batch.targets.label, batch.targets.known)

    def coplayer_losses(self, batch: TrainingBatch, goal: Tensor, known: Tensor) -> dict[str, Tensor]:
        """Return the loss of the co-player policies on all seats that a learner predicts.

        Args:
            batch: the episodes.
            goal: float `[T, B, P, D]` goals of the seats.
            known: bool `[T, B, P]` whether a seat has a goal at this step.
        """
        if not self.trains("coplayer") or not (batch.offline or self.online):
            return {}
        episodes, samples = batch.episodes, batch.samples
        who = watched(episodes) & known
        rows, seat = who[samples.mask], who.nonzero()[:, 2]
        view, time = batch.view[rows], samples.time[rows]
        return self.predictor.loss(view, time, goal[who], seat, episodes.legal[who], episodes.action[who])

    def trains(self, name: str) -> bool:
        """Return whether the loss `name` has a weight above 0."""
        return self.weights.get(name, 0.0) > 0

    def after_step(self, offline: bool) -> None:
        """Update after each training step, such as a moving average of weights; `offline` is the phase."""

    def before_fit(self, read: Callable[[str], Mapping[str, Tensor]]) -> None:
        """Prepare for a new `fit`, such as by loading weights of another run.

        Args:
            read: returns the weights in a checkpoint file; raises for another game or other networks.
        """

    # Measuring ------------------------------------------------------------------------------------------------------

    def forecast(self, observation: Tensor, time: Tensor, seat: Tensor, legal: Tensor, goal: Tensor) -> Tensor:
        """Return log probabilities, up to a constant, of the co-players' actions, `[m, A]`.

        Args:
            observation: `[m, *shape]`.
            time: float `[m]`.
            seat: int64 `[m]`.
            legal: bool `[m, A]`.
            goal: float `[m, D]` the recorded `Estimate.point`.
        """
        return masked_logits(self.predict(observation, time, self.condition(goal, seat)), legal)

    def metrics(self, goal_names: Sequence[str]) -> dict[str, Metric]:
        """Return metrics of goals, each with `update(episodes, who, exact)`, see `callbacks.GoalQuality`."""
        return {}

    def coded(self, episodes: Episodes) -> Tensor:
        """Return what `codes` reads of whole episodes, `[M, *shape]`; by default the views of `watched` steps."""
        return episodes.observation[watched(episodes)]

    def codes(self, observation: Tensor) -> Tensor | None:
        """Return learned codes, float `[M, D]` or int64 `[M]`, of the output of `coded`; None without codes."""
        return None

    def code_vectors(self) -> Tensor | None:
        """Return the vectors of learned discrete codes, float `[G, size]`, for figures; None without codes."""
        return None

    def belief_view(self, goal: Tensor, goal_names: Sequence[str]) -> BeliefView | None:
        """Return recorded goals `[..., D]` as a belief over named goals, for figures; None without such a belief."""
        return None
