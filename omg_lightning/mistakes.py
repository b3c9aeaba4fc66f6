"""What the command line says of a user's mistakes: one line for each."""

import argparse
import os
import re
import traceback
from collections.abc import Sequence
from difflib import get_close_matches

import jsonargparse
import lightning
from lightning.fabric.utilities.exceptions import MisconfigurationException

from omg_lightning.choices import explain
from omg_lightning.types import ConfigError

_TOO_LARGE = "allocate memory|enough memory|out of memory|[Oo]verflow"
_UNKNOWN = (r"unrecognized arguments: (?:--)?([\w.]+)", r"accept option '([\w.]+)'", r"^Option '([\w.]+)' is not")
_PARSERS = (argparse.__file__, os.path.dirname(jsonargparse.__file__))
_LIGHTNING = os.path.dirname(lightning.__file__)


def mistake(error: BaseException) -> str | None:
    """Return what the user did wrong, in one line; None where `error` is a fault of the program."""
    text, raised_in = " ".join(str(error).split()), _file(error)
    if isinstance(error, ConfigError | argparse.ArgumentError):
        return explain(text)
    if type(error) is SystemExit and error.code in (0, None) and not raised_in.startswith(_PARSERS):
        return f"{raised_in} ended the program, so nothing was done: take sys.exit out of it"
    if isinstance(error, MemoryError | OverflowError) or (
        isinstance(error, RuntimeError) and re.search(_TOO_LARGE, text)
    ):
        return (
            f"a size is too large for this machine ({text[:200]}): lower data.num_envs, data.training.capacity, "
            "model.networks.hidden or the sizes of the game or the search"
        )
    settings = isinstance(error, ValueError | TypeError) and raised_in.startswith(_LIGHTNING)
    if settings or isinstance(error, MisconfigurationException):
        return f"the trainer refuses its settings: {text}"
    return None


def suggest(message: str, known: Sequence[str]) -> str:
    """Return what jsonargparse says of a mistake; where a key does not exist, the one that may be meant.

    Args:
        message: in one line.
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
    return f"there is no option --{key}: {f'--{parent} has' if parent else 'there are'} {words}"


def _meant(key: str, known: Sequence[str]) -> str | None:
    """Return the known key that `key` is most likely to stand for, or None."""
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
