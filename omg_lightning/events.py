"""Events in whole episodes: when a seat achieved a goal, and which goal each step led to. The only definition."""

import torch
import torch.nn.functional as F
from torch import Tensor

from omg_lightning.games.grid.layout import GridLayout
from omg_lightning.types import NO_GOAL, Episodes


def rewarded(episodes: Episodes, layout: GridLayout | None) -> Tensor:
    """Return the steps at which a seat was rewarded for its own action: bool `[T, B, P]`.

    On a grid where one player's action rewards all players, the player that acted stands on an object (in Snowdrift
    on the drift that it removes). So if some of the seats that are rewarded at a step stand on an object, only these
    count. Without a grid every reward counts.

    Args:
        episodes: `[T, B, P, ...]`.
        layout: of the observations of a grid; None for other games.
    """
    paid = (episodes.reward != 0) & episodes.active
    if layout is None:
        return paid
    own, things = episodes.observation[..., :1, :, :] > 0, episodes.observation[..., layout.things, :, :] > 0
    theirs = paid & (own & things).flatten(3).any(-1)
    return torch.where(theirs.any(-1, keepdim=True), theirs, paid)


def around(episodes: Episodes, where: Tensor, borrow: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return observations before and after steps.

    Args:
        episodes: `[T, B, P, ...]`.
        where: bool `[T, B, P]`, M of them.
        borrow: for a seat that has left, use the view of the first active seat: it shows the same objects.

    Returns:
        The views `[M, *shape]` at these steps and at the next ones; and bool `[M]`, whether there is a next one. If
        there is none, the second view is arbitrary.
    """
    t, b, p = where.nonzero(as_tuple=True)
    following = (t + 1).clamp(max=len(where) - 1)
    active = episodes.active[following, b]  # [M, P]
    seat = torch.where(active.gather(1, p[:, None])[:, 0], p, active.int().argmax(-1)) if borrow else p
    known = active.gather(1, seat[:, None])[:, 0] & (following > t)
    return episodes.observation[t, b, p], episodes.observation[following, b, seat], known


def endings(event: Tensor, active: Tensor) -> Tensor:
    """Return the steps at which a goal ends: each event, and each seat's last step, bool `[T, B, P]`.

    A seat that ends without an event pursued another goal than seats with an event, so its last step counts, too.

    Args:
        event: bool `[T, B, P]`.
        active: bool `[T, B, P]`.
    """
    later = torch.cat([active[1:], torch.zeros_like(active[:1])])
    return event | (active & ~later)


def next_achieved(achieved: Tensor, active: Tensor) -> Tensor:
    """Label each step with the goal that its seat achieved next, at this step or later in the episode.

    Args:
        achieved: int64 `[T, B, P]`, NO_GOAL at steps without an achieved goal.
        active: bool `[T, B, P]`.

    Returns:
        int64 `[T, B, P]`; NO_GOAL after the last achieved goal, and for padding.
    """
    label = torch.full_like(achieved, NO_GOAL)
    following = label[0].clone()
    for t in reversed(range(achieved.shape[0])):
        following = torch.where(active[t] & (achieved[t] != NO_GOAL), achieved[t], following)
        label[t] = torch.where(active[t], following, NO_GOAL)
    return label


def last_achieved(goal: Tensor) -> Tensor:
    """Return the last goal of each episode that is not NO_GOAL, int64 `[B, P]` of `[T, B, P]`; NO_GOAL for none."""
    last = torch.full_like(goal[0], NO_GOAL)
    for step in goal:
        last = torch.where(step != NO_GOAL, step, last)
    return last


def one_hot_goals(goal: Tensor, num_goals: int) -> Tensor:
    """Return one-hot vectors, float `[..., G]`, of goals `[...]`; all zero for NO_GOAL."""
    known = (goal != NO_GOAL)[..., None]
    return F.one_hot(goal.clamp(min=0), num_goals).float() * known


def watched(episodes: Episodes) -> Tensor:
    """Return the active seats that a learner has to predict, bool `[T, B, P]`: all co-players of learners.

    In episodes without a learner these are all seats. The only learner of an episode is no co-player of a learner, so
    its own steps are not samples.
    """
    learners = episodes.learner.any(0)  # [B, P]
    others = learners.sum(-1, keepdim=True) - learners.long() > 0
    return episodes.active & (others | ~learners.any(-1, keepdim=True))


def watchers(episodes: Episodes) -> Tensor:
    """Return the observer of each seat, int64 `[B, P]`: the first learner in another seat; without one the next seat.

    If several learners observe a seat, each may infer another goal of it, see `OpponentModel.as_seen`.
    """
    seats = episodes.active.shape[-1]
    order = torch.arange(seats, device=episodes.active.device)
    different = order[:, None] != order  # [P, P] seat, watcher
    may = episodes.learner.any(0)[:, None] & different  # [B, P, P]
    return torch.where(may.any(-1), may.int().argmax(-1), (order + 1) % seats)
