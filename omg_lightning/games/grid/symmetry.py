"""Rotated and reflected boards: data augmentation by a factor of eight for games with these symmetries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from omg_lightning.games.grid.paths import STEPS
from omg_lightning.types import ConfigError, Episodes

if TYPE_CHECKING:
    from omg_lightning.envs.base import VectorEnv

_NAMES = (("up", "down", "left", "right"), ("north", "south", "west", "east"))  # of moves, in the order of `STEPS`
_STEPS = {name: step for names in _NAMES for name, step in zip(names, STEPS, strict=True)}  # as (row, column)


class Symmetries:
    """The rotations and reflections of a game's board, with the permutations of its actions.

    They are the eight of a square, or the four of a rectangle. Moves are recognised by their names
    (`up`, `down`, `left`, `right`, or `north`, `south`, `west`, `east`); other actions have no direction. So are planes
    that show a direction, such as `facing_north`: their names end with one of these words.

    Args:
        env: its rules must not depend on the orientation.

    Raises:
        ConfigError: the game is not on a grid, or has a move in one direction but not in all four.
    """

    def __init__(self, env: VectorEnv) -> None:
        names = list(env.action_names)
        if env.layout is None:
            raise ConfigError(
                f"data.training.symmetries rotates boards, but {env.name} is not on a grid: set it to false"
            )
        used = _NAMES[1] if set(_NAMES[1]) & set(names) else _NAMES[0]
        if missing := [name for name in used if name not in names]:
            raise ConfigError(
                f"data.training.symmetries: {env.name} has no action {missing[0]!r}, so its board cannot be rotated: "
                "set it to false"
            )
        height, width = env.layout.height, env.layout.width
        self.shape = height, width
        turns = range(4) if height == width else (0, 2)
        self.each = [(turn, mirror) for mirror in (False, True) for turn in turns]
        self._maps = torch.tensor([_renamed(names, turn, mirror) for turn, mirror in self.each])
        planes = list(env.layout.plane_names)
        self._planes = torch.tensor([_renamed(planes, turn, mirror) for turn, mirror in self.each])

    def __len__(self) -> int:
        """Return the number of symmetries, including the identity, which comes first."""
        return len(self.each)

    def apply(self, episodes: Episodes, index: int, cells: bool = False, per_action: Iterable[str] = ()) -> Episodes:
        """Return episodes `[T, B, P, ...]` as if symmetry `index` had been applied to the board before their start.

        Args:
            episodes: to transform.
            index: number of the symmetry.
            cells: whether goal vectors are over cells, with a last entry for none, and are transformed, too.
            per_action: names of extras whose last dimension is the actions.
        """
        turn, mirror = self.each[index]
        new = self._maps[index].to(episodes.action.device)  # [A] new index of each action
        old = new.argsort()  # [A] old index of each action
        planes = self._planes[index].to(episodes.action.device).argsort()  # [C] the same of planes
        return episodes._replace(
            observation=_moved(episodes.observation, turn, mirror)[..., planes, :, :],
            legal=episodes.legal[..., old],
            action=new[episodes.action],
            goal=_moved_cells(episodes.goal, self.shape, turn, mirror) if cells else episodes.goal,
            extras={**episodes.extras, **{name: episodes.extras[name][..., old] for name in per_action}},
        )


def _moved(planes: Tensor, turn: int, mirror: bool) -> Tensor:
    """Return planes `[..., h, w]`, mirrored left to right and then rotated counterclockwise `turn` times."""
    return torch.rot90(planes.flip(-1) if mirror else planes, turn, (-2, -1))


def _moved_cells(goal: Tensor, shape: tuple[int, int], turn: int, mirror: bool) -> Tensor:
    """Return vectors `[..., h * w + 1]` over cells, and none, transformed like the board."""
    cells = _moved(goal[..., :-1].unflatten(-1, shape), turn, mirror).flatten(-2)
    return torch.cat([cells, goal[..., -1:]], -1)


def _renamed(names: list[str], turn: int, mirror: bool) -> list[int]:
    """Return for each action, or plane, the index of the one with the same meaning on the transformed board."""
    found = []
    for name in names:
        stem, _, word = name.rpartition("_")
        row, column = _STEPS.get(word, (0, 0))
        column = -column if mirror else column
        for _ in range(turn):
            row, column = -column, row
        alike = (other for other in names if other.rpartition("_")[0] == stem)
        turned = (other for other in alike if _STEPS.get(other.rpartition("_")[2]) == (row, column))
        found.append(names.index(next(turned, name)))
    return found
