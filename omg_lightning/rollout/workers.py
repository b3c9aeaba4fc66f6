"""Runs jobs at the same time, each in a process of its own."""

from collections.abc import Callable, Sequence
from multiprocessing import get_all_start_methods
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from omg_lightning.types import ConfigError

Item = TypeVar("Item")


class _Jobs(Dataset["Item | ConfigError"], Generic[Item]):
    """Item i is what job i returns."""

    def __init__(self, jobs: Sequence[Callable[[], Item]]) -> None:
        self.jobs = jobs

    def __len__(self) -> int:
        return len(self.jobs)

    def __getitem__(self, index: int) -> "Item | ConfigError":
        try:
            return self.jobs[index]()
        except ConfigError as error:  # as it is: the loader would add the stack of the process
            return error


def at_once(jobs: Sequence[Callable[[], Item]]) -> list[Item]:
    """Runs all jobs, each in a process forked from this one, with one thread.

    A process sees everything as it was when it was forked, and nothing has to be sent to it. All that it changes is
    lost, but for what it returns.

    Args:
        jobs: what to run; each returns tensors, or (nested) tuples, lists and dicts of them and of plain values.

    Returns:
        What they return, in order.

    Raises:
        ConfigError: this platform cannot fork; or a job raised it.
    """
    if "fork" not in get_all_start_methods():
        raise ConfigError("data.workers above 1 needs processes that can be forked, as on Linux: set data.workers 1")
    loader = DataLoader(
        _Jobs(jobs),
        batch_size=None,
        num_workers=len(jobs),
        multiprocessing_context="fork",
        collate_fn=_as_it_is,
        generator=torch.Generator(),  # or it would draw from the global one
    )
    found = []
    for item in loader:
        if isinstance(item, ConfigError):
            raise item
        found.append(item)
    return found


def _as_it_is(item: Item) -> Item:
    return item
