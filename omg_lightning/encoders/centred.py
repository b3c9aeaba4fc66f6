"""The encoder of grids centred on the viewer."""

import torch
from torch import Tensor, nn

from omg_lightning.encoders.base import IndexEncoder
from omg_lightning.encoders.mlp import MLP
from omg_lightning.games.grid.layout import GridLayout
from omg_lightning.games.grid.paths import Facts
from omg_lightning.spaces import Space
from omg_lightning.types import ConfigError


class Centred(IndexEncoder):
    """One dense layer over planes centred on the viewer, and over the viewer's absolute cell.

    An object two cells to the left is the same input everywhere, so learning needs fewer samples. The cost equals that
    of `MLP`, because few bits are nonzero.

    Args:
        observation_space: see `Encoder`.
        layout: see `Encoder`; needed.
        hidden: see `Encoder`.

    Raises:
        ConfigError: the game is not on a grid.
    """

    frame: Tensor
    state_encoder = MLP  # codes of whole states must say where things are, which this reads poorly

    def __init__(self, observation_space: Space, layout: GridLayout | None, hidden: int) -> None:
        if layout is None:
            shape = list(observation_space.shape or ())
            raise ConfigError(
                f"encoder {type(self).__name__} reads planes of a grid, but this game's view of shape {shape} has no "
                "layout: set --model.encoder MLP"
            )
        planes, height, width = layout.shape
        facts = self.facts_of(layout)
        extra = facts.size if facts else 0
        super().__init__(observation_space, layout, hidden, planes * (2 * height - 1) * (2 * width - 1) + extra)
        self.facts, self.size = facts, layout.shape
        bound = (planes * height * width + 1) ** -0.5  # as many inputs as `MLP` has can be other than 0
        nn.init.uniform_(self.dense.weight, -bound, bound)
        self.register_buffer("frame", _frame(layout.shape, extra), persistent=False)

    def facts_of(self, layout: GridLayout) -> Facts | None:
        """Return the walking distances that are inputs, too; none here."""
        return None

    def placed(self, indices: Tensor) -> Tensor:
        """Return where indices `[M, n]` are once the viewer, who keeps its absolute cell, is moved to the middle."""
        _, height, width = self.size
        columns, area = 2 * width - 1, height * width
        own = indices.amin(1, keepdim=True)  # the viewer's, because it is in the first plane
        own = torch.where(own < area, own, 0)
        still = self.frame.index_select(0, indices.flatten()).view_as(indices)
        moved = still - (own // width * columns + own % width)
        stays = indices < area
        if self.facts:
            stays |= indices >= self.facts.start
        return torch.where(stays, still, moved).clamp_max_(self.inputs)


def _frame(shape: tuple[int, int, int], facts: int) -> Tensor:
    """Return, for each index in flattened planes, and none, its index in planes centred on the first cell.

    Plane 0 stays as it is. The index for none is so large that it still is after being moved. The indices of distances
    follow the centred planes: `[C * h * w + 1 + facts]`.
    """
    planes, height, width = shape
    rows, columns = 2 * height - 1, 2 * width - 1
    plane, row, column = (torch.arange(size, dtype=torch.int32) for size in shape)
    centred = (row[:, None] + height - 1) * columns + column + width - 1  # [h, w]
    frame = plane[:, None, None] * rows * columns + centred
    frame[0] = row[:, None] * width + column
    inputs = planes * rows * columns
    told = inputs + torch.arange(facts, dtype=torch.int32)
    return torch.cat([frame.flatten(), frame.new_tensor([inputs + facts + rows * columns]), told])
