"""`last.ckpt` has the weights that `metrics.json` measures, whatever ends a run, and a run goes on from there."""

from pathlib import Path

import pytest
import torch
from command_line import FEW, TINY, numbers, run
from lightning import Callback, Trainer

from callbacks.run_checkpoint import BATCHES, EPOCHS, EVALUATION, check_counters
from omg_lightning.types import ConfigError

PLAY = [*TINY, "--data.training.steps_per_epoch=4", "--data.offline.rounds=1"]
LONG = "--trainer.max_epochs=30"


class StopAt(Callback):
    """Ends training as early stopping does, in an epoch."""

    def __init__(self, epoch: int = 2) -> None:
        self.epoch = epoch

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.should_stop = trainer.current_epoch == self.epoch


class StopInRound(Callback):
    """Ends training within a round, as the timer of `max_time` does."""

    def on_train_batch_end(self, trainer, pl_module, *rest):
        trainer.should_stop = trainer.global_step == 6


def checkpoint(folder: Path) -> dict:
    return torch.load(folder / "last.ckpt", weights_only=True)


def with_callback(kind: type) -> str:
    return FEW.replace("[", f"[{__name__}.{kind.__name__},")


ENDS = {
    "max_steps within a round": (["--trainer.max_steps=6"], 6),
    "max_steps at the end of a round": (["--trainer.max_steps=8"], 8),
    "max_steps in the first round": (["--trainer.max_steps=3"], 3),
    "max_epochs": (["--trainer.max_epochs=3"], 12),
    "early stopping": ([with_callback(StopAt)], 12),
    "a stop within a round": ([with_callback(StopInRound)], 6),
    "max_time": (["--trainer.max_time=00:00:00:01"], None),
}


QUICK = ("max_steps within a round", "max_epochs")


@pytest.mark.parametrize("end", [pytest.param(end, marks=[] if end in QUICK else pytest.mark.slow) for end in ENDS])
def test_last_checkpoint_has_the_weights_that_are_measured_however_a_run_ends(end, tmp_path):
    args, steps = ENDS[end]
    folder = run("fit", tmp_path, *PLAY, LONG, *args)
    found = checkpoint(folder)
    assert steps is None or found["global_step"] == steps
    assert found["EpisodeDataModule"]["env_steps"] == numbers(folder)["buffer/env_steps"]
    again = run("validate", tmp_path, *PLAY, "--ckpt_path", str(folder / "last.ckpt"))
    measured = [name for name in numbers(folder) if name.startswith(("return/", "goal/action"))]
    assert measured
    for name in measured:
        if not name.startswith(("return/train", "return/offline")):
            assert numbers(again)[name] == numbers(folder)[name], name


@pytest.mark.parametrize(
    "stop",
    [
        "--trainer.max_steps=6",
        *(pytest.param(stop, marks=pytest.mark.slow) for stop in ("--trainer.max_steps=8", with_callback(StopInRound))),
    ],
)
def test_a_run_cut_off_by_max_steps_or_max_time_resumes_bit_by_bit(stop, tmp_path):
    length = ["--trainer.max_steps=18"] if "max_steps" in stop else ["--trainer.max_epochs=5"]
    whole = checkpoint(run("fit", tmp_path / "whole", *PLAY, LONG, *length))
    part = run("fit", tmp_path / "part", *PLAY, LONG, *length, stop)
    on = ["--ckpt_path", str(part / "last.ckpt")]
    rest = checkpoint(run("fit", tmp_path / "rest", *PLAY, LONG, *length, *on))
    for name, weight in whole["state_dict"].items():
        assert torch.equal(weight, rest["state_dict"][name]), name
    for key in ("env_steps", "rounds"):
        assert whole["EpisodeDataModule"][key] == rest["EpisodeDataModule"][key]
    assert whole["global_step"] == rest["global_step"]


def renamed(state: dict, name: str) -> dict:
    return {f"{key}s" if key == name else key: value for key, value in state.items()}


def test_a_release_of_lightning_with_other_counters_is_refused_in_one_line():
    loop = Trainer(logger=False, enable_checkpointing=False).fit_loop.state_dict()
    check_counters(loop)
    for name in (EPOCHS, BATCHES, EVALUATION):
        for other in (
            renamed(loop, name),
            {**loop, name: renamed(loop[name], "current")},
            {**loop, name: {**loop[name], "total": renamed(loop[name]["total"], "ready")}},
        ):
            with pytest.raises(ConfigError, match=r"counts epochs and batches differently from 2\.6.*pip install"):
                check_counters(other)


class Dies(Callback):
    """Ends the process without a word at the start of an epoch, as a kill does."""

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 5:
            raise KeyError("gone")


def test_a_killed_run_leaves_a_checkpoint_of_the_last_rounds(tmp_path):
    callbacks = f"[{__name__}.Dies,{{class_path: callbacks.RunCheckpoint, init_args: {{last_every: 2}}}}]"
    with pytest.raises(SystemExit):
        run("fit", tmp_path, *PLAY, "--trainer.max_epochs=9", f"--trainer.callbacks={callbacks}")
    assert checkpoint(tmp_path / "lightning_logs/version_0")["global_step"] == 16  # four of the five rounds
