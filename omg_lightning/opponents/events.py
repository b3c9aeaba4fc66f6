"""Goals in whole episodes: where something happened to a seat, and which goal each step led to."""

import torch
import torch.nn.functional as F
from torch import Tensor

from omg_lightning.types import NO_GOAL, Episodes


def rewarded(episodes: Episodes) -> Tensor:
    """Steps at which a seat was rewarded for what it did where it was: bool `[T, B, P]`.

    Where everybody gains from what one has done, the one who has done it stands on something (in Snowdrift on the drift
    that it removes). So if some of those who are rewarded at a step stand on something, it is they alone.
    """
    paid = (episodes.reward != 0) & episodes.active
    seats = paid.shape[-1]
    own, things = episodes.observation[..., :1, :, :] > 0, episodes.observation[..., seats:, :, :] > 0
    theirs = paid & (own & things).flatten(3).any(-1)
    return torch.where(theirs.any(-1, keepdim=True), theirs, paid)


def endings(event: Tensor, active: Tensor) -> Tensor:
    """Steps whose views are goals: each event, and each seat's last step, bool `[T, B, P]`.

    Who ends with nothing has been after something else than those with an event, and that is a goal of its own.

    Args:
        event: bool `[T, B, P]`.
        active: bool `[T, B, P]`.
    """
    later = torch.cat([active[1:], torch.zeros_like(active[:1])])
    return event | (active & ~later)


def hindsight_goals(realised: Tensor, active: Tensor) -> Tensor:
    """Labels each step with the goal its seat realised next, at this step or later in the episode.

    Args:
        realised: int64 `[T, B, P]`, NO_GOAL where nothing was.
        active: bool `[T, B, P]`.

    Returns:
        int64 `[T, B, P]`; NO_GOAL where nothing was realised any more, and for padding.
    """
    label = torch.full_like(realised, NO_GOAL)
    following = label[0].clone()
    for t in reversed(range(realised.shape[0])):
        following = torch.where(active[t] & (realised[t] != NO_GOAL), realised[t], following)
        label[t] = torch.where(active[t], following, NO_GOAL)
    return label


def last_known(goal: Tensor) -> Tensor:
    """The last goal of each episode that is not NO_GOAL: int64 `[B, P]` of `[T, B, P]`; NO_GOAL where there is none."""
    last = torch.full_like(goal[0], NO_GOAL)
    for step in goal:
        last = torch.where(step != NO_GOAL, step, last)
    return last


def one_hot_goals(goal: Tensor, num_goals: int) -> Tensor:
    """One-hot vectors, float `[..., G]`, of goals `[...]`; all zero for NO_GOAL."""
    known = (goal != NO_GOAL)[..., None]
    return F.one_hot(goal.clamp(min=0), num_goals).float() * known
