"""Exit codes and one-line errors: a user's mistake, a full disk, or a bug in this project."""

import argparse
import errno
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import NoReturn

import lightning
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.exceptions import SIGTERMException

from omg_lightning import interrupts, ranks
from omg_lightning.choices import explain
from omg_lightning.training import processes
from omg_lightning.types import ConfigError
from omg_lightning.users_code import TRACEBACK, users_error

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)  # errors of writing

FAULT = (
    "error: this is probably a bug in omg_lightning: please report it with the lines above. If you use a class of your "
    "own, check it with omg_lightning.testing first"
)
_TOO_LARGE = "allocate memory|enough memory|out of memory|[Oo]verflow"
_UNKNOWN = (r"unrecognized arguments: (?:--)?([\w.]+)", r"accept option '([\w.]+)'", r"^Option '([\w.]+)' is not")
_LIGHTNING = os.path.dirname(lightning.__file__)


@contextmanager
def one_line() -> Iterator[None]:
    """End the program with one line on stderr: exit code 2 for a user's mistake, 1 for a full disk.

    If the environment variable OMG_TRACEBACK is 1, the whole traceback is printed before it.
    """
    try:
        yield
    except (interrupts.Interrupted, SIGTERMException) as stop:
        signum = stop.signal if isinstance(stop, interrupts.Interrupted) else signal.SIGTERM
        unsaved = "nothing was saved: run the same command again"
        advice = "; ".join(
            getattr(stop, "__notes__", ["the first node prints how to resume" if ranks.rank() else unsaved])
        )
        if interrupts.speaks() and ranks.leads():
            print(f"interrupted by {signum.name}: {advice}", file=sys.stderr)
        sys.exit(128 + signum if signum in (signal.SIGINT, signal.SIGTERM) else 1)
    except interrupts.Lost as lost:
        _end_with_others(lost)
    except (Exception, SystemExit) as error:
        if ranks.lost(error):
            _end_with_others(error)
        full = isinstance(error, OSError) and error.errno in DISK and users_error(error) is None
        line = _unwritten(error) if full else mistake(error)
        if line is None:
            if isinstance(error, Exception):
                error.add_note(FAULT)  # the last line of the traceback
            raise
        if os.environ.get(TRACEBACK) not in (None, "", "0"):
            traceback.print_exception(error)
        ranks.only_first(lambda: print(f"error: {line}", file=sys.stderr))
        sys.exit(1 if full else 2)


def _end_with_others(error: BaseException) -> NoReturn:
    """End the program because another process of this run has ended, with one line that says why."""
    what = processes.blame(error)
    if (signum := interrupts.received()) is not None:
        sys.exit(128 + signum)
    if not processes.mistaken():
        ranks.only_first(lambda: print(f"error: {what}", file=sys.stderr))
    sys.exit(processes.MISTAKE if processes.mistaken() else 1)


def _unwritten(error: BaseException) -> str:
    """Return a message about a file that could not be written, with advice."""
    what = getattr(error, "filename", None) or "a file of this run"
    advice = "; ".join(["free some space or use another folder", *getattr(error, "__notes__", [])])
    return f"cannot write {what} ({getattr(error, 'strerror', None)}): {advice}"


def end_of_thread(args: threading.ExceptHookArgs) -> None:
    """Report an error of a thread, unless the disk is full: TensorBoard's thread passes that to the main thread."""
    if not (isinstance(args.exc_value, OSError) and args.exc_value.errno in DISK):
        threading.__excepthook__(args)


def mistake(error: BaseException) -> str | None:
    """Return the user's mistake in one line; None if `error` is a bug of the program."""
    text, raised_in = " ".join(str(error).split()), _file(error)
    if isinstance(error, ConfigError | argparse.ArgumentError):
        return explain(text)
    if (line := users_error(error)) is not None:
        return line
    if isinstance(error, MemoryError | OverflowError) or (
        isinstance(error, RuntimeError) and re.search(_TOO_LARGE, text)
    ):
        return (
            f"a size is too large for this machine ({text[:200]}): lower data.num_envs, data.training.capacity, "
            "model.networks.hidden or the sizes of the game or the search"
        )
    settings = isinstance(error, ValueError | TypeError) and raised_in.startswith(_LIGHTNING)
    if settings or isinstance(error, MisconfigurationException):
        return f"Lightning's Trainer rejects its settings: {text}"
    return None


def suggest(message: str, known: Sequence[str]) -> str:
    """Return jsonargparse's message; for an unknown key, suggest the most similar one.

    Args:
        message: the message of jsonargparse, in one line.
        known: all keys.
    """
    found = next((match for pattern in _UNKNOWN if (match := re.search(pattern, message))), None)
    if found is None or re.search("[Pp]arser key", message):
        return message
    key = found[1]
    if meant := _meant(key, known):
        return f"there is no option --{key}: did you mean --{meant}?"
    parent = next((part for part in _parents(key) if any(each.startswith(f"{part}.") for each in known)), "")
    below = [each.removeprefix(f"{parent}.") for each in known if each.startswith(f"{parent}.") or not parent]
    words = ", ".join(dict.fromkeys(word.partition(".")[0] for word in below))
    return f"there is no option --{key}: the options {f'of --{parent} ' if parent else ''}are {words}"


def _meant(key: str, known: Sequence[str]) -> str | None:
    """Return the known key that is most similar to `key`, or None."""
    parent, _, last = key.rpartition(".")
    same = [each for each in known if each.rpartition(".")[2] == last]
    siblings = {each.rpartition(".")[2]: each for each in known if each.rpartition(".")[0] == parent}
    near = [siblings[name] for name in get_close_matches(last, siblings, 1, 0.6)]
    return next(iter([*get_close_matches(key, same, 1, 0.0), *near, *get_close_matches(key, known, 1, 0.8)]), None)


def _parents(key: str) -> list[str]:
    """Return the dotted keys above `key`, the longest first."""
    parts = key.split(".")
    return [".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1)]


def _file(error: BaseException) -> str:
    """Return the file whose code raised `error`."""
    stack = traceback.extract_tb(error.__traceback__)
    return stack[-1].filename if stack else ""
