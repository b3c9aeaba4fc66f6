"""Goals of a player over a whole episode, in hindsight: samples from the smoothing posterior of the filter.

This is the E-step of a mixture of goal-conditioned policies whose weights are the prior (stochastic EM; Celeux and
Diebolt 1985). Paths of goals are sampled by forward filtering and backward sampling (Carter and Kohn 1994).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from omg_lightning.draws import pick
from omg_lightning.opponents.transition import TransitionConfig
from omg_lightning.types import NO_GOAL


class Evidence(NamedTuple):
    """The evidence in whole episodes; leading T, B, P."""

    log_likelihood: Tensor  # float [T, B, P, G] of the action of each step under each goal
    achieved: Tensor  # int64 [T, B, P] the goal that the step achieved, or NO_GOAL
    active: Tensor  # bool [T, B, P]
    possible: Tensor  # bool [T, B, P, G] possible goals at each step
    fresh: Tensor  # float [T, B, P, G] distribution of a new goal at each step


def drawn_goals(evidence: Evidence, prior: Tensor, transition: TransitionConfig, generator: torch.Generator) -> Tensor:
    """Sample the goal that each seat pursued at each step, given all its actions and achieved goals of the episode.

    At the step of an event the pursued goal is the achieved one.

    Args:
        evidence: of the episodes.
        prior: float `[B, P, G]` at the start.
        transition: how goals change.
        generator: all randomness; it is used for active steps only, so samples do not depend on the padding.

    Returns:
        int64 `[T, B, P]`; NO_GOAL for padding.
    """
    event, active = evidence.achieved != NO_GOAL, evidence.active
    known = F.one_hot(evidence.achieved.clamp(min=0), prior.shape[-1]).to(prior.dtype)
    believed, belief = torch.zeros_like(evidence.log_likelihood), prior
    for t in range(len(active)):
        if t:
            belief = transition.filter(belief, evidence.fresh[t], evidence.possible[t], event[t - 1])
        seen = belief * (evidence.log_likelihood[t] - evidence.log_likelihood[t].amax(-1, keepdim=True)).exp()
        seen = seen / seen.sum(-1, keepdim=True).clamp(min=torch.finfo(seen.dtype).tiny)
        belief = believed[t] = torch.where(event[t][..., None], known[t], seen)
    uniform = torch.zeros(active.shape, device=active.device)
    uniform[active] = torch.rand(int(active.sum()), generator=generator, device=active.device)
    goals = torch.full_like(evidence.achieved, NO_GOAL)
    following = torch.zeros_like(goals[0])
    for t in reversed(range(len(active))):
        weight = believed[t]
        if t + 1 < len(active):
            stays = torch.full_like(weight, 1 - transition.leak)
            if transition.at_events:
                stays = stays * (evidence.possible[t + 1] & ~event[t][..., None])
            to = F.one_hot(following, weight.shape[-1]) * stays
            to = to + (1 - stays) * evidence.fresh[t + 1].gather(-1, following[..., None])
            joint = weight * to
            # If the seat leaves with this step, no step follows; rounding may also exclude all paths.
            usable = active[t + 1][..., None] & (joint.sum(-1, keepdim=True) > 0)
            weight = torch.where(usable, joint, weight)
        drawn = pick(weight.clamp(min=0), uniform[t]).clamp(max=weight.shape[-1] - 1)
        following = torch.where(active[t], drawn, following)
        goals[t] = torch.where(active[t], drawn, NO_GOAL)
    return goals
