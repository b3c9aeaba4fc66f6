"""The encoder for observations of any space."""

import math

import torch
from torch import Tensor

from omg_lightning.encoders.base import IndexEncoder
from omg_lightning.games.grid.layout import GridLayout
from omg_lightning.spaces import Space, is_binary


class MLP(IndexEncoder):
    """One dense layer over the flattened observation and the time. It is by far the fastest on small boards on a CPU.

    Args:
        observation_space: see `Encoder`.
        layout: see `Encoder`.
        hidden: see `Encoder`.
    """

    def __init__(self, observation_space: Space, layout: GridLayout | None, hidden: int) -> None:
        super().__init__(observation_space, layout, hidden, math.prod(observation_space.shape or ()))
        self.sparse = is_binary(observation_space)

    def forward(self, observation: Tensor, time: Tensor) -> Tensor:
        """Return features, float `[M, hidden]`, of views `[M, *shape]` at `time` `[M]`; of bits also in sparse form."""
        if self.sparse:
            return super().forward(observation, time)
        flat = observation.reshape(len(observation), self.inputs).to(self.dense.weight)
        return self.dense(torch.cat([flat, time[:, None].to(flat)], -1)).relu_()

    def prepare(self, observation: Tensor) -> Tensor:
        """Return bits as sparse views, other views as float."""
        return super().prepare(observation) if self.sparse else observation.float()
