"""Runs the command line in this process, small and on the smoke configuration, for the tests of it and of commands."""

import json
import signal
import sys
from pathlib import Path

import pytest

from omg_lightning import interrupts
from omg_lightning.cli import main
from omg_lightning.interrupts import Interrupted

ROOT = Path(__file__).parents[1]
SMOKE = ["--config", str(ROOT / "configs/smoke.yaml")]
DATA = ["--data.num_envs=4", "--data.training.batch_size=4", "--data.training.steps_per_epoch=1"]
DATA += ["--data.evaluation.val_episodes=4", "--data.evaluation.episodes=4", "--model.networks.hidden=16"]
DATA += ["--data.game.max_steps=10"]
FEW = "--trainer.callbacks=[callbacks.GoalQuality,callbacks.RunCheckpoint,callbacks.Report]"
TINY = [*DATA, "--model.algorithm.simulations=2", "--model.algorithm.trees=1", FEW]
QUIET = ["--trainer.enable_progress_bar=false"]
PPO = ["--model.algorithm=PPO", "--model.algorithm.epochs=2", "--model.algorithm.minibatches=2"]
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


PLACES = {  # the function that asks, and which of its questions is answered with a signal
    "the first rollout": ("step", lambda asked: not asked.f_locals["self"].greedy, 3),
    "a rollout": ("step", lambda asked: not asked.f_locals["self"].greedy, 25),
    "a search": ("_simulate", None, 33),
    "the first batch of a round": ("draw", None, 9),
    "a batch": ("draw", None, 11),
    "processes that play": ("deferred", None, 5),
    "an evaluation": ("step", lambda asked: asked.f_locals["self"].greedy, 4),
}


def interrupted(place: str, folder: Path, args: list[str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run that a SIGTERM ends at some place."""
    name, is_meant, number = PLACES[place]
    asked = []

    def check() -> None:
        frame = sys._getframe(1)
        if frame.f_code.co_name == name and (is_meant is None or is_meant(frame)):
            asked.append(name)
            if len(asked) == number:
                raise Interrupted(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(interrupts, "check", check)
        with pytest.raises(SystemExit) as stop:
            main(["fit", *SMOKE, "--trainer.default_root_dir", str(folder), *QUIET, *args])
    assert stop.value.code == 143
    return newest(folder)
