"""Every argument of Lightning's trainer, with values of all kinds: it works, or is refused in one line."""

from inspect import signature

import pytest
from command_line import DATA, QUIET, SMOKE, newest, numbers, refused
from lightning import Trainer

from omg_lightning.cli import main

ROUND = ["--data.offline.rounds=0", "--trainer.max_epochs=1", "--model.algorithm=PPO", "--model.opponent=Direct"]
ROUND += ["--data.game.max_steps=3", "--trainer.callbacks=[callbacks.RunCheckpoint,callbacks.Report]"]
WORKS = ""
REFUSES = "the trainer refuses its settings: "
TABLE = {  # argument: what is typed, and words of the line, or WORKS
    "accelerator": {"abc": "Available names are", "gpu": REFUSES, "tpu": REFUSES, "7": REFUSES, "cpu": WORKS},
    "strategy": {"abc": "invalid strategy name", "-1": REFUSES, "fsdp": REFUSES, "auto": WORKS},
    "devices": {"abc": REFUSES, "0": "expected 1 to", "-1": REFUSES, "0.5": REFUSES, "1": WORKS},
    "num_nodes": {"abc": "expected at least 1", "0": "expected at least 1", "0.5": "expected at least 1", "1": WORKS},
    "precision": {"abc": "expected 32-true or bf16-mixed", "16-true": "expected 32-true", "bf16-mixed": WORKS},
    "logger": {"abc": "expected", "-1": "expected", "[1]": "is [1]: expected", "true": WORKS, "false": WORKS},
    "callbacks": {"abc": "expected", "7": "expected", "[1]": "is [1]: expected", "[callbacks.Reprt]": "Reprt"},
    "fast_dev_run": {"abc": "expected int or bool", "-1": REFUSES, "0.5": "expected int or bool"},
    "max_epochs": {"abc": "expected at least 1", "-1": "is -1: give a number of rounds", "1e30": "is 1e30: expected"},
    "min_epochs": {"abc": "expected at least 0", "-1": "expected at least 0", "1": WORKS},
    "max_steps": {"abc": "expected at least 1", "0": "expected at least 1", "0.5": "is 0.5: expected", "1": WORKS},
    "min_steps": {"abc": "expected at least 0", "-1": "expected at least 0", "1": WORKS},
    "max_time": {"abc": "expected DD:HH:MM:SS", "-1": "max_time is -1", "00:00:10:00": WORKS},
    "limit_train_batches": {"abc": "expected above 0", "-1": "expected above 0", "0.1": "0.1 * 8 < 1", "1": WORKS},
    "limit_val_batches": {
        "abc": "expected",
        "-1": REFUSES,
        ".nan": "limit_val_batches",
        "0.5": "less than one",
        "0": WORKS,
    },
    "limit_test_batches": {"abc": "expected", "-1": REFUSES, ".nan": REFUSES, "7": WORKS},
    "limit_predict_batches": {"abc": "expected", "-1": REFUSES, ".nan": REFUSES, "7": WORKS},
    "overfit_batches": {"abc": "expected", "-1": REFUSES, "0.1": REFUSES, "1": WORKS},
    "val_check_interval": {"-1": "expected above 0", "99": "must be less than or equal to", ".nan": "expected above 0"},
    "check_val_every_n_epoch": {"abc": "expected at least 1", "0": "expected at least 1", "1": WORKS},
    "num_sanity_val_steps": {"abc": "expected at least 0", "-2": "expected at least 0", "1": WORKS},
    "log_every_n_steps": {"abc": "expected at least 0", "-1": "expected at least 0", "0": WORKS},
    "enable_checkpointing": {"abc": "expected bool", "7": "expected bool", "false": WORKS},
    "enable_progress_bar": {"abc": "expected bool", "7": "expected bool", "true": WORKS},
    "enable_model_summary": {"abc": "expected bool", "7": "expected bool", "true": WORKS},
    "accumulate_grad_batches": {"abc": "expected at least 1", "0": "expected at least 1", "7": WORKS},
    "gradient_clip_val": {"abc": "expected at least 0", ".nan": "expected at least 0", "0.5": WORKS},
    "gradient_clip_algorithm": {"abc": REFUSES, "norm": WORKS},
    "deterministic": {"abc": "expected", "true": WORKS},
    "benchmark": {"abc": "expected bool", "true": WORKS},
    "inference_mode": {"abc": "expected bool", "false": WORKS},
    "use_distributed_sampler": {"abc": "expected bool", "false": WORKS},
    "profiler": {"abc": REFUSES, "simple": WORKS},
    "detect_anomaly": {"abc": "expected bool", "true": WORKS},
    "barebones": {"abc": "expected", "true": "a run needs its callbacks"},
    "plugins": {"abc": "plugins", "-1": "plugins"},
    "sync_batchnorm": {"abc": "expected bool", "true": WORKS},
    "reload_dataloaders_every_n_epochs": {"abc": "expected int", "-1": REFUSES, "1": WORKS},
    "default_root_dir": {"/proc/none": "cannot write to"},
    "enable_autolog_hparams": {"abc": "expected bool", "false": WORKS},
    "model_registry": {"7": WORKS},
}
CASES = [(name, value, words) for name, values in TABLE.items() for value, words in values.items()]


def test_the_table_has_every_argument_of_the_trainer():
    assert set(TABLE) == set(signature(Trainer.__init__).parameters) - {"self"}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "value", "words"), CASES)
def test_a_setting_of_the_trainer_works_or_is_refused_in_one_line_and_leaves_nothing(
    name, value, words, tmp_path, capsys
):
    args = ["fit", *SMOKE, *DATA, *ROUND, *QUIET, "--trainer.default_root_dir", str(tmp_path / "runs")]
    args.append(f"--trainer.{name}={value}")
    if words != WORKS:
        assert words in refused(args, capsys)
        assert not (tmp_path / "runs").exists()
        return
    main(args)
    assert "return/episodes" in numbers(newest(tmp_path / "runs"))
