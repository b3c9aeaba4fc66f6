"""The episode that an agent has observed so far; beliefs carry over from it."""

import torch
from torch import Tensor

from omg_lightning.envs.base import Step
from omg_lightning.types import NO_GOAL, Episodes, View


class EpisodeRecord:
    """Collects the steps of B episodes as `Episodes`; the goals of scripts are not known."""

    def __init__(self) -> None:
        self._steps: list[Episodes] = []

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, observation: Tensor, view: View, seat: int, actions: Tensor, goal: Tensor, after: Step) -> None:
        """Add a step.

        Args:
            observation: `[B, P, *shape]` before it, as stored.
            view: before it.
            seat: the agent's own.
            actions: int64 `[B, P]` as played.
            goal: float `[B, P, D]` goals inferred before it.
            after: the next step.
        """
        learner = torch.zeros_like(view.active)
        learner[:, seat] = view.active[:, seat]
        self._steps.append(
            Episodes(
                observation=observation,
                legal=view.legal,
                action=actions,
                reward=after.reward,
                active=view.active,
                terminated=after.terminated,
                truncated=after.truncated,
                learner=learner,
                goal=goal,
                achieved_goal=after.achieved,
                true_goal=torch.full_like(actions, NO_GOAL),
                extras={},
            )
        )

    def cut(self, steps: int) -> None:
        """Drop all but the first steps."""
        del self._steps[steps:]

    def episodes(self) -> Episodes:
        """Return the steps so far, `[T, B, P, ...]`."""
        stacked = [torch.stack(fields) for fields in zip(*(step[:-1] for step in self._steps), strict=True)]
        return Episodes._make([*stacked, {}])
