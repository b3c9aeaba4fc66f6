"""Decoders: from a vector to an observation, with the likelihood that fits the observation space."""

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omg_lightning.games.grid.layout import GridLayout
from omg_lightning.spaces import Space, is_binary


class Decoder(nn.Module, ABC):
    """Decodes vectors into views and says how well a view is reconstructed.

    Args:
        size: length of the vectors.
        outputs: number of outputs.
        hidden: width.
    """

    def __init__(self, size: int, outputs: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
        )

    @abstractmethod
    def reconstruction(self, code: Tensor, observation: Tensor) -> Tensor:
        """Return the negative log likelihood, float `[M]`, of views `[M, *shape]` under codes `[M, size]`."""

    @abstractmethod
    def squared_error(self, code: Tensor, observation: Tensor) -> Tensor:
        """Return the mean squared error of the decoded view, float `[M]`: the published choice (OMG)."""


class PlaneLogits(NamedTuple):
    """What a decoder says of planes: where each player is, and what lies on each cell."""

    players: Tensor  # float [M, P, h * w + 1] one class per cell, the last is 'absent'
    objects: Tensor  # float [M, C - P, h, w] log odds of a 1


class PlaneDecoder(Decoder):
    """Decodes planes of a grid: each player plane is one choice among the cells and 'absent'.

    Args:
        size: length of the vectors.
        layout: what the planes mean.
        hidden: width.
    """

    def __init__(self, size: int, layout: GridLayout, hidden: int) -> None:
        planes, height, width = layout.shape
        players = layout.num_players
        super().__init__(size, players * (height * width + 1) + (planes - players) * height * width, hidden)
        self.shape = (players, planes - players, height, width)

    def forward(self, code: Tensor) -> PlaneLogits:
        """Return plane logits of codes `[M, size]`."""
        players, objects, height, width = self.shape
        flat = self.layers(code)
        cut = players * (height * width + 1)
        return PlaneLogits(
            flat[:, :cut].unflatten(-1, (players, height * width + 1)),
            flat[:, cut:].unflatten(-1, (objects, height, width)),
        )

    def reconstruction(self, code: Tensor, observation: Tensor) -> Tensor:
        """Return the negative log likelihood, see `plane_likelihood`."""
        return plane_likelihood(self(code), observation)

    def squared_error(self, code: Tensor, observation: Tensor) -> Tensor:
        """Return the mean squared error of the decoded probabilities, float `[M]`."""
        logits, shape = self(code), observation.shape
        cells = logits.players.softmax(-1)[..., :-1].reshape(shape[0], self.shape[0], *shape[2:])
        decoded = torch.cat([cells, logits.objects.sigmoid()], dim=1)
        return ((decoded - observation) ** 2).flatten(1).mean(-1)


class BitDecoder(Decoder):
    """Decodes bits, each on its own: binary cross entropy.

    Args:
        size: length of the vectors.
        shape: of a view.
        hidden: width.
    """

    def __init__(self, size: int, shape: tuple[int, ...], hidden: int) -> None:
        super().__init__(size, math.prod(shape), hidden)

    def forward(self, code: Tensor) -> Tensor:
        """Return log odds of a 1, float `[M, n]`, of codes `[M, size]`."""
        return self.layers(code)

    def reconstruction(self, code: Tensor, observation: Tensor) -> Tensor:
        """Return the binary cross entropy, float `[M]`, summed over the view."""
        logits = self(code)
        target = observation.reshape(logits.shape).to(code.dtype)
        return F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(-1)

    def squared_error(self, code: Tensor, observation: Tensor) -> Tensor:
        """Return the mean squared error of the decoded probabilities, float `[M]`."""
        decoded = self(code).sigmoid()
        return ((decoded - observation.reshape(decoded.shape)) ** 2).mean(-1)


class GaussianDecoder(Decoder):
    """Decodes real numbers and counts: a Gaussian with a mean for each view and one learned variance for each entry.

    Args:
        size: length of the vectors.
        shape: of a view.
        hidden: width.
    """

    def __init__(self, size: int, shape: tuple[int, ...], hidden: int) -> None:
        super().__init__(size, math.prod(shape), hidden)
        self.log_var = nn.Parameter(torch.zeros(math.prod(shape)))

    def forward(self, code: Tensor) -> Tensor:
        """Return the means, float `[M, n]`, of codes `[M, size]`."""
        return self.layers(code)

    def reconstruction(self, code: Tensor, observation: Tensor) -> Tensor:
        """Return the negative log likelihood, float `[M]`, summed over the view.

        The variance is kept above exp(-6): an entry that never changes must not outweigh all others.
        """
        mean, log_var = self(code), self.log_var.clamp(-6, 12)
        error = (observation.reshape(mean.shape).to(code.dtype) - mean) ** 2
        return 0.5 * (log_var + error / log_var.exp() + math.log(2 * math.pi)).sum(-1)

    def squared_error(self, code: Tensor, observation: Tensor) -> Tensor:
        """Return the mean squared error of the means, float `[M]`."""
        mean = self(code)
        return ((mean - observation.reshape(mean.shape)) ** 2).mean(-1)


def make_decoder(size: int, space: Space, layout: GridLayout | None, hidden: int) -> Decoder:
    """Make the decoder that fits an observation space: planes, bits, or real numbers."""
    if layout is not None:
        return PlaneDecoder(size, layout, hidden)
    shape = tuple(space.shape or ())
    return BitDecoder(size, shape, hidden) if is_binary(space) else GaussianDecoder(size, shape, hidden)


def player_targets(observation: Tensor, num_players: int) -> Tensor:
    """Return the cell index of each player, int64 `[M, P]`; `h * w` where one is absent. Views are `[M, C, h, w]`."""
    planes = observation[:, :num_players].flatten(2)  # [M, P, h*w]
    absent = 1 - planes.sum(-1, keepdim=True).clamp(max=1)
    return torch.cat([planes, absent], dim=-1).argmax(-1)


def plane_likelihood(logits: PlaneLogits, observation: Tensor) -> Tensor:
    """Return the negative log likelihood of planes: cross entropy for players, class-balanced for the other planes.

    A player is one pixel against a static majority: under a plain squared error it vanishes from the decoded picture
    while the error looks small. So each player plane is one choice among the cells and 'absent', and in the other
    planes ones and zeros weigh one half each, whatever their number. Balance alone would make rare ones look likely;
    the logarithm of zeros over ones is added to the log odds here, so that outside of the loss they are those of a 1
    (logit adjustment, Menon et al. 2021, arXiv 2007.07314).

    Args:
        logits: of a `PlaneDecoder`.
        observation: float `[M, C, h, w]` the view to be reconstructed.

    Returns:
        float `[M]`, summed over planes.
    """
    players = logits.players.shape[1]
    where = player_targets(observation, players)
    who = F.cross_entropy(logits.players.flatten(0, 1), where.flatten(), reduction="none").view(where.shape).sum(-1)
    target = observation[:, players:].flatten(2)
    ones, zeros = target.sum(-1).clamp(min=1), (1 - target).sum(-1).clamp(min=1)
    odds = logits.objects.flatten(2) + (zeros / ones).log()[..., None]
    error = F.binary_cross_entropy_with_logits(odds, target, reduction="none")
    balanced = (error * target).sum(-1) / ones + (error * (1 - target)).sum(-1) / zeros
    return who + 0.5 * balanced.sum(-1)
