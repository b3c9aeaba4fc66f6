"""Output files: checked before long runs, written atomically, shared by several processes."""

import fcntl
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from omg_lightning.types import ConfigError

PARTIAL = ".partial"  # suffix of an unfinished file
_TRIAL = 4096  # bytes: on a full disk a file can be created, but not filled


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a file that replaces `path` when the context ends. All results are written through this function.

    At any moment `path` holds either the old or the new content as a whole: the new file is written beside it, flushed
    to the disk (`fsync`), and then renamed. Missing folders are created. If anything fails, `path` is unchanged.

    Raises:
        OSError: the file cannot be written; `filename` is `path`.
    """
    target = Path(path).resolve()  # a link stays a link
    partial = target.with_name(f".{target.name}.{os.getpid()}{PARTIAL}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _open_locked(partial, must_lock=False) as file:  # see `remove_partial`
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(partial, target)
        _sync(target.parent)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror or str(error), str(path)) from error
        raise


def replace_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file atomically, see `replacing`."""
    with replacing(path) as file:
        file.write(text.encode())


def compact(content: Mapping[str, Any]) -> str:
    """Return JSON with one line per entry; a list of numbers, such as a curve, is one line."""
    lists = r"\[\n(?:null|[-+.\deE,\s])+\]"  # a line break within a string is written as \\n
    return re.sub(lists, lambda found: re.sub(r"\s+", " ", found[0]), json.dumps(content, indent=1)) + "\n"


def remove_partial(paths: Iterable[Path]) -> None:
    """Remove unfinished files of runs that were killed; a running process holds a lock on its own."""
    for path in paths:
        with suppress(OSError), path.open("rb") as file:  # in use, or owned by another user
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def named(word: str) -> tuple[str, str]:
    """Split NAME=PATH, or PATH alone, which may contain `=`, into the name, or "", and the path."""
    name, sign, path = word.partition("=")
    return (name, path) if sign and not Path(word).exists() else ("", word)


def check_writable(path: Path, option: str = "--out") -> None:
    """Create the folder of `path`, and check that a file can be written there. An existing file is not changed.

    Args:
        path: of a file that will be written or replaced.
        option: the command-line option that sets the path, for the message.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        if path.exists() and not path.is_file():
            raise OSError(0, "it is a folder" if path.is_dir() else "it is not a regular file")
        if path.exists() and not os.access(path, os.W_OK):
            raise OSError(0, "it is read-only")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent) as trial:
            trial.write(b"\0" * _TRIAL)
    except OSError as error:
        raise unwritable(path, error, option) from error


def unwritable(path: Path, error: OSError, option: str = "--out") -> ConfigError:
    """Return the ConfigError for a file that cannot be written."""
    return ConfigError(f"cannot write {path} ({error.strerror}): choose another file with {option}")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for the lock of `path`, and hold it. The lock is a file beside `path`, removed at the end.

    A process that is killed releases it.
    """
    path = path.resolve()
    lock = path.with_name(f".{path.name}.lock")
    with _open_locked(lock):
        try:
            yield
        finally:
            lock.unlink()


def _open_locked(path: Path, must_lock: bool = True) -> IO[bytes]:
    """Open a file and lock it; open it again if the previous holder of the lock has removed the file.

    Some file systems of clusters have no locks; with `must_lock=False` the file is then opened without one.
    """
    while True:
        file = path.open("wb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            if must_lock:
                file.close()
                raise
        if _is(file.fileno(), path):
            return file
        file.close()


def _is(number: int, path: Path) -> bool:
    """Return whether an open file is the one at `path`."""
    try:
        return os.path.samestat(os.fstat(number), path.stat())
    except FileNotFoundError:
        return False


def _sync(folder: Path) -> None:
    """Flush a folder's directory entries to the disk, if the file system supports it."""
    descriptor = os.open(folder, os.O_RDONLY)
    with suppress(OSError):
        os.fsync(descriptor)
    os.close(descriptor)
