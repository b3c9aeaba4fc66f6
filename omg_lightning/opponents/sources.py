"""The goal sources behind the switch `goals`: what co-player models, policy and search are conditioned on.

| `goals` | goal vector | belief |
|---|---|---|
| `none` | empty | none: direct opponent model |
| `declared` | one-hot of the game's own goals | explicit, Bayes within and across episodes (HOP) |
| `subgoal` | latent code of a future state | implicit, in a recurrent network (OMG, HOP+) |
| `codebook` | one-hot of a learned code | explicit, as for `declared`, on codes that were never labelled |
| `oracle` | one-hot of the script's true goal | exact: an upper bound for studies |

Those with an explicit belief over declared or learned goals are in `explicit.py`.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from omg_lightning.opponents.events import one_hot_goals
from omg_lightning.types import NO_GOAL, Episodes, Estimate, View

GoalKind = Literal["none", "declared", "subgoal", "codebook", "oracle"]


class NoGoals:
    """Goals are left out: vectors of length 0 everywhere."""

    size = 0

    def prior(self, batch: int, seats: int, device: torch.device) -> Tensor:
        """An empty prior, float `[B, P, 0]`."""
        return torch.zeros(batch, seats, 0, device=device)

    def start(self, prior: Tensor, truth: Tensor) -> Tensor:
        """Memory is the empty prior, float `[B, P, 0]`; `truth` `[B, P]` is not looked at."""
        return prior

    def infer(self, memory: Tensor, view: View) -> Estimate:
        """Empty goals for memory `[L, P, 0]`."""
        return Estimate(memory, lambda trees, generator: memory[:, None].expand(-1, trees, -1, -1))

    def update(self, memory: Tensor, view: View, actions: Tensor) -> Tensor:
        """Nothing is learned from actions `[L, P]`."""
        return memory

    def realised(self, episodes: Episodes) -> Tensor:
        """Nothing is realised: NO_GOAL everywhere, int64 `[B, P]`."""
        return torch.full_like(episodes.realised[0], NO_GOAL)

    def carry(self, prior: Tensor, realised: Tensor) -> Tensor:
        """Nothing is carried over from goals realised `[B, P]`."""
        return prior


class OracleGoals(NoGoals):
    """The scripts' true goals: an upper bound. Memory is a one-hot, `[L, P, G]`, all zero where there is none.

    Attributes:
        told: such a source is started anew at each step, since a goal may change within an episode.
    """

    told = True

    def __init__(self, num_goals: int) -> None:
        self.size = num_goals

    def start(self, prior: Tensor, truth: Tensor) -> Tensor:
        """One-hot of the goals `[B, P]` that the scripts pursue."""
        return one_hot_goals(truth, self.size)


class Subgoals:
    """Latent subgoals inferred by a recurrent network (OMG, NeurIPS 2024). Memory is its context, `[L, P, hidden]`.

    Args:
        size: D, length of the latent code.
        context: gives the empty context, `[B, P, hidden]`, for B environments and P seats on a device.
        posterior: memory, view -> mean and log variance `[L, P, D]` of each seat's subgoal.
        advance: memory, view, actions -> the next memory.
    """

    def __init__(
        self,
        size: int,
        context: Callable[[int, int, torch.device], Tensor],
        posterior: Callable[[Tensor, View], tuple[Tensor, Tensor]],
        advance: Callable[[Tensor, View, Tensor], Tensor],
    ) -> None:
        self.size = size
        self._context, self._posterior, self._advance = context, posterior, advance

    def prior(self, batch: int, seats: int, device: torch.device) -> Tensor:
        """No prior is carried: float `[B, P, 0]`."""
        return torch.zeros(batch, seats, 0, device=device)

    def start(self, prior: Tensor, truth: Tensor) -> Tensor:
        """The context starts afresh with each episode, `[B, P, hidden]`."""
        return self._context(prior.shape[0], prior.shape[1], prior.device)

    def infer(self, memory: Tensor, view: View) -> Estimate:
        """The posterior's mean, and codes drawn from the posterior, given the context `[L, P, hidden]`."""
        mean, log_var = self._posterior(memory, view)

        def draw(trees: int, generator: torch.Generator) -> Tensor:
            shape = (mean.shape[0], trees, *mean.shape[1:])
            noise = torch.randn(shape, generator=generator, device=mean.device)
            return mean[:, None] + (0.5 * log_var[:, None]).exp() * noise

        return Estimate(mean, draw)

    def update(self, memory: Tensor, view: View, actions: Tensor) -> Tensor:
        """The context moves on by the view and all actions, `[L, P]`."""
        return self._advance(memory, view, actions)

    def realised(self, episodes: Episodes) -> Tensor:
        """Nothing is realised: NO_GOAL everywhere, int64 `[B, P]`."""
        return torch.full_like(episodes.realised[0], NO_GOAL)

    def carry(self, prior: Tensor, realised: Tensor) -> Tensor:
        """Nothing is carried over from goals realised `[B, P]`."""
        return prior
