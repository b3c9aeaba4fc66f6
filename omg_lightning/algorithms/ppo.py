"""Proximal policy optimisation, without search."""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from omg_lightning.actors import PolicyActor
from omg_lightning.algorithms.base import Algorithm, OnPolicy
from omg_lightning.algorithms.policy import PolicyModule
from omg_lightning.encoders import ModelSpec
from omg_lightning.losses import masked_logits
from omg_lightning.samples import TrainingBatch, Values
from omg_lightning.types import ConfigError, GoalModel


class PPO(Algorithm):
    """Proximal policy optimisation with a clipped surrogate (Schulman et al. 2017, arXiv 1707.06347) and GAE.

    The policy observes the goals that the opponent model inferred while acting (`Episodes.goal`), so PPO combines with
    every opponent model; with `Subgoal` it is OMG (NeurIPS 2024). Learners share weights as `model.networks.sharing`
    sets. Each round's episodes are used in `epochs` passes of `minibatches` parts, and then dropped. After a time limit
    the return bootstraps with the value of the last observation; after a terminal state it does not. The value is
    learned in units of the returns' standard deviation, see `PolicyModule`.

    Args:
        spec: description of the game, and the networks.
        goal_size: D.
        discount: per step.
        gae_lambda: lambda of generalised advantage estimation (Schulman et al. 2016, arXiv 1506.02438, eq. 16).
        clip: clipping range of the probability ratio, 1 +- `clip`.
        epochs: passes over a round's episodes.
        minibatches: minibatches per pass.
        entropy: weight of the entropy bonus.
        normalise: normalise the advantages of a minibatch to mean 0 and standard deviation 1.
    """

    loss_weights: ClassVar[Mapping[str, float]] = {"policy": 1.0, "value": 0.5, "entropy": 0.01}

    def __init__(
        self,
        spec: ModelSpec,
        goal_size: int,
        discount: float = 0.99,
        gae_lambda: float = 0.95,
        clip: float = 0.2,
        epochs: int = 4,
        minibatches: int = 4,
        entropy: float = 0.01,
        normalise: bool = True,
    ) -> None:
        for name, value in (("discount", discount), ("gae_lambda", gae_lambda)):
            if not 0 <= value <= 1:
                raise ConfigError(f"model.algorithm.{name} is {value}: it must lie between 0 and 1")
        for name, count in (("epochs", epochs), ("minibatches", minibatches)):
            if count < 1:
                raise ConfigError(f"model.algorithm.{name} is {count}: it must be at least 1")
        if not (0 < clip < math.inf and 0 <= entropy < math.inf):
            raise ConfigError(
                f"model.algorithm.clip is {clip} and entropy {entropy}: expected finite numbers, above 0 and at least 0"
            )
        super().__init__(spec, goal_size)
        self.discount, self.gae_lambda, self.clip, self.normalise = discount, gae_lambda, clip, normalise
        self.on_policy = OnPolicy(epochs, minibatches)
        self.weights["entropy"] = entropy
        self.policy = PolicyModule(spec, goal_size)

    def actor(self, opponent: GoalModel) -> PolicyActor:
        """Return an actor that samples from the policy."""
        return PolicyActor(opponent, self.policy, self.spec.game.num_actions)

    def prepare(self, observation: Tensor) -> Tensor:
        """Return views in the form that the policy's encoder reads fastest."""
        return self.policy.prepare(observation)

    def values(self) -> Values:
        """Return the value head."""
        return self.policy.goal_values

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Return `policy`, `value` and `entropy` on the learner's steps, and metrics of the update; nothing offline."""
        episodes, samples = batch.episodes, batch.samples
        if batch.offline or not bool(episodes.learner.any()):
            return {}
        where = episodes.learner.nonzero(as_tuple=True)
        ego = where[2]
        advantage, returns = self.advantages(batch)
        advantage, returns = advantage[where], returns[where]
        self.policy.follow(returns)
        rows = episodes.learner[samples.mask]
        # The ratio compares two policies under the same goals: those inferred when the action was sampled.
        goal = torch.where(episodes.active[..., None], episodes.goal, 0.0)
        others = batch.others(goal, where)
        logits, value = self.policy(batch.view[rows], samples.time[rows], self.policy.condition(others, ego))
        log_policy = masked_logits(logits, episodes.legal[where]).log_softmax(-1)
        log_probability = log_policy.gather(-1, episodes.action[where][:, None])[:, 0]
        if self.normalise and len(advantage) > 1:
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        before = episodes.extras["log_probability"][where]
        ratio = (log_probability - before).exp()
        clipped = ratio.clamp(1 - self.clip, 1 + self.clip)
        entropy = -(log_policy.exp() * log_policy).sum(-1)
        with torch.no_grad():
            share = ((ratio - 1).abs() > self.clip).float().mean()
            divergence = (ratio - 1 - (log_probability - before)).mean()  # Schulman 2020, "Approximating KL divergence"
        return {
            "policy": -torch.minimum(ratio * advantage, clipped * advantage).mean(),
            "value": self.policy.value_error(value, returns).mean(),
            "entropy": -entropy.mean(),
            "ppo_clipped": share,
            "ppo_kl": divergence,
        }

    def advantages(self, batch: TrainingBatch) -> tuple[Tensor, Tensor]:
        """Return advantages and value targets, float `[T, B, P]`, of the learner's steps."""
        episodes = batch.episodes
        value, bootstrap = episodes.extras["value"], episodes.extras["bootstrap"]
        ended = episodes.terminated | episodes.truncated
        advantage = gae(batch.reward, value, bootstrap, ended, self.discount, self.gae_lambda)
        return advantage, advantage + value


def gae(reward: Tensor, value: Tensor, bootstrap: Tensor, ended: Tensor, discount: float, lam: float) -> Tensor:
    """Return generalised advantage estimates (Schulman et al. 2016, arXiv 1506.02438, eq. 16), float `[T, ...]`.

    `delta_t = r_t + discount * V_{t+1} - V_t` and `A_t = delta_t + discount * lam * A_{t+1}`. Where a seat ends with
    step t, `V_{t+1}` is `bootstrap_t` and `A_{t+1}` is 0.

    Args:
        reward: float `[T, ...]`.
        value: float `[T, ...]` V_t when the action was sampled.
        bootstrap: float `[T, ...]` value of the view after step t where a time limit cut the seat off; 0 elsewhere.
        ended: bool `[T, ...]` the seat ended with step t.
        discount: per step.
        lam: lambda.
    """
    advantage = torch.zeros_like(reward)
    ahead, next_value = torch.zeros_like(reward[0]), torch.zeros_like(reward[0])
    for t in reversed(range(len(reward))):
        following = torch.where(ended[t], bootstrap[t], next_value)
        delta = reward[t] + discount * following - value[t]
        ahead = delta + discount * lam * torch.where(ended[t], 0.0, ahead)
        advantage[t], next_value = ahead, value[t]
    return advantage
