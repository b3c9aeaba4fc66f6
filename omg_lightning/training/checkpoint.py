"""Checkpoint files: written atomically, and rejected if any byte has changed."""

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
    """Read a checkpoint of an agent, without running code from the file.

    Raises:
        ConfigError: the file does not exist, or is not a checkpoint of an agent.
    """
    if not Path(path).is_file():
        raise ConfigError(f"no checkpoint at {path}: give the path of a .ckpt file that `fit` wrote")
    try:
        check_whole(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file that is not a pickle may raise any error
        raise ConfigError(f"{path} is not a checkpoint, or is damaged: give a .ckpt file that `fit` wrote") from error
    settings = checkpoint.get("hyper_parameters") if isinstance(checkpoint, dict) else None
    if not isinstance(settings, dict) or not settings.get("spec") or "state_dict" not in checkpoint:
        raise ConfigError(f"{path} is a checkpoint, but not of an agent: give a .ckpt file that `fit` wrote")
    return checkpoint


def check_whole(path: str | os.PathLike[str]) -> None:
    """Check that no byte of a checkpoint has changed since it was written.

    PyTorch writes a zip archive but reads it without checking any checksum. `WholeCheckpointIO` puts a checksum of the
    whole file into the archive's comment. A file without a comment was written by an earlier version, or by another
    program: its contents are checked against the checksums of the zip archive.

    Raises:
        ValueError: the file is not a checkpoint, or a byte has changed.
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
            except Exception as error:  # many kinds, none of them documented
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
    """Return the last bytes of an archive with this SHA-256: length of the comment, comment."""
    text = b"sha256:" + digest.hex().encode().rjust(64)
    return len(text).to_bytes(2, "little") + text


class _Stream:
    """A file that records its SHA-256, except for the last two bytes, and the error if a write fails.

    PyTorch replaces an error of a stream by one of its own, without the reason.
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
        """Write the remaining bytes."""
        self.file.flush()


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint atomically, so that a killed run leaves no partial file.

    Lightning's default writes to the system's temporary folder first: on another file system the last step is a
    copy, and permission errors are ignored. The file ends with a checksum, see `check_whole`.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Save `checkpoint` to `path`: it is on the disk on return, or `path` is unchanged.

        Raises:
            OSError: the file cannot be written; `filename` is `path`.
        """
        with replacing(path) as file:
            _write(checkpoint, file)

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load a checkpoint after checking that no byte has changed.

        Raises:
            ConfigError: the file is damaged or not a checkpoint.
        """
        try:
            check_whole(path)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} is not a checkpoint, or is damaged: use another .ckpt file") from error
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
