"""Saved games of people: in the format of the buffer for training, as frames for the page."""

import json
from pathlib import Path
from typing import Any

import torch

from omg_lightning.envs.base import RulesEnv, describe
from omg_lightning.files import replace_text, replacing
from omg_lightning.types import ConfigError
from omg_lightning.viewer.export import Side, side_of
from omg_lightning.viewer.session import Session

_PATTERN = "episode_*.json"


def save_game(session: Session, folder: Path) -> Path:
    """Write the session's game as `episode_0001.pt` and `episode_0001.json`, with the next free number.

    The first file holds `Episodes` `[T, 1, P, ...]` as a dict of tensors, and the game's description; the second holds
    the frames of the page.

    Returns:
        The path of the first file.
    """
    number = max((int(path.stem.split("_")[1]) for path in folder.glob(_PATTERN)), default=0) + 1
    path = folder / f"episode_{number:04}.pt"
    episodes = session.episodes()
    with replacing(path) as file:
        torch.save({"game": describe(RulesEnv(session.game)), "episodes": episodes.tensors()}, file)
    replace_text(path.with_suffix(".json"), json.dumps(side_of("", session)._asdict()))
    return path


def saved_games(folder: Path) -> list[Side]:
    """Return the saved games in a folder, in order; an empty list if there are none.

    Raises:
        ConfigError: a file is damaged.
    """
    return [_read(path) for path in sorted(folder.glob(_PATTERN))]


def _read(path: Path) -> Side:
    try:
        found: Any = json.loads(path.read_text())
        return Side(found["name"], found["about"], found["frames"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is not a game saved by `play` ({type(error).__name__}): remove it") from error
