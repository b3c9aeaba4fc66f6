"""Change the number of search trees during training."""

from lightning import Callback, LightningModule, Trainer

from omg_lightning.algorithms import BestResponseSearch
from omg_lightning.types import ConfigError


class TreeCount(Callback):
    """Sets the number of trees per decision in training; evaluations always use the algorithm's `trees`.

    On the command line: `--tree_count.schedule`. It has no effect on an algorithm without search.

    Args:
        schedule: environment step -> trees from that step on; null stands for the algorithm's `trees`. For example,
            `{0: 1, 20000: null}` is one tree until step 20,000 and `--model.algorithm.trees` after it. Before the first
            entry, and with an empty schedule, the algorithm's `trees` applies.
    """

    def __init__(self, schedule: dict[int, int | None] = {}) -> None:  # noqa: B006  read, never written to
        if any(step < 0 or (trees is not None and trees < 1) for step, trees in schedule.items()):
            raise ConfigError(f"TreeCount {schedule}: expected steps of at least 0, and trees of at least 1 or null")
        self.schedule = dict(sorted(schedule.items()))

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Store the model's own number of trees."""
        search = _search(pl_module)
        self._own = search.trees if search is not None else 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the number of trees for the next rollout."""
        search = _search(pl_module)
        if search is None:
            return
        now = trainer.datamodule.env_steps  # type: ignore[attr-defined]
        due = [trees for step, trees in self.schedule.items() if step <= now]
        search.trees = (due[-1] if due else None) or self._own
        pl_module.log("search/trees", float(search.trees), on_step=False, on_epoch=True)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the model's own number of trees for the evaluation."""
        if trainer.state.fn == "fit":
            self.on_fit_end(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the model's own number of trees."""
        search = _search(pl_module)
        if search is not None:
            search.trees = self._own


def _search(pl_module: LightningModule) -> BestResponseSearch | None:
    algorithm = getattr(pl_module, "algorithm", None)
    return algorithm if isinstance(algorithm, BestResponseSearch) else None
