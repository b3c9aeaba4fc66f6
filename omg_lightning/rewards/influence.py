"""Social influence: a reward for actions that change the next actions of the other players."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omg_lightning.encoders import ModelSpec
from omg_lightning.events import watched
from omg_lightning.losses import masked_logits
from omg_lightning.rewards.base import Reward
from omg_lightning.samples import TrainingBatch
from omg_lightning.types import ConfigError, Episodes, GoalModel, ego_order


class Pairs(NamedTuple):
    """All pairs of a learner k and a co-player j that act at step t, where j also acts at step t + 1: n pairs."""

    t: Tensor  # int64 [n]
    row: Tensor  # int64 [n] the environment
    ego: Tensor  # int64 [n] seat k, which influences
    other: Tensor  # int64 [n] seat j, which is influenced


class SocialInfluence(Reward, nn.Module):
    """Adds the influence that a learner's action has on the next actions of the others (Jaques et al., ICML 2019).

    The paper's variant with a model of other agents (arXiv 1810.08647, sections 3 and 5), computed as follows. A
    network predicts `q(a_j' | o_j, a)`, co-player j's action at step t + 1, from j's own view `o_j` and the joint
    action `a` at step t. It has no memory beyond that view, and is trained with the loss `influence`, by cross entropy
    on the co-players' actions. The influence of learner k at step t is, summed over the co-players j that still act at
    step t + 1,

        KL( q(a_j' | o_j, a)  ||  sum over b of pi_k(b) q(a_j' | o_j, a with k's action replaced by b) )

    in nats, where `pi_k` is the recorded policy from which k sampled its action (`extras["policy"]`). So an action is
    influential if it changes the prediction from the expectation over k's policy. All
    learners get `own + weight * influence`; other seats keep the game's reward. The last step has no influence.

    Args:
        weight: of the influence, in reward per nat.

    Raises:
        ConfigError: the weight is negative or not finite.
    """

    loss_weights: ClassVar[Mapping[str, float]] = {"influence": 1.0}

    def __init__(self, weight: float = 0.1) -> None:
        super().__init__()
        if not 0 <= weight < math.inf:
            raise ConfigError(f"model.reward.weight is {weight}: it must be at least 0 and finite")
        self.weight = weight

    def build(self, spec: ModelSpec) -> None:
        """Make the network that predicts next actions."""
        super().build(spec)
        self.net = spec.make_goal_net(spec.game.num_players * spec.game.num_actions, spec.game.num_actions)

    @torch.no_grad()
    def reward(self, episodes: Episodes, opponent: GoalModel) -> Tensor:
        """Return the game's rewards plus the weighted influence, float `[T, B, P]`."""
        return episodes.reward + self.weight * self.influence(episodes)

    @torch.no_grad()
    def influence(self, episodes: Episodes) -> Tensor:
        """Return the influence of each learner's action, float `[T, B, P]` in nats; 0 for all other seats.

        Raises:
            ConfigError: the learner's algorithm does not record its policy.
        """
        if "policy" not in episodes.extras:
            raise ConfigError(
                "SocialInfluence needs the learner's action probabilities, but its actor does not record 'policy': "
                "choose --model.algorithm PPO, or give PolicyActor its num_actions"
            )
        pairs, actions = self._pairs(episodes), self.spec.game.num_actions
        played = self._joint(episodes, pairs.t, pairs.row, pairs.other)  # [n, P, A]
        each = played[:, None].repeat(1, actions, 1, 1)  # [n, A, P, A] one for each action that k could have taken
        place = (pairs.ego - pairs.other) % played.shape[1]  # of k in the order of j
        each[torch.arange(len(place), device=place.device), :, place] = torch.eye(actions, device=place.device)
        seat = pairs.other.repeat_interleave(actions)
        condition = self.net.condition(each.flatten(0, 1).flatten(1), seat).unflatten(0, (len(place), actions))
        time = pairs.t / self.spec.game.max_steps
        view = episodes.observation[pairs.t, pairs.row, pairs.other].float()
        legal = episodes.legal[pairs.t + 1, pairs.row, pairs.other]
        logits = masked_logits(self.net.under(view, time, condition), legal[:, None])
        chance = logits.softmax(-1)  # [n, A, A]
        policy = episodes.extras["policy"][pairs.t, pairs.row, pairs.ego]
        taken = episodes.action[pairs.t, pairs.row, pairs.ego]
        found = torch.zeros_like(episodes.reward)
        where = pairs.t, pairs.row, pairs.ego
        return found.index_put(where, divergence(chance, policy, taken), accumulate=True)

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Return `influence`, the cross entropy of next actions, and the accuracy of the predictions."""
        episodes, samples = batch.episodes, batch.samples
        following = torch.cat([episodes.active[1:], torch.zeros_like(episodes.active[:1])])
        who = watched(episodes) & following
        t, row, seat = who.nonzero(as_tuple=True)
        rows = who[samples.mask]
        goal = self._joint(episodes, t, row, seat).flatten(1)
        logits = self.net(batch.view[rows], samples.time[rows], self.net.condition(goal, seat))
        logits = masked_logits(logits, episodes.legal[t + 1, row, seat])
        action, count = episodes.action[t + 1, row, seat], max(len(t), 1)  # the mean of no samples is NaN
        return {
            "influence": F.cross_entropy(logits, action, reduction="sum") / count,
            "influence_top1": (logits.detach().argmax(-1) == action).sum() / count,
        }

    def _joint(self, episodes: Episodes, t: Tensor, row: Tensor, seat: Tensor) -> Tensor:
        """Return joint actions as one-hot vectors in the order of `seat`, `[n, P, A]`; 0 for seats that have left."""
        active = episodes.active[t, row]
        played = F.one_hot(episodes.action[t, row] * active, self.spec.game.num_actions).float() * active[..., None]
        return ego_order(played, seat)

    def _pairs(self, episodes: Episodes) -> Pairs:
        """Return all pairs of influencing and influenced seats."""
        both = episodes.active[:-1] & episodes.active[1:]  # [T - 1, B, P] acts now and at the next step
        pair = episodes.learner[:-1, :, :, None] & both[:, :, None]
        different = ~torch.eye(pair.shape[-1], dtype=torch.bool, device=pair.device)
        return Pairs(*(pair & different).nonzero(as_tuple=True))


def divergence(chance: Tensor, policy: Tensor, taken: Tensor) -> Tensor:
    """Return KL(probabilities given the taken action || their mean over the policy's actions), `[n]` in nats.

    Args:
        chance: float `[n, A, A']` probabilities of the other's actions, given each of the ego's.
        policy: float `[n, A]` probabilities of the ego's actions.
        taken: int64 `[n]` the ego's action.
    """
    given = chance[torch.arange(len(taken), device=taken.device), taken]
    marginal = (policy[..., None] * chance).sum(1)
    ratio = given.clamp(min=1e-12).log() - marginal.clamp(min=1e-12).log()
    return (given * ratio).sum(-1)
