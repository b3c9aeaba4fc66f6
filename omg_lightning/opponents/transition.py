"""How goals change within an episode: the transition of the hidden Markov filter over a player's goals.

The initial distribution of the filter is the prior that carries over between episodes (inter-OM). Its emission model is
the goal-conditioned policy (intra-OM), see `omg_lightning.opponents.belief`. HOP's belief is the filter with fixed
goals.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from omg_lightning.games.grid.layout import GridLayout
from omg_lightning.types import ConfigError


@dataclass(frozen=True)
class TransitionConfig:
    """When a player changes its goal within an episode.

    Args:
        at_events: sample a new goal among the remaining ones when a player has achieved its goal, or its goal is gone.
            False: goals are fixed within an episode, as published (HOP, ICML 2024).
        leak: probability per step that a player changes its goal without an event (fixed share, Herbster and Warmuth
            1998); for partners that change their goal, or are exchanged, within an episode.
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
        """Return the belief after one transition: `b'(g') = sum_g P(g' | g) b(g)`.

        `P(g' | g)` is `fresh` if `g` was achieved or is gone, and else `(1 - leak) 1(g' = g) + leak fresh(g')`.

        Args:
            belief: float `[..., G]` after the update by the actions of the step.
            fresh: float `[..., G]` distribution of a new goal; 0 for impossible goals.
            possible: bool `[..., G]` remaining goals.
            event: bool `[...]` whether the player achieved a goal in the step.

        Returns:
            float `[..., G]`; unchanged if goals stay.
        """
        if not self.changes:
            return belief
        kept = belief * (1 - self.leak)
        if self.at_events:
            kept = kept * (possible & ~event[..., None])
        return kept + (1 - kept.sum(-1, keepdim=True)) * fresh

    def draw(self, goal: Tensor, fresh: Tensor, possible: Tensor, event: Tensor, generator: torch.Generator) -> Tensor:
        """Sample the goals after a step from the same transition: one-hot, float `[..., G]`.

        Args:
            goal: one-hot, float `[..., G]` before the step; 0 for no goal, which stays.
            fresh: see `filter`.
            possible: see `filter`.
            event: see `filter`.
            generator: all randomness: one number per seat, regardless of events.

        Returns:
            The goals after the step.
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
    """Return which declared goals remain, bool `[..., P, G]`.

    All remain if observations do not show goals, and also if no goal is left, because then no player acts on it.

    Args:
        observation: `[..., P, *shape]` views of all seats.
        active: bool `[..., P]`.
        layout: of views of a grid; None for other views.
        goals: G.
    """
    if layout is None or not layout.shows_goals:
        return torch.ones(*active.shape, goals, dtype=torch.bool, device=active.device)
    there = layout.goals_there(observation)
    return there | ~there.any(-1, keepdim=True)


def shared_out(weight: Tensor, possible: Tensor) -> Tensor:
    """Return probabilities `[..., G]` proportional to `weight` `[..., G]` over possible goals; uniform if all are 0."""
    found = weight * possible
    total = found.sum(-1, keepdim=True)
    alike = possible / possible.sum(-1, keepdim=True)
    return torch.where(total > 0, found / total.clamp(min=torch.finfo(found.dtype).tiny), alike)
