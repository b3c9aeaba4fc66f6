"""The records that cross folders, and the shape letters, once.

Letters used in every shape comment: B environments, P seats, A actions, T time, K trees, N tree nodes,
G discrete goals, D size of a goal vector, C observation planes, h and w grid height and width, M rows of a
flat batch. One order: views are ego first (`ego_order`); actions and rewards are in seat order.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class ConfigError(ValueError):
    """A mistake in what the user asked for. The command line prints it as one line; it is a `ValueError` elsewhere."""


def ego_order(x: Tensor, ego: Tensor) -> Tensor:
    """Turns seat order into ego order: the ego first, then seats ego+1, ego+2, ... (mod P). The only such place.

    Args:
        x: `[M, P, ...]` anything per seat, in seat order.
        ego: int64 `[M]` the ego seat of each row.

    Returns:
        `[M, P, ...]` with row m rolled so that seat `ego[m]` comes first.
    """
    rows, seats = x.shape[:2]
    index = (ego[:, None] + torch.arange(seats, device=x.device)) % seats  # [M, P]
    return x[torch.arange(rows, device=x.device)[:, None], index]


class Episodes(NamedTuple):
    """Whole episodes, time-major and padded to the longest; `active` says what is real.

    Entries at steps where `active` is False (the seat has left, or the episode is over) are padding: never samples.
    """

    observation: Tensor  # uint8 [T, B, P, C, h, w] each seat's own view, ego first
    legal: Tensor  # bool [T, B, P, A]
    action: Tensor  # int64 [T, B, P] in seat order
    reward: Tensor  # float [T, B, P]
    active: Tensor  # bool [T, B, P]
    planned: Tensor  # bool [T, B, P] the action came from a learner's search, so `policy` is a target
    policy: Tensor  # float [T, B, P, A] root policy of the search
    value: Tensor  # float [T, B, P] discounted return from this step on
    goal: Tensor  # float [T, B, P, D] what the learners took seat p's goal to be when they acted
    realised: Tensor  # int64 [T, B, P] declared goal that seat p realised by this step's action, or NO_GOAL


NO_GOAL = -1  # nothing realised at this step
