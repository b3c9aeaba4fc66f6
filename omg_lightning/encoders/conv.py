"""The published convolutional encoder."""

import math

import torch
from torch import Tensor, nn

from omg_lightning.encoders.base import Encoder, is_sparse
from omg_lightning.games.grid.layout import GridLayout
from omg_lightning.spaces import Space, is_binary
from omg_lightning.types import ConfigError


class Conv(Encoder):
    """3x3 convolutions with 16, 32 and 32 channels (HOP, ICML 2024, appendix), then a dense layer.

    Args:
        observation_space: see `Encoder`; the view must have three dimensions, channels first.
        layout: see `Encoder`.
        hidden: see `Encoder`.

    Raises:
        ConfigError: views have another number of dimensions.
    """

    def __init__(self, observation_space: Space, layout: GridLayout | None, hidden: int) -> None:
        super().__init__(observation_space, layout, hidden)
        if len(self.shape) != 3:
            raise ConfigError(
                f"encoder Conv reads views of shape [channels, height, width], but this game's has {list(self.shape)}: "
                "set --model.encoder MLP"
            )
        channels, height, width = self.shape
        layers: list[nn.Module] = []
        for outputs in (16, 32, 32):
            layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.ReLU()]
            channels = outputs
        self.planes = nn.Sequential(*layers, nn.Flatten())
        self.dense = nn.Linear(channels * height * width + 1, hidden)
        self.sparse = is_binary(observation_space)

    def forward(self, observation: Tensor, time: Tensor) -> Tensor:
        """Return features, float `[M, hidden]`, of views `[M, C, h, w]` at `time` `[M]`; bits also in sparse form."""
        flat = self.planes(self._dense(observation))
        return self.dense(torch.cat([flat, time[:, None].to(flat.dtype)], dim=-1)).relu_()

    def _dense(self, observation: Tensor) -> Tensor:
        """Return the planes `[M, C, h, w]` of views in either form."""
        if not (self.sparse and is_sparse(observation)):
            return observation.to(self.dense.weight)
        flat = self.dense.weight.new_zeros(len(observation), math.prod(self.shape) + 1)
        return flat.scatter_(1, observation.long(), 1.0)[:, :-1].unflatten(1, self.shape)
