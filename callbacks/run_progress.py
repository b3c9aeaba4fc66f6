"""One progress bar for the whole run."""

import sys
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm


class RunProgress(ProgressBar):
    """Shows phase, environment steps, return and environment steps per second, over all epochs of the run.

    If the output is a file, it prints a line every half minute instead of a bar.
    """

    def __init__(self) -> None:
        super().__init__()
        self._bar: tqdm | None = None
        self._enabled = True

    def disable(self) -> None:
        """Turn the bar off; Lightning calls this on all processes but one."""
        self._enabled = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar."""
        self._open(trainer.max_epochs, trainer.current_epoch, "round")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open a bar over the segments of the adaptation protocol."""
        self._open(int(sum(trainer.num_test_batches)), 0, "segment")

    def on_test_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Advance the bar by one segment."""
        if self._bar is not None:
            self._bar.update()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        self.on_train_end(trainer, pl_module)

    def _open(self, total: int | None, initial: int, unit: str) -> None:
        watched = sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            initial=initial,
            unit=unit,
            disable=not self._enabled,
            dynamic_ncols=watched,
            mininterval=0.1 if watched else 30.0,
            ascii=not watched,
        )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Advance the bar by one round."""
        if self._bar is None:
            return
        numbers: dict[str, Any] = dict(trainer.callback_metrics)
        offline = bool(numbers.get("buffer/offline", 0))
        team = float(numbers.get(f"return/{'offline' if offline else 'train'}_team_mean", float("nan")))
        self._bar.set_description("offline" if offline else "online", refresh=False)
        self._bar.set_postfix_str(
            f"{int(numbers.get('buffer/env_steps', 0)):,} env steps, team return {team:.2f}, "
            f"{float(numbers.get('time/env_steps_per_s', 0)):,.0f} steps/s",
            refresh=False,
        )
        self._bar.update()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar before the error is printed."""
        self.on_train_end(trainer, pl_module)
