"""Who can sit in a seat: scripted players by name, anyone else's by the dotted path of a class."""

import importlib
from typing import Any

from omg_lightning.actors.base import Player, actions_of, best_chance, goals_of
from omg_lightning.actors.scripted import (
    Cleaner,
    Defector,
    NearestHare,
    NearestStag,
    PreySeeker,
    RandomPlayer,
    ScriptedPlayer,
    scripts_of,
)
from omg_lightning.actors.switcher import SWITCHER, Switcher, parse_steps
from omg_lightning.types import ConfigError

__all__ = [
    "SCRIPTED",
    "Cleaner",
    "Defector",
    "NearestHare",
    "NearestStag",
    "Player",
    "PreySeeker",
    "RandomPlayer",
    "ScriptedPlayer",
    "Switcher",
    "actions_of",
    "best_chance",
    "goals_of",
    "make_player",
    "scripts_of",
]

SCRIPTED: dict[str, type[ScriptedPlayer]] = {
    "random": RandomPlayer,
    "nearest_stag": NearestStag,
    "nearest_hare": NearestHare,
    "cleaner": Cleaner,
    "defector": Defector,
}


def make_player(name: str) -> Player:
    """Makes a player from what a user wrote for a seat.

    Args:
        name: a key of SCRIPTED; `switcher`, with the steps at which it changes, such as `switcher:5:12`; or the dotted
            path of a class that follows `Player` and needs no arguments, such as `my_package.players.Idler`.

    Raises:
        ConfigError: there is no such player, or it cannot be imported, built or used; the message says which.
    """
    if isinstance(name, str) and name in SCRIPTED:
        return SCRIPTED[name]()
    if isinstance(name, str) and name.partition(":")[0] == SWITCHER:
        return Switcher(make_player, parse_steps(name))
    if isinstance(name, str) and (name == "learner" or name.startswith("checkpoint:")):
        raise ConfigError(f"'{name}' needs trained networks: put it into `data.seats`; make_player makes {_known()}")
    if not isinstance(name, str) or "." not in name.strip("."):
        raise ConfigError(f"unknown player {name!r}: use {_known()}, 'learner' or 'checkpoint:PATH'")
    return _build(name, _import(name))


def _known() -> str:
    return f"{', '.join(SCRIPTED)}, {SWITCHER}, or a dotted path such as 'my_package.players.MyPlayer'"


def _import(path: str) -> Any:
    """Imports whatever a dotted path names."""
    module, _, attribute = path.rpartition(".")
    try:
        found = importlib.import_module(module)
    except Exception as error:  # a user's module may fail in any way: say how, in one line
        raise ConfigError(
            f"player '{path}': importing '{module}' failed with {_one_line(error)}; run from the folder that holds it, "
            f"install it, or use {_known()}"
        ) from error
    if not hasattr(found, attribute):
        raise ConfigError(f"player '{path}': module '{module}' has no '{attribute}'; correct the class name")
    return getattr(found, attribute)


def _build(path: str, found: Any) -> Player:
    """Makes a player of a class that came from outside, after a look at whether it is one."""
    if not isinstance(found, type):
        raise ConfigError(f"player '{path}' is a {type(found).__name__}, not a class; name the class itself")
    missing = [method for method in ("reset", "act") if not callable(getattr(found, method, None))]
    if missing:
        raise ConfigError(
            f"player '{path}' has no method {' and no '.join(missing)}; a player has reset(batch_size, seat, game, "
            "generator) and act(observation, legal), see omg_lightning.actors.Player"
        )
    try:
        player: Player = found()
    except Exception as error:
        raise ConfigError(f"player '{path}': {path.rpartition('.')[2]}() failed with {_one_line(error)}") from error
    return player


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
