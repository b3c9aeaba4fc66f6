"""Files of results: checked before hours of play, written whole, and shared by several processes."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omg_lightning.types import ConfigError

_TRIAL = 4096  # bytes: on a full disk a file can be made, but not be filled


def check_writable(path: Path, option: str = "--out") -> None:
    """Make the folder of `path`, and check that a file can be written there. A file that exists stays as it is.

    Args:
        path: of a file that will be written, or written anew.
        option: with which the user named it.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        if path.exists() and not path.is_file():
            raise OSError(0, "it is a folder" if path.is_dir() else "it is no ordinary file")
        if path.exists() and not os.access(path, os.W_OK):
            raise OSError(0, "it is read-only")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent) as trial:
            trial.write(b"\0" * _TRIAL)
    except OSError as error:
        raise unwritable(path, error, option) from error


def unwritable(path: Path, error: OSError, option: str = "--out") -> ConfigError:
    """Return the error of a file that cannot be written."""
    return ConfigError(f"cannot write {path} ({error.strerror}): name another file with {option}")


def replace_text(path: Path, text: str) -> None:
    """Write a file; at any moment it holds either all of the old text or all of the new."""
    path = path.resolve()  # a link stays a link
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait until no other process holds the lock of `path`, and hold it. It is a file beside it, removed at the end.

    A process that is killed holds it no longer.
    """
    path = path.resolve()
    lock = path.with_name(f".{path.name}.lock")
    while True:
        with lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _is(file.fileno(), lock):  # whoever held it has removed it by now
                continue
            try:
                yield
            finally:
                lock.unlink()
            return


def _is(number: int, path: Path) -> bool:
    """Return whether an open file is the one at `path`."""
    try:
        return os.path.samestat(os.fstat(number), path.stat())
    except FileNotFoundError:
        return False
