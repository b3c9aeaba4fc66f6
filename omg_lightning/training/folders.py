"""Run folders: a run never overwrites another one, and a run with invalid settings leaves none."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger

from omg_lightning.commit import commit_of
from omg_lightning.files import PARTIAL, remove_partial, replace_text
from omg_lightning.types import ConfigError

CONFIG = "config.yaml"
COMMIT = "# commit of omg_lightning: "  # begins the line of `CONFIG` with the commit that made the run
_FIRST = (CONFIG, "hparams.yaml", "events.out.tfevents.")  # files written before the first batch
OF_ONE_RUN = {"other_rules": False, "ckpt_path": None}  # settings of a single run, with their neutral values


class RunLogger(TensorBoardLogger):
    """The TensorBoard log of a run; the scalars of its last evaluation are `final/...`.

    Attributes:
        ending: whether the run is in its last evaluation. Its step equals that of the last evaluation in training,
            which would give two values under one tag.
    """

    ending: bool = False

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write scalars."""
        names = {name: f"final/{name}" if self.ending else name for name in metrics}
        super().log_metrics({names[name]: value for name, value in metrics.items()}, step)


class RunFolder:
    """The folder of a run; it is removed if the run fails before its first batch.

    Args:
        path: of the folder, which may not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._missing = [each for each in (path, *path.parents) if not each.exists()]  # the innermost first

    @classmethod
    def new(cls, root: str | os.PathLike[str]) -> "RunFolder":
        """Create the next folder `root/lightning_logs/version_<n>`.

        The folder is created immediately, so that two runs that start together cannot get the same one.

        Raises:
            ConfigError: the folder cannot be written to.
        """
        parent = Path(root) / "lightning_logs"
        try:
            taken = [int(path.name[8:]) for path in parent.glob("version_*") if path.name[8:].isdigit()]
            version = max(taken, default=-1) + 1
            while True:
                found = cls(parent / f"version_{version}")
                try:
                    found.path.mkdir(parents=True)
                    break
                except FileExistsError:
                    version += 1
            remove_partial((*parent.glob(f"version_*/**/*{PARTIAL}"), *Path(root).glob(f"*hpc_ckpt_*{PARTIAL}")))
        except OSError as error:
            advice = "set another --trainer.default_root_dir"
            raise ConfigError(f"cannot write to {parent} ({error.strerror}): {advice}") from error
        return found

    @classmethod
    def unknown(cls, root: str | os.PathLike[str]) -> "RunFolder":
        """Return a folder without files, for the other ranks: rank 0 sends them the path of the run folder."""
        return cls(Path(root) / "lightning_logs/version_0")

    def logger(self) -> RunLogger:
        """Return a TensorBoard logger in this folder, which `new` has made."""
        version, logs = int(self.path.name.removeprefix("version_")), self.path.parent
        return RunLogger(str(logs.parent), name=logs.name, version=version, default_hp_metric=False)

    @contextmanager
    def removed_if_refused(self, callbacks: Sequence[Callback] = ()) -> Iterator[None]:
        """Remove the folder and its files if an error ends the run before its first batch.

        Lightning, the project's components and a user's classes check some settings only when the run starts.
        A folder with other files is kept.

        Args:
            callbacks: of the trainer, if it exists; its `SaveConfig` knows whether the run has begun.
        """
        try:
            yield
        except (Exception, SystemExit):
            if not any(isinstance(each, SaveConfig) and each.began for each in callbacks):
                with suppress(OSError):
                    self._remove()
            raise

    def _remove(self) -> None:
        found = list(self.path.iterdir()) if self.path.is_dir() else []
        if self.path not in self._missing or not all(each.name.startswith(_FIRST) for each in found):
            return
        for each in found:
            each.unlink()
        for folder in self._missing:
            if folder.is_dir():
                folder.rmdir()  # fails, which ends the loop, if another run has its folder here


class SaveConfig(SaveConfigCallback):
    """Writes the configuration and the commit into the run folder, and records whether the run has begun.

    Settings of a single run become comments: a later run with this file must not silently inherit them, nor
    evaluate the checkpoint from which this run resumed instead of its own.
    """

    began = False  # whether a batch of training, evaluation or prediction has ended

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the file, once."""
        folder = trainer.log_dir  # on all ranks, because the call waits for the others
        if folder is not None and trainer.is_global_zero and not self.already_saved:
            commit = commit_of()
            config, words = self.config.clone(), f"{COMMIT}{commit}\n" if commit else ""
            for key, nothing in OF_ONE_RUN.items():
                if config.get(key, nothing) != nothing:
                    words += f"# {key}: {config[key]} (for this run alone; a later one needs --{key} again)\n"
                    config[key] = nothing
            replace_text(Path(folder) / CONFIG, words + self.parser.dump(config, skip_none=False))
        self.already_saved = True

    def _begin(self, *args: Any, **kwargs: Any) -> None:
        """Record that a batch has ended."""
        self.began = True

    on_train_batch_end = on_validation_batch_end = on_test_batch_end = on_predict_batch_end = _begin


def newest_checkpoint(root: str | os.PathLike[str], name: str = "last") -> str | None:
    """Return the path of `last.ckpt` or `best.ckpt` of the newest run below `root` that has one, or None."""
    files = [path for path in (Path(root) / "lightning_logs").glob(f"version_*/{name}.ckpt") if path.is_file()]
    runs = {int(path.parent.name[8:]): path for path in files if path.parent.name[8:].isdigit()}
    return str(runs[max(runs)]) if runs else None
