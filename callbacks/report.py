"""Writes what an evaluation found."""

import json
import resource
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from omg_lightning import evaluation
from omg_lightning.envs.base import describe
from omg_lightning.evaluation.figures import adaptation_figure
from omg_lightning.types import AdaptationSegment


class Report(Callback):
    """Writes the numbers of `validate`, `test` and the end of `fit` to `metrics.json` in the run folder.

    `test`, the adaptation protocol, also prints a table and writes `adaptation.json` and a figure for each partner,
    `adapt_<partner>.png`; the numbers are `adapt/<partner>_return`, `adapt/<partner>_score` and so on, and
    `return/<partner>_team_mean` and so on of all its episodes. `return/team_least` and `return/team_most` are what a
    team can earn in an episode at the least and at the most, where the game says so. After `fit` the hyperparameters
    are logged with the final return, so that TensorBoard can compare runs.
    """

    def __init__(self) -> None:
        self._record, self._results = evaluation.Record(), list[evaluation.Result]()
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

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts a new record; fails now, not at the end, where the references cannot be read."""
        self._record, self._results = evaluation.Record(), []
        evaluation.References(_data(trainer).adaptation.references or evaluation.REFERENCES)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: AdaptationSegment,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Adds the episodes of a segment."""
        self._record.add(batch)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the numbers beside each partner."""
        data = _data(trainer)
        references = evaluation.References(data.adaptation.references or evaluation.REFERENCES)
        labels, env = evaluation.labels(data.partners), data.env
        for index, (partner, label) in enumerate(zip(data.partners, labels, strict=True)):
            steps, last, bounds = data.adaptation.steps, data.adaptation.score_steps, (env.seat_bounds, env.team_bounds)
            found = self._record.result(index, partner, label, steps, last, *bounds)
            if found is not None:
                self._results.append(evaluation.refer(found, references, describe(env)))
        pl_module.log_dict(evaluation.numbers(self._results) | {"step": float(data.env_steps)})

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the numbers and figures of a `test`."""
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._write(trainer, pl_module)
            self._show(trainer, pl_module.trained_seed)  # type: ignore[arg-type]
        rank_zero_info("\n" + evaluation.table(self._results, _data(trainer).adaptation.score_steps))

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
        bounds = trainer.datamodule.env.team_bounds  # type: ignore[attr-defined]
        if bounds is not None:  # for intervals over several runs
            numbers["return/team_least"], numbers["return/team_most"] = bounds
        numbers["time/fit_s"] = self._fit_s
        numbers["time/peak_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        path = Path(trainer.log_dir or trainer.default_root_dir) / "metrics.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dict(sorted(numbers.items())), indent=2) + "\n")
        rank_zero_info(f"metrics written to {path}")
        if isinstance(trainer.logger, TensorBoardLogger) and "return/team_mean" in numbers and self._fit_s:
            final = {"final/team_return": numbers["return/team_mean"], "final/fit_s": self._fit_s}
            trainer.logger.log_hyperparams(dict(pl_module.hparams), final)

    @rank_zero_only
    def _show(self, trainer: Trainer, seed: int) -> None:
        """Writes the curves and draws them; `seed` is that of the training."""
        data, folder = _data(trainer), Path(trainer.log_dir or trainer.default_root_dir)
        about = {"seed": seed, "game": describe(data.env), "checkpoint": str(trainer.ckpt_path)}
        about |= {"seat_bounds": data.env.seat_bounds}
        evaluation.save(folder / evaluation.FILE, self._results, **about, **asdict(data.adaptation))
        over = f"{data.adaptation.relationships} relationships"
        for result in self._results:
            final, references = (result.final, result.low, result.high), (result.random, result.best_response)
            last = data.adaptation.score_steps
            figure = adaptation_figure(result.curve, result.label, final, last, over, *references)
            figure.savefig(folder / f"adapt_{result.label}.png", dpi=300)
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_figure(f"adaptation/{result.label}", figure, data.env_steps)


def _data(trainer: Trainer) -> Any:
    return trainer.datamodule  # type: ignore[attr-defined]
