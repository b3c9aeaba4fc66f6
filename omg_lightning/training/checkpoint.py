"""Run folders and checkpoint files: a run never writes over another, and a file is whole or not there."""

import fcntl
import hashlib
import os
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO

from omg_lightning.types import ConfigError

PARTIAL = ".partial"  # ending of a checkpoint that is being written
_ZIP_END, _NO_COMMENT = b"PK\x05\x06", b"\0\0"  # first and last of the 22 bytes that end an archive without a comment
_CHUNK = 2**20  # bytes read at once


class RunLogger(TensorBoardLogger):
    """The TensorBoard log of a run; the scalars of the evaluation that ends it are `final/...`.

    Attributes:
        ending: the run is at this evaluation. Its step is that of the last one within training, under whose tags there
            would be two values.
    """

    ending: bool = False

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write scalars."""
        names = {name: f"final/{name}" if self.ending else name for name in metrics}
        super().log_metrics({names[name]: value for name, value in metrics.items()}, step)


def new_run(root: str | os.PathLike[str]) -> RunLogger:
    """Return a TensorBoard logger in a folder of its own, see `new_folder`.

    Raises:
        ConfigError: the folder cannot be written to.
    """
    version = int(new_folder(root).name.removeprefix("version_"))
    return RunLogger(str(root), name="lightning_logs", version=version, default_hp_metric=False)


def new_folder(root: str | os.PathLike[str]) -> Path:
    """Make a folder for a run and return it, `root/lightning_logs/version_<n>`.

    The folder is made here, at once, so that two runs that start together cannot get the same one.

    Raises:
        ConfigError: the folder cannot be written to.
    """
    parent = Path(root) / "lightning_logs"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        taken = [int(path.name[8:]) for path in parent.glob("version_*") if path.name[8:].isdigit()]
        version = max(taken, default=-1) + 1
        while True:
            try:
                (parent / f"version_{version}").mkdir()
                break
            except FileExistsError:
                version += 1
        remove_partial((*parent.glob(f"version_*/*{PARTIAL}"), *Path(root).glob(f"hpc_ckpt_*{PARTIAL}")))
    except OSError as error:
        raise ConfigError(f"cannot write to {parent} ({error.strerror}): set --trainer.default_root_dir") from error
    return parent / f"version_{version}"


def newest_checkpoint(root: str | os.PathLike[str], name: str = "last") -> str | None:
    """Return the path of `last.ckpt` or `best.ckpt` of the newest run below `root` that has one, or None."""
    files = [path for path in (Path(root) / "lightning_logs").glob(f"version_*/{name}.ckpt") if path.is_file()]
    runs = {int(path.parent.name[8:]): path for path in files if path.parent.name[8:].isdigit()}
    return str(runs[max(runs)]) if runs else None


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint of an agent, without running any code that may be in it.

    Raises:
        ConfigError: there is no such file, or it is something else.
    """
    if not Path(path).is_file():
        raise ConfigError(f"no checkpoint at {path}: give the path of a .ckpt file that `fit` wrote")
    try:
        check_whole(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what is no pickle may fail in any way
        raise ConfigError(f"{path} is not a checkpoint, or is damaged: give a .ckpt file that `fit` wrote") from error
    settings = checkpoint.get("hyper_parameters") if isinstance(checkpoint, dict) else None
    if not isinstance(settings, dict) or not settings.get("spec") or "state_dict" not in checkpoint:
        raise ConfigError(f"{path} is a checkpoint, but not of an agent: give a .ckpt file that `fit` wrote")
    return checkpoint


def check_whole(path: str | os.PathLike[str]) -> None:
    """Check that every byte of a checkpoint is as it was written.

    PyTorch writes a zip archive and, when it reads it, looks at no checksum. `WholeCheckpointIO` puts a checksum of the
    whole file into the archive's comment. A file without a comment was written by an earlier version, or by something
    else: its contents are checked against the checksums that a zip archive has of them.

    Raises:
        ValueError: the file is no checkpoint, or a byte is another one.
    """
    length = len(_comment(b""))
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 22, 0))
        end = file.read()
        if end.startswith(_ZIP_END) and end.endswith(_NO_COMMENT):
            try:
                with zipfile.ZipFile(file) as archive:
                    damaged = archive.testzip()
            except Exception as error:  # of many kinds, none of which is documented
                raise ValueError(f"{path} is damaged: {error}") from error
        else:
            file.seek(0)
            digest, left = hashlib.sha256(), max(size - length, 0)
            while left and (chunk := file.read(min(_CHUNK, left))):
                digest.update(chunk)
                left -= len(chunk)
            damaged = None if file.read() == _comment(digest.digest()) else "checksum"
    if damaged is not None:
        raise ValueError(f"{path} is damaged: {damaged}")


def _comment(digest: bytes) -> bytes:
    """Return the end of an archive whose bytes before it have this SHA-256: length of the comment, comment."""
    text = b"sha256:" + digest.hex().encode().rjust(64)
    return len(text).to_bytes(2, "little") + text


def remove_partial(paths: Iterable[Path]) -> None:
    """Remove unfinished checkpoints of runs that have died; a run that is writing one holds a lock on it."""
    for path in paths:
        with suppress(OSError), path.open("rb") as file:  # in use, or of somebody else
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


class _Stream:
    """A file that remembers its SHA-256, all but the last two bytes, and why it could not be written to.

    PyTorch reports an error of a stream as one of its own, which does not say why.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest, self._last = file, hashlib.sha256(), b""
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write `data`."""
        try:
            self.file.write(data)
        except OSError as error:
            self.error = error
            raise
        joined = self._last + bytes(data)
        self.digest.update(joined[:-2])
        self._last = joined[-2:]
        return len(data)

    def flush(self) -> None:
        """Write what is held back."""
        self.file.flush()


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and then renames it, so that a run that dies leaves no half file.

    Lightning's own way writes to the system's temporary folder first: on another file system the last step is a
    copy, and errors of permission are passed over in silence. The file ends in a checksum, see `check_whole`.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Save `checkpoint` to `path`: it is on the disk when this returns, or nothing has changed.

        Raises:
            OSError: it cannot be written; the file's name is that of `path`.
        """
        target = Path(path)
        partial = target.with_suffix(PARTIAL)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # see `remove_partial`
                _write(checkpoint, file)
                os.replace(partial, target)
            _sync(target.parent)
        except BaseException as error:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise OSError(error.errno, error.strerror, str(target)) from error
            raise

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load a checkpoint whose bytes are all as they were written.

        Raises:
            ConfigError: they are not.
        """
        try:
            check_whole(path)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} is not a checkpoint, or is damaged: take another .ckpt file") from error
        return super().load_checkpoint(path, *args, **kwargs)


def _write(checkpoint: dict[str, Any], file: IO[bytes]) -> None:
    """Write a checkpoint and its checksum to the disk."""
    stream = _Stream(file)
    try:
        torch.save(checkpoint, stream)  # type: ignore[arg-type]  # it only writes and flushes
    except RuntimeError:
        if stream.error is not None:
            raise stream.error from None
        raise
    file.seek(-2, os.SEEK_END)
    file.write(_comment(stream.digest.digest()))
    file.flush()
    os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Write a folder's list of files to the disk, where the file system can do so."""
    descriptor = os.open(folder, os.O_RDONLY)
    with suppress(OSError):
        os.fsync(descriptor)
    os.close(descriptor)
