"""The contract of encoders, the first layers of every network, and the sparse encoding of bits."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omg_lightning.games.grid.layout import GridLayout
from omg_lightning.games.grid.paths import in_rows
from omg_lightning.spaces import Space


class Encoder(nn.Module, ABC):
    """Maps one seat's observation, and the time, to features.

    A subclass calls `super().__init__(observation_space, layout, hidden)` and implements `forward`. Users choose it by
    `--model.encoder NAME`, with its own arguments below that key. `omg_lightning.testing.check_encoder` checks it.

    Args:
        observation_space: of one seat's observation.
        layout: meaning of the planes of an observation, for games on a grid; else None.
        hidden: number of features.

    Attributes:
        sparse: whether `forward` also accepts observations as indices of their nonzero bits: int32 `[M, n]`, indices in
            the flattened observation, and its size for padding. Games with `sparse_views` use this form in a search.
        distances: whether sparse observations must include the indices of walking distances, see
            `omg_lightning.games.grid.paths.Facts`.
        state_encoder: the class that encodes whole states instead of this one, if this one is relative to the viewer;
            None for the same class.
    """

    sparse: bool = False
    distances: bool = False
    state_encoder: ClassVar[type[Encoder] | None] = None

    def __init__(self, observation_space: Space, layout: GridLayout | None, hidden: int) -> None:
        super().__init__()
        self.observation_space, self.layout, self.hidden = observation_space, layout, hidden
        self.shape = tuple(observation_space.shape or ())

    @abstractmethod
    def forward(self, observation: Tensor, time: Tensor) -> Tensor:
        """Return features, float `[M, hidden]`.

        Args:
            observation: observations `[M, *shape]` of any dtype, the result of `prepare`, or sparse observations.
            time: float `[M]`, elapsed share of the episode.
        """

    def prepare(self, observation: Tensor) -> Tensor:
        """Return views `[M, *shape]` in the form that all encoders of this kind read fastest; by default as float.

        A batch is prepared once for all networks.
        """
        return observation.float()


class IndexEncoder(Encoder):
    """Base of encoders with one dense layer over bits, read as the indices of the ones.

    Planes are nearly empty: to sum the weights of the ones is several times faster than to multiply all.

    Args:
        observation_space: see `Encoder`.
        layout: see `Encoder`.
        hidden: see `Encoder`.
        inputs: number of inputs of the dense layer, without the time.
    """

    sparse = True

    def __init__(self, observation_space: Space, layout: GridLayout | None, hidden: int, inputs: int) -> None:
        super().__init__(observation_space, layout, hidden)
        self.inputs = inputs
        self.dense = nn.Linear(inputs + 1, hidden)
        self._known: tuple[tuple[Any, ...], Tensor, Tensor] | None = None  # see `_tables`

    def forward(self, observation: Tensor, time: Tensor) -> Tensor:
        """Return features, float `[M, hidden]`, of views in any form; see `Encoder.forward`."""
        return self.summed(*self.entries(observation), time).relu_()

    def entries(self, observation: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the indices `[M, n]` of nonzero entries of views in any form, and their values; None if all are 1."""
        return (observation, None) if is_sparse(observation) else self.active_indices(observation)

    def summed(self, indices: Tensor, weights: Tensor | None, time: Tensor) -> Tensor:
        """Return the output of the dense layer for `entries` and `time` `[M]`, before its ReLU: `[M, hidden]`."""
        table, clock = self._tables()
        late = torch.addcmul(self.dense.bias, time[:, None].to(clock.dtype), clock)
        return late.add_(F.embedding_bag(self.placed(indices), table, mode="sum", per_sample_weights=weights))

    def prepare(self, observation: Tensor) -> Tensor:
        """Return sparse views; the views themselves where they hold anything but 0 and 1."""
        indices, weights = self.active_indices(observation)
        return indices if are_bits(weights) else observation.float()

    def placed(self, indices: Tensor) -> Tensor:
        """Return the inputs of the dense layer that sparse views `[M, n]` set to 1."""
        return indices

    def active_indices(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Return the indices of what is not 0 in views `[M, *shape]`, int32 `[M, n]`, and the values there."""
        rows = len(observation)
        flat = observation.reshape(rows, math.prod(self.shape))  # -1 is ambiguous where there are no rows
        row, place = flat.nonzero(as_tuple=True)
        indices = in_rows(place.int(), row, rows, flat.shape[1])
        return indices, in_rows(flat[row, place].to(self.dense.weight), row, rows, 0)

    def _tables(self) -> tuple[Tensor, Tensor]:
        """Return the weights of each index, `[inputs + 1, hidden]`, zeros for none; and of the time, `[hidden]`.

        A search reads millions of views with the same weights, so the tables are kept while the weights stay.
        """
        weight = self.dense.weight
        key = version_of(weight)
        if key is None or self._known is None or self._known[0] != key:
            table = torch.cat([weight[:, :-1].t(), torch.zeros_like(weight[:, :1]).t()])
            clock = weight[:, -1].contiguous()
            if key is None:
                return table, clock
            self._known = key, table, clock
        return self._known[1:]


def version_of(*weights: Tensor) -> tuple[Any, ...] | None:
    """Return a key that changes with the weights; None if results cannot be cached, as with gradients."""
    if torch.is_grad_enabled() or any(weight.is_inference() for weight in weights):
        return None
    return tuple((each._version, each.data_ptr(), each.dtype, each.device) for each in weights)


def are_bits(values: Tensor) -> bool:
    """Return whether all values are 0 or 1."""
    return bool(((values == 0) | (values == 1)).all())


def is_sparse(observation: Tensor) -> bool:
    """Return whether views are sparse: int32 `[M, n]`."""
    return observation.dtype == torch.int32 and observation.dim() == 2
