"""Wording of failed checks: one sentence with what was got, what was expected, and the cure."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from omg_lightning.types import ConfigError

_TORCH = str(Path(torch.__file__).parent)
_PROJECT = str(Path(__file__).parents[1])
_INSTALLED = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), "<")  # "<" starts a name such as <string>
_LONGEST = 200  # largest number of characters to quote from an error message


class CheckError(AssertionError):
    """A class breaks its contract. The message is one sentence: what was got, what was expected, and the cure."""


class Report:
    """Raises the failures of one class, such as a game.

    Args:
        name: the name at the start of every sentence.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def fail(self, member: str, got: object, expected: str, cure: str, cause: Exception | None = None) -> NoReturn:
        """Raise a CheckError about the attribute or method `member`.

        Args:
            member: name of the attribute or method.
            got: the value that was found.
            expected: the value that the contract requires.
            cure: advice to the author, in the imperative.
            cause: the original error, if any.
        """
        sentence = f"{self.name}.{member}: got {got}; expected {expected}: {cure}"
        raise CheckError(" ".join(sentence.split())) from cause

    def require(self, holds: bool | Tensor, member: str, got: object, expected: str, cure: str) -> None:
        """Raise a CheckError unless `holds`; arguments as in `fail`."""
        if not holds:
            self.fail(member, got, expected, cure)

    def nowhere(
        self,
        mask: Tensor,
        member: str,
        got: str,
        expected: str,
        cure: str,
        values: Tensor | None = None,
        letters: Sequence[str] = ("row", "seat"),
    ) -> None:
        """Raise a CheckError if bool `mask` is True anywhere; the message says where first.

        Args:
            mask: must be False everywhere.
            member: name of the attribute or method.
            got: the meaning of True in the mask.
            expected: the value that the contract requires.
            cure: advice to the author.
            values: the values concerned, in the shape of `mask`; the first one follows `got`.
            letters: names of the mask's first dimensions.
        """
        if not mask.any():
            return
        index = tuple(mask.nonzero()[0].tolist())
        where = ", ".join(f"{letter} {position}" for letter, position in zip(letters, index, strict=False))
        value = "" if values is None else f" {values[index].item():g}"
        self.fail(member, f"{got}{value} ({where})", expected, cure)

    def call(self, member: str, function: Callable[..., Any], *args: Any, expected: str, cure: str = "") -> Any:
        """Return `function(*args)`; turn any error of the author's code into a CheckError.

        Args:
            member: name of the attribute or method.
            function: the function to call.
            *args: its arguments.
            expected: the value that the contract requires.
            cure: advice; by default the message names the failing line of the author's code.
        """
        try:
            return function(*args)
        except ConfigError as error:  # already one sentence with a cure
            text = str(error)
            raise CheckError(text if text.startswith(self.name) else f"{self.name}.{member}: {text}") from error
        except Exception as error:  # the author's code may fail in any way
            self.blame(member, error, expected, cure)

    def blame(self, member: str, error: Exception, expected: str, cure: str = "") -> NoReturn:
        """Raise a CheckError about an error in the author's code; arguments as in `call`."""
        text = " ".join(str(error).split())
        text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
        cure = cure or f"correct {_line_of(error) or 'the method'}"
        self.fail(member, f"{type(error).__name__} ({text})", expected, cure, error)

    def tensor(
        self,
        member: str,
        value: object,
        shape: Sequence[int],
        letters: str,
        dtypes: tuple[torch.dtype, ...] = (),
        what: str = "",
    ) -> None:
        """Raise a CheckError unless `value` is a tensor of this shape and dtype.

        Args:
            member: name of the method that returned it.
            value: its result.
            shape: the expected shape.
            letters: the expected shape in letters, such as `[B, P]`.
            dtypes: the expected dtypes; empty for any.
            what: name of the value if the method returns several, such as "rewards".
        """
        kind = " or ".join(_plain(dtype) for dtype in dtypes) or "a tensor"
        expected = f"{what + ' as ' if what else ''}{kind} {letters} = {list(shape)}"
        right = isinstance(value, Tensor) and tuple(value.shape) == tuple(shape)
        right = right and (not dtypes or value.dtype in dtypes)  # type: ignore[attr-defined]
        convert = f"; `.to(torch.{_plain(dtypes[0])})` converts" if dtypes else ""
        self.require(right, member, describe(value), expected, f"return a tensor of this shape and dtype{convert}")


def describe(value: object) -> str:
    """Return dtype and shape of a tensor, or the type of anything else."""
    return f"{_plain(value.dtype)} {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _line_of(error: Exception) -> str:
    """Return file and line of the innermost call in the author's own code.

    This is code that is neither installed nor this project's; if there is none, code outside of torch and of the
    project's base classes.
    """
    guards = (_TORCH, str(Path(_PROJECT, "testing")), str(Path(_PROJECT, "games", "base.py")))
    for others in ((*guards, *_INSTALLED, _PROJECT), guards):
        for call in reversed(traceback.extract_tb(error.__traceback__)):
            if not call.filename.startswith(others):
                return f"{Path(call.filename).name}, line {call.lineno}"
    return ""
