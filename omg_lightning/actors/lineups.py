"""Line-ups as a user writes them: who sits in each seat, and who may."""

from pathlib import Path

import torch

from omg_lightning.games import Game
from omg_lightning.opponents import OracleGoals
from omg_lightning.actors import SWITCHER
from omg_lightning.rollout import CHECKPOINT, LEARNER, Seats, arrange, scripts_of
from omg_lightning.types import NO_GOAL, ConfigError, Episodes, Learner


def as_lineups(seats: list[str] | list[list[str]]) -> list[list[str]]:
    """Line-ups of what a user wrote: one line-up, or a list of them."""
    nested = [not isinstance(entry, str) for entry in seats]
    if any(nested) and not all(nested):
        raise ConfigError(f"data.seats is {seats}: give one name for each seat, or a list of such lists, not both")
    return [list(entry) for entry in seats] if any(nested) else [[str(name) for name in seats]]


def beside_learner(partner: str, num_players: int) -> list[str]:
    """The line-up of a learner in seat 0 and the same partner in all others."""
    return [LEARNER, *[partner] * (num_players - 1)]


def default_partners(game: Game) -> list[str]:
    """Whom a learner meets in `test` unless told otherwise: one of each kind that the game knows."""
    scripts = scripts_of(game)
    return ["random", *scripts, *([SWITCHER] if scripts else [])]


def check_lineups(lineups: list[list[str]], game: Game) -> None:
    """Raises ConfigError unless everybody in these line-ups can be found and can play this game."""
    names = arrange(lineups, len(lineups), game, torch.device("cpu")).names
    for path in (name.removeprefix(CHECKPOINT) for name in names if name.startswith(CHECKPOINT)):
        if not Path(path).is_file():
            raise ConfigError(f"data: no checkpoint at {path}: give the path of a .ckpt file that `fit` wrote")


def check_told(table: Seats, learner: Learner, episodes: Episodes) -> None:
    """Raises ConfigError where an oracle would have had to know the goal of somebody who declares none."""
    silent = ~table.held_by(LEARNER) & (episodes.truth[0] == NO_GOAL)
    if isinstance(learner.source, OracleGoals) and silent.any():
        who = table.names[int(table.who[silent][0])]
        raise ConfigError(f"goals is 'oracle', but {who} declares no goal: seat a script that does")
