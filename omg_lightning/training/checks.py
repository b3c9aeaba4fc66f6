"""Checks of an agent's settings, and of a checkpoint against them."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from torch import Tensor

from omg_lightning.types import ConfigError

GAME_KEYS = ("game", "observation_shape", "num_players", "num_actions", "max_steps")
NETWORK_KEYS = ("goals", "goal_dim", "num_codes", "hidden", "trunk", "sharing")


def check_positive(arguments: dict[str, Any], names: tuple[str, ...]) -> None:
    """Raises ConfigError unless all the named arguments are at least 1."""
    for name in names:
        if arguments[name] < 1:
            raise ConfigError(f"model.{name} is {arguments[name]}: it must be at least 1")


def check_goals(goals: str, num_goals: int, game: str, vae_checkpoint: str | None) -> None:
    """Raises ConfigError unless the game has what `goals` needs, and `goals` what `vae_checkpoint` is for."""
    if vae_checkpoint and goals != "subgoal":
        raise ConfigError(f"vae_checkpoint is given, but goals is {goals!r}: only subgoal has a state VAE")
    if goals in ("declared", "oracle") and not num_goals:
        raise ConfigError(f"goals is {goals!r}, but {game} declares no goals: use none or subgoal")


def check_weights(weights: Iterable[tuple[str, Tensor]]) -> None:
    """Raises ConfigError unless all the named weights are finite."""
    broken = [name for name, weight in weights if not weight.isfinite().all()]
    if broken:
        raise ConfigError(f"weights are not finite ({broken[0]}), so they are not saved: lower model.learning_rate")


def check_match(saved: Mapping[str, Any], own: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    """Raises ConfigError where a checkpoint's settings `saved` differ from this run's in one of `keys`."""
    for key in keys:
        there, here = _tuple(saved.get(key)), _tuple(own.get(key))
        if there != here:
            raise ConfigError(
                f"the checkpoint was trained with {key} {there}, but this run has {here}: "
                "use the configuration it was trained with, or train anew"
            )


def check_fit(saved: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Raises ConfigError unless a checkpoint's weights `saved` have the names and shapes of `own`."""
    for name in {**own, **saved}:
        there, here = (list(weights[name].shape) if name in weights else "nothing" for weights in (saved, own))
        if there != here:
            raise ConfigError(f"the checkpoint is of another version ({name}: {there}, expected {here}): train anew")


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


def plain(value: Any) -> Any:
    """The value that a checkpoint holds of a setting: it must load without running code."""
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
