"""Kinds of partners, learned without labels: a kind is a distribution over the goals that a partner pursues.

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
    """K distributions over G goals, and how common each kind is.

    The first kind starts uniform; kind k starts with a preference for goal k - 1, so that no two kinds start equal.

    Args:
        config: K and the turnover.
        goals: G.
    """

    weight: Tensor
    pursued: Tensor

    def __init__(self, config: KindsConfig, goals: int) -> None:
        super().__init__()
        self.config = config
        pursued = torch.full((config.count, goals), 1 / goals)
        for kind in range(1, config.count):
            pursued[kind] *= 1 - PEAK
            pursued[kind, (kind - 1) % goals] += PEAK
        self.register_buffer("weight", torch.full((config.count,), 1 / config.count))  # moving sum of partners
        self.register_buffer("pursued", pursued)  # moving sum of achieved goals for each kind

    def population(self) -> Tensor:
        """Return how common each kind is, float `[K]`."""
        return self.weight / self.weight.sum()

    def preferences(self) -> Tensor:
        """Return the distribution of each kind over goals, float `[K, G]`, as if one more goal had been seen."""
        each = self.pursued + 1 / self.pursued.shape[1]
        return each / each.sum(-1, keepdim=True)

    def goals(self, kinds: Tensor) -> Tensor:
        """Return the distribution of the next goal, float `[..., G]`, under a belief over kinds `[..., K]`."""
        return kinds @ self.preferences()

    def posterior(self, kinds: Tensor, counts: Tensor) -> Tensor:
        """Return `p(z | c)`, proportional to `p(z) prod_g p(g | z)^c(g)`: float `[..., K]`.

        Args:
            kinds: float `[..., K]` belief over kinds before the episode.
            counts: float `[..., G]` how often a partner achieved each goal in it.
        """
        return (kinds.log() + counts @ self.preferences().log().t()).softmax(-1)

    def carried(self, kinds: Tensor, counts: Tensor) -> Tensor:
        """Return the belief over kinds at the start of the next episode: the posterior after the turnover."""
        share = self.config.turnover
        return (1 - share) * self.posterior(kinds, counts) + share * self.population()

    @torch.no_grad()
    def learn(self, kinds: Tensor, counts: Tensor) -> None:
        """Take a step of EM.

        Args:
            kinds: float `[M, K]` belief over kinds before each of M partners' episodes; rows of 0 are left out.
            counts: float `[M, G]` how often the partner achieved each goal in it.
        """
        known = (kinds.sum(-1) > 0) & (counts.sum(-1) > 0)
        found = self.posterior(kinds[known].clamp(min=torch.finfo(kinds.dtype).tiny), counts[known])
        self.weight.mul_(DECAY).add_(found.sum(0))
        self.pursued.mul_(DECAY).add_(found.t() @ counts[known])
