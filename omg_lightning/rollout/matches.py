"""Matches: fixed players meet for so many episodes, and nobody learns."""

import torch
from torch import Tensor

from omg_lightning.games.base import Game
from omg_lightning.rollout.play import play
from omg_lightning.actors.seating import arrange
from omg_lightning.types import Learner


def match(
    game: Game,
    lineup: list[str],
    learners: dict[str, Learner],
    episodes: int,
    batch: int,
    generator: torch.Generator,
    workers: int = 1,
) -> Tensor:
    """Plays greedy episodes of one line-up, `batch` at once; what is believed of the others is carried on.

    Args:
        game: the rules.
        lineup: a name for every seat.
        learners: those among them that plan, by name.
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
        seats = arrange([lineup], count, game, generator.device)
        played = play(game, seats, learners, generator, prior, greedy=True, workers=workers)
        returns.append(played.episodes.reward.sum(0))
        prior = played.prior
    return torch.cat(returns)
