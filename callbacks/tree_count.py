"""Changes the number of search trees while training."""

from lightning import Callback, LightningModule, Trainer

from omg_lightning.types import ConfigError


class TreeCount(Callback):
    """Sets how many trees a decision gets, by environment steps; evaluation always has the model's own `trees`.

    Args:
        schedule: environment step -> trees from then on, such as `{0: 1, 20000: 5}`. Before the first entry, and
            with an empty schedule, the model's own number holds.
    """

    def __init__(self, schedule: dict[int, int]) -> None:
        if any(step < 0 or trees < 1 for step, trees in schedule.items()):
            raise ConfigError(f"TreeCount schedule {schedule}: steps must be at least 0 and trees at least 1")
        self.schedule = dict(sorted(schedule.items()))
        self._own: int | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remembers the model's own number."""
        self._own = pl_module.trees  # type: ignore[assignment]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sets the number for the coming rollout."""
        now = trainer.datamodule.env_steps  # type: ignore[attr-defined]
        due = [trees for step, trees in self.schedule.items() if step <= now]
        pl_module.trees = due[-1] if due else self._own  # type: ignore[assignment]
        pl_module.log("search/trees", float(pl_module.trees), on_step=False, on_epoch=True)  # type: ignore[arg-type]

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluation plans with the model's own number."""
        if self._own is not None:
            pl_module.trees = self._own  # type: ignore[assignment]
