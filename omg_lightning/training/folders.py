"""Run folders: a run never overwrites another one, and a refused run leaves none."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger

from omg_lightning.files import PARTIAL, remove_partial, replace_text
from omg_lightning.types import ConfigError

CONFIG = "config.yaml"
_FIRST = (CONFIG, "hparams.yaml", "events.out.tfevents.")  # what a run writes before its first batch
OF_ONE_RUN = {"other_rules": False, "ckpt_path": None}  # what is said for one run alone, and what stands for nothing


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


class RunFolder:
    """The folder of a run, which goes again where the run is refused.

    Args:
        path: of the folder; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._missing = [each for each in (path, *path.parents) if not each.exists()]  # the innermost first

    @classmethod
    def new(cls, root: str | os.PathLike[str]) -> "RunFolder":
        """Make the next folder `root/lightning_logs/version_<n>`.

        It is made here, at once, so that two runs that start together cannot get the same one.

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
            raise ConfigError(f"cannot write to {parent} ({error.strerror}): set --trainer.default_root_dir") from error
        return found

    @classmethod
    def unknown(cls, root: str | os.PathLike[str]) -> "RunFolder":
        """Return a folder that nothing is written to: on a rank that the first one tells where the run's files are."""
        return cls(Path(root) / "lightning_logs/version_0")

    def logger(self) -> RunLogger:
        """Return a TensorBoard logger in this folder, one of those that `new` makes."""
        version, logs = int(self.path.name.removeprefix("version_")), self.path.parent
        return RunLogger(str(logs.parent), name=logs.name, version=version, default_hp_metric=False)

    @contextmanager
    def removed_if_refused(self, callbacks: Sequence[Callback] = ()) -> Iterator[None]:
        """Remove the folder where an error ends the run before its first batch, and with it what was written by then.

        Lightning, the parts of a run and a user's classes check settings when they begin, which no table can foresee.
        A folder that holds anything else stays.

        Args:
            callbacks: of the trainer, where there is one; its `SaveConfig` knows whether the run has begun.
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
                folder.rmdir()  # fails, and ends this, where another run has its folder by now


class SaveConfig(SaveConfigCallback):
    """Writes the configuration into the run folder, and notes whether the run has begun.

    What is said for one run alone becomes a comment: a later run from this file must not take it over in silence, nor
    measure the checkpoint from which this one went on in place of its own.
    """

    began = False  # whether a batch has been trained on, measured or predicted

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the file, once."""
        folder = trainer.log_dir  # on all ranks: it waits for the others
        if folder is not None and trainer.is_global_zero and not self.already_saved:
            config, words = self.config.clone(), ""
            for key, nothing in OF_ONE_RUN.items():
                if config.get(key, nothing) != nothing:
                    words += f"# {key}: {config[key]} (for this run alone; a later one needs --{key} again)\n"
                    config[key] = nothing
            replace_text(Path(folder) / CONFIG, words + self.parser.dump(config, skip_none=False))
        self.already_saved = True

    def _begin(self, *args: Any, **kwargs: Any) -> None:
        """Notes that a batch is over."""
        self.began = True

    on_train_batch_end = on_validation_batch_end = on_test_batch_end = on_predict_batch_end = _begin


def newest_checkpoint(root: str | os.PathLike[str], name: str = "last") -> str | None:
    """Return the path of `last.ckpt` or `best.ckpt` of the newest run below `root` that has one, or None."""
    files = [path for path in (Path(root) / "lightning_logs").glob(f"version_*/{name}.ckpt") if path.is_file()]
    runs = {int(path.parent.name[8:]): path for path in files if path.parent.name[8:].isdigit()}
    return str(runs[max(runs)]) if runs else None
