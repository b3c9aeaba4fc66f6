"""Every argument of Lightning's trainer, with values of all kinds: it works, or is refused in one line."""

from inspect import signature

import pytest
from command_line import QUIET, SMOKE, TINY, newest, numbers, refused, run
from lightning import Trainer

from omg_lightning.cli import main

ROUND = ["--data.offline.rounds=0", "--trainer.max_epochs=1"]
REFUSES = "Lightning's Trainer rejects its settings: "
BOOL = {"abc": "expected bool", "7": "expected bool"}
WORKS = ""
TABLE = {  # argument: what is typed, and words of the line, or WORKS
    "accelerator": {"abc": "Available names are", "7": REFUSES},
    "strategy": {"abc": "invalid strategy name", "-1": REFUSES},
    "devices": {"abc": REFUSES, "0": "expected at least 1", "-1": REFUSES, "0.5": REFUSES},
    "num_nodes": {"abc": "expected at least 1", "0": "expected at least 1", "0.5": "expected at least 1"},
    "precision": {"abc": "expected 32-true or bf16-mixed", "16-true": "expected 32-true"},
    "logger": {"abc": "is abc: expected", "[1]": "is [1]: expected"},
    "callbacks": {"abc": "is abc: expected", "[1]": "is [1]: expected"},
    "fast_dev_run": {"abc": "expected int or bool", "-1": REFUSES, "0.5": "expected int or bool"},
    "max_epochs": {"abc": "expected at least 1", "-1": "is -1: give a number of rounds", "1e30": "is 1e30: expected"},
    "min_epochs": {"abc": "expected at least 0", "-1": "expected at least 0", "7": WORKS},
    "max_steps": {"abc": "expected at least 1", "0": "expected at least 1", "0.5": "is 0.5: expected"},
    "min_steps": {"abc": "expected at least 0", "-1": "expected at least 0"},
    "max_time": {"abc": "expected DD:HH:MM:SS"},
    "limit_train_batches": {"-1": "expected above 0", "0.5": "0.5 * 1 < 1", "7": WORKS},
    "limit_val_batches": {"-1": REFUSES, "nan": "expected a finite number", "0.5": "less than one", "7": WORKS},
    "limit_test_batches": {"-1": REFUSES, "nan": "expected a finite number", "0.5": WORKS},
    "limit_predict_batches": {"-1": REFUSES, "nan": "expected a finite number", "0.5": WORKS},
    "overfit_batches": {"-1": REFUSES, "0.5": REFUSES, "7": WORKS},
    "val_check_interval": {"-1": "expected above 0", "7": "must be less than or equal to", "0.5": WORKS},
    "check_val_every_n_epoch": {"abc": "expected at least 1", "0": "expected at least 1"},
    "num_sanity_val_steps": {"abc": "expected at least 0", "-2": "expected at least 0"},
    "log_every_n_steps": {"abc": "expected at least 0", "-1": "expected at least 0"},
    "enable_checkpointing": BOOL,
    "enable_progress_bar": BOOL,
    "enable_model_summary": BOOL,
    "accumulate_grad_batches": {"abc": "expected at least 1", "0": "expected at least 1"},
    "gradient_clip_val": {"abc": "expected at least 0", "-1": "expected at least 0"},
    "gradient_clip_algorithm": {"abc": REFUSES},
    "deterministic": {"abc": "is abc: expected"},
    "benchmark": BOOL,
    "inference_mode": BOOL,
    "use_distributed_sampler": BOOL,
    "profiler": {"abc": REFUSES},
    "detect_anomaly": BOOL,
    "barebones": {"true": "a run needs its callbacks"},
    "plugins": {"-1": "trainer.plugins"},
    "sync_batchnorm": BOOL,
    "reload_dataloaders_every_n_epochs": {"abc": "expected int", "-1": REFUSES},
    "default_root_dir": {"/proc/none": "cannot write to"},
    "enable_autolog_hparams": BOOL,
    "model_registry": {},  # any text
}
CASES = [(name, value, words) for name, values in TABLE.items() for value, words in values.items()]


def test_the_table_has_every_argument_of_the_trainer():
    assert set(TABLE) == set(signature(Trainer.__init__).parameters) - {"self"}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "value", "words"), CASES)
def test_a_setting_of_the_trainer_works_or_is_refused_in_one_line_and_leaves_nothing(
    name, value, words, tmp_path, capsys
):
    args = ["fit", *SMOKE, *TINY, *ROUND, *QUIET, "--trainer.default_root_dir", str(tmp_path / "runs")]
    args.append(f"--trainer.{name}={value}")
    if words != WORKS:
        assert words in refused(args, capsys)
        assert not (tmp_path / "runs").exists()
        return
    main(args)
    assert "return/episodes" in numbers(newest(tmp_path / "runs"))


@pytest.mark.slow
def test_a_setting_that_only_predict_refuses_leaves_no_folder(tmp_path, capsys):
    last = run("fit", tmp_path / "trained", *TINY, *ROUND) / "last.ckpt"
    args = ["predict", *SMOKE, *TINY, *QUIET, "--trainer.limit_predict_batches=0.5", f"--ckpt_path={last}"]
    assert REFUSES in refused([*args, "--trainer.default_root_dir", str(tmp_path / "runs")], capsys)
    assert not (tmp_path / "runs").exists()
