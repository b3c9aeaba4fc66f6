"""Run jobs in parallel, each in its own process."""

import os
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing import active_children, get_all_start_methods
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from omg_lightning import interrupts
from omg_lightning.types import ConfigError
from omg_lightning.users_code import users_error

WATCH = 0.5  # seconds between two looks at whether the parent lives
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
        except (Exception, SystemExit) as error:
            line = users_error(error)
            if line is None:
                raise
            found = ConfigError(line)
            found.add_note("".join(traceback.format_exception(error)))
            return found


def at_once(jobs: Sequence[Callable[[], Item]]) -> list[Item]:
    """Run all jobs, each in a process forked from this one, with one thread.

    A process sees everything as it was when it was forked, and nothing has to be sent to it. All that it changes is
    lost, but for what it returns. A signal ends them all at once, and so does the death of this process.

    Args:
        jobs: what to run; each returns tensors, or (nested) tuples, lists and dicts of them and of plain values.

    Returns:
        What they return, in order.

    Raises:
        ConfigError: this platform cannot fork; or a job raised it; or a process was killed.
        Interrupted: a signal asks the program to end.
    """
    if "fork" not in get_all_start_methods():
        raise ConfigError("data.workers above 1 needs to fork processes, as on Linux: set data.workers 1")
    loader = DataLoader(
        _Jobs(jobs),
        batch_size=None,
        num_workers=len(jobs),
        multiprocessing_context="fork",
        collate_fn=_as_it_is,
        generator=torch.Generator(),  # or it would draw from the global one
        worker_init_fn=partial(_begin, os.getpid()),
    )
    others, running = set(active_children()), None
    found: list[Any] = []
    try:
        with interrupts.deferred(False):  # nothing changes here while it waits
            with interrupts.held():
                running = iter(loader)  # forks
            for item in running:
                if isinstance(item, ConfigError):
                    raise item
                found.append(item)
    except (interrupts.Interrupted, ConfigError):
        for process in set(active_children()) - others:
            process.terminate()
        del running  # now that they have ended: it waits for them
        raise
    except RuntimeError as error:
        if "DataLoader worker" not in str(error) or "Caught" in str(error):
            raise
        raise ConfigError(
            f"a process of data.workers {len(jobs)} was killed ({' '.join(str(error).split())}): if memory ran out, "
            "lower data.num_envs or data.workers"
        ) from None
    return found


def generators(workers: int, generator: torch.Generator) -> list[torch.Generator]:
    """Return a generator for each of several processes, seeded by `generator`.

    Raises:
        ConfigError: it is on an accelerator, which processes cannot share.
    """
    if generator.device.type != "cpu":
        raise ConfigError(
            f"data.workers is {workers}, but the device is {generator.device}: with an accelerator set data.workers 1"
        )
    seeds = torch.randint(2**62, (workers,), generator=generator).tolist()
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def _begin(parent: int, _: int) -> None:
    """Leave signals to the parent, and end when it has died, also if it was killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH)
        os._exit(1)

    interrupts.forget()
    threading.Thread(target=watch, daemon=True).start()


def _as_it_is(item: Item) -> Item:
    return item
