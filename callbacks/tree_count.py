"""Changes the number of search trees while training."""

from lightning import Callback, LightningModule, Trainer

from omg_lightning.types import ConfigError


class TreeCount(Callback):
    """Sets how many trees a decision gets, by environment steps; evaluation always has the model's own `trees`.

    On the command line `--tree_count.schedule`.

    Args:
        schedule: environment step -> trees from then on; null stands for the model's own number, so that
            `{0: 1, 20000: null}` is one tree until step 20,000 and `--model.trees` after it. Before the first entry,
            and with an empty schedule, the model's own number holds.
    """

    def __init__(self, schedule: dict[int, int | None] = {}) -> None:  # noqa: B006  read, never written to
        if any(step < 0 or (trees is not None and trees < 1) for step, trees in schedule.items()):
            raise ConfigError(f"TreeCount schedule {schedule}: steps must be at least 0 and trees at least 1 or null")
        self.schedule = dict(sorted(schedule.items()))

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remembers the model's own number."""
        self._own = int(pl_module.trees)  # type: ignore[arg-type]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sets the number for the coming rollout."""
        now = trainer.datamodule.env_steps  # type: ignore[attr-defined]
        due = [trees for step, trees in self.schedule.items() if step <= now]
        pl_module.trees = (due[-1] if due else None) or self._own  # type: ignore[assignment]
        pl_module.log("search/trees", float(pl_module.trees), on_step=False, on_epoch=True)  # type: ignore[arg-type]

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluation plans with the model's own number."""
        if trainer.state.fn == "fit":
            pl_module.trees = self._own  # type: ignore[assignment]

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leaves the model with its own number."""
        pl_module.trees = self._own  # type: ignore[assignment]
