"""Checks of views: that they lie in the observation space, and that planes of a grid mean what the layout says."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from omg_lightning.games.grid.layout import GridLayout
from omg_lightning.spaces import Space, dtype_of, is_binary
from omg_lightning.testing.report import Report


def check_values(report: Report, member: str, space: Space, view: Any, rows: int, seats: int) -> None:
    """Check shape and values of views, and that the dtype in which they are stored holds these values.

    Args:
        report: words the failure.
        member: the method that returned the views.
        space: the space of one seat's view.
        view: what the method returned; `[B, P, *space.shape]` is expected.
        rows: B.
        seats: P.

    Raises:
        CheckError: the views are no such tensor, leave the space, or change when they are stored.
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


def check_planes(report: Report, view: Tensor, active: Tensor) -> None:
    """Check planes of a grid: players first, ego first, one cell for each who is there; the rest alike for all seats.

    Args:
        report: words the failure.
        view: `[B, P, C, h, w]` of 0 and 1.
        active: bool `[B, P]`.

    Raises:
        CheckError: the planes do not follow `omg_lightning.games.grid.layout.GridLayout`.
    """
    seats, running = active.shape[1], active.any(1)
    other_planes = (view[:, :, seats:] != view[:, :1, seats:]).flatten(2).any(-1)
    got, expected = "planes behind those of the players that differ from seat 0's", "the same for every seat"
    report.nowhere(other_planes, "observe", got, expected, "show the same things to all seats")
    for seat in range(seats):
        for k in range(seats):
            plane, other = view[:, seat, k], (seat + k) % seats
            differs = (plane != view[:, other, 0]).flatten(1).any(-1)
            got = f"in plane {k} of seat {seat} something else than in plane 0 of seat {other}"
            cure = "order the planes of players as seat i, i+1, i+2, ... (mod P), see omg_lightning.types.ego_order"
            report.nowhere(differs, "observe", got, "players in ego order", cure, letters=["row"])
            cells = plane.sum((1, 2))
            wrong = running & (cells != active[:, other])
            got, expected = f"in plane {k} of seat {seat} a number of cells of", "1 for an active seat, else 0"
            cure = "mark the player's cell, and no cell once the player has left"
            report.nowhere(wrong, "observe", got, expected, cure, cells, ["row"])


def check_sparse(report: Report, layout: GridLayout, places: Any, view: Tensor, facts: bool) -> None:
    """Check that sparse views name each one of the planes once.

    Args:
        report: words the failure.
        layout: what the planes mean.
        places: what `observe_sparse` returned; int32 `[B, P, n]` is expected.
        view: `[B, P, C, h, w]` what `observe` returned.
        facts: whether indices past the planes may follow, as they do with a board.

    Raises:
        CheckError: the two kinds of views differ.
    """
    width = places.shape[-1] if isinstance(places, Tensor) and places.dim() else 0
    report.tensor("observe_sparse", places, (*view.shape[:2], width), "[B, P, n]", (torch.int32,))
    none = layout.cells * len(layout.plane_names)
    beyond = (places < 0) | (places > none) & (not facts)
    expected = f"an index from 0 to {none - 1}, or {none} for none"
    report.nowhere(beyond, "observe_sparse", "the index", expected, "correct the index", places)
    named = torch.zeros(*view.shape[:2], none + 1).scatter_add_(
        2, places.clamp(max=none).long(), torch.ones(places.shape)
    )
    differs = named[..., :none] != view.flatten(2)
    got, expected = "other ones than in observe", "the index of each one in the flattened view, once"
    report.nowhere(differs, "observe_sparse", got, expected, "make both agree", letters=["row", "seat", "index"])


def _bounds(space: Space) -> tuple[Tensor, Tensor]:
    """Return the least and largest values, float64."""
    if is_binary(space):
        return torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    low, high = space.low, space.high  # type: ignore[union-attr]
    return torch.as_tensor(low.astype("float64")), torch.as_tensor(high.astype("float64"))
