"""Checks of grid games: layout, planes, and sparse observations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from omg_lightning.games.base import Game
from omg_lightning.games.grid.layout import GridLayout
from omg_lightning.spaces import is_binary
from omg_lightning.testing.report import Report


def check_layout(report: Report, game: Game) -> None:
    """Check a game's description of its planes, if it is on a grid.

    Args:
        report: raises the failure.
        game: the game to check.

    Raises:
        CheckError: the layout does not fit the game.
    """
    layout, seats, shape = game.layout, game.num_players, game.observation_shape
    if layout is None:
        report.require(not game.sparse_views, "sparse_views", "True", "False without a layout", "set layout, too")
        return
    cure = "make observation_space a MultiBinary of layout.shape"
    report.require(shape == layout.shape, "layout", layout.shape, f"the shape of observation_space, {shape}", cure)
    bits = is_binary(game.observation_space)
    report.require(bits, "observation_space", game.observation_space, "bits, since layout describes planes", cure)
    names, count = layout.plane_names, layout.num_players
    distinct = len(set(names)) == len(names) >= seats
    report.require(distinct, "layout.plane_names", names, f"different names, {seats} of players first", "rename them")
    report.require(count == seats, "layout.num_players", count, f"num_players, {seats}", "set it to that")
    for member, least, end in (
        ("walls", seats, len(names)),
        ("owned", seats, len(names) - seats + 1),
        ("goal_action", 0, game.num_actions),
    ):
        index = getattr(layout, member)
        fits = index is None or least <= index < end
        report.require(fits, f"layout.{member}", index, f"None, or {least} to {end - 1}", "correct the index")
    planes, goals = layout.goal_planes, len(game.goal_names)
    fits = not planes or (len(planes) == goals and all(seats <= plane < len(names) for plane in planes))
    expected = f"no planes, or {goals}, each from {seats} to {len(names) - 1}"
    report.require(fits, "layout.goal_planes", planes, expected, "name a plane for each of goal_names, in order")


def check_planes(report: Report, layout: GridLayout, view: Tensor, active: Tensor) -> None:
    """Check planes of a grid: players first, ego first, one cell per active player; the rest equal for all seats.

    Planes of objects that belong to players are in ego order, too, see `GridLayout.owned`.

    Args:
        report: raises the failure.
        layout: the meaning of the planes.
        view: `[B, P, C, h, w]` of 0 and 1.
        active: bool `[B, P]`.

    Raises:
        CheckError: the planes do not follow `omg_lightning.games.grid.layout.GridLayout`.
    """
    seats, running = active.shape[1], active.any(1)
    shared = torch.arange(view.shape[2]) >= seats
    if (first := layout.owned) is not None:
        shared[first : first + seats] = False
    other_planes = (view[:, :, shared] != view[:, :1, shared]).flatten(2).any(-1)
    got, expected = "planes after those of the players that differ from seat 0's", "the same for every seat"
    report.nowhere(other_planes, "observe", got, expected, "show the same objects to all seats")
    for seat in range(seats):
        for k in range(seats):
            plane, other = view[:, seat, k], (seat + k) % seats
            differs = (plane != view[:, other, 0]).flatten(1).any(-1)
            got = f"in plane {k} of seat {seat} other values than in plane 0 of seat {other}"
            cure = "order the planes of players as seat i, i+1, i+2, ... (mod P), see omg_lightning.types.ego_order"
            report.nowhere(differs, "observe", got, "players in ego order", cure, letters=["row"])
            if first is not None:
                differs = (view[:, seat, first + k] != view[:, other, first]).flatten(1).any(-1)
                got = f"in plane {first + k} of seat {seat} other values than in plane {first} of seat {other}"
                report.nowhere(differs, "observe", got, "objects by owner, in ego order", cure, letters=["row"])
            cells = plane.sum((1, 2))
            wrong = running & (cells != active[:, other])
            got, expected = f"in plane {k} of seat {seat} a number of cells of", "1 for an active seat, else 0"
            cure = "mark the player's cell, and no cell once the player has left"
            report.nowhere(wrong, "observe", got, expected, cure, cells, ["row"])


def check_sparse(report: Report, layout: GridLayout, places: Any, view: Tensor, facts: bool) -> None:
    """Check that sparse views list each one of the planes once.

    Args:
        report: raises the failure.
        layout: the meaning of the planes.
        places: result of `observe_sparse`; int32 `[B, P, n]` is expected.
        view: `[B, P, C, h, w]` result of `observe`.
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


def standing(layout: GridLayout, rows: int, generator: torch.Generator) -> Tensor:
    """Draw planes in which each player stands on a cell: float32 `[rows, P, h, w]` of 0 and 1."""
    cells = torch.randint(layout.cells, (rows, layout.num_players), generator=generator)
    return torch.nn.functional.one_hot(cells, layout.cells).float().unflatten(-1, (layout.height, layout.width))
