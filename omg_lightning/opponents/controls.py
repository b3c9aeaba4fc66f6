"""Goal sources that withhold what another one knows: controls that show whether goals change play."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from omg_lightning.opponents.belief import draw_one_hot
from omg_lightning.opponents.sources import NoGoals, OracleGoals, Subgoals
from omg_lightning.types import Episodes, Estimate, GoalSource, View

_SEED = 104_729  # the ranks that shuffle are the same in each episode: a source is a pure function


class Ranked(NamedTuple):
    """Memory of shuffled goals."""

    inner: Any  # of the source itself, leading L
    rank: Tensor  # float [L] whoever comes next by rank is where a row's goals come from


class ShuffledGoals:
    """Gives each environment the goals that were inferred in another one, for the same seat at the same step.

    So they look like what the learner is used to, and say nothing of whom it plays with. Environments stand in a
    circle, in an order drawn once for each episode, and each gets the goals of the next one that is still being
    played; the last one left gets its own.

    Args:
        source: what infers the goals.
    """

    def __init__(self, source: GoalSource) -> None:
        self.source, self.size = source, source.size
        self.told = isinstance(source, OracleGoals)

    def prior(self, batch: int, seats: int, device: torch.device) -> Tensor:
        """That of the source, float `[B, P, G]`."""
        return self.source.prior(batch, seats, device)

    def start(self, prior: Tensor, truth: Tensor) -> Ranked:
        """The source's memory from `[B, P, G]` and `[B, P]`, and the order of the circle."""
        rank = torch.rand(len(prior), generator=torch.Generator().manual_seed(_SEED)).to(prior.device)
        return Ranked(self.source.start(prior, truth), rank)

    def infer(self, memory: Ranked, view: View) -> Estimate:
        """The goals of another environment."""
        order = memory.rank.argsort()
        giver = torch.empty_like(order)
        giver[order] = order.roll(-1)  # [L]
        found = self.source.infer(memory.inner, view)
        return Estimate(found.point[giver], lambda trees, generator: found.draw(trees, generator)[giver])

    def update(self, memory: Ranked, view: View, actions: Tensor) -> Ranked:
        """The source goes on inferring everybody's own goals from actions `[L, P]`."""
        return memory._replace(inner=self.source.update(memory.inner, view, actions))

    def realised(self, episodes: Episodes) -> Tensor:
        """As the source says, int64 `[B, P]`."""
        return self.source.realised(episodes)

    def carry(self, prior: Tensor, realised: Tensor) -> Tensor:
        """As the source does with goals realised, `[B, P]`."""
        return self.source.carry(prior, realised)


class UninformedGoals(NoGoals):
    """Knows nothing of anybody, and learns nothing: neither within an episode nor from one to the next.

    An explicit source's goals are drawn from what it believes before the first episode; those of an oracle are all
    alike; latent ones are drawn from N(0, I), the prior of their codes, with 0 as the point. Memory is the source's at
    the start of an episode, float `[L, P, G]` where it has no belief of its own.

    Args:
        source: whose goals are to be withheld.
    """

    told = False

    def __init__(self, source: GoalSource) -> None:
        self.source, self.size = source, source.size
        self.latent, self.believes = isinstance(source, Subgoals), not isinstance(source, NoGoals | Subgoals)

    def prior(self, batch: int, seats: int, device: torch.device) -> Tensor:
        """That of the source, float `[B, P, G]`."""
        return self.source.prior(batch, seats, device)

    def start(self, prior: Tensor, truth: Tensor) -> Any:
        """The source's own start from the prior `[B, P, G]`; `truth` `[B, P]` is not looked at."""
        if self.believes:
            return self.source.start(prior, truth)
        alike = 0.0 if self.latent or not self.size else 1 / self.size
        return prior.new_full((*prior.shape[:2], self.size), alike)

    def infer(self, memory: Any, view: View) -> Estimate:
        """What is believed without having seen anything."""
        if self.believes:
            return self.source.infer(memory, view)

        def draw(trees: int, generator: torch.Generator) -> Tensor:
            if not self.latent:
                return draw_one_hot(memory, trees, generator)
            shape = (len(memory), trees, *memory.shape[1:])
            return torch.randn(shape, generator=generator, device=memory.device)

        return Estimate(memory, draw)
