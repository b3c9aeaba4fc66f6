"""Drop old episodes from the buffer."""

import time

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from omg_lightning import ranks
from omg_lightning.metrics import ReturnMetrics
from omg_lightning.types import ConfigError


class BufferRefresh(Callback):
    """Plays new episodes into the buffer and drops old ones, at the start of every `interval`-th epoch.

    On the command line: `--refresh.max_age` and `--refresh.interval`. Both are always 1 for an on-policy algorithm
    (PPO). Logs `buffer/*` (stored and dropped episodes, age of the oldest), `return/*` of the new episodes, `search/*`
    and `time/*`, against environment steps.

    Args:
        max_age: rounds after which an episode is dropped; None keeps episodes until the buffer is full.
        interval: epochs between refreshes.
    """

    def __init__(self, max_age: int | None = 8, interval: int = 1) -> None:
        if interval < 1 or (max_age is not None and max_age < 1):
            raise ConfigError(f"BufferRefresh(max_age={max_age}, interval={interval}): both must be at least 1")
        self.max_age, self.interval, self._said = max_age, interval, False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refresh the buffer, and log the added and dropped episodes."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        every, max_age = self.interval, self.max_age
        if data.on_policy is not None:  # on-policy algorithms need data of the current policy
            if not self._said and (every != 1 or max_age != 1):
                rank_zero_info(
                    "BufferRefresh: this algorithm trains on the newest round only, so interval and max_age are 1"
                )
            self._said, every, max_age = True, 1, 1
        if trainer.current_epoch % every and len(data.buffer):
            return
        offline, start = data.offline, time.perf_counter()
        played, dropped = data.refresh(max_age)
        seconds = time.perf_counter() - start
        metrics = ReturnMetrics(pl_module.algorithm.discount)  # type: ignore[union-attr, arg-type]
        metrics.update(played.episodes)
        phase = "offline" if offline else "train"
        returns = {
            name.replace("return/", f"return/{phase}_"): float(value) for name, value in metrics.compute().items()
        }
        held, dropped = (sum(counts) for counts in zip(*ranks.gather((len(data.buffer), dropped)), strict=True))
        numbers = {
            **returns,
            **ranks.mean(played.notes),
            "buffer/episodes": float(held),
            "buffer/dropped": float(dropped),
            "buffer/oldest_age": float(data.rounds - 1 - data.buffer.oldest()),
            "buffer/env_steps": float(data.env_steps),
            "buffer/offline": float(offline),
            "time/rollout_s": seconds,
            "time/env_steps_per_s": played.env_steps / seconds,
        }
        pl_module.log_dict(numbers, on_step=False, on_epoch=True, batch_size=1)
