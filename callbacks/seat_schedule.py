"""Change line-ups during training."""

from lightning import Callback, LightningModule, Trainer

from omg_lightning.types import ConfigError


class SeatSchedule(Callback):
    """Changes the line-ups at given environment steps, for example to more self-play late in training.

    On the command line: `--seat_schedule.schedule`. Must come before `BufferRefresh`. Evaluations use
    `data.evaluation.seats`, or the line-ups of the first round.

    Args:
        schedule: environment step -> line-ups from that step on, each with a name for every seat as in `data.seats`.
            Before the first entry, and with an empty schedule, `data.seats` applies.
    """

    def __init__(self, schedule: dict[int, list[list[str]]] = {}) -> None:  # noqa: B006  read, never written to
        if any(step < 0 for step in schedule) or not all(schedule.values()):
            raise ConfigError(f"SeatSchedule {schedule}: expected steps of at least 0, each with at least one line-up")
        self.schedule = dict(sorted(schedule.items()))

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check all line-ups before training."""
        for lineups in self.schedule.values():
            trainer.datamodule.check(lineups)  # type: ignore[attr-defined]
            if not any("learner" in lineup for lineup in lineups):
                raise ConfigError(f"SeatSchedule {lineups} have no learner, so no network would train: add one")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the line-ups of the next rollout."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        due = [lineups for step, lineups in self.schedule.items() if step <= data.env_steps]
        if due:
            data.seat(due[-1])
