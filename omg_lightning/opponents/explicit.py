"""Goal sources with an explicit belief over a finite number of goals, declared or learned."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from omg_lightning.opponents.belief import draw_one_hot, inter, intra, keep_alive
from omg_lightning.opponents.events import endings, last_known, rewarded
from omg_lightning.types import NO_GOAL, ConfigError, Episodes, Estimate, View

Likelihood = Callable[[View, Tensor], Tensor]  # view, actions [L, P] -> log pi_j(a_j | o_j, t, g) [L, P, G]


@dataclass(frozen=True)
class BeliefConfig:
    """How an explicit belief is updated.

    Args:
        intra: update within an episode, at every step (HOP's intra-OM).
        inter: update the prior between episodes (HOP's inter-OM).
        alpha: smoothing of the prior; 0.995 in Stag-Hunt, 0.98 in Snowdrift as published.
        floor: no goal's probability falls below it.
        labels: the co-player model learns steps after which nothing is realised any more, too, under goals drawn from
            the belief; without, from steps with a goal in hindsight alone. Not for places.
    """

    intra: bool = True
    inter: bool = True
    alpha: float = 0.995
    floor: float = 1e-3
    labels: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ConfigError(f"belief.alpha is {self.alpha}: it must lie between 0 and 1")
        if not 0 <= self.floor < 0.5:
            raise ConfigError(f"belief.floor is {self.floor}: it must be at least 0 and less than 0.5")


class DeclaredGoals:
    """The game's own goals under an explicit belief (HOP, ICML 2024). Memory is the log belief, `[L, P, G]`.

    Args:
        num_goals: G.
        likelihood: log probability of the actions seen, under each goal, by the co-player model.
        config: how the belief is updated.
    """

    def __init__(self, num_goals: int, likelihood: Likelihood, config: BeliefConfig) -> None:
        if config.floor * num_goals >= 1:
            raise ConfigError(
                f"belief.floor is {config.floor}: with {num_goals} goals it must be less than 1/{num_goals}"
            )
        self.size = num_goals
        self.likelihood = likelihood
        self.config = config

    def prior(self, batch: int, seats: int, device: torch.device) -> Tensor:
        """All goals alike, float `[B, P, G]`."""
        return torch.full((batch, seats, self.size), 1 / self.size, device=device)

    def start(self, prior: Tensor, truth: Tensor) -> Tensor:
        """The belief starts at the prior `[B, P, G]`, no goal below the floor; `truth` `[B, P]` is not looked at."""
        return self._alive(prior).log()

    def infer(self, memory: Tensor, view: View) -> Estimate:
        """The belief, and goals drawn from it, for a log belief `[L, P, G]`."""
        belief = memory.softmax(-1)
        return Estimate(belief, lambda trees, generator: draw_one_hot(belief, trees, generator))

    def update(self, memory: Tensor, view: View, actions: Tensor) -> Tensor:
        """Bayes on the actions `[L, P]` of those still playing."""
        if not self.config.intra:
            return memory
        posterior = self._alive(intra(memory, self.likelihood(view, actions), 0.0).exp()).log()
        return torch.where(view.active[..., None], posterior, memory)

    def realised(self, episodes: Episodes) -> Tensor:
        """The goal that the game says was realised last, int64 `[B, P]`."""
        return last_known(episodes.realised)

    def carry(self, prior: Tensor, realised: Tensor) -> Tensor:
        """Smooths goals realised, `[B, P]`, into the prior `[B, P, G]`."""
        return inter(prior, realised, self.config.alpha) if self.config.inter else prior

    def _alive(self, belief: Tensor) -> Tensor:
        return keep_alive(belief, self.config.floor)


class CodebookGoals(DeclaredGoals):
    """Learned discrete goals under the same explicit belief as declared ones; no label is ever seen.

    A goal is realised when its seat is rewarded: the code of its view at that step is the goal.

    Args:
        num_codes: G.
        likelihood: log probability of the actions seen, under each code, by the co-player model.
        config: how the belief is updated.
        encode: codes, int64 `[M]`, of views `[M, C, h, w]`.
        in_use: says which codes are in use, bool `[G]`; the others, which nobody was ever seen to pursue, are not
            believed in. Where none is, all are.
        ending_codes: who is never rewarded realises the code where it ends; without, nothing.
    """

    def __init__(
        self,
        num_codes: int,
        likelihood: Likelihood,
        config: BeliefConfig,
        encode: Callable[[Tensor], Tensor],
        in_use: Tensor,
        ending_codes: bool = False,
    ) -> None:
        super().__init__(num_codes, likelihood, config)
        self.encode, self.ending_codes = encode, ending_codes
        self.in_use = in_use if in_use.any() else torch.ones_like(in_use)

    def prior(self, batch: int, seats: int, device: torch.device) -> Tensor:
        """All codes in use alike, float `[B, P, G]`."""
        used = self.in_use.float()
        return (used / used.sum()).expand(batch, seats, self.size).clone()

    def realised(self, episodes: Episodes) -> Tensor:
        """The code where each seat was last rewarded, int64 `[B, P]`."""
        event = rewarded(episodes)
        if self.ending_codes:
            event |= endings(event, episodes.active) & ~event.any(0)
        codes = torch.full_like(episodes.realised, NO_GOAL)
        codes[event] = self.encode(episodes.observation[event].float())
        return last_known(codes)

    def _alive(self, belief: Tensor) -> Tensor:
        belief = belief * self.in_use
        belief = belief / belief.sum(-1, keepdim=True).clamp(min=torch.finfo(belief.dtype).tiny)
        floor = self.config.floor * self.in_use
        return floor + (1 - floor.sum()) * belief
