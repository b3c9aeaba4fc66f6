"""The frame of one state for the page, as plain JSON values."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from omg_lightning.agents import LoadedAgent
from omg_lightning.games import Game
from omg_lightning.games.grid.icons import SEAT_COLOURS
from omg_lightning.games.grid.render import MARGIN, Capture, board_only, frame

CELL = 64  # pixels of a cell's side in the picture; the page scales it
_MOVES = {
    "up": (-1, 0), "north": (-1, 0), "down": (1, 0), "south": (1, 0), "left": (0, -1), "west": (0, -1),
    "right": (0, 1), "east": (0, 1),
}  # fmt: skip
_DIGITS = 4  # decimals of probabilities and values


def describe_game(game: Game) -> dict[str, Any]:
    """Return what the page needs from a game: names, directions of keys, sizes."""
    layout = game.layout
    return {
        "name": game.name,
        "agents": list(game.agent_names),
        "actions": list(game.action_names),
        "moves": {name: _MOVES[name] for name in game.action_names if name in _MOVES},
        "noop": game.action_names[game.noop],
        "colours": [SEAT_COLOURS[seat % len(SEAT_COLOURS)] for seat in range(game.num_players)],
        "max_steps": game.max_steps,
        "bounds": game.team_bounds,
        "grid": None if layout is None else [layout.height, layout.width],
        "cell": CELL,
        "margin": int(MARGIN * CELL),
    }


def describe_state(game: Game, state: Any, captures: Sequence[Capture]) -> dict[str, Any]:
    """Return the visible part of a state `[1]`: a picture of the board, positions, active seats and legal actions."""
    active, legal = game.active(state)[0].tolist(), game.legal(state)[0].tolist()
    found: dict[str, Any] = {"step": int(state.time), "over": not any(active), "active": active, "legal": legal}
    return found if game.layout is None else found | describe_board(game, game.observe(state)[0, 0], captures)


def describe_board(game: Game, planes: Tensor, captures: Sequence[Capture]) -> dict[str, Any]:
    """Return the visible part of a board, seat 0's view `[C, h, w]`: a picture, positions, and the cells of goals."""
    assert game.layout is not None
    picture = board_only(frame(planes, game.layout.plane_names, captures=captures, cell=CELL), CELL)
    cells, goals = planes[: game.num_players], [planes[plane] for plane in game.layout.goal_planes]
    return {"picture": _png(picture), "cells": [_cell(x) for x in cells], "goals": [_cell(x) for x in goals]}


def describe_mind(agent: LoadedAgent, action: int) -> dict[str, Any]:
    """Return an agent's belief, predictions and search results at the step at which it has just chosen."""
    search, names = agent.search, agent.spec.action_names
    found: dict[str, Any] = {
        "action": names[action],
        "belief": {name: rounded(goals) for name, goals in agent.belief().items()},
        "predict": {name: rounded(actions) for name, actions in agent.predict().items()},
    }
    if search is not None:
        total = float(search.visits.sum()) or 1.0
        found["search"] = {
            name: [round(float(n) / total, _DIGITS), round(float(value), _DIGITS), round(float(p), _DIGITS)]
            for name, n, value, p in zip(names, search.visits[0], search.values[0], search.policy[0], strict=True)
            if n > 0 or p > 0
        }
        found["value"] = round(float(search.value), _DIGITS)
    return found


def rounded(chances: Mapping[str, Tensor]) -> dict[str, float]:
    """Return probabilities `[1]` as plain numbers."""
    return {name: round(float(chance), _DIGITS) for name, chance in chances.items()}


def _cell(plane: Tensor) -> list[int] | None:
    """Return row and column of a player, or None for one that has left."""
    where = torch.nonzero(plane)
    return where[0].tolist() if len(where) else None


def _png(picture: Any) -> str:
    """Return a picture as a data URL."""
    stream = io.BytesIO()
    Image.fromarray(picture).quantize(64).save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
