"""Metrics of inferred goals at each evaluation."""

from typing import Any

from lightning import Callback, LightningModule, Trainer
from torchmetrics import MeanMetric, Metric

from omg_lightning import ranks
from omg_lightning.evaluation.exact import exact_observer
from omg_lightning.events import watched
from omg_lightning.metrics import recalls
from omg_lightning.training import Agent
from omg_lightning.types import NO_GOAL, Episodes


class GoalQuality(Callback):
    """Logs metrics of inferred goals on the episodes of each evaluation.

    `goal/action_recall_<name>` is the recall of each action. If all co-players are scripts with a declared goal,
    `goal/action_bayes` is the top-1 accuracy of an observer that knows the scripts and infers their goals by exact
    Bayes, and `goal/action_bayes_share` the learner's top-1 as a share of it; `Oracle` knows the goals, so its share
    may exceed 1. An explicit belief adds metrics against the true goals of scripts (`goal/belief_*`, see
    `BeliefMetrics`), and `Codebook` metrics of its codes (`goal/code_*`, see `CodeMetrics`).
    """

    def __init__(self) -> None:
        self.metrics: dict[str, Metric] = {}  # of the opponent model, see `OpponentModel.metrics`
        self._bayes, self._told = MeanMetric(), True

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reset the metrics."""
        self._bayes, self._told, self.metrics = MeanMetric().to(pl_module.device), True, {}
        if isinstance(pl_module, Agent):
            found = pl_module.opponent.metrics(pl_module.game.goal_names)
            self.metrics = {name: metric.to(pl_module.device) for name, metric in found.items()}

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Episodes,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add the episodes."""
        who = watched(batch)
        exact = exact_observer(trainer.datamodule.env, batch)  # type: ignore[attr-defined]
        self._told &= exact is not None and bool((batch.true_goal[who] != NO_GOAL).all())
        if exact is not None:
            self._bayes.update(exact.best[who])
        for metric in self.metrics.values():
            metric.update(batch, who, None if exact is None else exact.belief)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log all metrics, before the agent resets its predictions."""
        for metric in self.metrics.values():
            pl_module.log_dict(metric.compute())
        if isinstance(pl_module, Agent):
            with pl_module.predictions.sync_context():
                confusion = pl_module.predictions.confusion
            pl_module.log_dict(recalls(confusion, pl_module.game.action_names))
            found = pl_module.predictions.compute()
            if all(ranks.gather(self._told)) and found:
                best = self._bayes.compute()
                shares = {"goal/action_bayes": best, "goal/action_bayes_share": found["goal/action_top1"] / best}
                pl_module.log_dict(shares)
