"""Weights in 8 bits, for agents that only play: a quarter of the size of single precision."""

from collections.abc import Mapping

import torch
from torch import Tensor

SCALE = "/scale"  # a packed tensor `name` has its scales beside it, as `name/scale`
LEAST = 1024  # numbers in a tensor; smaller ones, such as biases and codes, stay as they are
_LARGEST = 127  # of a signed 8-bit number, in either direction


def pack(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights with all large matrices as int8, each row with one scale.

    The error of a weight is at most 1/254 of the largest weight of its row.
    """
    found = dict(weights)
    for name, value in weights.items():
        if value.is_floating_point() and value.ndim > 1 and value.numel() >= LEAST:
            rows = value.detach().float().flatten(1)  # [R, ...] -> [R, C]
            scale = rows.abs().amax(1) / _LARGEST  # [R]
            steps = (rows / torch.where(scale > 0, scale, 1.0)[:, None]).round()
            found |= {name: steps.to(torch.int8).view(value.shape), name + SCALE: scale}
    return found


def unpack(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights with all matrices in single precision.

    Raises:
        RuntimeError: the scales do not fit the matrices.
    """
    found = {name: value for name, value in weights.items() if not name.endswith(SCALE)}
    for name, value in found.items():
        if (scale := weights.get(name + SCALE)) is not None:
            found[name] = (value.flatten(1).float() * scale[:, None]).view(value.shape)
    return found
