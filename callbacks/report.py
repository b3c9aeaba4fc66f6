"""Writes what an evaluation found."""

import json
import resource
import time
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from omg_lightning.metrics import ReturnMetrics
from omg_lightning.types import Episodes


class Report(Callback):
    """Writes the numbers of `validate`, `test` and the end of `fit` to `metrics.json` in the run folder.

    In `test`, returns beside each partner are reported as `return/<partner>_team_mean` and so on. After `fit` the
    hyperparameters are logged with the final return, so that TensorBoard can compare runs.
    """

    def __init__(self) -> None:
        self._returns: dict[str, ReturnMetrics] = {}
        self._fit_s, self._started = 0.0, 0.0
        self._trained: dict[str, float] = {}  # the last numbers of training, which an evaluation does not repeat

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock; a resumed run goes on where it was."""
        self._started = time.perf_counter() - self._fit_s

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reads the clock."""
        self._fit_s = time.perf_counter() - self._started
        pl_module.log("time/fit_s", self._fit_s)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps the last numbers of training: the evaluation that follows starts with none."""
        numbers = trainer.callback_metrics.items()
        self._trained = {name: float(value) for name, value in numbers if not name.startswith("return/")}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the numbers of a `validate`."""
        if trainer.state.fn == "validate":
            self._write(trainer, pl_module)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: tuple[str, Episodes],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Adds the episodes to the returns beside this partner."""
        partner, episodes = batch
        self._returns.setdefault(partner, ReturnMetrics()).update(episodes)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the returns beside each partner."""
        for partner, metric in self._returns.items():
            for name, value in metric.compute().items():
                pl_module.log(name.replace("return/", f"return/{partner}_"), value)
        self._returns = {}

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the numbers of a `test`."""
        self._write(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Seconds of training so far."""
        return {"fit_s": self._fit_s}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the seconds of training so far."""
        self._fit_s = state_dict["fit_s"]

    @rank_zero_only
    def _write(self, trainer: Trainer, pl_module: LightningModule) -> None:
        numbers = self._trained | {name: float(value) for name, value in trainer.callback_metrics.items()}
        numbers.pop("step", None)
        numbers["buffer/env_steps"] = float(trainer.datamodule.env_steps)  # type: ignore[attr-defined]
        numbers["time/fit_s"] = self._fit_s
        numbers["time/peak_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        path = Path(trainer.log_dir or trainer.default_root_dir) / "metrics.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dict(sorted(numbers.items())), indent=2) + "\n")
        rank_zero_info(f"metrics written to {path}")
        if isinstance(trainer.logger, TensorBoardLogger) and "return/team_mean" in numbers and self._fit_s:
            final = {"final/team_return": numbers["return/team_mean"], "final/fit_s": self._fit_s}
            trainer.logger.log_hyperparams(dict(pl_module.hparams), final)
