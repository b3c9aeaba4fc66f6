"""Checks of an agent's settings, and of a checkpoint against them."""

from collections.abc import Mapping
from typing import Any

from omg_lightning.types import ConfigError

GAME_KEYS = ("game", "observation_shape", "num_players", "num_actions", "max_steps")
NETWORK_KEYS = ("goals", "goal_dim", "num_codes", "hidden", "trunk", "roles")


def check_positive(arguments: dict[str, Any], names: tuple[str, ...]) -> None:
    """Raises ConfigError unless all the named arguments are at least 1."""
    for name in names:
        if arguments[name] < 1:
            raise ConfigError(f"model.{name} is {arguments[name]}: it must be at least 1")


def check_match(saved: Mapping[str, Any], own: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    """Raises ConfigError where a checkpoint's settings `saved` differ from this run's in one of `keys`."""
    for key in keys:
        there, here = _plain(saved.get(key)), _plain(own.get(key))
        if there != here:
            raise ConfigError(
                f"the checkpoint was trained with {key} {there}, but this run has {here}: "
                "use the configuration it was trained with, or train anew"
            )


def settings(kind: type, value: Any) -> Any:
    """A group of settings, also from the plain values that a checkpoint holds.

    Raises:
        ConfigError: a checkpoint holds a setting that there is no more.
    """
    if not isinstance(value, dict):
        return value
    try:
        return kind(**value)
    except TypeError as error:
        raise ConfigError(f"the checkpoint is of another version ({error}): train anew") from error


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
