"""Which future state was the co-player's subgoal? Decided in hindsight, from whole episodes (OMG, NeurIPS 2024)."""

from typing import Literal

import torch
from torch import Tensor

SelectorRule = Literal["optimistic", "conservative", "random", "offset"]


def candidates(active: Tensor, horizon: int) -> Tensor:
    """Says which of the next states may be a subgoal: those inside the episode and before the seat leaves.

    Args:
        active: bool `[T, ...]`, True from the start until the seat leaves.
        horizon: H, how many steps ahead to look.

    Returns:
        bool `[H, T, ...]`; entry k is about step t + 1 + k.
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
    """Chooses a subgoal among the candidates (OMG, NeurIPS 2024, subgoal selector).

    Args:
        score: float `[H, ...]` value of each candidate, `V(s_t, g(s_{t+1+k}))`.
        valid: bool `[H, ...]` of `candidates`.
        rule: `optimistic` takes the largest score (cooperative games), `conservative` the smallest (general-sum),
            `random` any valid candidate, `offset` the one `offset` steps ahead or the last one before it.
        generator: for `random` and for a positive temperature.
        offset: number of steps ahead for the rule `offset`, 1 to H.
        temperature: of Gumbel noise added to the score; 0 for none.

    Returns:
        int64 `[...]` steps ahead of the chosen state: 1 to H, or 0 where no candidate is valid, which makes the
        state itself the subgoal (the seat's last step).
    """
    if rule == "offset":
        ahead = torch.arange(1, score.shape[0] + 1, device=score.device).view(-1, *[1] * (score.dim() - 1))
        score = torch.where(ahead <= offset, ahead, -ahead).to(score.dtype).expand_as(score)
    elif rule == "random":
        score = torch.rand(score.shape, generator=generator, device=score.device)
    elif rule == "conservative":
        score = -score
    if temperature > 0 and rule in ("optimistic", "conservative"):
        noise = torch.empty_like(score).exponential_(generator=generator)
        score = score - temperature * noise.log()
    best = score.masked_fill(~valid, -torch.inf).argmax(0)
    return torch.where(valid.any(0), best + 1, 0)


def shift(x: Tensor, ahead: Tensor) -> Tensor:
    """Reads `x` at `ahead` steps later: `out[t, ...] = x[t + ahead[t, ...], ...]`.

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
