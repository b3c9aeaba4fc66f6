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

import torch
import torch.distributed as dist
from command_line import QUIET, SMOKE, TINY

from omg_lightning.cli import main

SEATS = "--data.seats=[learner,waiter.Waiter]"
PLAY = [*SMOKE, *TINY, *QUIET, SEATS, "--data.training.steps_per_epoch=4", "--data.offline.rounds=1"]
PLAY += ["--trainer.max_epochs=4", "--trainer.check_val_every_n_epoch=1", "--refresh.max_age=9"]
PATIENCE = 600.0  # seconds, of a machine that others use, too

WAITER = """
import os
import time
import torch

class Waiter:
    calls = 0

    def reset(self, batch_size, seat, game, generator):
        self.game = game

    def act(self, observation, legal):
        Waiter.calls += 1
        rank = os.environ.get("LOCAL_RANK", "0")
        if Waiter.calls == int(os.environ.get("WAIT_AT", -1)):
            open(f"playing_{rank}", "w").write(str(os.getpid()))
            time.sleep(3)
        if Waiter.calls == 25 and os.environ.get("FAIL_ON") == rank:
            raise KeyError("no such plan")
        return torch.full((len(legal),), self.game.noop)
"""


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


def start(folder: Path, *args: str, command: str = "fit", **env: str) -> Program:
    """A command in a folder that has `waiter.Waiter`."""
    folder.mkdir(exist_ok=True)
    (folder / "waiter.py").write_text(WAITER)
    for path in folder.glob("playing_*"):
        path.unlink()
    return Program(folder, [command, *args], env)


def playing(folder: Path, process: Program, count: int = 2) -> dict[int, int]:
    """The number of each process of a run, by rank, once all of them play."""
    files, end = [folder / f"playing_{rank}" for rank in range(count)], time.monotonic() + PATIENCE
    while not all(file.exists() and file.read_text() for file in files):
        assert process.poll() is None, process.errors()
        assert time.monotonic() < end
        time.sleep(0.1)
    return {rank: int(file.read_text()) for rank, file in enumerate(files)}


def over(process: Program, seconds: float = PATIENCE) -> tuple[int, str]:
    """The exit code of a run, and what it has said on stderr, both processes together."""
    return process.wait(seconds), process.errors()


def gone(pid: int, seconds: float = 20) -> bool:
    """Whether a process has ended, or does so soon."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
                return True
        except OSError:
            return True
        time.sleep(0.1)
    return False


def one_line(errors: str) -> str:
    """The one line that begins with `error:`, of a run without a traceback."""
    assert "Traceback" not in errors, errors
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    return line


def checkpoint(folder: Path) -> dict:
    return torch.load(folder / "last.ckpt", weights_only=True)


def same(one, other) -> bool:
    """Whether nested states are equal bit by bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other
