"""Futures of samples: a later state of the same seat, and its next actions."""

from typing import NamedTuple

import torch
from torch import Tensor

from omg_lightning.opponents.selector import candidates, select, shift
from omg_lightning.samples import Samples
from omg_lightning.types import Episodes

NO_ACTION = -1  # the seat has left


class Futures(NamedTuple):
    """A later state and the next actions of each of n samples."""

    goal: Tensor  # int64 [n] a later sample of the same seat: 1 to H steps ahead, or the sample itself at its last step
    action: Tensor  # int64 [n, S] its actions at this step and the next ones; NO_ACTION after it has left
    legal: Tensor  # bool [n, S, A]


def futures(episodes: Episodes, samples: Samples, horizon: int, steps: int, generator: torch.Generator) -> Futures:
    """Sample a later state of the same seat for each sample, and return its next actions.

    Args:
        episodes: `[T, B, P, ...]`.
        samples: of the same episodes.
        horizon: H, largest number of steps ahead.
        steps: S, number of actions.
        generator: samples the states uniformly among the next H.
    """
    active, mask = episodes.active, samples.mask
    valid = candidates(active, horizon)
    ahead = select(torch.zeros(valid.shape, device=active.device), valid, "random", generator)
    goal = shift(samples.spread(torch.arange(len(samples.time), device=active.device)), ahead)[mask]
    played = torch.where(active, episodes.action, NO_ACTION)
    action = torch.stack([_later(played, k, NO_ACTION)[mask] for k in range(steps)], 1)
    legal = torch.stack([_later(episodes.legal, k, True)[mask] for k in range(steps)], 1)
    return Futures(goal, action, legal)


def _later(x: Tensor, steps: int, beyond: int) -> Tensor:
    """Return `x` `[T, ...]` shifted: entry t is entry `t + steps` of `x`, or `beyond` after the end."""
    return torch.cat([x[steps:], torch.full_like(x[:steps], beyond)])
