"""The encoder of grids with walking distances as inputs."""

import torch
import torch.nn.functional as F
from torch import Tensor

from omg_lightning.encoders.centred import Centred
from omg_lightning.games.grid.layout import GridLayout
from omg_lightning.games.grid.paths import Facts, facts_of


class Paths(Centred):
    """`Centred`, with walking distances to players and objects, first steps towards them, and other players near them.

    A network hardly learns distances around walls. Here they are inputs: report this beside results. See
    `omg_lightning.games.grid.paths.Facts`.

    Args:
        observation_space: see `Encoder`.
        layout: see `Encoder`; needed.
        hidden: see `Encoder`.
    """

    distances = True

    def facts_of(self, layout: GridLayout) -> Facts | None:
        """Return the walking distances that are inputs, too."""
        return Facts.of(layout.shape, layout.num_players, layout.walls)

    def active_indices(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Return the indices of what is not 0 and of the distances, int32 `[M, n]`, and the values there."""
        indices, weights = super().active_indices(observation)
        assert self.facts is not None
        told = facts_of(observation, self.facts)
        return torch.cat([indices, told], 1), F.pad(weights, (0, told.shape[1]), value=1.0)
