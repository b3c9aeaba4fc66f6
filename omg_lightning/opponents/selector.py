"""Selection of a co-player's subgoal among future states, in hindsight (OMG, NeurIPS 2024)."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from omg_lightning.samples import TrainingBatch, Values
from omg_lightning.types import ConfigError, ego_order

SelectorRule = Literal["optimistic", "conservative", "random", "offset"]
ROWS = 256  # views scored at once: with many candidates for each, larger batches do not fit into the cache


@dataclass(frozen=True)
class SelectorConfig:
    """Settings of the selection of subgoals in hindsight.

    Args:
        rule: `optimistic` (cooperative games), `conservative` (general-sum), `random` or `offset`.
        horizon: H, largest number of steps ahead.
        offset: steps ahead, for the rule `offset`.
        temperature: scale of Gumbel noise on the scores.
        alpha: weight of KL(inferred || code of the selected subgoal), 0.001 as published.
    """

    rule: SelectorRule = "optimistic"
    horizon: int = 5
    offset: int = 1
    temperature: float = 0.0
    alpha: float = 0.001

    def __post_init__(self) -> None:
        if self.horizon < 1 or not 1 <= self.offset <= self.horizon:
            raise ConfigError(
                f"selector.horizon is {self.horizon} and offset {self.offset}: expected horizon >= offset >= 1"
            )
        if not (0 <= self.alpha < math.inf and 0 <= self.temperature < math.inf):
            raise ConfigError(
                f"selector.alpha is {self.alpha} and temperature {self.temperature}: both must be at least 0 and finite"
            )


def candidates(active: Tensor, horizon: int) -> Tensor:
    """Return which of the next states are candidates: those within the episode and before the seat leaves.

    Args:
        active: bool `[T, ...]`, True from the start until the seat leaves.
        horizon: H, largest number of steps ahead.

    Returns:
        bool `[H, T, ...]`; entry k is for step t + 1 + k.
    """
    steps = active.shape[0]
    valid = torch.zeros((horizon, *active.shape), dtype=torch.bool, device=active.device)
    for k in range(min(horizon, steps - 1)):
        valid[k, : steps - 1 - k] = active[1 + k :] & active[: steps - 1 - k]
    return valid


def select(
    score: Tensor,
    valid: Tensor,
    rule: SelectorRule,
    generator: torch.Generator | None = None,
    offset: int = 1,
    temperature: float = 0.0,
) -> Tensor:
    """Choose a subgoal among the candidates (OMG, NeurIPS 2024, subgoal selector).

    Args:
        score: float `[H, ...]` value of each candidate, `V(s_t, g(s_{t+1+k}))`.
        valid: bool `[H, ...]` of `candidates`.
        rule: `optimistic` takes the largest score (cooperative games), `conservative` the smallest (general-sum),
            `random` any valid candidate, `offset` the one `offset` steps ahead or the last one before it.
        generator: for `random` and for a positive temperature.
        offset: number of steps ahead for the rule `offset`, 1 to H.
        temperature: of Gumbel noise added to the score; 0 for none.

    Returns:
        int64 `[...]` steps ahead of the chosen state: 1 to H, or 0 if no candidate is valid, which makes the
        state itself the subgoal (the seat's last step).
    """
    if rule == "offset":
        ahead = torch.arange(1, score.shape[0] + 1, device=score.device).view(-1, *[1] * (score.dim() - 1))
        score = torch.where(ahead <= offset, ahead, -ahead).to(score.dtype).expand_as(score)
    elif rule == "random":
        score = torch.zeros_like(score)
        score[valid] = torch.rand(int(valid.sum()), generator=generator, dtype=score.dtype, device=score.device)
    elif rule == "conservative":
        score = -score
    if temperature > 0 and rule in ("optimistic", "conservative"):
        noise = score.new_empty(int(valid.sum())).exponential_(generator=generator)
        score = score.masked_scatter(valid, score[valid] - temperature * noise.log())
    best = score.masked_fill(~valid, -torch.inf).argmax(0)
    return torch.where(valid.any(0), best + 1, 0)


def shift(x: Tensor, ahead: Tensor) -> Tensor:
    """Return `x` at `ahead` steps later: `out[t, ...] = x[t + ahead[t, ...], ...]`.

    Args:
        x: `[T, B, P, ...]`.
        ahead: int64 `[T, B, P]`, with `t + ahead < T`.

    Returns:
        `[T, B, P, ...]`.
    """
    steps, rows, seats = ahead.shape
    t = torch.arange(steps, device=x.device)[:, None, None] + ahead
    b = torch.arange(rows, device=x.device)[None, :, None]
    p = torch.arange(seats, device=x.device)[None, None, :]
    return x[t, b, p]


def seat_scores(batch: TrainingBatch, codes: Tensor, inferred: Tensor, valid: Tensor, values: Values) -> Tensor:
    """Return the values of candidate subgoals to the learners: V(s_t, g(s_k)) for each seat j and step k ahead.

    A learner i scores a candidate of co-player j with its own observation and value head; all other goals are the
    inferred ones (OMG, NeurIPS 2024). The values of several learners are averaged.

    Args:
        batch: the episodes.
        codes: float `[T, B, P, D]` code of each seat's view at each step.
        inferred: float `[T, B, P, D]`.
        valid: bool `[H, T, B, P]` of `candidates`.
        values: the learners' value head.

    Returns:
        float `[H, T, B, P]`; 0 for seats without an observing learner.
    """
    horizon, _, _, seats = valid.shape
    score = codes.new_zeros(valid.shape)
    count = codes.new_zeros(valid.shape[1:])
    learner, samples = batch.episodes.learner, batch.samples
    rows = learner[samples.mask]
    parts = (each.split(ROWS) for each in (learner.nonzero(), batch.view[rows], samples.time[rows]))
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


def select_subgoals(
    batch: TrainingBatch, codes: Tensor, inferred: Tensor, config: SelectorConfig, generator: torch.Generator
) -> Tensor:
    """Return how many steps ahead each seat's selected subgoal lies, int64 `[T, B, P]` (OMG, NeurIPS 2024).

    Without a value head (no learner has played) the candidates are sampled uniformly.

    Args:
        batch: the episodes.
        codes: float `[T, B, P, D]` code of each seat's view at each step.
        inferred: float `[T, B, P, D]` subgoals that the learner inferred.
        config: the rule.
        generator: all randomness.
    """
    episodes = batch.episodes
    valid = candidates(episodes.active, config.horizon)
    score = codes.new_zeros(valid.shape)
    if config.rule in ("optimistic", "conservative"):
        alike = valid  # no learner scores these
        if batch.values is not None:
            seen = episodes.learner.sum(-1, keepdim=True) > episodes.learner.long()
            score, alike = seat_scores(batch, codes, inferred, valid, batch.values), valid & ~seen
        score[alike] = torch.rand(int(alike.sum()), generator=generator, dtype=score.dtype, device=score.device)
    return select(score, valid, config.rule, generator, config.offset, config.temperature)
