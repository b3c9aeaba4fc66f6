"""Separate errors of a user's classes from errors of this project: one line with class, method, file and line."""

import site
import sysconfig
import traceback
from pathlib import Path
from types import FrameType
from typing import NamedTuple

TRACEBACK = "OMG_TRACEBACK"  # environment variable: set to 1, the command line shows whole tracebacks, too
_OURS = tuple(str(Path(__file__).parents[1] / name) + "/" for name in ("omg_lightning", "callbacks", "benchmarks"))
_SITE = tuple({*(sysconfig.get_path(name) for name in ("purelib", "platlib")), *site.getsitepackages()})
_STANDARD = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib"))
_LIBRARIES = {  # the libraries that this project uses
    "torch", "lightning", "lightning_utilities", "jsonargparse", "torchmetrics", "numpy", "scipy", "matplotlib", "PIL",
    "yaml", "gymnasium", "pettingzoo", "tensorboard", "tqdm",
}  # fmt: skip
_MOST = 500  # characters of a message


class Place(NamedTuple):
    """The place at which a user's code failed."""

    method: str  # the method that this project called, such as `MyGame.step`
    line: str  # the innermost line of the user's code, such as `my_game.py, line 12`


def place_of(error: BaseException) -> Place | None:
    """Return where the user's code raised `error`, or made the call that raised it; None without a user's code."""
    frames = list(traceback.walk_tb(error.__traceback__))
    theirs = [False]  # for each frame, after a first entry for the caller
    for before, (frame, _) in zip([None, *(frame for frame, _ in frames)], frames, strict=False):
        theirs.append(_is_theirs(frame, before))
    if not any(theirs):
        return None
    last = max(index for index, own in enumerate(theirs) if own)
    first = next(index for index in range(last, -1, -1) if not theirs[index]) + 1
    frame, (inner, number) = frames[first - 1][0], frames[last - 1]
    return Place(_name(frame), f"{inner.f_code.co_filename}, line {number}")


def users_error(error: BaseException) -> str | None:
    """Return how the user's code failed, in one line; None without a user's code."""
    place = place_of(error)
    if place is None:
        return None
    if isinstance(error, SystemExit):
        return f"{place.method} called sys.exit({error.code or 0}), which ended the run ({place.line}): remove the call"
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    reason = reason if len(reason) <= _MOST else f"{reason[:_MOST]}..."
    return f"{place.method} failed with {reason} ({place.line}): correct it; {TRACEBACK}=1 shows the whole traceback"


def _is_theirs(frame: FrameType, caller: FrameType | None) -> bool:
    """Return whether a frame runs a user's code: not this project, Python, or a library that only passes calls on."""
    path = frame.f_code.co_filename
    if path.startswith(("<", *_OURS)):
        return False
    if path.startswith(_SITE):
        known = str(frame.f_globals.get("__name__")).partition(".")[0] in _LIBRARIES
        return not known and caller is not None and caller.f_code.co_filename.startswith(_OURS)
    return not path.startswith(_STANDARD)


def _name(frame: FrameType) -> str:
    """Return the class and method, or the function, that a frame runs."""
    if frame.f_code.co_name == "<module>":
        return f"the module {frame.f_globals.get('__name__')}"
    owner = frame.f_locals.get("self")
    return frame.f_code.co_qualname if owner is None else f"{type(owner).__name__}.{frame.f_code.co_name}"
