"""Runs the command line in this process, small and on the smoke configuration, for the tests of it and of commands."""

import json
from pathlib import Path

import pytest

from omg_lightning.cli import main

ROOT = Path(__file__).parents[1]
SMOKE = ["--config", str(ROOT / "configs/smoke.yaml")]
DATA = ["--data.num_envs=4", "--data.training.batch_size=4", "--data.training.steps_per_epoch=1"]
DATA += ["--data.evaluation.val_episodes=4", "--data.evaluation.episodes=4", "--model.networks.hidden=16"]
DATA += ["--data.game.max_steps=10"]
FEW = "--trainer.callbacks=[callbacks.GoalQuality,callbacks.RunCheckpoint,callbacks.Report]"
TINY = [*DATA, "--model.algorithm.simulations=2", "--model.algorithm.trees=1", FEW]
QUIET = ["--trainer.enable_progress_bar=false"]
_TRAINED: list[Path] = []


def run(command: str, folder: Path, *args: str) -> Path:
    """The run folder of a command."""
    main([command, *SMOKE, "--trainer.default_root_dir", str(folder), *QUIET, *args])
    return newest(folder)


def newest(folder: Path) -> Path:
    """The newest run folder below `--trainer.default_root_dir`."""
    runs = folder / "lightning_logs"
    return max(runs.iterdir(), key=lambda path: int(path.name.removeprefix("version_")))


def trained_smoke(factory: pytest.TempPathFactory) -> Path:
    """The run folder of a whole `fit` of the smoke configuration: made once for all tests of this process."""
    if not _TRAINED:
        _TRAINED.append(run("fit", factory.mktemp("trained")))
    return _TRAINED[0]


def numbers(folder: Path) -> dict[str, float]:
    """What a run left in metrics.json."""
    return json.loads((folder / "metrics.json").read_text())


def refused(args: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line with which a command refuses."""
    with pytest.raises(SystemExit) as stop:
        main(args)
    assert stop.value.code == 2
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    (line,) = [line for line in printed.splitlines() if line.startswith("error: ")]
    return line
