"""Leaves `last.ckpt` and `best.ckpt` in the run folder."""

from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from omg_lightning.types import ConfigError


class RunCheckpoint(ModelCheckpoint):
    """Writes `last.ckpt` every few epochs and at the end, and `best.ckpt` at the best evaluation.

    Both go into the run folder itself, next to `config.yaml` and the TensorBoard log.

    Args:
        monitor: metric of the evaluation that decides what is best.
        mode: `max` or `min`.
        last_every: epochs between two `last.ckpt`; a run that dies loses at most these.
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

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Puts everything into the run folder."""
        self.dirpath = trainer.log_dir
        super().setup(trainer, pl_module, stage)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes `last.ckpt` when it is due."""
        super().on_train_epoch_end(trainer, pl_module)
        last = trainer.max_epochs is not None and trainer.current_epoch + 1 == trainer.max_epochs
        if not trainer.fast_dev_run and (last or (trainer.current_epoch + 1) % self.last_every == 0):  # type: ignore[attr-defined]
            trainer.save_checkpoint(Path(str(self.dirpath)) / "last.ckpt")

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keeps the best score of a resumed run; its files stay in the folder that they were written to."""
        super().load_state_dict({**state_dict, "dirpath": self.dirpath})
