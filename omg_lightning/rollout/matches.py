"""Evaluation rollouts of fixed players, without learning."""

from collections.abc import Mapping

import torch
from torch import Tensor

from omg_lightning.actors import Actor, arrange
from omg_lightning.envs.base import VectorEnv
from omg_lightning.rollout.play import play


def match(
    env: VectorEnv,
    lineup: list[str],
    learners: Mapping[str, Actor],
    episodes: int,
    batch: int,
    generator: torch.Generator,
    workers: int = 1,
) -> Tensor:
    """Play greedy episodes of one line-up, `batch` in parallel; beliefs carry over.

    Args:
        env: what is played.
        lineup: a name for every seat.
        learners: those among them that have networks, by name.
        episodes: E, how many.
        batch: environments played at once.
        generator: all randomness; its device is where everything runs.
        workers: processes that share the environments.

    Returns:
        Undiscounted returns, float `[E, P]`.
    """
    returns, prior = [], None
    for first in range(0, episodes, batch):
        count = min(batch, episodes - first)
        prior = None if prior is None else {name: rows[:count] for name, rows in prior.items()}
        seating = arrange([lineup], count, env, generator.device)
        played = play(env, seating, learners, generator, prior, greedy=True, workers=workers)
        returns.append(played.episodes.reward.sum(0))
        prior = played.prior
    return torch.cat(returns)
