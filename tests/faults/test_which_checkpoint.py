"""Which checkpoint a command takes: never none in silence, never one of other rules, never one that is finished."""

import shutil
from pathlib import Path

import pytest
import torch
from command_line import SMOKE, TINY, newest, numbers, refused, run

from omg_lightning.envs.base import as_env, describe
from omg_lightning.games.grid.stag_hunt import StagHunt
from omg_lightning.spec import GameSpec
from omg_lightning.training.checks import check_match
from omg_lightning.training.folders import CONFIG
from omg_lightning.types import ConfigError

TWO = ["--trainer.max_epochs=2", "--data.offline.rounds=1"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The root folder of a run."""
    folder = tmp_path_factory.mktemp("trained")
    run("fit", folder, *TINY, *TWO)
    return folder


def typed(command: str, root: Path, *args: str) -> list[str]:
    return [command, *SMOKE, *TINY, *TWO, "--trainer.default_root_dir", str(root), *args]


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_without_a_checkpoint_nothing_is_measured_and_the_newest_run_is_named(command, trained, tmp_path, capsys):
    line = refused(typed(command, trained), capsys)
    assert f"{command} got no checkpoint" in line
    assert str(trained / "lightning_logs/version_0/last.ckpt") in line
    assert f"no run in {tmp_path} has one" in refused(typed(command, tmp_path), capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
@pytest.mark.parametrize("which", ["last", "best"])
def test_a_ckpt_path_without_a_checkpoint_is_refused(command, which, tmp_path, capsys):
    assert f"has a {which}.ckpt" in refused(typed(command, tmp_path, f"--ckpt_path={which}"), capsys)
    assert not list(tmp_path.iterdir())


def test_last_is_that_of_the_newest_run_that_has_one(trained, tmp_path, capsys):
    runs = tmp_path / "lightning_logs"
    for version in (2, 10):
        shutil.copytree(trained / "lightning_logs/version_0", runs / f"version_{version}")
    (runs / "version_11").mkdir()  # of an evaluation: it has no checkpoint
    folder = run("validate", tmp_path, *TINY, *TWO, "--ckpt_path=last")
    assert f"--ckpt_path last is {runs / 'version_10/last.ckpt'}" in capsys.readouterr().err
    assert folder == runs / "version_12"
    first = trained / "lightning_logs/version_0"
    assert numbers(folder)["return/team_mean"] == numbers(first)["return/team_mean"]


def test_fit_resumes_from_the_last_checkpoint(trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    folder = run("fit", tmp_path, *TINY, *TWO, "--ckpt_path=last", "--trainer.max_epochs=3")
    assert torch.load(folder / "last.ckpt", weights_only=True)["EpisodeDataModule"]["rounds"] == 3
    # Its configuration does not stand for the checkpoint from which it went on.
    line = refused(["validate", "--config", str(folder / CONFIG)], capsys)
    assert f"give --ckpt_path, such as {folder / 'last.ckpt'}, the newest" in line


@pytest.mark.parametrize("limit", ["--trainer.max_epochs=2", "--trainer.max_epochs=1", "--trainer.max_steps=2"])
def test_a_resume_with_nothing_left_to_train_is_refused(limit, trained, capsys):
    offline = "--data.offline.rounds=0"
    assert "no training is left" in refused(typed("fit", trained, "--ckpt_path=last", limit, offline), capsys)
    assert newest(trained).name == "version_0"


def test_weights_alone_cannot_be_trained_further(trained, tmp_path, capsys):
    whole = torch.load(trained / "lightning_logs/version_0/last.ckpt", weights_only=True)
    torch.save({name: whole[name] for name in ("state_dict", "hyper_parameters")}, tmp_path / "w.ckpt")
    line = refused(typed("fit", trained, f"--ckpt_path={tmp_path / 'w.ckpt'}"), capsys)
    assert "has only weights, so `fit` cannot resume from it" in line


def test_other_rules_are_refused_by_name_unless_the_user_allows_them(trained, tmp_path, capsys):
    last = f"--ckpt_path={trained / 'lightning_logs/version_0/last.ckpt'}"
    other = [last, "--data.game.stag_reward=3", "--data.game.hare_reward=2"]
    line = refused(typed("validate", tmp_path, *other), capsys)
    assert "trained with stag_reward 10.0, hare_reward 1.0, but this run has stag_reward 3.0, hare_reward 2.0" in line
    assert "--other_rules true" in line
    with pytest.warns(UserWarning, match="stag_reward 3"):
        folder = run("validate", tmp_path, *TINY, *TWO, *other, "--other_rules=true")
    assert numbers(folder)["return/episodes"] == 4
    assert "this run has stag_reward 3" in refused(["validate", "--config", str(folder / CONFIG), last], capsys)


def test_other_rules_are_refused_for_a_checkpoint_in_a_seat(trained, tmp_path, capsys):
    seat = f"checkpoint:{trained / 'lightning_logs/version_0/last.ckpt'}"
    other = [f"--data.seats=[learner,'{seat}']", "--data.game.stag_reward=3", "--data.offline.rounds=0"]
    assert "stag_reward 10.0, but this run has stag_reward 3.0" in refused(typed("fit", tmp_path, *other), capsys)
    folder = run("fit", tmp_path, *TINY, *TWO, *other, "--other_rules=true")
    assert numbers(folder)["return/episodes"] == 4


def test_a_game_is_the_same_whether_a_preset_or_its_options_describe_it():
    by_preset, by_options, other = (
        {"spec": GameSpec.of(as_env(game)).plain()}
        for game in (
            StagHunt("2h1s_4x4"),
            StagHunt(num_players=2, num_stags=1, num_hares=2, height=4, width=4),
            StagHunt("2h1s_4x4", steps_after_first_hunt=5),
        )
    )
    check_match(by_preset, by_options)
    with pytest.raises(ConfigError, match="trained with steps_after_first_hunt 5, but this run has"):
        check_match(other, by_preset)


class Maker:
    """An option that is an object: it prints its address."""


class Made:
    name, game = "made", None

    def __init__(self, maker: Maker) -> None:
        self.maker = maker


def test_a_game_with_an_object_for_an_option_is_the_same_in_the_next_process():
    one, other = Maker(), Maker()
    assert str(one) != str(other)
    assert describe(Made(one)) == describe(Made(other)) != describe(Made("another"))


def test_other_rules_do_not_allow_other_sizes(trained, tmp_path, capsys):
    last = f"--ckpt_path={trained / 'lightning_logs/version_0/last.ckpt'}"
    line = refused(typed("validate", tmp_path, last, "--data.game.height=5", "--other_rules=true"), capsys)
    assert "height 4" in line
    assert "or train a new agent" in line


BROKEN = {
    "text": b"hello\n",
    "Latin-1": "gr\u00fc\u00dfe".encode("latin1"),
    "empty": b"",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_is_not_a_checkpoint_is_refused(name, tmp_path, capsys):
    (tmp_path / "h.ckpt").write_bytes(BROKEN[name])
    line = refused(typed("validate", tmp_path / "runs", f"--ckpt_path={tmp_path / 'h.ckpt'}"), capsys)
    assert "is not a checkpoint" in line


@pytest.mark.parametrize(
    "content",
    [
        [1],
        {"hyper_parameters": None},
        {"hyper_parameters": 3},
        {"hyper_parameters": {"game": None}},
        {"hyper_parameters": {"spec": None}},
        {"hyper_parameters": {"spec": {"name": "StagHunt"}}},
    ],
)
def test_a_checkpoint_of_something_else_is_refused(content, tmp_path, capsys):
    torch.save(content, tmp_path / "h.ckpt")
    line = refused(typed("validate", tmp_path / "runs", f"--ckpt_path={tmp_path / 'h.ckpt'}"), capsys)
    assert "not of an agent" in line
