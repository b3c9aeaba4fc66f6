"""Recorded games: episodes that people played in `play`, for the offline phase."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from omg_lightning.envs.base import VectorEnv, describe
from omg_lightning.types import NO_GOAL, ConfigError, Episodes


def read_recorded(folder: Path, env: VectorEnv) -> Episodes:
    """Return the games that `play` saved in `folder`, sorted by file name: `[T, N, P, ...]`, on the CPU.

    Args:
        folder: with files `episode_0001.pt`, `episode_0002.pt`, ...
        env: the environment of the training.

    Raises:
        ConfigError: there is no such file, or one is damaged or of another game.
    """
    paths = sorted(folder.glob("episode_*.pt"))
    if not paths:
        raise ConfigError(
            f"data.offline.recorded is {folder}, which has no episode_*.pt: save games there with python -m "
            f"omg_lightning play --folder {folder}"
        )
    return _joined([_read(path, env) for path in paths])


def beside(recorded: Episodes, played: Episodes) -> Episodes:
    """Return `recorded` with a goal and extras of zeros, of the sizes in `played`, on its device.

    No seat of a recorded game is the learner in training, so these are never read.
    """
    steps, count, seats = recorded.active.shape

    def empty(like: Tensor) -> Tensor:
        return like.new_zeros(steps, count, seats, *like.shape[3:])

    moved = recorded.map(lambda field: field.to(played.active.device))
    extras = {name: empty(field) for name, field in played.extras.items()}
    return moved._replace(goal=empty(played.goal), extras=extras)


def _read(path: Path, env: VectorEnv) -> Episodes:
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
        game, episodes = found["game"], Episodes(**found["episodes"], extras={})
    except Exception as error:  # a damaged file may fail in any way
        raise ConfigError(f"{path} is not a game saved by `play` ({type(error).__name__}): remove it") from error
    here = describe(env)
    if differ := [name for name in {**here, **game} if here.get(name) != game.get(name)]:
        differ = ["name"] if "name" in differ else differ  # ignore the options of another game
        there, own = (", ".join(f"{name} {found.get(name)}" for name in differ) for found in (game, here))
        raise ConfigError(f"{path} is a game with {there}, but this run has {own}: use recordings of the same game")
    return episodes


def _joined(games: list[Episodes]) -> Episodes:
    """Return games of different lengths `[T_i, 1, P, ...]` as one batch, padded to the longest."""
    longest = max(len(game.active) for game in games)

    def padded(field: Tensor, value: int = 0) -> Tensor:
        return F.pad(field, (0, 0) * (field.ndim - 1) + (0, longest - len(field)), value=value)

    def of(game: Episodes) -> Episodes:
        achieved, pursued = (padded(goal, NO_GOAL) for goal in (game.achieved_goal, game.true_goal))
        return game.map(padded)._replace(achieved_goal=achieved, true_goal=pursued)

    even = [of(game) for game in games]
    return Episodes._make([*(torch.cat(fields, 1) for fields in zip(*(game[:-1] for game in even), strict=True)), {}])
