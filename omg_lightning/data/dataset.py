"""Iterable datasets over the buffer and over evaluation rollouts, both of exact length."""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from torch.utils.data import IterableDataset

Item = TypeVar("Item")


class LazyDataset(IterableDataset[Item], Generic[Item]):
    """Calls `draw(i)` for i = 0 .. length-1, one item at a time and only on request.

    The exact length matters: without it Lightning draws one batch ahead, which would come from an empty buffer.

    Args:
        draw: makes item i.
        length: number of items in an epoch.
    """

    def __init__(self, draw: Callable[[int], Item], length: int) -> None:
        self.draw, self.length = draw, length

    def __len__(self) -> int:
        """Return the number of items."""
        return self.length

    def __iter__(self) -> Iterator[Item]:
        """Yield the items of one epoch."""
        for index in range(self.length):
            yield self.draw(index)
