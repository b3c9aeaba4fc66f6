"""Signals: the first one ends a run at its next safe point, a second Ctrl-C ends it at once."""

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
    """The received signal, and whether it waits for a safe point."""

    received: int | None = None
    waits = False
    speaks = True  # print a line when a signal is received
    lost: str | None = None  # how another process of this run ended
    tell: Callable[[], None] | None = None  # forwards a signal to the child processes


@contextmanager
def handled(signals: Sequence[int]) -> Iterator[None]:
    """Turn these signals into `Interrupted`, until the context ends; Python allows it in the main thread only."""
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
    """Delay signals to the next `check` within this context; with `waits=False` they raise at once again."""
    before, _State.waits = _State.waits, waits
    try:
        if not waits:
            check()
        yield
    finally:
        _State.waits = before


def check() -> None:
    """Raise `Interrupted` if a signal has been received. Callers are at safe points: no work is half done.

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
    """Handle a signal that another process has received."""
    _State.received = _State.received or signum


def lose(what: str) -> None:
    """Make the next `check` raise `Lost`."""
    _State.lost = _State.lost or what


def lost() -> str | None:
    """Return how another process of this run ended, or None."""
    return _State.lost


def pass_on(tell: Callable[[], None]) -> None:
    """Call `tell` when a signal is received, to forward it to the child processes."""
    _State.tell = tell


def follow() -> None:
    """In a forked process: print nothing about signals, since the parent does."""
    _State.speaks, _State.tell = False, None


def speaks() -> bool:
    """Return whether this process prints lines about signals, see `follow`."""
    return _State.speaks


def alone() -> None:
    """Forget all other processes: they have ended."""
    _State.tell = _State.lost = None


@contextmanager
def held() -> Iterator[None]:
    """Block signals until the context ends; in processes forked within it, until they call `forget`.

    A new process inherits the handlers of its parent. A signal that arrives before it sets its own would end it with a
    traceback, and the parent would report that as a bug.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ALL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def forget() -> None:
    """In a forked process: leave signals to the parent. Only SIGTERM ends this process, silently."""
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
