"""An explicit belief over a co-player's goals (HOP, ICML 2024), as pure functions in log space."""

import torch
import torch.nn.functional as F
from torch import Tensor

from omg_lightning.draws import pick, spread
from omg_lightning.types import NO_GOAL


def bayes_update(log_belief: Tensor, log_likelihood: Tensor, floor: float) -> Tensor:
    """Apply Bayes' rule to one step of an episode: `b(g) <- b(g) * pi_j(a_j | s, g) / Z` (HOP, intra-OM).

    Args:
        log_belief: float `[..., G]`.
        log_likelihood: float `[..., G]`, the log probability of the observed action under each goal.
        floor: smallest probability of a goal, so that no goal is excluded for ever; at most 1 / G.

    Returns:
        float `[..., G]` normalised log belief.
    """
    return floored(torch.softmax(log_belief + log_likelihood, dim=-1), floor).log()


def floored(belief: Tensor, floor: float) -> Tensor:
    """Mix a belief `[..., G]` with the uniform one, so that no goal falls below `floor`; at most 1 / G."""
    return floor + (1 - floor * belief.shape[-1]) * belief


def smooth_prior(prior: Tensor, achieved: Tensor, alpha: float) -> Tensor:
    """Take one step between episodes: `b^{K,0}(g) = alpha * b^{K-1,0}(g) + (1 - alpha) * 1(goal achieved = g)`.

    It smooths the prior, not the posterior (HOP, inter-OM). Without an achieved goal the prior stays.

    Args:
        prior: float `[..., G]` probabilities at the start of the episode that ended.
        achieved: int64 `[...]` goal achieved in it, or NO_GOAL.
        alpha: smoothing, 0.995 in Stag-Hunt and 0.98 in Snowdrift as published.

    Returns:
        float `[..., G]` prior of the next episode.
    """
    seen = F.one_hot(achieved.clamp(min=0), prior.shape[-1]).to(prior.dtype)
    return torch.where((achieved == NO_GOAL)[..., None], prior, alpha * prior + (1 - alpha) * seen)


def draw_one_hot(belief: Tensor, trees: int, generator: torch.Generator) -> Tensor:
    """Sample one-hot goals `[L, K, P, G]` from beliefs `[L, P, G]`, stratified over the K trees."""
    rows, seats, goals = belief.shape
    index = pick(belief[:, None], spread(rows, trees, seats, generator))  # [L, K, P]
    return F.one_hot(index, goals).to(belief.dtype)
