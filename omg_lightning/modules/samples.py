"""Steps of a batch of episodes as flat samples: only steps at which a seat was really there."""

from typing import NamedTuple

import torch
from torch import Tensor

from omg_lightning.types import Episodes


class Samples(NamedTuple):
    """All active (time, environment, seat) of a batch of episodes, flattened to n samples."""

    mask: Tensor  # bool [T, B, P], True n times
    observation: Tensor  # float [n, C, h, w]
    time: Tensor  # float [n] share of the episode that is gone

    def spread(self, values: Tensor) -> Tensor:
        """Puts `[n, ...]` values of the samples back into `[T, B, P, ...]`, zero where nobody was."""
        table = values.new_zeros(*self.mask.shape, *values.shape[1:])
        table[self.mask] = values
        return table


def flatten(episodes: Episodes, max_steps: int) -> Samples:
    """Takes the active steps out of episodes `[T, B, P, ...]`; `max_steps` scales the time."""
    time = torch.arange(episodes.active.shape[0], device=episodes.active.device) / max_steps
    return Samples(
        episodes.active,
        episodes.observation[episodes.active].float(),
        time[:, None, None].expand(episodes.active.shape)[episodes.active],
    )
