"""A run never writes over the files of another one, whatever logger it has."""

from pathlib import Path

import pytest
from command_line import QUIET, SMOKE, TINY, newest, refused, run

SHORT = [*TINY, "--trainer.max_epochs=1", "--data.offline.rounds=1"]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_runs_without_a_logger_have_folders_of_their_own(tmp_path):
    first = run("fit", tmp_path, *SHORT, "--trainer.logger=false")
    before = contents(first)
    assert {"last.ckpt", "metrics.json", "config.yaml"} <= before.keys()
    second = run("fit", tmp_path, *SHORT, "--trainer.logger=false", "--seed_everything=1")
    third = run("validate", tmp_path, *SHORT, "--trainer.logger=false", "--ckpt_path", str(first / "last.ckpt"))
    assert len({first, second, third}) == 3
    assert contents(first) == before
    assert {path.name for path in tmp_path.iterdir()} == {"lightning_logs"}
    assert (third / "metrics.json").exists()


@pytest.mark.parametrize("command", ["fit", "validate"])
def test_a_logger_whose_folder_is_taken_is_refused_before_anything_is_written(command, tmp_path, capsys):
    logger = {
        "class_path": "lightning.pytorch.loggers.CSVLogger",
        "init_args": {"save_dir": str(tmp_path), "version": 7},
    }
    taken = ["--trainer.logger", str(logger)]
    run("fit", tmp_path, *SHORT, *taken)
    before = contents(tmp_path)
    assert "lightning_logs/version_7/last.ckpt" in before
    last = [] if command == "fit" else ["--ckpt_path", str(tmp_path / "lightning_logs/version_7/last.ckpt")]
    where = ["--trainer.default_root_dir", str(tmp_path)]
    line = refused([command, *SMOKE, *SHORT, *QUIET, *where, *last, *taken], capsys)
    assert "version_7 has the files of another run" in line
    assert contents(tmp_path) == before
    assert newest(tmp_path).name == "version_7"
