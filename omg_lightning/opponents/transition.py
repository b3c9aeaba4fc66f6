"""How goals change within an episode: the transition of the hidden Markov filter over a player's goals.

The filter's initial distribution is the prior that is carried between episodes (inter-OM), its emission the
goal-conditioned policy (intra-OM), see `omg_lightning.opponents.belief`. HOP's belief is the filter whose goals stay.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from omg_lightning.games.grid.layout import GridLayout
from omg_lightning.types import ConfigError


@dataclass(frozen=True)
class TransitionConfig:
    """When a player takes another goal within an episode.

    Args:
        at_events: a player that has achieved its goal, or whose goal is gone, draws another one of those that are
            still there. False: goals stay until the episode ends, as published (HOP, ICML 2024).
        leak: probability, for each step, that a player draws another goal without any event (fixed share, Herbster and
            Warmuth 1998). For partners that change their mind, or that are exchanged, within an episode.
    """

    at_events: bool = False
    leak: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.leak < 1:
            raise ConfigError(f"transition.leak is {self.leak}: it must be at least 0 and less than 1")

    @property
    def changes(self) -> bool:
        """Whether goals change at all."""
        return self.at_events or self.leak > 0

    def filter(self, belief: Tensor, fresh: Tensor, possible: Tensor, event: Tensor) -> Tensor:
        """Move a belief on by one step: `b'(g') = sum_g P(g' | g) b(g)`.

        `P(g' | g)` is `fresh` where `g` was achieved or is gone, and else `(1 - leak) 1(g' = g) + leak fresh(g')`.

        Args:
            belief: float `[..., G]` after the actions of the step were seen.
            fresh: float `[..., G]` what another goal is drawn from; 0 for goals that are not possible.
            possible: bool `[..., G]` goals that are still there.
            event: bool `[...]` the player has achieved a goal by the step.

        Returns:
            float `[..., G]`; the same where goals stay.
        """
        if not self.changes:
            return belief
        kept = belief * (1 - self.leak)
        if self.at_events:
            kept = kept * (possible & ~event[..., None])
        return kept + (1 - kept.sum(-1, keepdim=True)) * fresh

    def draw(self, goal: Tensor, fresh: Tensor, possible: Tensor, event: Tensor, generator: torch.Generator) -> Tensor:
        """Draw the goals after a step from the same transition: one-hot, float `[..., G]`.

        Args:
            goal: one-hot, float `[..., G]` before the step; 0 for no goal, which stays.
            fresh: see `filter`.
            possible: see `filter`.
            event: see `filter`.
            generator: all randomness: as many numbers as there are seats, whatever happens.

        Returns:
            The same goals where they stay.
        """
        if not self.changes:
            return goal
        after = self.filter(goal, fresh, possible, event).flatten(0, -2)
        uniform = torch.rand(len(after), 1, generator=generator, device=after.device)
        ends = after.cumsum(-1)
        index = (ends <= uniform * ends[:, -1:]).sum(-1).clamp(max=after.shape[-1] - 1)
        drawn = torch.nn.functional.one_hot(index, after.shape[-1]).to(goal.dtype)
        return drawn.view_as(goal) * (goal.sum(-1, keepdim=True) > 0)


def goals_there(observation: Tensor, active: Tensor, layout: GridLayout | None, goals: int) -> Tensor:
    """Return which declared goals are still there, bool `[..., P, G]`.

    Where views do not tell, all are. Where nothing is left any more, all are, too: nobody acts by it.

    Args:
        observation: `[..., P, *shape]` views of all seats.
        active: bool `[..., P]`.
        layout: of views of a grid; None for other views.
        goals: G.
    """
    if layout is None or not layout.goal_planes:
        return torch.ones(*active.shape, goals, dtype=torch.bool, device=active.device)
    there = (observation[..., list(layout.goal_planes), :, :] > 0).flatten(-2).any(-1)
    return there | ~there.any(-1, keepdim=True)


def shared_out(weight: Tensor, possible: Tensor) -> Tensor:
    """Return probabilities `[..., G]` in proportion to `weight` `[..., G]` among possible goals, all alike if 0."""
    found = weight * possible
    total = found.sum(-1, keepdim=True)
    alike = possible / possible.sum(-1, keepdim=True)
    return torch.where(total > 0, found / total.clamp(min=torch.finfo(found.dtype).tiny), alike)
