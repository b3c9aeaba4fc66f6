"""Episodes for the checks, and copies with changes that must not change results."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from omg_lightning.actors import LEARNER, Actor, arrange, scripted_lineups
from omg_lightning.envs.base import VectorEnv
from omg_lightning.games.scripts import scripts_of
from omg_lightning.rollout import play
from omg_lightning.testing.parts import seeded
from omg_lightning.testing.report import Report
from omg_lightning.types import NO_GOAL, Episodes


class Lesson(NamedTuple):
    """The episodes of one kind of training batch."""

    name: str  # in words
    episodes: Episodes
    offline: bool


def lessons(report: Report, env: VectorEnv, actor: Actor, rows: int, seed: int) -> list[Lesson]:
    """Play the episodes of both phases; in some of them seats leave early, so that there is padding.

    The last two kinds are rare: online batches without any event, and with only a learner.

    Args:
        report: words the failure.
        env: the environment.
        actor: the learner.
        rows: B.
        seed: of the episodes.
    """
    scripts = scripts_of(env)
    others = [scripts[0] if scripts else "random"] * (env.num_players - 1)
    scripted = scripted_lineups(env)
    beside = [[LEARNER, *others], [LEARNER] * env.num_players, [*others, LEARNER], scripted[-1]]
    offline, online = (
        _played(report, env, actor, lineups, max(rows, len(lineups)), seed) for lineups in (scripted, beside)
    )
    still = torch.full_like(offline.achieved_goal, NO_GOAL)
    quiet = offline._replace(reward=torch.zeros_like(offline.reward), achieved_goal=still)
    first = torch.arange(env.num_players) == 0
    plays = online.learner[..., 0].any(0)
    alone = _kept(online, online.active & first).map(lambda field: field[:, plays])
    return [
        Lesson("an offline batch", offline, True),
        Lesson("an online batch", online, False),
        Lesson("an online batch without learner, reward and goal", quiet, False),
        Lesson("a batch in which seat 0 is alone", alone, False),
    ]


def _played(report: Report, env: VectorEnv, actor: Actor, lineups: list[list[str]], rows: int, seed: int) -> Episodes:
    """Play one episode in each of B environments, and let some seats leave early."""
    random = seeded(seed)
    seating = arrange(lineups, rows, env, random.device)
    expected = "to play whole episodes in a rollout"
    played = report.call("actor", play, env, seating, {LEARNER: actor}, random, expected=expected)
    episodes: Episodes = played.episodes
    steps, rows, seats = episodes.active.shape
    last = torch.arange(rows) % steps  # row b is b steps shorter than the longest
    end = (steps - last)[:, None].repeat(1, seats)
    end[1::2, -1] = (end[1::2, -1] // 2).clamp(min=1)  # in these rows the last seat leaves in the middle
    return _kept(episodes, episodes.active & (torch.arange(steps)[:, None, None] < end))


def _kept(episodes: Episodes, active: Tensor) -> Episodes:
    """Return the episodes with only these seats, bool `[T, B, P]`; a seat that leaves early is truncated."""
    later = torch.cat([active[1:], torch.zeros_like(active[:1])])
    cut = active & ~later & ~episodes.terminated
    kept = _padded(episodes, active, torch.zeros_like)
    return kept._replace(
        active=active,
        learner=episodes.learner & active,
        reward=episodes.reward * active,
        truncated=kept.truncated | cut,
        achieved_goal=torch.where(active, episodes.achieved_goal, NO_GOAL),
        true_goal=torch.where(active, episodes.true_goal, NO_GOAL),
    )


def _padded(episodes: Episodes, active: Tensor, fill: Callable[[Tensor], Tensor]) -> Episodes:
    """Return the episodes with the padding of each field, bool `[T, B, P]`, replaced by `fill`."""

    def padded(field: Tensor) -> Tensor:
        here = active.view(*active.shape, *[1] * (field.dim() - 3))
        return torch.where(here, field, fill(field))

    kept = {name: getattr(episodes, name) for name in ("active", "learner", "reward")}
    return episodes.map(padded)._replace(**kept)


def spoiled(episodes: Episodes, num_actions: int, num_goals: int) -> Episodes:
    """Return the episodes with the worst padding: NaN, or random values for dtypes without NaN.

    The reward stays 0, as `td_lambda` requires.
    """
    random = seeded(0)

    def junk(field: Tensor) -> Tensor:
        if field.is_floating_point():
            return torch.full_like(field, torch.nan)
        return torch.randint(2, field.shape, generator=random).to(field.dtype)

    spoilt = _padded(episodes, episodes.active, junk)
    action = torch.randint(num_actions, episodes.action.shape, generator=random)
    goals = torch.randint(-1, num_goals, episodes.action.shape, generator=random)
    here = episodes.active
    return spoilt._replace(
        action=torch.where(here, episodes.action, action),
        achieved_goal=torch.where(here, episodes.achieved_goal, goals),
        true_goal=torch.where(here, episodes.true_goal, goals.flip(1)),
    )


def longer(episodes: Episodes) -> Episodes:
    """Return the episodes with one more step of padding, as in a batch with a longer episode."""
    return episodes.map(lambda field: torch.cat([field, torch.zeros_like(field[:1])]))


def other_true_goals(episodes: Episodes, num_goals: int) -> Episodes:
    """Return the episodes with other true goals of scripts; without declared goals 0 instead of NO_GOAL."""
    goal = episodes.true_goal
    return episodes._replace(true_goal=(goal + 1) % max(num_goals, 2) if num_goals else torch.zeros_like(goal))
