"""A run never writes over the files of another one, whatever logger it has, and a run that is refused leaves none."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from command_line import QUIET, SMOKE, TINY, newest, refused, run
from lightning.pytorch.cli import LightningArgumentParser

from omg_lightning.training.folders import RunFolder, SaveConfig

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
def test_a_logger_with_the_folder_of_another_run_is_refused_before_any_file_is_written(command, tmp_path, capsys):
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


# A run that is refused ----------------------------------------------------------------------------------------------


def begin(folder: RunFolder, *names: str) -> None:
    """Write what a run writes before its first batch, and files of these names."""
    for name in ("config.yaml", "hparams.yaml", "events.out.tfevents.1.host", *names):
        (folder.path / name).write_text("")


def refuse(folder: RunFolder, *callbacks: SaveConfig) -> None:
    with pytest.raises(ValueError, match="refused"), folder.removed_if_refused(callbacks):
        raise ValueError("refused")


def test_a_refused_run_leaves_no_folder_and_those_of_others_stay(tmp_path):
    root = tmp_path / "a" / "b"
    first = RunFolder.new(root)
    begin(first)
    refuse(first)
    assert list(tmp_path.iterdir()) == []
    kept = RunFolder.new(root)
    begin(kept)
    second = RunFolder.new(root)
    begin(second)
    refuse(second)
    assert [path.name for path in (root / "lightning_logs").iterdir()] == ["version_0"]
    assert len(list(kept.path.iterdir())) == 3


def test_an_empty_folder_of_the_users_stays(tmp_path):
    refuse(RunFolder.new(tmp_path))
    assert tmp_path.is_dir()
    mine = tmp_path / "mine"
    mine.mkdir()
    refuse(RunFolder(mine))
    assert mine.is_dir()


def test_a_folder_with_results_or_of_a_started_run_is_kept(tmp_path):
    folder = RunFolder.new(tmp_path)
    begin(folder, "last.ckpt")
    refuse(folder)
    assert len(list(folder.path.iterdir())) == 4
    folder, callback = RunFolder.new(tmp_path), saver()
    begin(folder)
    callback.on_train_batch_end(None, None, None, None, 0)
    refuse(folder, callback)
    assert len(list(folder.path.iterdir())) == 3


def saver(*args: str) -> SaveConfig:
    parser = LightningArgumentParser()
    parser.add_argument("--other_rules", type=bool, default=False)
    parser.add_argument("--ckpt_path", default=None)
    parser.add_argument("--rounds", type=int, default=1)
    return SaveConfig(parser, parser.parse_args(list(args)))


def test_the_configuration_of_a_run_omits_settings_for_one_run(tmp_path):
    callback = saver("--other_rules=true", "--ckpt_path=a.ckpt", "--rounds=3")
    callback.setup(SimpleNamespace(log_dir=str(tmp_path), is_global_zero=True), None, "fit")
    text = (tmp_path / "config.yaml").read_text()
    assert yaml.safe_load(text) == {"other_rules": False, "ckpt_path": None, "rounds": 3}
    assert "# ckpt_path: a.ckpt (for this run alone; a later one needs --ckpt_path again)" in text.splitlines()
    assert callback.config.other_rules, "the run itself has it"
