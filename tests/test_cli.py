"""The command line as a user types it: each shipped config, every subcommand, resume, and one line for each mistake."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from omg_lightning.cli import main

ROOT = Path(__file__).parents[1]
SMOKE = ["--config", str(ROOT / "configs/smoke.yaml")]
TINY = ["--data.num_envs=4", "--data.batch_size=4", "--data.steps_per_epoch=1", "--data.val_episodes=4"]
TINY += ["--data.eval_episodes=4", "--model.hidden=16", "--model.simulations=2", "--model.trees=1"]


def run(command: str, folder: Path, *args: str) -> Path:
    """Runs a command in this process; returns its run folder."""
    main([command, *SMOKE, "--trainer.default_root_dir", str(folder), "--trainer.enable_progress_bar=false", *args])
    runs = folder / "lightning_logs"
    return max(runs.iterdir(), key=lambda path: int(path.name.removeprefix("version_")))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return run("fit", tmp_path_factory.mktemp("trained"))


def numbers(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def test_fit_leaves_everything_in_one_folder(trained):
    names = {path.name for path in trained.iterdir()}
    assert {"last.ckpt", "best.ckpt", "config.yaml", "metrics.json"} <= names
    assert any(name.startswith("events.out") for name in names)
    found = numbers(trained)
    assert found["return/episodes"] == 16
    assert found["return/team_mean"] == pytest.approx(found["return/seat_0_mean"] + found["return/seat_1_mean"])
    assert found["return/team_low"] <= found["return/team_mean"] <= found["return/team_high"]
    assert found["buffer/env_steps"] > 4 * 8  # rounds times environments: every episode has at least a step


def test_fit_saves_the_configuration_that_reproduces_it(trained, tmp_path):
    main(["fit", "--config", str(trained / "config.yaml"), "--trainer.default_root_dir", str(tmp_path)])
    again = numbers(tmp_path / "lightning_logs" / "version_0")
    for name, value in numbers(trained).items():
        if not name.startswith("time/"):
            assert again[name] == value, name


def test_validate_of_the_last_checkpoint_repeats_the_end_of_fit(trained, tmp_path):
    folder = run("validate", tmp_path, "--ckpt_path", str(trained / "last.ckpt"))
    for name, value in numbers(trained).items():
        if name.startswith(("return/", "goal/action")):
            assert numbers(folder)[name] == value, name


def test_predict_writes_a_replay_for_each_episode(trained, tmp_path):
    folder = run("predict", tmp_path, "--ckpt_path", str(trained / "last.ckpt"))
    assert len(list(folder.rglob("*.gif"))) == 2


def test_a_run_never_writes_over_another(trained, tmp_path):
    args = ["--ckpt_path", str(trained / "last.ckpt")]
    first, second = run("validate", tmp_path, *args), run("validate", tmp_path, *args)
    assert first != second
    assert (first / "metrics.json").exists()


def test_resume_continues_bit_exactly(tmp_path):
    whole = run("fit", tmp_path / "whole", *TINY, "--trainer.max_epochs=5")
    part = run("fit", tmp_path / "part", *TINY, "--trainer.max_epochs=3")
    resumed = run("fit", tmp_path / "rest", *TINY, "--trainer.max_epochs=5", "--ckpt_path", str(part / "last.ckpt"))
    expected, got = (torch.load(folder / "last.ckpt", weights_only=True) for folder in (whole, resumed))
    for name, weight in expected["state_dict"].items():
        assert torch.equal(weight, got["state_dict"][name]), name
    assert expected["EpisodeDataModule"]["env_steps"] == got["EpisodeDataModule"]["env_steps"]
    assert numbers(whole)["return/team_mean"] == numbers(resumed)["return/team_mean"]


@pytest.mark.parametrize("goals", ["none", "declared", "oracle"])
def test_every_goal_source_runs(goals, tmp_path):
    assert numbers(run("fit", tmp_path, *TINY, "--model.goals", goals))["return/episodes"] == 4


def test_several_learners_and_a_checkpoint_share_a_game(tmp_path):
    game = ["--data.game.preset=4h1s_4x4", "--data.capacity=8"]
    first = run("fit", tmp_path, *TINY, *game, "--data.seats=[learner,learner,nearest_hare,random]")
    seats = f"--data.seats=[learner,'checkpoint:{first / 'last.ckpt'}',learner,nearest_stag]"
    assert numbers(run("fit", tmp_path, *TINY, *game, seats, "--data.offline_rounds=0"))["return/episodes"] == 4


class Idler:
    """A player of a user's own: it stays where it is."""

    def reset(self, batch_size, seat, game, generator):
        self.noop = game.noop

    def act(self, observation, legal):
        return torch.full((len(legal),), self.noop)


def test_a_player_of_ones_own_by_its_dotted_path(tmp_path):
    found = numbers(run("fit", tmp_path, *TINY, f"--data.seats=[learner,{__name__}.Idler]"))
    assert found["return/seat_1_mean"] == 0


@pytest.mark.parametrize("config", sorted(path.name for path in (ROOT / "configs").glob("*.yaml")))
def test_every_shipped_config_runs(config, tmp_path):
    path = ROOT / "configs" / config
    stack = ["--config", str(path)]
    if "seed_everything" not in yaml.safe_load(path.read_text()):  # not complete: to be stacked on base.yaml
        stack = ["--config", str(ROOT / "configs/base.yaml"), *stack]
    main(["fit", *stack, *TINY, "--trainer.fast_dev_run=true", "--trainer.default_root_dir", str(tmp_path)])
    assert not (tmp_path / "lightning_logs").exists()  # fast_dev_run leaves nothing behind


MISTAKES = {
    "key": (["--model.goalz=declared"], "goalz"),
    "abbreviation": (["--trainer.max_epoch=3"], "max_epoch"),
    "choice": (["--model.goals=bogus"], "bogus"),
    "type": (["--model.goal_dim=abc"], "abc"),
    "range": (["--model.goal_dim=0"], "goal_dim is 0"),
    "no training": (["--trainer.max_epochs=0"], "max_epochs is 0"),
    "no batches": (["--data.steps_per_epoch=0"], "steps_per_epoch is 0"),
    "player": (["--data.seats=[learner,bogus]"], "bogus"),
    "number of seats": (["--data.seats=[learner]"], "2 seats"),
    "preset": (["--data.game.preset=9x9"], "9x9"),
    "game": (["--data.game.name=chess"], "chess"),
    "game option": (["--data.game.options.width=0"], "width"),
    "unknown game option": (["--data.game.options.widht=4"], "widht"),
    "partner": (["--data.partners=[bogus]"], "bogus"),
    "config file": (["--config=nowhere.yaml"], "nowhere.yaml"),
    "checkpoint file": (["--ckpt_path=nowhere.ckpt"], "nowhere.ckpt"),
    "checkpoint seat": (["--data.seats=[learner,'checkpoint:nowhere.ckpt']"], "nowhere.ckpt"),
    "workers": (["--data.workers=0"], "data.workers is 0"),
    "capacity": (["--data.capacity=2"], "capacity is 2"),
    "weights": (["--model.losses.vae=-1"], "losses"),
    "adaptation": (["--data.adaptation.steps=0"], "data.adaptation.steps is 0"),
    "references": (["--data.references=nowhere.json"], "nowhere.json"),
    "horizon": (["--model.selector.horizon=0"], "horizon"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_clear_line_and_leaves_nothing(mistake, tmp_path, capsys):
    args, word = MISTAKES[mistake]
    with pytest.raises(SystemExit) as stop:
        main(["fit", *SMOKE, "--trainer.default_root_dir", str(tmp_path), *args])
    assert stop.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert word in lines[0]
    assert not list(tmp_path.rglob("*.ckpt"))
    assert not (tmp_path / "lightning_logs").exists()


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["--model.goal_dim=8"], "goal_dim 4, but this run has 8"),
        (["--model.goals=declared"], "goals subgoal, but this run has declared"),
        (["--data.game.preset=4h1s_4x4", "--data.seats=[learner,random,random,random]"], "observation_shape"),
    ],
)
def test_a_checkpoint_of_another_game_or_size_is_refused(trained, tmp_path, capsys, args, word):
    with pytest.raises(SystemExit) as stop:
        run("validate", tmp_path, "--ckpt_path", str(trained / "last.ckpt"), *args)
    assert stop.value.code == 2
    assert word in capsys.readouterr().err


def test_a_damaged_checkpoint_is_refused(trained, tmp_path, capsys):
    whole = (trained / "last.ckpt").read_bytes()
    (tmp_path / "half.ckpt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SystemExit):
        run("validate", tmp_path, "--ckpt_path", str(tmp_path / "half.ckpt"))
    assert "damaged" in capsys.readouterr().err


def test_the_module_is_the_command_line():
    done = subprocess.run([sys.executable, "-m", "omg_lightning", "fit"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert "configs/base.yaml" in done.stderr, "what to do instead of training for ever"
    assert "Traceback" not in done.stderr


def test_schedules_have_keys_of_their_own_and_a_listed_callback_stands_for_them(tmp_path):
    flags = ["--refresh.max_age=1", "--tree_count.schedule={0: 1}", "--seat_schedule.schedule={0: [[learner, random]]}"]
    listed = ["--trainer.callbacks+=callbacks.BufferRefresh", "--trainer.callbacks.max_age=2"]
    for extra, held in ((flags, 4), ([*flags, *listed], 8)):
        folder = run("fit", tmp_path, *TINY, "--model.trees=3", *extra)
        assert numbers(folder)["buffer/episodes"] == held  # 4 environments: once a round, whoever asks for it
        assert numbers(folder)["search/trees"] == 1
