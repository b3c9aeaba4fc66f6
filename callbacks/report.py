"""Write the results of an evaluation."""

import json
import resource
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from omg_lightning import evaluation, ranks
from omg_lightning.actors import has_networks, names_of_seats
from omg_lightning.envs.base import describe
from omg_lightning.evaluation.figures import adaptation_figure, save_figure
from omg_lightning.evaluation.summary import About, summary
from omg_lightning.files import replace_text
from omg_lightning.rollout import match
from omg_lightning.seeds import generator_of
from omg_lightning.types import AdaptationSegment

RANDOM_STEPS, RANDOM_EPISODES = 5_000, 200  # limits of random play
_LAYOUT = {  # TensorBoard's custom scalars: the most important ones first
    "return": {
        "team, evaluations": ["Margin", ["return/team_mean", "return/team_low", "return/team_high"]],
        "team, training": ["Margin", ["return/train_team_mean", "return/train_team_low", "return/train_team_high"]],
        "seats, evaluations": ["Multiline", [r"return/seat_\d+_mean"]],
    },
    "prediction": {
        "co-players' actions": ["Multiline", [r"goal/action_(top1|best|bayes|majority)$"]],
        "share of the best possible": ["Multiline", [r"goal/action_(bayes_)?share$"]],
        "belief in the true goal": ["Multiline", [r"goal/belief_true_.*"]],
    },
    "losses": {"all": ["Multiline", [r"loss/.*"]]},
}


class Report(Callback):
    """Writes the metrics of `validate`, `test` and the end of `fit` to `metrics.json`, and prints a summary.

    `return/team_random` is the team return with random play in every seat with networks, and the same scripts
    elsewhere. `return/team_least` and `return/team_most` are the bounds of the team return, if the game declares them.
    `test`, the adaptation protocol, also prints a table and writes `adaptation.json` and a figure per partner,
    `adapt_<partner>.png`. Its metrics are `adapt/<partner>_return`, `adapt/<partner>_score` and so on, and
    `return/<partner>_team_mean` and so on over all its episodes. After `fit` the hyperparameters are logged with the
    final return, so that TensorBoard can compare runs.
    """

    def __init__(self) -> None:
        self._segments, self._results = list[AdaptationSegment](), list[evaluation.Result]()
        self._groups = list[evaluation.Group]()
        self._fit_s, self._started = 0.0, 0.0
        self._trained: dict[str, float] = {}  # the last metrics of training, which an evaluation does not repeat

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, which a resumed run continues, and set the layout of TensorBoard's custom scalars."""
        self._started = time.perf_counter() - self._fit_s
        for logger in trainer.loggers if trainer.is_global_zero else ():
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_custom_scalars(_LAYOUT)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Update the training time."""
        self._fit_s = time.perf_counter() - self._started
        pl_module.log("time/fit_s", self._fit_s)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the last metrics of training: the evaluation that follows starts without any."""
        numbers = trainer.callback_metrics.items()
        self._trained = {name: float(value) for name, value in numbers if not name.startswith("return/")}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the metrics of a `validate`, and print the summary."""
        if trainer.state.fn != "validate":
            return
        about = self._about(trainer, pl_module)  # on all ranks, because it reads the run folder
        if not trainer.is_global_zero:
            return
        found = random_play(trainer.datamodule)  # type: ignore[attr-defined]
        numbers = self._write(trainer, pl_module, about.folder, {} if found is None else {"return/team_random": found})
        if numbers:
            rank_zero_info("\n" + summary(numbers, about))

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start a new record; raise an error now, not at the end, if the references cannot be read."""
        self._segments, self._results, self._groups = [], [], []
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
        """Add the episodes of a segment."""
        partner, relationship, returns, length = (field.cpu() for field in batch[:4])
        self._segments.append(AdaptationSegment(partner, relationship, returns, length))  # drop the large tensors

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the results with each partner."""
        data, record = _data(trainer), evaluation.Record()
        for segments in ranks.gather(self._segments):
            for segment in segments:
                record.add(segment)
        references = evaluation.References(data.adaptation.references or evaluation.REFERENCES)
        labels, env = evaluation.labels(data.strangers), data.env
        steps, last, seen = data.adaptation.steps, data.adaptation.score_steps, len(data.partners)
        each = list[evaluation.Result | None]()
        for index, (partner, label) in enumerate(zip(data.strangers, labels, strict=True)):
            found = record.result(index, partner, label, steps, last, env.seat_bounds, env.team_bounds)
            each.append(None if found is None else evaluation.refer(found, references, describe(env)))
        kinds = {evaluation.ALL: range(len(each))} if len(each) > 1 else {}
        if seen < len(each):
            kinds |= {evaluation.SEEN: range(seen), evaluation.UNSEEN: range(seen, len(each))}
        groups = [record.group(label, some, each, steps, last, env.seat_bounds) for label, some in kinds.items()]
        self._results = [result for result in each if result is not None]
        self._groups = [group for group in groups if group is not None]
        pl_module.log_dict(evaluation.numbers(self._results, self._groups) | {"step": float(data.env_steps)})

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the table first, since writing files may fail; then write numbers and figures."""
        rank_zero_info("\n" + evaluation.table(self._results, _data(trainer).adaptation.score_steps, self._groups))
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            folder = _folder(trainer)
            self._write(trainer, pl_module, folder, {})
            self._show(trainer, pl_module.trained_seed, folder)  # type: ignore[arg-type]

    def state_dict(self) -> dict[str, Any]:
        """Return the seconds of training so far."""
        return {"fit_s": self._fit_s}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the seconds of training so far."""
        self._fit_s = state_dict["fit_s"]

    def _about(self, trainer: Trainer, pl_module: LightningModule) -> About:
        data = _data(trainer)
        seats = names_of_seats(data.eval_lineups)
        own = data.env.game is not None and type(data.env.game).__module__.startswith("omg_lightning.")
        playable = own and not pl_module.opponent.needs_true_goal  # type: ignore[union-attr]
        folder = _folder(trainer)
        return About(data.env.name, seats, folder, str(trainer.ckpt_path), data.env_steps, self._fit_s, playable)

    @rank_zero_only
    def _write(
        self, trainer: Trainer, pl_module: LightningModule, folder: Path, more: dict[str, float]
    ) -> dict[str, float]:
        """Write `metrics.json` with the logged metrics and `more`, and return its numbers."""
        numbers = self._trained | more | {name: float(value) for name, value in trainer.callback_metrics.items()}
        numbers.pop("step", None)
        numbers["buffer/env_steps"] = float(trainer.datamodule.env_steps)  # type: ignore[attr-defined]
        bounds = trainer.datamodule.env.team_bounds  # type: ignore[attr-defined]
        if bounds is not None:  # for intervals over several runs
            numbers["return/team_least"], numbers["return/team_most"] = bounds
        numbers["time/fit_s"] = self._fit_s
        numbers["time/peak_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        replace_text(folder / "metrics.json", json.dumps(dict(sorted(numbers.items())), indent=2) + "\n")
        if isinstance(trainer.logger, TensorBoardLogger) and "return/team_mean" in numbers and self._fit_s:
            final = {"final/team_return": numbers["return/team_mean"], "final/fit_s": self._fit_s}
            trainer.logger.log_hyperparams(dict(pl_module.hparams), final)
        return numbers

    @rank_zero_only
    def _show(self, trainer: Trainer, seed: int, folder: Path) -> None:
        """Write and draw the curves; `seed` is that of the training."""
        data = _data(trainer)
        about = {"seed": seed, "game": describe(data.env), "checkpoint": str(trainer.ckpt_path)}
        about |= {"seat_bounds": data.env.seat_bounds}
        settings = asdict(data.adaptation)
        evaluation.save(folder / evaluation.FILE, self._results, self._groups, **about, **settings)
        over = f"{data.adaptation.relationships} relationships"
        for result in self._results:
            final, references = (result.final, result.low, result.high), (result.random, result.best_response)
            last = data.adaptation.score_steps
            figure = adaptation_figure(result.curve, result.label, final, last, over, *references)
            save_figure(figure, folder / f"adapt_{result.label}.png")
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_figure(f"adaptation/{result.label}", figure, data.env_steps)


def _folder(trainer: Trainer) -> Path:
    """Return the run folder; all ranks have to call this."""
    return Path(trainer.log_dir or trainer.default_root_dir)


def random_play(data: Any) -> float | None:
    """Return the mean team return with random play in every seat with networks; None without such a seat.

    It plays the line-ups of the evaluation for at most `RANDOM_EPISODES` episodes.
    """
    lineups = [["random" if has_networks(name) else name for name in lineup] for lineup in data.eval_lineups]
    if lineups == data.eval_lineups:
        return None
    most = min(data.evaluation.episodes, RANDOM_EPISODES, max(RANDOM_STEPS // data.env.max_steps, 1))
    each = -(-most // len(lineups))
    random = generator_of(data.seed, "match", data.device)
    batch = min(each, data.num_envs)
    returns = [match(data.env, lineup, {}, each, batch, random) for lineup in lineups]
    return float(torch.cat(returns).sum(-1).mean())


def _data(trainer: Trainer) -> Any:
    return trainer.datamodule  # type: ignore[attr-defined]
