"""Scripted players of games on a grid, and the shortest paths they walk."""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from omg_lightning.games.grid.paths import STEPS, UNREACHABLE, distance_to
from omg_lightning.games.scripts import ScriptedPlayer, uniform

MOVES = dict(zip(("up", "down", "left", "right"), STEPS, strict=True))  # action name -> (row, column) step


class PreySeeker(ScriptedPlayer):
    """Goes to the nearest prey of one kind by a shortest path around blocks, and takes it when on it.

    Ties are broken at random at each step: uniformly over the moves that bring it one step closer to a nearest prey
    (so two equally near prey in the same direction count as one choice). It stays if no prey is left or reachable.
    A subclass names the plane, the action and the goal.

    Attributes:
        plane: the observation plane that shows the prey.
        take: the action that takes it, legal only on its cell.
    """

    plane: ClassVar[str]
    take: ClassVar[str]

    def needs(self) -> tuple[str, ...]:
        """Return the names of its plane, its action and the moves."""
        return (self.plane, self.take, *MOVES)

    def reset(self, batch_size: int, seat: int, game: Any, generator: torch.Generator) -> None:
        """Start new episodes, and look up the planes and actions that the script needs; see `Player.reset`."""
        super().reset(batch_size, seat, game, generator)
        planes, actions = list(game.layout.plane_names), list(game.action_names)
        self._prey = planes.index(self.plane)
        self._blocks = planes.index("blocks") if "blocks" in planes else None
        self._take = actions.index(self.take)
        self._moves = {actions.index(name): step for name, step in MOVES.items()}

    restart = ScriptedPlayer.restart  # it keeps nothing of an episode

    def action_probabilities(self, observation: Tensor, legal: Tensor) -> Tensor:
        """Return `[B, A]`: uniform over the moves that come closer, or all on taking the prey, or all on staying."""
        here, there = self._distances(observation, list(self._moves.values()))
        wanted = torch.zeros_like(legal)
        wanted[:, list(self._moves)] = there < here[:, None]
        wanted[:, self._take] = here == 0  # no neighbour is nearer than 0, so no move is possible then
        wanted &= legal
        wanted[:, self._game.noop] |= ~wanted.any(-1)
        return uniform(wanted)

    def _distances(self, observation: Tensor, steps: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """Return the distances to the prey from the own cell `[B]` and from its four neighbours `[B, 4]`."""
        view = observation > 0
        free = torch.ones_like(view[:, 0]) if self._blocks is None else ~view[:, self._blocks]
        distance = F.pad(distance_to(view[:, self._prey], free), (1, 1, 1, 1), value=UNREACHABLE)  # [B, h+2, w+2]
        width = distance.shape[-1]
        offsets = torch.tensor([0] + [row * width + column for row, column in steps], device=view.device)
        own = F.pad(view[:, 0], (1, 1, 1, 1)).flatten(1)  # [B, (h+2)(w+2)], one cell, or none after leaving: then the
        cell = own.float().argmax(-1, keepdim=True).clamp(min=width)  # result is of no use, and nothing but noop legal
        found = distance.flatten(1).gather(1, cell + offsets)  # [B, 1 + 4]
        return found[:, 0], found[:, 1:]


class NearestStag(PreySeeker):
    """Goes to the nearest stag and hunts it: the cooperator of the stag hunt."""

    goal, plane, take = "stag", "stags", "hunt_stag"


class NearestHare(PreySeeker):
    """Goes to the nearest hare and hunts it: the defector of the stag hunt."""

    goal, plane, take = "hare", "hares", "hunt_hare"


class Cleaner(PreySeeker):
    """Goes to the nearest drift and shovels it, then to the next one: the cooperator of the snowdrift game.

    The nearest drift depends on its position, so it has no fixed declared goal.
    """

    plane, take = "drifts", "shovel"


class Defector(ScriptedPlayer):
    """Leaves the work to the others: takes all legal actions except shovelling with equal probability."""

    def needs(self) -> tuple[str, ...]:
        """Return the name of the action that it never takes."""
        return ("shovel",)

    def action_probabilities(self, observation: Tensor, legal: Tensor) -> Tensor:
        """Return `[B, A]`: one over the number of legal actions but shovelling."""
        wanted = legal.clone()
        wanted[:, self._game.action_names.index("shovel")] = False
        return uniform(wanted)
