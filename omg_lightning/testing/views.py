"""Checks of observations: their values are in the observation space, and can be stored."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from omg_lightning.spaces import Space, dtype_of, is_binary
from omg_lightning.testing.report import Report


def check_values(report: Report, member: str, space: Space, view: Any, rows: int, seats: int) -> None:
    """Check shape and values of views, and that the dtype in which they are stored holds these values.

    Args:
        report: raises the failure.
        member: the method that returned the views.
        space: the space of one seat's view.
        view: result of the method; `[B, P, *space.shape]` is expected.
        rows: B.
        seats: P.

    Raises:
        CheckError: the views have another shape, leave the space, or change when they are stored.
    """
    report.tensor(member, view, (rows, seats, *(space.shape or ())), "[B, P, *observation_space.shape]")
    values, low, high = view.double(), *_bounds(space)
    beyond = ~((values >= low) & (values <= high))  # True for NaN, too
    bounds = f"{float(low.min()):g} to {float(high.max()):g}"
    if beyond.any() and low.dim():
        at = tuple(beyond.nonzero()[0].tolist())[2:]
        bounds = f"{float(low[at]):g} to {float(high[at]):g} at index {list(at)}"
    expected = f"values of observation_space, {bounds}"
    report.nowhere(beyond, member, "the value", expected, "correct the view, or the bounds of the space", values)
    dtype = dtype_of(space)
    changed = view.to(dtype).double() != values
    expected = f"values that {dtype}, the dtype in which views of this space are stored, holds exactly"
    cure = "round the views, or give observation_space the dtype of the views"
    report.nowhere(changed, member, "the value", expected, cure, values)


def _bounds(space: Space) -> tuple[Tensor, Tensor]:
    """Return the smallest and largest values, float64."""
    if is_binary(space):
        return torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    low, high = space.low, space.high  # type: ignore[union-attr]
    return torch.as_tensor(low.astype("float64")), torch.as_tensor(high.astype("float64"))
