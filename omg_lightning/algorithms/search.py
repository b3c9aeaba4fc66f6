"""Best-response search: plan with predicted co-players, and train on the search results."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from omg_lightning.actors import PlannerConfig, SearchActor
from omg_lightning.algorithms.base import Algorithm
from omg_lightning.algorithms.policy import PolicyModule
from omg_lightning.encoders import ModelSpec
from omg_lightning.losses import masked_logits, soft_cross_entropy, td_lambda
from omg_lightning.samples import TrainingBatch, Values
from omg_lightning.types import ConfigError, GoalModel


class BestResponseSearch(Algorithm):
    """Plans a best response by tree search (HOP, ICML 2024), and trains a prior policy and a value on the results.

    Losses: cross entropy to the root policy, and squared error to the return; published weights 1/2 each.

    Args:
        spec: description of the game, and the networks.
        goal_size: D.
        trees: K, search trees per decision, each with its own sampled goals.
        simulations: N, per tree.
        planner: settings of the search.
        offline_value: train the value in the offline phase, too, on the returns of the scripts.
    """

    loss_weights: ClassVar[Mapping[str, float]] = {"policy": 0.5, "value": 0.5}
    searches = True

    def __init__(
        self,
        spec: ModelSpec,
        goal_size: int,
        trees: int = 5,
        simulations: int = 32,
        planner: PlannerConfig = PlannerConfig(),
        offline_value: bool = True,
    ) -> None:
        for name, value in (("trees", trees), ("simulations", simulations)):
            if value < 1:
                raise ConfigError(f"model.algorithm.{name} is {value}: it must be at least 1; PPO plays without search")
        super().__init__(spec, goal_size)
        self.trees, self.simulations, self.planner, self.offline_value = trees, simulations, planner, offline_value
        self.discount = planner.discount
        self.policy = PolicyModule(spec, goal_size)

    def actor(self, opponent: GoalModel) -> SearchActor:
        """Return an actor that searches."""
        encoder = self.policy.net.encoder
        return SearchActor(
            opponent,
            self.policy,
            self.trees,
            self.simulations,
            self.planner,
            self.spec.game.num_actions,
            encoder.sparse,
            encoder.distances,
            float(self.policy.deviation),
        )

    def prepare(self, observation: Tensor) -> Tensor:
        """Return views in the form that the policy's encoder reads fastest."""
        return self.policy.prepare(observation)

    def values(self) -> Values:
        """Return the value head."""
        return self.policy.goal_values

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Return `policy` and `value` on the learner's steps; offline `value` on all steps, if so configured."""
        if batch.offline:
            return self._offline_value(batch) if self.offline_value and self.trains("value") else {}
        if not (self.trains("policy") or self.trains("value")):
            return {}
        episodes, samples = batch.episodes, batch.samples
        where = episodes.learner.nonzero(as_tuple=True)
        ego = where[2]
        others = batch.others(batch.goals, where)
        rows = episodes.learner[samples.mask]
        target = self.value_targets(batch)[where]
        self.policy.follow(target)
        logits, predicted = self.policy(batch.view[rows], samples.time[rows], self.policy.condition(others, ego))
        count = max(len(ego), 1)  # the mean of no samples is NaN
        root = episodes.extras["root_policy"][where]
        return {
            "policy": soft_cross_entropy(masked_logits(logits, episodes.legal[where]), root).sum() / count,
            "value": self.policy.value_error(predicted, target).sum() / count,
        }

    def value_targets(self, batch: TrainingBatch) -> Tensor:
        """Return the value targets, float `[T, B, P]`: discounted returns, or see `PlannerConfig.td_lambda`."""
        episodes, config = batch.episodes, self.planner
        # With mean rewards (`prosocial`) a seat still earns after it has left, but not after the end of the episode.
        reward = torch.where(episodes.active.any(-1, keepdim=True), batch.reward, 0.0)
        value = episodes.extras["root_value"]
        return td_lambda(reward, value, episodes.learner, config.discount, config.td_lambda)

    def _offline_value(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Train only the value, on the returns of the scripts: there is no root policy to train on yet."""
        episodes, samples = batch.episodes, batch.samples
        t, b, ego = where = episodes.active.nonzero(as_tuple=True)
        others = batch.others(batch.goals, where)
        target = self.value_targets(batch)[t, b, ego]
        self.policy.follow(target)
        _, predicted = self.policy(batch.view, samples.time, self.policy.condition(others, ego))
        return {"value": self.policy.value_error(predicted, target).sum() / max(len(ego), 1)}
