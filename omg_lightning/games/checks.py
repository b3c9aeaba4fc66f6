"""Checks of constructor arguments of games: each returns the value, or raises a one-line ConfigError."""

import math
from collections.abc import Mapping
from numbers import Integral, Real

import torch

from omg_lightning.types import ConfigError


def whole(name: str, value: object, least: int) -> int:
    """Return `value` as an int, or raise ConfigError unless it is a whole number of at least `least`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{name}={value!r}: expected a whole number >= {least}; give one.")
    return int(value)


def number(name: str, value: object) -> float:
    """Return `value` as a float, or raise ConfigError unless it is a finite number."""
    if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
        raise ConfigError(f"{name}={value!r}: expected a finite number; give one.")
    return float(value)


def flag(name: str, value: object) -> bool:
    """Return `value`, or raise ConfigError unless it is True or False."""
    if not isinstance(value, bool):
        raise ConfigError(f"{name}={value!r}: expected True or False; give one of them.")
    return value


def device_of(generator: torch.Generator | None) -> torch.device:
    """Return the device of `generator`; None is torch's own CPU generator."""
    return torch.device("cpu") if generator is None else generator.device


def sizes(
    game: str,
    presets: Mapping[str, Mapping[str, int]],
    preset: str | None,
    given: Mapping[str, int | None],
    default: Mapping[str, int],
) -> list[int]:
    """Return the sizes of a game in the order of `given`: the given one, or else the preset's, or else the default.

    Raises:
        ConfigError: the preset does not exist, or a size is missing.
    """
    if preset is not None and preset not in presets:
        raise ConfigError(f"preset={preset!r}: expected one of {', '.join(presets)}; choose one of these.")
    known = {**default, **(presets[preset] if preset is not None else {})}
    known |= {name: value for name, value in given.items() if value is not None}
    if missing := [name for name in given if name not in known]:
        raise ConfigError(f"{game} got no {', '.join(missing)}: give them, or a preset, one of {', '.join(presets)}.")
    return [known[name] for name in given]
