"""Several processes, forked from the test: pieces of work on several ranks, and whole commands."""

import logging
import os
import pickle
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed as dist

from omg_lightning.cli import main


def on_ranks(folder: Path, work: Callable[[int], Any], count: int = 2) -> list[Any]:
    """What `work` returns on each of `count` ranks; the rank is given to it. An error of one fails the test."""
    children = []
    for rank in range(count):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                store = dist.FileStore(str(folder / "meet"), count)
                dist.init_process_group("gloo", store=store, rank=rank, world_size=count)
                found = True, work(rank)
            except BaseException:
                found = False, traceback.format_exc()
            os.close(read)
            with os.fdopen(write, "wb") as pipe:
                pickle.dump(found, pipe)
            os._exit(0)
        os.close(write)
        children.append((pid, read))
    results = []
    for pid, read in children:
        with os.fdopen(read, "rb") as pipe:
            results.append(pickle.load(pipe))
        os.waitpid(pid, 0)
    assert all(fine for fine, _ in results), "\n".join(str(found) for fine, found in results if not fine)
    return [found for _, found in results]


class Program:
    """A command in a process of its own, started as quickly as nothing has to be imported.

    Args:
        folder: where it runs.
        words: of the command line.
        env: environment variables.
    """

    def __init__(self, folder: Path, words: list[str], env: dict[str, str]) -> None:
        self.folder, self.code = folder, None
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self._run(words, env)
            except SystemExit as stop:
                os._exit(stop.code or 0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)

    def _run(self, words: list[str], env: dict[str, str]) -> None:
        os.setsid()
        os.chdir(self.folder)
        for number, name in ((1, "stdout"), (2, "stderr")):
            file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
            os.dup2(file, number)
            setattr(sys, name, os.fdopen(number, "w", 1))
        for name in ("lightning.pytorch", "lightning.fabric"):
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = [logging.StreamHandler(sys.stderr)], False
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(signum, signal.SIG_DFL)
        os.environ.update(env)
        sys.path.insert(0, str(self.folder))
        sys.modules.pop("waiter", None)
        main(words)

    def poll(self) -> int | None:
        """Its exit code, or minus the signal that has ended it; None while it runs."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code

    def wait(self, seconds: float) -> int:
        """Its exit code, within so many seconds."""
        end = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > end:
                os.killpg(self.pid, signal.SIGKILL)
                raise AssertionError(f"not over after {seconds} s: {self.errors()}")
            time.sleep(0.05)
        return self.code

    def errors(self) -> str:
        """What all its processes have said on stderr."""
        return (self.folder / "stderr").read_text()
