"""Whether inferred goals change play."""

from dataclasses import replace
from typing import Any

from lightning import Callback, LightningModule, Trainer
from torchmetrics.utilities import dim_zero_cat

from omg_lightning.actors import LEARNER, Actor, ModelActor
from omg_lightning.metrics import ReturnMetrics
from omg_lightning.metrics.intervals import student
from omg_lightning.opponents import ShuffledGoals, UninformedGoals
from omg_lightning.training import Agent
from omg_lightning.types import ConfigError, Episodes

_NUMBERS = {"": "mean", "_low": "low", "_high": "high", "_discounted": "discounted"}


class GoalEffect(Callback):
    """Repeats the evaluation with uninformative goals, from the same initial states, and logs the team return.

    `goal/return_inferred` is the return of the evaluation itself. `goal/return_shuffled` uses the goals that were
    inferred in other environments, and `goal/return_none` random goals, sampled from the belief before the first
    observation (see `ShuffledGoals` and `UninformedGoals`). Each has a 95% interval (`..._low`, `..._high`; none for
    a single episode) and a discounted return (`..._discounted`). `goal/return_gain` is the mean difference of inferred
    and random goals over episodes with the same initial state; its interval is Student's t over these differences.

    `validate`, and the evaluation that ends `fit`, take three times as long; evaluations during `fit` are unchanged.
    The callback does nothing if the opponent model has no goals or no seat has a learner.

    Args:
        episodes: the largest number of episodes of each kind; by default that of the evaluation.
    """

    def __init__(self, episodes: int | None = None) -> None:
        if episodes is not None and episodes < 1:
            raise ConfigError(f"GoalEffect episodes is {episodes}: it must be at least 1")
        self.episodes = episodes
        self._inferred = ReturnMetrics()

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reset the returns."""
        self._inferred = self._metrics(trainer, pl_module)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Episodes,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add episodes of the evaluation itself, up to the number that is compared."""
        if self._due(trainer, pl_module) and batch_idx * trainer.datamodule.num_envs < self._count(trainer):  # type: ignore[attr-defined]
            self._inferred.update(batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Play with shuffled and with random goals, and log all returns."""
        if not self._due(trainer, pl_module):
            return
        data, returns = trainer.datamodule, {"inferred": self._inferred}  # type: ignore[attr-defined]
        for name, control in (("shuffled", ShuffledGoals), ("none", UninformedGoals)):
            returns[name] = self._metrics(trainer, pl_module)

            def change(learner: Actor, control: Any = control) -> Actor:
                return (
                    replace(learner, opponent=control(learner.opponent)) if isinstance(learner, ModelActor) else learner
                )

            for episodes in data.evaluate(data.eval_lineups, self._count(trainer), change):
                returns[name].update(episodes)
        for name, metric in returns.items():
            found = metric.compute()
            named = {f"goal/return_{name}{end}": f"return/team_{key}" for end, key in _NUMBERS.items()}
            pl_module.log_dict({own: found[key] for own, key in named.items() if key in found})
        pl_module.log_dict(_gain(returns["inferred"], returns["none"]))

    def _metrics(self, trainer: Trainer, pl_module: LightningModule) -> ReturnMetrics:
        bounds = trainer.datamodule.env.team_bounds  # type: ignore[attr-defined]
        return ReturnMetrics(pl_module.algorithm.discount, bounds)  # type: ignore[union-attr, arg-type]

    def _count(self, trainer: Trainer) -> int:
        """Return the number of compared episodes: whole chunks, because initial states depend on a chunk's size."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        chunks = -(-(self.episodes or data.evaluation.episodes) // data.num_envs)
        return min(chunks * data.num_envs, data.evaluation.episodes)

    def _due(self, trainer: Trainer, pl_module: LightningModule) -> bool:
        if trainer.state.fn != "validate" or not isinstance(pl_module, Agent) or pl_module.opponent.size == 0:
            return False
        return any(LEARNER in lineup for lineup in trainer.datamodule.eval_lineups)  # type: ignore[attr-defined]


def _gain(inferred: ReturnMetrics, none: ReturnMetrics) -> dict[str, float]:
    """Return the mean difference of the team returns of paired episodes, and its 95% interval if there are two."""
    teams = []
    for metric in (inferred, none):
        with metric.sync_context():  # of all ranks, in the same order
            teams.append(dim_zero_cat(metric.returns).sum(-1).double())
    gains = (teams[0] - teams[1]).cpu().numpy()
    low, high = student(gains)
    interval = {"goal/return_gain_low": float(low), "goal/return_gain_high": float(high)} if len(gains) > 1 else {}
    return {"goal/return_gain": float(gains.mean())} | interval
