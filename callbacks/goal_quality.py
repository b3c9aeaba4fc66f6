"""How good the goals are, in numbers, at each evaluation."""

from typing import Any

from lightning import Callback, LightningModule, Trainer
from torchmetrics import MeanMetric

from omg_lightning.metrics.exact import exact_observer
from omg_lightning.metrics import BeliefMetrics, CodeMetrics, recalls
from omg_lightning.training import Agent
from omg_lightning.opponents.targets import watched
from omg_lightning.types import NO_GOAL, Episodes


class GoalQuality(Callback):
    """Measures goals on the episodes of each evaluation, and logs it.

    `goal/action_recall_<name>` is the share of each action that was predicted. Where all co-players are scripts with a
    declared goal, `goal/action_bayes` is the top-1 of somebody who knows the scripts but has to find out their goals by
    exact Bayes, and `goal/action_bayes_share` the learner's top-1 as a share of it; an oracle, who is told, may have
    more. With an explicit belief there is what it says of scripted co-players' true goals (`goal/belief_*`, see
    `BeliefMetrics`), and with `goals: codebook` what the codes stand for (`goal/code_*`, see `CodeMetrics`).
    """

    def __init__(self) -> None:
        self.beliefs: BeliefMetrics | None = None
        self.codes: CodeMetrics | None = None
        self._bayes, self._told = MeanMetric(), True

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts with empty metrics."""
        self.beliefs = self.codes = None
        self._bayes, self._told = MeanMetric().to(pl_module.device), True
        if not isinstance(pl_module, Agent) or not pl_module.num_goals or pl_module.places:
            return
        goals, size, steps = pl_module.num_goals, pl_module.source().size, pl_module.max_steps
        if pl_module.goals in ("declared", "codebook"):
            self.beliefs = BeliefMetrics(goals, size, pl_module.goals == "declared", steps).to(pl_module.device)
        if pl_module.codebook is not None:
            self.codes = CodeMetrics(size, goals).to(pl_module.device)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Episodes,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Adds the episodes."""
        who = watched(batch)
        exact = exact_observer(trainer.datamodule.game, batch)  # type: ignore[attr-defined]
        self._told &= exact is not None and bool((batch.truth[who] != NO_GOAL).all())
        if exact is not None:
            self._bayes.update(exact.best[who])
        if self.beliefs is not None:
            self.beliefs.update(batch.goal, batch.truth, who, None if exact is None else exact.belief)
        if self.codes is not None:
            assert isinstance(pl_module, Agent)
            codes = batch.truth.new_zeros(who.shape)
            codes[who] = pl_module.encode(batch.observation[who].float())
            self.codes.update(batch, codes, who)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs them all; the agent has not yet forgotten its predictions."""
        for metric in (self.beliefs, self.codes):
            if metric is not None:
                pl_module.log_dict(metric.compute())
        if isinstance(pl_module, Agent):
            names = trainer.datamodule.game.action_names  # type: ignore[attr-defined]
            pl_module.log_dict(recalls(pl_module.predictions.confusion, names))
            found = pl_module.predictions.compute()
            if self._told and found:
                best = self._bayes.compute()
                shares = {"goal/action_bayes": best, "goal/action_bayes_share": found["goal/action_top1"] / best}
                pl_module.log_dict(shares)
