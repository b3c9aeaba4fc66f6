"""What a run computes depends on its configuration alone, not on the environment that it is started in."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command_line import QUIET, ROOT, SMOKE, newest, numbers

PLACES = {
    "one thread": {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"},
    "many threads": {"OMP_NUM_THREADS": "4", "MKL_NUM_THREADS": "4", "PYTHONHASHSEED": "7"},
    "left over from another program": {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "OMP_NUM_THREADS": "2"},
}


def run(folder: Path, env: dict[str, str], *args: str) -> Path:
    """The run folder of a whole run of the smoke configuration in this environment."""
    kept = {name: value for name, value in os.environ.items() if "NUM_THREADS" not in name}
    words = ["fit", *SMOKE, *QUIET, "--trainer.default_root_dir", str(folder), *args]
    done = subprocess.run(
        [sys.executable, "-m", "omg_lightning", *words],
        env={**kept, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return newest(folder)


@pytest.mark.slow
def test_threads_and_variables_of_the_environment_change_nothing(tmp_path):
    found = {}
    for name, env in PLACES.items():
        folder = run(tmp_path / name, env)
        weights = torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]
        found[name] = weights, {key: x for key, x in numbers(folder).items() if not key.startswith("time/")}
    (weights, metrics), *others = found.values()
    for other, again in others:
        assert all(torch.equal(weight, other[key]) for key, weight in weights.items())
        assert again == metrics
