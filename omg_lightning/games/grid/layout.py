"""Meaning of the planes of a grid game's observations."""

from typing import NamedTuple

import torch
from torch import Tensor


class GridLayout(NamedTuple):
    """Describes views of planes `[C, h, w]` of 0 and 1.

    The first P planes are players: self, then seats i+1, i+2, ... (mod P). A player that has left has an empty plane.
    """

    plane_names: tuple[str, ...]  # C names, such as ("self", "other_1", "blocks", "stags", "hares")
    height: int
    width: int
    num_players: int  # P, the number of planes of players
    walls: int | None = None  # plane of impassable cells
    owned: int | None = None  # the first of P planes of objects that belong to players: the viewer's, then i+1's, ...
    goal_action: int | None = None  # if goals are objects on cells: the action that achieves the one under the player
    goal_planes: tuple[int, ...] = ()  # plane of each goal, if goals have planes; empty once the goal is gone

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(C, h, w)`."""
        return len(self.plane_names), self.height, self.width

    @property
    def cells(self) -> int:
        """S, the number of cells."""
        return self.height * self.width

    @property
    def things(self) -> list[int]:
        """The planes of objects that can be goals: those of goals, or all planes after the players."""
        return list(self.goal_planes) or list(range(self.num_players, len(self.plane_names)))

    @property
    def shows_goals(self) -> bool:
        """Whether observations show the position of each goal."""
        return bool(self.goal_planes)

    def goals_there(self, observation: Tensor) -> Tensor:
        """Return which goals observations `[..., C, h, w]` show, bool `[..., G]`."""
        return (observation[..., list(self.goal_planes), :, :] > 0).flatten(-2).any(-1)

    def goal_cells(self, observation: Tensor) -> Tensor:
        """Return the cell of each goal in observations `[..., C, h, w]`, int64 `[..., G]`; 0 for one that is gone."""
        return (observation[..., list(self.goal_planes), :, :] > 0).flatten(-2).long().argmax(-1)

    @property
    def features(self) -> int:
        """F, the number of planes after those of players: the features of objects."""
        return len(self.plane_names) - self.num_players

    def shown(self, observation: Tensor) -> Tensor:
        """Return the features of objects in the cells of observations `[..., C, h, w]`, bool `[..., F, S]`."""
        return (observation[..., self.num_players :, :, :] > 0).flatten(-2)

    @property
    def offsets(self) -> int:
        """The number of offsets in rows and columns between two cells."""
        return (2 * self.height - 1) * (2 * self.width - 1)

    def offset(self, observation: Tensor) -> Tensor:
        """Return the offset of each cell from the viewer of `[M, C, h, w]`, as an index: int64 `[M, S]`."""
        own = observation[:, 0].flatten(1).argmax(-1)[:, None]
        cell = torch.arange(self.cells, device=own.device)
        rows, columns = cell // self.width - own // self.width, cell % self.width - own % self.width
        return (rows + self.height - 1) * (2 * self.width - 1) + columns + self.width - 1
