"""Kinds of partners, learned without labels: a kind is a distribution over the goals that a partner pursues.

Where goals change within an episode, a kind has two distributions: of the first goal of an episode, and of later ones.

A partner keeps its kind from one episode to the next, except with a small probability. So the goals that it achieved in
earlier episodes say which kind it is, and its kind says which goal it will pursue next: a Bayesian update between
episodes in place of HOP's smoothing (inter-OM). Kinds are learned by EM (a mixture of multinomials over achieved goals;
Dempster, Laird and Rubin 1977).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from omg_lightning.types import ConfigError

RECORD = "kind"  # the field of `Episodes.extras` with the belief over kinds
DECAY = 0.995  # of the moving averages, per training batch
FIRST, LATER = 0, -1  # of a kind's distributions; the same one if goals stay
PEAK = 0.5  # share of a kind's own goal in its distribution before it has learned anything


@dataclass(frozen=True)
class KindsConfig:
    """Settings of the belief over kinds of partners.

    Args:
        count: K, number of kinds; 0 for none, so that `belief.alpha` smooths the prior (HOP, ICML 2024).
        turnover: probability that a partner is of another kind in the next episode (fixed share, Herbster and Warmuth
            1998).
    """

    count: int = 0
    turnover: float = 0.05

    def __post_init__(self) -> None:
        if isinstance(self.count, bool) or self.count < 0:
            raise ConfigError(f"belief.kinds.count is {self.count}: it must be 0 for none, or the number of kinds")
        if not 0 <= self.turnover <= 1:
            raise ConfigError(f"belief.kinds.turnover is {self.turnover}: it must lie between 0 and 1")


class Kinds(nn.Module):
    """K kinds, each with S distributions over G goals, and how common each kind is.

    The first kind starts uniform; kind k starts with a preference for goal k - 1, so that no two kinds start equal.
    Later goals start uniform: a partner whose first goal is its favourite achieves the others later, and equal
    preferences for both would cancel.

    Args:
        config: K and the turnover.
        goals: G.
        goals_change: the first goal of an episode has a distribution of its own, so S is 2; otherwise S is 1.
    """

    weight: Tensor
    pursued: Tensor

    def __init__(self, config: KindsConfig, goals: int, goals_change: bool = False) -> None:
        super().__init__()
        self.config = config
        pursued = torch.full((config.count, 1 + goals_change, goals), 1 / goals)
        for kind in range(1, config.count):
            pursued[kind, FIRST] *= 1 - PEAK
            pursued[kind, FIRST, (kind - 1) % goals] += PEAK
        self.register_buffer("weight", torch.full((config.count,), 1 / config.count))  # moving sum of partners
        self.register_buffer("pursued", pursued)  # moving sum of achieved goals for each kind, [K, S, G]

    def population(self) -> Tensor:
        """Return how common each kind is, float `[K]`."""
        return self.weight / self.weight.sum()

    def preferences(self) -> Tensor:
        """Return the distributions of each kind over goals, float `[K, S, G]`, as if one more goal had been seen."""
        each = self.pursued + 1 / self.pursued.shape[-1]
        return each / each.sum(-1, keepdim=True)

    def goals(self, kinds: Tensor, which: int = FIRST) -> Tensor:
        """Return the distribution of a goal, float `[..., G]`, under a belief over kinds `[..., K]`.

        Args:
            kinds: the belief.
            which: FIRST for the first goal of an episode, LATER for another one.
        """
        return kinds @ self.preferences()[:, which]

    def counts(self, goals: Tensor) -> Tensor:
        """Return how often each goal was achieved, float `[..., S, G]`: the first one, and later ones.

        Args:
            goals: one-hot, float `[T, ..., G]`, the goal that each step achieved; 0 for no goal.
        """
        if self.pursued.shape[1] == 1:
            return goals.sum(0)[..., None, :]
        before = goals.sum(-1, keepdim=True).cumsum(0)
        first = (goals * (before == 1)).sum(0)
        return torch.stack([first, goals.sum(0) - first], -2)

    def posterior(self, kinds: Tensor, counts: Tensor) -> Tensor:
        """Return `p(z | c)`, proportional to `p(z) prod_s,g p_s(g | z)^c(s, g)`: float `[..., K]`.

        Args:
            kinds: float `[..., K]` belief over kinds before the episode.
            counts: float `[..., S, G]` how often a partner achieved each goal in it.
        """
        return (kinds.log() + counts.flatten(-2) @ self.preferences().log().flatten(1).t()).softmax(-1)

    def carried(self, kinds: Tensor, counts: Tensor) -> Tensor:
        """Return the belief over kinds at the start of the next episode: the posterior after the turnover."""
        share = self.config.turnover
        return (1 - share) * self.posterior(kinds, counts) + share * self.population()

    @torch.no_grad()
    def learn(self, kinds: Tensor, counts: Tensor) -> None:
        """Take a step of EM.

        Args:
            kinds: float `[M, K]` belief over kinds before each of M partners' episodes; rows of 0 are left out.
            counts: float `[M, S, G]` how often the partner achieved each goal in it.
        """
        known = (kinds.sum(-1) > 0) & (counts.flatten(1).sum(-1) > 0)
        found = self.posterior(kinds[known].clamp(min=torch.finfo(kinds.dtype).tiny), counts[known])
        self.weight.mul_(DECAY).add_(found.sum(0))
        self.pursued.mul_(DECAY).add_((found.t() @ counts[known].flatten(1)).view_as(self.pursued))
