"""Meaning of the planes of a grid game's observations."""

from typing import NamedTuple


class GridLayout(NamedTuple):
    """Describes views of planes `[C, h, w]` of 0 and 1.

    The first P planes are players: self, then seats i+1, i+2, ... (mod P). A player that has left has an empty plane.
    """

    plane_names: tuple[str, ...]  # C names, such as ("self", "other_1", "blocks", "stags", "hares")
    height: int
    width: int
    num_players: int  # P, so many planes are players
    walls: int | None = None  # plane of the cells that nobody can walk on
    owned: int | None = None  # the first of P planes of things that belong to players: the viewer's, then i+1's, ...
    goal_action: int | None = None  # goals that are things on cells: the action that realises the one under the player
    goal_planes: tuple[int, ...] = ()  # of goal k, if each has one: where it lies, empty once it is gone

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
        """The planes of things that goals can be about: those of goals, or all behind the players."""
        return list(self.goal_planes) or list(range(self.num_players, len(self.plane_names)))
