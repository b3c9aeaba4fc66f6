"""Recorded episodes for the page; they have no search results."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from omg_lightning.games import Game
from omg_lightning.games.grid.render import Capture, captures_of
from omg_lightning.opponents import OpponentModel
from omg_lightning.types import NO_GOAL, Episodes
from omg_lightning.viewer.export import Side
from omg_lightning.viewer.frames import describe_board, describe_game, rounded


def boards(episodes: Episodes, b: int, game: Game) -> Iterator[tuple[Tensor, list[Capture]]]:
    """Return the view of seat 0, `[C, h, w]`, at the start and after each step, with the captures of the step.

    The board after the last step is not recorded. It is the board before that step, without the captured objects and
    without the players that captured them (unless a player in this episode captured an object and stayed: in such games
    captures do not remove players). So it does not show the last move of players without a capture.

    Args:
        episodes: `[T, B, P, ...]`.
        b: which of the B episodes.
        game: on a grid.
    """
    assert game.layout is not None
    length = int(episodes.active[:, b].any(-1).sum())
    views = episodes.observation[:length, b, 0].cpu()  # [L, C, h, w]
    leavers = not bool(((episodes.achieved_goal[:-1, b] != NO_GOAL) & episodes.active[1:, b]).any())
    yield views[0], []
    for t in range(length):
        realised = episodes.achieved_goal[t, b].tolist()
        captures = captures_of(views[t], realised, game.goal_names, game.layout.plane_names)
        if t + 1 < length:
            yield views[t + 1], captures
        else:
            yield _without(views[t], captures, game.num_players, leavers), captures


@torch.no_grad()
def recorded_side(name: str, episodes: Episodes, b: int, game: Game, opponent: OpponentModel) -> Side:
    """Return a recorded episode of learners for the page, with their beliefs and predictions.

    Args:
        name: name of the side.
        episodes: `[T, B, P, ...]` with the inferred goals.
        b: which of the B episodes.
        game: on a grid, or not.
        opponent: the learners' opponent model.
    """
    length = int(episodes.active[:, b].any(-1).sum())
    pictures = list(boards(episodes, b, game)) if game.layout is not None else []
    seats = ["learner" if learns else "player" for learns in episodes.learner[0, b].tolist()]
    about = {**describe_game(game), "seats": seats, "choices": []}
    frames = []
    for t in range(length + 1):
        going = t < length
        active = episodes.active[t, b].tolist() if going else [False] * game.num_players
        frame: dict[str, Any] = {
            "step": t,
            "over": not going,
            "active": active,
            "legal": episodes.legal[t, b].tolist() if going else [],
            "minds": _minds(episodes, t, b, game, opponent) if going else {},
            "played": _played(episodes, t - 1, b, game) if t else {},
            "returns": [round(value, 4) for value in episodes.reward[:t, b].sum(0).tolist()],
            "waits": [],
        }
        if pictures:
            frame |= describe_board(game, *pictures[t])
        frames.append(frame)
    return Side(name, about, frames)


def _minds(episodes: Episodes, t: int, b: int, game: Game, opponent: OpponentModel) -> dict[int, Any]:
    """Return each learner's beliefs and predictions at step t; all observers of a seat share its inferred goal."""
    there = episodes.active[t, b]
    seats = there.nonzero()[:, 0]
    goal, view = episodes.goal[t, b, seats], episodes.observation[t, b, seats].float()
    time = torch.full((len(seats),), t / game.max_steps, device=view.device)
    expected = opponent.forecast(view, time, seats, episodes.legal[t, b, seats], goal).softmax(-1)
    belief = opponent.belief_view(goal, game.goal_names)
    predict, after = {}, {}
    for row, seat in enumerate(seats.tolist()):
        name = game.agent_names[seat]
        predict[name] = rounded(dict(zip(game.action_names, expected[row], strict=True)))
        if belief is not None:
            after[name] = rounded(dict(zip(belief.labels, belief.values[row], strict=True)))
    found = {}
    for seat in (episodes.learner[t, b] & there).nonzero()[:, 0].tolist():
        own = game.agent_names[seat]
        found[seat] = {
            "action": game.action_names[int(episodes.action[t, b, seat])],
            "belief": {name: goals for name, goals in after.items() if name != own},
            "predict": {name: actions for name, actions in predict.items() if name != own},
        }
    return found


def _played(episodes: Episodes, t: int, b: int, game: Game) -> dict[int, str]:
    seats = episodes.active[t, b].nonzero()[:, 0].tolist()
    return {seat: game.action_names[int(episodes.action[t, b, seat])] for seat in seats}


def _without(view: Tensor, captures: list[Capture], players: int, leavers: bool) -> Tensor:
    """Return the board `[C, h, w]` after these captures; with `leavers` their seats leave, too."""
    board = view.clone()
    for capture in captures:
        if leavers:
            board[list(capture.seats)] = 0
        board[players:, capture.row, capture.column] = 0
    return board
