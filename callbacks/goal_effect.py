"""Whether goals change play."""

from dataclasses import replace
from typing import Any

from lightning import Callback, LightningModule, Trainer

from omg_lightning.actors import LEARNER, Actor, ModelActor
from omg_lightning.metrics import ReturnMetrics
from omg_lightning.opponents import ShuffledGoals, UninformedGoals
from omg_lightning.training import Agent
from omg_lightning.types import ConfigError, Episodes

_NUMBERS = {"": "mean", "_low": "low", "_high": "high", "_discounted": "discounted"}


class GoalEffect(Callback):
    """Plays the evaluation again with goals that mean nothing, from the same starts, and logs what the team earns.

    `goal/return_inferred` is that of the evaluation itself, `goal/return_shuffled` with the goals inferred in other
    environments, `goal/return_none` with goals drawn from what is believed before anything is seen (see
    `ShuffledGoals` and `UninformedGoals`); each with its 95% interval (`..._low`, `..._high`; one episode has none)
    and, as `..._discounted`, the discounted return. Evaluations within `fit` are left as they are; `validate`, and the
    evaluation that ends `fit`, take three times as long. Without goals, or without a learner in any seat, there is
    nothing to do.

    Args:
        episodes: to be played at most, in each way; as many as the evaluation has by default.
    """

    def __init__(self, episodes: int | None = None) -> None:
        if episodes is not None and episodes < 1:
            raise ConfigError(f"GoalEffect episodes is {episodes}: it must be at least 1")
        self.episodes = episodes
        self._inferred = ReturnMetrics()

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start with no episodes."""
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
        """Adds the episodes of the evaluation itself, those that are to be compared."""
        if self._due(trainer, pl_module) and batch_idx * trainer.datamodule.num_envs < self._count(trainer):  # type: ignore[attr-defined]
            self._inferred.update(batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Plays the others, and logs all three."""
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

    def _metrics(self, trainer: Trainer, pl_module: LightningModule) -> ReturnMetrics:
        bounds = trainer.datamodule.env.team_bounds  # type: ignore[attr-defined]
        return ReturnMetrics(pl_module.algorithm.discount, bounds)  # type: ignore[union-attr, arg-type]

    def _count(self, trainer: Trainer) -> int:
        """How many episodes are compared: whole chunks, for the starts of a chunk depend on its size."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        chunks = -(-(self.episodes or data.evaluation.episodes) // data.num_envs)
        return min(chunks * data.num_envs, data.evaluation.episodes)

    def _due(self, trainer: Trainer, pl_module: LightningModule) -> bool:
        if trainer.state.fn != "validate" or not isinstance(pl_module, Agent) or pl_module.opponent.size == 0:
            return False
        return any(LEARNER in lineup for lineup in trainer.datamodule.eval_lineups)  # type: ignore[attr-defined]
