"""Steps of a batch of episodes as flat samples: only steps at which the seat is active."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from omg_lightning.types import Episodes, ego_order

if TYPE_CHECKING:
    from omg_lightning.opponents.base import Targets

# views [m, ...], times [m], goals [m, K, P-1, D], seats [m] -> [m, K]
Values = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


class Samples(NamedTuple):
    """All active (time, environment, seat) of a batch of episodes, flattened to n samples."""

    mask: Tensor  # bool [T, B, P], True n times
    observation: Tensor  # float [n, *shape]
    time: Tensor  # float [n] elapsed share of the episode

    def spread(self, values: Tensor) -> Tensor:
        """Put `[n, ...]` values of the samples back into `[T, B, P, ...]`, zero at padding."""
        table = values.new_zeros(*self.mask.shape, *values.shape[1:])
        table[self.mask] = values
        return table


def active_steps(episodes: Episodes, max_steps: int) -> Samples:
    """Take the active steps out of episodes `[T, B, P, ...]`; `max_steps` scales the time."""
    time = torch.arange(episodes.active.shape[0], device=episodes.active.device) / max_steps
    return Samples(
        episodes.active,
        episodes.observation[episodes.active].float(),
        time[:, None, None].expand(episodes.active.shape)[episodes.active],
    )


@dataclass
class TrainingBatch:
    """The data of one training step. Values that several losses use are computed once, on first access.

    Args:
        episodes: whole episodes.
        env_steps: environment steps played so far.
        offline: drawn in the offline phase, on scripted line-ups.
        step: training steps taken before.
        max_steps: scales the time.
        noise: all randomness.
        prepare: converts views to the form that the networks read fastest, see `Encoder.prepare`.
        find_targets: returns the goals in hindsight; `OpponentModel.targets`.
        reward: float `[T, B, P]` training reward, see `omg_lightning.rewards.Reward`.
        values: the learner's value head; None until a learner has played.
        as_seen: goals of all seats from the perspective of the egos; `OpponentModel.as_seen`.
    """

    episodes: Episodes
    env_steps: int
    offline: bool
    step: int
    max_steps: int
    noise: torch.Generator
    prepare: Callable[[Tensor], Tensor]
    find_targets: Callable[[TrainingBatch], Targets]
    reward: Tensor
    values: Values | None = None
    as_seen: Callable[[Tensor, Tensor], Tensor] = lambda goal, ego: goal

    @cached_property
    def samples(self) -> Samples:
        """The active steps."""
        return active_steps(self.episodes, self.max_steps)

    @cached_property
    def view(self) -> Tensor:
        """The samples' observations, `[n, ...]`, in the form that the networks read fastest."""
        return self.prepare(self.samples.observation)

    @cached_property
    def targets(self) -> Targets:
        """Goals of all seats in hindsight."""
        return self.find_targets(self)

    def others(self, goals: Tensor, where: tuple[Tensor, ...]) -> Tensor:
        """Return the goals of co-players from the egos' perspective, `[m, P-1, D]` in ego order: the input of a policy.

        Args:
            goals: float `[T, B, P, D]`, such as `self.goals`, or `Episodes.goal`, the policy's input when it acted.
            where: three of int64 `[m]`: step, environment, and seat of the ego.
        """
        t, b, ego = where
        return ego_order(self.as_seen(goals[t, b], ego), ego)[:, 1:]

    @cached_property
    def goals(self) -> Tensor:
        """Goals `[T, B, P, D]` that the policy is trained on: inferred ones, with a share of targets mixed in."""
        episodes, targets = self.episodes, self.targets
        # The goals of seats that have left are 0, here as in the search.
        inferred = torch.where(episodes.active[..., None], targets.inferred, 0.0)
        if targets.share == 0:
            return inferred
        chosen = targets.known & episodes.active
        # Draw numbers for real steps only, so that they do not depend on the padding.
        drawn = torch.rand(int(chosen.sum()), generator=self.noise, device=self.noise.device)
        chosen[chosen.clone()] = drawn < targets.share
        return torch.where(chosen[..., None], targets.label, inferred)
