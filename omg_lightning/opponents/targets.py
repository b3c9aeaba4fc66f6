"""What the co-players' goals turned out to be, over whole episodes: the labels that everything is trained on."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from omg_lightning.opponents import (
    SelectorRule,
    candidates,
    hindsight_goals,
    one_hot_goals,
    place_labels,
    select,
    shift,
)
from omg_lightning.samples import Samples
from omg_lightning.types import NO_GOAL, Episodes, ego_order

# views [m, ...], times [m], goals [m, K, P-1, D], seats [m] -> [m, K]
Values = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
ROWS = 256  # views to score subgoals for at once: with many candidates for each, more would only miss the cache


class Hindsight(NamedTuple):
    """Goals of every seat at every step."""

    inferred: Tensor  # float [T, B, P, D] as the learner takes it to be while acting
    label: Tensor  # float [T, B, P, D] as it turned out to be
    known: Tensor  # bool [T, B, P] there is a label


def explicit(episodes: Episodes, goal: Tensor, generator: torch.Generator) -> Hindsight:
    """Labels that are one-hot, for goals `[T, B, P]` (NO_GOAL where unknown).

    Inferred is a one-hot goal drawn from the belief when acting, as each tree of a search draws it.
    """
    size = episodes.goal.shape[-1]
    belief = torch.where(episodes.active[..., None], episodes.goal, 0.0).flatten(0, 2)
    there = belief.sum(-1) > 0
    drawn = torch.zeros_like(belief)
    if there.any():
        index = torch.multinomial(belief[there], 1, generator=generator)[:, 0]
        drawn[there] = one_hot_goals(index, size)
    return Hindsight(drawn.view_as(episodes.goal), one_hot_goals(goal, size), goal != NO_GOAL)


def declared(episodes: Episodes, generator: torch.Generator, believed: bool = False) -> Hindsight:
    """The declared goal that each seat realised next (HOP, ICML 2024); `believed` see `complete`."""
    goal = hindsight_goals(episodes.realised, episodes.active)
    return explicit(episodes, complete(episodes, goal, generator) if believed else goal, generator)


def complete(episodes: Episodes, goal: Tensor, generator: torch.Generator) -> Tensor:
    """Labels steps after which nothing is realised any more by a draw from the seat's last belief of the episode.

    Who is left idle does not stop having a goal: a stag hunter without a stag still is one. That is the E-step of a
    mixture of goal-conditioned policies, with the belief as responsibilities, where hindsight has no answer.

    Args:
        episodes: `[T, B, P, ...]`.
        goal: int64 `[T, B, P]` of `hindsight_goals`.
        generator: draws them, one for each seat of an episode.

    Returns:
        int64 `[T, B, P]`; NO_GOAL is left for padding, and where there was no belief.
    """
    last = (episodes.active.long().sum(0) - 1).clamp(min=0)  # seats are active from the start until they leave
    belief = episodes.goal.gather(0, last[None, ..., None].expand(1, *episodes.goal.shape[1:]))[0]
    there = belief.sum(-1) > 0
    drawn = torch.full_like(last, NO_GOAL)
    if there.any():
        drawn[there] = torch.multinomial(belief[there], 1, generator=generator)[:, 0]
    return torch.where((goal == NO_GOAL) & episodes.active, drawn, goal)


def places(episodes: Episodes, generator: torch.Generator) -> Hindsight:
    """The place where each seat realised a goal next, or nowhere."""
    return explicit(episodes, place_labels(episodes, generator), generator)


def seat_scores(
    episodes: Episodes, samples: Samples, codes: Tensor, inferred: Tensor, valid: Tensor, values: Values
) -> Tensor:
    """Values of candidate subgoals to the learners: V(s_t, g(s_k)) for each seat j and step k ahead.

    A learner i scores a candidate of co-player j with its own view and value head, all other co-players' goals being
    as inferred (OMG, NeurIPS 2024). Where several learners watch j, their values are averaged.

    Args:
        episodes: `[T, B, P, ...]`.
        samples: of the same episodes.
        codes: float `[T, B, P, D]` code of each seat's view at each step.
        inferred: float `[T, B, P, D]`.
        valid: bool `[H, T, B, P]` of `candidates`.
        values: the learners' value head.

    Returns:
        float `[H, T, B, P]`; 0 for seats that no learner watches.
    """
    horizon, _, _, seats = valid.shape
    score = codes.new_zeros(valid.shape)
    count = codes.new_zeros(valid.shape[1:])
    rows = episodes.planned[samples.mask]
    parts = (each.split(ROWS) for each in (episodes.planned.nonzero(), samples.view[rows], samples.time[rows]))
    for where, view, time in zip(*parts, strict=True):
        t, b, ego = where.unbind(1)
        ahead = (t[:, None] + torch.arange(1, horizon + 1, device=t.device)).clamp(max=len(codes) - 1)  # [m, H]
        goals = ego_order(inferred[t, b], ego)[:, None, None, 1:].repeat(1, seats - 1, horizon, 1, 1)
        for k in range(seats - 1):
            goals[:, k, :, k] = codes[ahead, b[:, None], (ego[:, None] + k + 1) % seats]
        found = values(view, time, goals.flatten(1, 2), ego).unflatten(1, (seats - 1, horizon))
        for k in range(seats - 1):
            seat = (ego + k + 1) % seats
            score[:, t, b, seat] += found[:, k].t()  # (t, b, seat) is unique for each k
            count[t, b, seat] += 1
    return score / count.clamp(min=1)


def latent(
    episodes: Episodes,
    samples: Samples,
    codes: Tensor,
    inferred: Tensor,
    values: Values | None,
    rule: SelectorRule,
    horizon: int,
    generator: torch.Generator,
    offset: int = 1,
    temperature: float = 0.0,
) -> tuple[Hindsight, Tensor]:
    """The code of the selected future state (OMG). Without `values` (no learner has played) candidates are random.

    Returns:
        The goals, and the steps ahead that were selected, int64 `[T, B, P]`.
    """
    valid = candidates(episodes.active, horizon)
    # Whom no learner watches has no better or worse subgoals.
    score = torch.rand(valid.shape, generator=generator, device=codes.device)
    if rule in ("optimistic", "conservative") and values is not None:
        seen = episodes.planned.sum(-1, keepdim=True) > episodes.planned.long()
        score = torch.where(seen, seat_scores(episodes, samples, codes, inferred, valid, values), score)
    ahead = select(score, valid, rule, generator, offset, temperature)
    return Hindsight(inferred, shift(codes, ahead), episodes.active), ahead


def watched(episodes: Episodes) -> Tensor:
    """Active seats whom a learner has to predict, bool `[T, B, P]`: all co-players; everyone in episodes without one.

    A seat that is the only learner is nobody's co-player, so its own steps are not samples.
    """
    planners = episodes.planned.any(0)  # [B, P]
    others = planners.sum(-1, keepdim=True) - planners.long() > 0
    return episodes.active & (others | ~planners.any(-1, keepdim=True))
