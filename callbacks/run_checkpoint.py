"""Write `last.ckpt` and `best.ckpt` into the run folder."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from omg_lightning.interrupts import Interrupted
from omg_lightning.types import ConfigError

FIT, EPOCHS, BATCHES = "fit_loop", "epoch_progress", "epoch_loop.batch_progress"  # Lightning's names in a checkpoint
EVALUATION = "epoch_loop.val_loop.batch_progress"
COUNTS = {"ready", "started", "processed", "completed"}


class RunCheckpoint(ModelCheckpoint):
    """Writes `last.ckpt` every few epochs and at the end, and `best.ckpt` at the best evaluation.

    Both are in the run folder, next to `config.yaml` and the TensorBoard log. However a run ends (all epochs,
    `max_steps`, `max_time`, early stopping), `last.ckpt` has the weights of the final evaluation. On a signal
    `last.ckpt` is written at once, and a resumed run continues from there.

    Args:
        monitor: evaluation metric of the best checkpoint.
        mode: `max` or `min`.
        last_every: epochs between two `last.ckpt`; a killed run loses at most this many.
    """

    def __init__(self, monitor: str = "return/team_mean", mode: str = "max", last_every: int = 10) -> None:
        if last_every < 1:
            raise ConfigError(f"RunCheckpoint last_every is {last_every}: it must be at least 1")
        super().__init__(
            filename="best",
            monitor=monitor,
            mode=mode,
            auto_insert_metric_name=False,
            enable_version_counter=False,
            save_on_train_epoch_end=False,
        )
        self.last_every = last_every
        self._saved: tuple[int, int] | None = None  # epochs and optimiser steps in the newest `last.ckpt`
        self._broken_off = False  # whether a signal has interrupted an evaluation within `fit`

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Set the run folder as the folder of all checkpoints.

        Raises:
            ConfigError: this release of Lightning has other counters, see `check_counters`.
        """
        if stage == "fit":
            check_counters(trainer.fit_loop.state_dict())
        self.dirpath = trainer.log_dir
        super().setup(trainer, pl_module, stage)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write `last.ckpt` when it is due."""
        super().on_train_epoch_end(trainer, pl_module)
        if (trainer.current_epoch + 1) % self.last_every == 0:
            self._save_last(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write `last.ckpt` with the last weights."""
        super().on_train_end(trainer, pl_module)
        self._save_last(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Set Lightning's counters to where a resumed run continues, see `mark_resume_point`."""
        mark_resume_point(checkpoint["loops"][FIT], trainer.num_training_batches, self._broken_off)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write `last.ckpt` after a signal, and record the command to resume, even if the file cannot be written."""
        super().on_exception(trainer, pl_module, exception)
        signalled = isinstance(exception, Interrupted | SIGTERMException)
        if (not isinstance(exception, OSError) and not signalled) or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if self.dirpath is None:  # before the run has begun
            return
        folder = Path(str(self.dirpath))
        command, done = "validate", "training is complete: evaluate"
        if trainer.state.fn == "fit":
            if trainer.sanity_checking:
                return
            if signalled:
                self._broken_off, self._saved = trainer.validating, None
                self._save_last(trainer)
            if trainer.max_epochs != _rounds(trainer):
                command, done = "fit", f"saved {folder / 'last.ckpt'}: resume"
        if (folder / "last.ckpt").is_file():
            config, last = (shlex.quote(str(folder / name)) for name in ("config.yaml", "last.ckpt"))
            rules = " --other_rules true" if getattr(pl_module, "other_rules", False) else ""
            words = f"python -m omg_lightning {command} --config {config} --ckpt_path {last}{rules}"
            exception.add_note(f"{done} with {words}")

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the best score of a resumed run; its files stay in their folder."""
        super().load_state_dict({**state_dict, "dirpath": self.dirpath})

    def _save_last(self, trainer: Trainer) -> None:
        """Write `last.ckpt`, unless it is up to date."""
        now = (_rounds(trainer), trainer.global_step)
        if not trainer.fast_dev_run and now != self._saved:  # type: ignore[attr-defined]
            trainer.save_checkpoint(Path(str(self.dirpath)) / "last.ckpt")
            self._saved = now


def _rounds(trainer: Trainer) -> int:
    """Return the number of finished epochs, also during their evaluation."""
    return trainer.fit_loop.epoch_progress.current.processed  # type: ignore[attr-defined]


def check_counters(loop: Mapping[str, Any]) -> None:
    """Raise ConfigError unless the state of a training loop has the counters that `mark_resume_point` changes.

    Lightning has no public way to set where a resumed run continues. Its counters are in each checkpoint, but their
    names are undocumented, so another release may have others.

    Args:
        loop: state of the training loop, by name.
    """
    counters = [loop.get(name, {}) for name in (EPOCHS, BATCHES, EVALUATION)]
    known = all(set(each.get(part, ())) == COUNTS for each in counters for part in ("total", "current"))
    if not known or not all("is_last_batch" in each for each in counters[1:]):
        raise ConfigError(
            f"lightning {lightning.__version__} counts epochs and batches differently from 2.6, so this run could "
            "not be resumed correctly: pip install 'lightning>=2.6.6,<2.7', or remove callbacks.RunCheckpoint"
        )


def mark_resume_point(loop: dict[str, Any], batches: float, broken_off: bool = False) -> None:
    """Change the counters of Lightning's training loop so that a resumed run continues after the last batch.

    Lightning counts an epoch as processed as soon as its loop ends, even if `max_steps` or `max_time` cut it off; a
    resumed run would then skip the remaining batches. With `max_steps`, it also counts the batches of a finished epoch
    as those of the next one.

    Args:
        loop: state of the training loop, changed in place.
        batches: number of batches in a whole epoch.
        broken_off: whether an evaluation was interrupted; a resumed run then repeats it.
    """
    if broken_off:
        for each, values in loop[EVALUATION].items():
            if each != "is_last_batch":
                loop[EVALUATION][each] = {name: int(name in ("ready", "started")) for name in values}
    total, current = loop[EPOCHS]["total"], loop[EPOCHS]["current"]
    if total["processed"] < total["started"]:  # within an epoch: Lightning's own counters are right
        return
    started_next = total["ready"] > total["started"]
    cut_off = not started_next and loop[BATCHES]["current"]["completed"] < batches
    for count in (total, current):
        count["ready"] = count["started"]
        count["processed"] = count["completed"] = count["started"] - cut_off
    if not cut_off:
        loop[BATCHES]["current"] = dict.fromkeys(loop[BATCHES]["current"], 0)
        loop[BATCHES]["is_last_batch"] = False
