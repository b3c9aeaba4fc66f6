"""Observation spaces: their tensor dtype, and a plain form for checkpoints."""

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from omg_lightning.types import ConfigError

Space = spaces.Box | spaces.MultiBinary


def check_space(space: Any, owner: str) -> Space:
    """Return `space` if observations can be stored and read from it.

    Args:
        space: a game's `observation_space`.
        owner: name of the game, for the message.

    Raises:
        ConfigError: the space is neither a gymnasium `Box` nor a `MultiBinary`, or it has no entries.
    """
    if not isinstance(space, spaces.Box | spaces.MultiBinary):
        raise ConfigError(
            f"{owner}.observation_space is {space!r}; expected gymnasium.spaces.Box or MultiBinary, the space of one "
            "seat's view: use gymnasium.spaces.flatten_space for any other space"
        )
    if 0 in space.shape:
        raise ConfigError(f"{owner}.observation_space has shape {space.shape}; expected at least one entry: add one")
    return space


def is_binary(space: Space) -> bool:
    """Return whether all entries are 0 or 1: a `MultiBinary`, or a `Box` of integers or booleans from 0 to 1."""
    if isinstance(space, spaces.MultiBinary):
        return True
    whole = space.dtype is not None and space.dtype.kind in "iub"
    return whole and bool((space.low == 0).all() and (space.high == 1).all())


def dtype_of(space: Space) -> torch.dtype:
    """Return the dtype in which observations are stored: uint8 for bits, else the dtype of the space.

    Unsigned integers of more than a byte get the next wider signed dtype, because torch supports few unsigned dtypes.
    """
    if is_binary(space):
        return torch.uint8
    dtype = np.dtype(space.dtype)
    if dtype.kind == "u" and dtype.itemsize > 1:
        dtype = np.promote_types(dtype, np.int8)
    return torch.from_numpy(np.zeros(1, dtype)).dtype


def stored(observation: Tensor, space: Space) -> Tensor:
    """Convert an observation to its storage dtype; values of the space are unchanged."""
    return observation.to(dtype_of(space))


def plain_space(space: Space) -> dict[str, Any]:
    """Describe a space in plain values: shape, dtype, and whether its entries are bits."""
    return {"shape": list(space.shape), "dtype": str(space.dtype), "binary": is_binary(space)}


def space_of(plain: dict[str, Any]) -> Space:
    """Return the space of this plain description; the bounds of a `Box` are not preserved."""
    shape = tuple(plain["shape"])
    if plain["binary"]:
        return spaces.MultiBinary(shape)
    dtype = np.dtype(plain["dtype"])
    if dtype.kind == "f":
        return spaces.Box(-np.inf, np.inf, shape, dtype.type)
    if dtype.kind == "b":
        return spaces.MultiBinary(shape)
    bounds = np.iinfo(dtype)
    return spaces.Box(bounds.min, bounds.max, shape, dtype.type)
