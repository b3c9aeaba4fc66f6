"""Signals: the first one ends a run at its next safe point, a second Ctrl-C at once."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interrupted(BaseException):
    """A signal asks the program to end. Not an `Exception`: nothing but the command line should catch it.

    Args:
        signum: the signal.
    """

    def __init__(self, signum: int) -> None:
        self.signal = signal.Signals(signum)
        super().__init__(f"interrupted by {self.signal.name}")


class Lost(BaseException):
    """Another process of this run has ended, so this one cannot go on. Not an `Exception`, see `Interrupted`."""


class _State:
    """What has been received, and whether it has to wait for a safe point."""

    received: int | None = None
    waits = False
    speaks = True  # tell the user that a signal has been received
    lost: str | None = None  # what became of another process of this run
    tell: Callable[[], None] | None = None  # tells the processes that this one has started


@contextmanager
def handled(signals: Sequence[int]) -> Iterator[None]:
    """Turn these signals into `Interrupted`, until the context ends; in the main thread only, as Python wants it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.signal(signum, _receive) for signum in signals}
    try:
        yield
    finally:
        _State.received = None
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextmanager
def deferred(waits: bool = True) -> Iterator[None]:
    """Let a signal wait for the next `check` within this context; with `waits=False` it raises at once again."""
    before, _State.waits = _State.waits, waits
    try:
        if not waits:
            check()
        yield
    finally:
        _State.waits = before


def check() -> None:
    """Raise `Interrupted` if a signal has been received. Called at safe points: nothing is half done.

    Raises:
        Lost: another process of this run has ended.
    """
    if _State.lost is not None:
        raise Lost(_State.lost)
    if _State.received is not None:
        raise Interrupted(_State.received)


def received() -> int | None:
    """Return the signal that has been received, or None."""
    return _State.received


def receive(signum: int) -> None:
    """Take a signal that another process has received."""
    _State.received = _State.received or signum


def lose(what: str) -> None:
    """Let the next `check` raise `Lost`."""
    _State.lost = _State.lost or what


def lost() -> str | None:
    """Return what became of another process of this run, or None."""
    return _State.lost


def pass_on(tell: Callable[[], None]) -> None:
    """Call `tell` when a signal has been received: the processes that this one has started are to know."""
    _State.tell = tell


def follow() -> None:
    """In a process that another one has forked: say nothing to the user, since that one does."""
    _State.speaks, _State.tell = False, None


def speaks() -> bool:
    """Return whether this process tells the user of signals, see `follow`."""
    return _State.speaks


def alone() -> None:
    """Forget all other processes: they have ended."""
    _State.tell = _State.lost = None


@contextmanager
def held() -> Iterator[None]:
    """Hold signals back until the context ends, also in processes that are forked within it: until they `forget`.

    A new process has the handlers of its parent. A signal that came before it has its own would end it with a
    traceback, and the parent would take that for a fault.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ALL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def forget() -> None:
    """Leave signals to the parent, in a process that was forked from it: SIGTERM alone ends this one, silently."""
    _State.received = None
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the parent, too
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ALL)


def _receive(signum: int, frame: FrameType | None) -> None:
    if _State.received is not None:
        if signum == signal.SIGINT and (_State.speaks or _State.received == signal.SIGINT):
            os._exit(128 + signum)
        return  # a scheduler may send a signal twice, to the process and to its group
    _State.received = signum
    if _State.tell is not None:
        _State.tell()
    if not _State.waits:
        raise Interrupted(signum)
    if _State.speaks:
        os.write(2, b"\nending at the next safe point; Ctrl-C (again) ends at once, without a checkpoint\n")
