"""Checkpoint files: written atomically, and refused if any byte has changed."""

import hashlib
import os
import zipfile
from pathlib import Path
from typing import IO, Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from omg_lightning.files import replacing
from omg_lightning.types import ConfigError

_ZIP_END, _NO_COMMENT = b"PK\x05\x06", b"\0\0"  # first and last of the 22 bytes that end an archive without a comment
_CHUNK = 2**20  # bytes read at once


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
    """Writes a checkpoint as all results are written, so that a run that dies leaves no half file.

    Lightning's own way writes to the system's temporary folder first: on another file system the last step is a
    copy, and errors of permission are passed over in silence. The file ends in a checksum, see `check_whole`.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Save `checkpoint` to `path`: it is on the disk when this returns, or nothing has changed.

        Raises:
            OSError: it cannot be written; the file's name is that of `path`.
        """
        with replacing(path) as file:
            _write(checkpoint, file)

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
    """Write a checkpoint and its checksum."""
    stream = _Stream(file)
    try:
        torch.save(checkpoint, stream)  # type: ignore[arg-type]  # it only writes and flushes
    except RuntimeError:
        if stream.error is not None:
            raise stream.error from None
        raise
    file.seek(-2, os.SEEK_END)
    file.write(_comment(stream.digest.digest()))
