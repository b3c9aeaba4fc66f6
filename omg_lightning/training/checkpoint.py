"""Run folders and checkpoint files: a run never writes over another, and a file is whole or not there."""

import os
import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO

from omg_lightning.types import ConfigError


def new_run(root: str | os.PathLike[str]) -> TensorBoardLogger:
    """Return a TensorBoard logger in a folder of its own, `root/lightning_logs/version_<n>`.

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
    except OSError as error:
        raise ConfigError(f"cannot write to {parent} ({error.strerror}): set --trainer.default_root_dir") from error
    return TensorBoardLogger(str(root), name="lightning_logs", version=version, default_hp_metric=False)


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint of an agent, without running any code that may be in it.

    Raises:
        ConfigError: there is no such file, or it is something else.
    """
    if not Path(path).is_file():
        raise ConfigError(f"no checkpoint at {path}: give the path of a .ckpt file that `fit` wrote")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
        raise ConfigError(f"{path} is not a checkpoint, or is damaged: give a .ckpt file that `fit` wrote") from error
    if not isinstance(checkpoint, dict) or "spec" not in (checkpoint.get("hyper_parameters") or {}):
        raise ConfigError(f"{path} is a checkpoint, but not of an agent: give a .ckpt file that `fit` wrote")
    return checkpoint


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and then renames it, so that a run that dies leaves no half file.

    Lightning's own way writes to the system's temporary folder first: on another file system the last step is a
    copy, and errors of permission are passed over in silence.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Save `checkpoint` to `path`.

        Raises:
            ConfigError: the folder cannot be written to.
        """
        target = Path(path)
        partial = target.with_suffix(".partial")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            torch.save(checkpoint, partial)
            os.replace(partial, target)
        except OSError as error:
            reason = f"cannot write {target} ({error.strerror})"
            raise ConfigError(f"{reason}: free some space or take another folder") from error
