"""Declared goals that are places: which one a player heads for, and how many it will yet clear (HOP's Snowdrift)."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from omg_lightning.opponents.belief import draw_one_hot, inter, intra
from omg_lightning.opponents.explicit import BeliefConfig, Likelihood
from omg_lightning.types import NO_GOAL, ConfigError, Episodes, Estimate, View


class Heading(NamedTuple):
    """What is believed of each seat within an episode; leading L."""

    belief: Tensor  # float [L, P, S + 1] where it heads: each place, bare by now or not, and nowhere
    number: Tensor  # float [L, P, N + 1] prior of how many places it clears in this episode
    cleared: Tensor  # int64 [L, P] how many it has cleared so far


class PlaceGoals:
    """Goals that are things lying on the board, under a belief over which a player heads for and how many it clears.

    Where two take a drift to be the other's, it stays. So it matters whether anybody means to shovel at all, and that
    is another question than where: a player clears n places in an episode, with a prior over n that is carried from
    episode to episode (HOP, ICML 2024: Poisson(1) at first, smoothed by `alpha`). After `c` of them it goes for one
    more with probability `P(n > c | n >= c)`, for any of those that are left alike; what it then does moves the belief
    by Bayes. A goal vector is a one-hot of the place, or of the last entry for nowhere, `S + 1` long.

    Args:
        places: S, cells of the board.
        most: N, as many places as there can be to clear.
        action: the number of the action that clears the place where its player stands; legal only where one is.
        likelihood: log probability of the actions seen, under each goal, by the co-player model.
        config: how the belief is updated.

    Raises:
        ConfigError: the floor leaves no room for a belief.
    """

    places = True  # goal vectors name cells of the board, so they turn as it turns

    def __init__(self, places: int, most: int, action: int, likelihood: Likelihood, config: BeliefConfig) -> None:
        if config.floor * (most + 1) >= 1:
            raise ConfigError(
                f"belief.floor is {config.floor}: with {most} places and nowhere it must be less than 1/{most + 1}"
            )
        self.size, self.most, self.action = places + 1, most, action
        self.likelihood, self.config = likelihood, config

    def prior(self, batch: int, seats: int, device: torch.device) -> Tensor:
        """How many a player clears, before anything was seen: Poisson(1) up to N, float `[B, P, N + 1]`."""
        weight = torch.tensor([1 / math.factorial(n) for n in range(self.most + 1)], device=device)
        return (weight / weight.sum()).expand(batch, seats, self.most + 1).clone()

    def start(self, prior: Tensor, truth: Tensor) -> Heading:
        """No place is likelier than another; `prior` is `[B, P, N + 1]`, `truth` `[B, P]` is not looked at."""
        cleared = torch.zeros(prior.shape[:2], dtype=torch.int64, device=prior.device)
        return Heading(self._fresh(prior, cleared), prior, cleared)

    def infer(self, memory: Heading, view: View) -> Estimate:
        """The belief over places where something lies now, and nowhere: `[L, P, S + 1]`; and goals drawn from it."""
        belief = self._now(memory, view)
        return Estimate(belief, lambda trees, generator: draw_one_hot(belief, trees, generator))

    def update(self, memory: Heading, view: View, actions: Tensor) -> Heading:
        """Bayes on the actions `[L, P]`; who has cleared a place heads for another, or for none any more."""
        done = (actions == self.action) & view.legal[..., self.action] & view.active
        cleared = memory.cleared + done
        belief = self._now(memory, view)
        if self.config.intra:
            belief = intra(belief.log(), self.likelihood(view, actions), 0.0).exp()
        belief = torch.where(done[..., None], self._fresh(memory.number, cleared), belief)
        return Heading(torch.where(view.active[..., None], belief, memory.belief), memory.number, cleared)

    def realised(self, episodes: Episodes) -> Tensor:
        """How many places each seat cleared in whole episodes, int64 `[B, P]`."""
        return ((episodes.realised != NO_GOAL) & episodes.active).sum(0).clamp(max=self.most)

    def carry(self, prior: Tensor, realised: Tensor) -> Tensor:
        """Smooths the numbers cleared, `[B, P]`, into the prior `[B, P, N + 1]`."""
        return inter(prior, realised, self.config.alpha) if self.config.inter else prior

    def _fresh(self, number: Tensor, cleared: Tensor) -> Tensor:
        """The belief `[..., S + 1]` of who has cleared so many, before it is seen to head anywhere."""
        another = one_more(number, cleared)[..., None]
        each = (another / (self.size - 1)).expand(*cleared.shape, self.size - 1)
        return torch.cat([each, 1 - another], -1)

    def _now(self, memory: Heading, view: View) -> Tensor:
        """The belief where nothing bare is a goal: who headed there may head for any other place."""
        seats = view.active.shape[1]
        there = (view.observation[:, :, seats:] > 0).any(2).flatten(2)  # [L, P, S]
        at, nowhere = memory.belief[..., :-1] * there, memory.belief[..., -1:]
        lost = 1 - nowhere - at.sum(-1, keepdim=True)
        at = at + there * lost / there.sum(-1, keepdim=True).clamp(min=1)
        full, there = torch.cat([at, nowhere], -1), torch.cat([there, torch.ones_like(there[..., :1])], -1)
        full = full / full.sum(-1, keepdim=True).clamp(min=torch.finfo(full.dtype).tiny)
        floor = self.config.floor * there  # no goal dies that there is
        return floor + (1 - floor.sum(-1, keepdim=True)) * full


def one_more(number: Tensor, cleared: Tensor) -> Tensor:
    """The probability of another one after `cleared`: `P(n > c | n >= c)`, float `[...]`.

    Args:
        number: float `[..., N + 1]` probabilities of n = 0 .. N.
        cleared: int64 `[...]` c; at N and above there is no other one.
    """
    tail = number.flip(-1).cumsum(-1).flip(-1)  # P(n >= k)
    tail = torch.cat([tail, torch.zeros_like(tail[..., :1])], -1)
    c = cleared.clamp(max=number.shape[-1] - 1)[..., None]
    return (tail.gather(-1, c + 1) / tail.gather(-1, c).clamp(min=torch.finfo(tail.dtype).tiny))[..., 0]


def place_labels(episodes: Episodes, noise: torch.Generator) -> Tensor:
    """Where each seat was heading: the cell where it next realises a goal, or S, which is nowhere.

    In a search a goal stays with its tree, also after the place is bare, and a goal that is gone is no goal: to show
    that to the networks, half of those who head nowhere are said to head for a bare place.

    Args:
        episodes: `[T, B, P, ...]`.
        noise: draws these.

    Returns:
        int64 `[T, B, P]`; arbitrary for padding.
    """
    seats = episodes.active.shape[-1]
    planes = episodes.observation.flatten(4) > 0  # [T, B, P, C, S]
    own, bare = planes[..., 0, :].long().argmax(-1), ~planes[..., seats:, :].any(3)
    label = torch.full_like(own, planes.shape[-1])
    following = label[0]
    for t in reversed(range(len(label))):
        following = torch.where((episodes.realised[t] != NO_GOAL) & episodes.active[t], own[t], following)
        label[t] = following
    anywhere = torch.rand(bare.shape, generator=noise, device=bare.device).masked_fill_(~bare, -1).argmax(-1)
    swapped = torch.rand(label.shape, generator=noise, device=bare.device) < 0.5
    return torch.where((label == planes.shape[-1]) & swapped & bare.any(-1), anywhere, label)
