"""What a run computes depends on its configuration alone, not on the environment that it is started in."""

import os
import subprocess
import sys
from pathlib import Path

import command_line
import pytest
import torch
from command_line import QUIET, ROOT, SMOKE, TINY, newest, numbers

OTHER = {"OMP_NUM_THREADS": "4", "MKL_NUM_THREADS": "4", "PYTHONHASHSEED": "7"}
LEFT_OVER = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "4"}  # of another program
# Wide enough for sums to be shared out to threads.
WIDE = [*SMOKE, *TINY, *QUIET, "--model.networks.hidden=256", "--data.num_envs=32", "--data.training.batch_size=32"]


def run(folder: Path, env: dict[str, str], *args: str) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Weights and metrics of a whole run in this environment."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-m", "omg_lightning", "fit", *WIDE, "--trainer.default_root_dir", str(folder), *args],
        env={**kept, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    weights = torch.load(newest(folder) / "last.ckpt", weights_only=True)["state_dict"]
    return weights, {name: value for name, value in numbers(newest(folder)).items() if not name.startswith("time/")}


def differing(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> list[str]:
    """The names of weights that are not the same bit by bit."""
    return [name for name, weight in one.items() if not torch.equal(weight, two[name])]


@pytest.mark.slow
def test_threads_and_variables_of_the_environment_change_nothing(tmp_path):
    weights, metrics = run(tmp_path / "one", {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"})
    others, again = run(tmp_path / "other", OTHER | LEFT_OVER)
    assert not differing(weights, others)
    assert again == metrics


def test_threads_are_a_setting_of_the_run(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(torch, "set_num_threads", seen.append)
    command_line.run("fit", tmp_path, *TINY, "--trainer.max_epochs=1", "--data.offline.rounds=1", "--threads=3")
    assert seen == [1, 3]
    assert "threads: 3" in (newest(tmp_path) / "config.yaml").read_text().splitlines()
