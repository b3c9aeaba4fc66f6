"""Runs that would end normally with false results: no learner, no actor for a seat, or numbers that are not finite."""

import pytest
import torch
from command_line import SMOKE, TINY, newest, numbers, refused, run
from toys import attached, tiny_data

from omg_lightning.actors import arrange
from omg_lightning.rollout import play
from omg_lightning.training.checks import check_finite, weigh
from omg_lightning.types import ConfigError

TWO = ["--trainer.max_epochs=2", "--data.offline.rounds=1"]
PLAYERS = """
class Raises:
    def reset(self, batch_size, seat, game, generator):
        pass

    def act(self, observation, legal):
        raise RuntimeError("a mistake of\\nmine")


class Unready:
    def reset(self, batch_size, seat, game, generator):
        raise KeyError("mine")

    def act(self, observation, legal):
        pass
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Modules of the user's."""
    (tmp_path / "faulty_players.py").write_text(PLAYERS)
    (tmp_path / "ends_itself.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)


def typed(root, *args: str) -> list[str]:
    return ["fit", *SMOKE, *TINY, *TWO, "--trainer.default_root_dir", str(root), *args]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--data.seats=[random,random]"], "have no learner"),
        (["--data.offline.rounds=3"], "data.offline.rounds is 3, but --trainer.max_epochs is 2"),
        (["--seat_schedule.schedule={0: [[random, random]]}"], "have no learner"),
    ],
)
def test_a_fit_without_a_learner_is_refused(args, words, tmp_path, capsys):
    assert words in refused(typed(tmp_path, *args), capsys)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_fit_that_is_offline_throughout_needs_no_learner(tmp_path):
    only = ["--trainer.max_epochs=1", "--data.offline.rounds=1", "--data.seats=[random,random]"]
    assert (run("fit", tmp_path, *TINY, *only) / "last.ckpt").is_file()


def test_a_seat_that_a_schedule_fills_later_needs_no_learner_at_first(tmp_path):
    seats = ["--data.seats=[random,random]", "--seat_schedule.schedule={1: [[learner,random]]}"]
    assert (run("fit", tmp_path, *TINY, *TWO, *seats) / "last.ckpt").is_file()


@pytest.mark.parametrize(("workers", "player"), [(1, "Raises"), (1, "Unready"), (2, "Raises")])
def test_an_error_of_a_player_is_one_line_that_says_where(workers, player, module, tmp_path, capsys):
    args = [f"--data.seats=[learner,faulty_players.{player}]", f"--data.workers={workers}", "--data.offline.rounds=0"]
    line = refused(typed(tmp_path / "runs", *args), capsys)
    assert f"{player}." in line
    assert "mine" in line
    assert "faulty_players.py, line" in line


@pytest.mark.parametrize("key", ["data.seats", "data.game", "model.opponent"])
def test_a_module_that_ends_the_program_is_refused(key, module, tmp_path, capsys):
    value = "[learner,ends_itself.Player]" if key == "data.seats" else "ends_itself.Part"
    assert "ends_itself" in refused(typed(tmp_path / "runs", f"--{key}={value}"), capsys)


@pytest.mark.slow
def test_a_past_self_as_a_partner_plays_as_it_did(tmp_path, capsys):
    """`past` in `test` is the newest one in the checkpoint; where none was kept the line says so."""
    run("fit", tmp_path, *TINY, *TWO)
    root, without = ["--trainer.default_root_dir", str(tmp_path)], [*SMOKE, *TINY, *TWO, "--data.partners=[past]"]
    assert "the seat `past` has no past self" in refused(["test", *without, *root, "--ckpt_path=last"], capsys)
    assert "`past`" in refused(["test", *without, *root, "--ckpt_path=last"], capsys)
    fitted = run("fit", tmp_path, *TINY, *TWO, "--data.seats=[learner,past]", "--trainer.max_epochs=3")
    past = numbers(run("test", tmp_path, *TINY, "--data.partners=[past]", f"--ckpt_path={fitted / 'last.ckpt'}"))
    checkpoint = torch.load(fitted / "last.ckpt", weights_only=True)
    checkpoint["state_dict"] = checkpoint["EpisodeDataModule"]["past"][-1]
    torch.save(checkpoint, tmp_path / "past.ckpt")
    partner = f"--data.partners=['checkpoint:{tmp_path / 'past.ckpt'}']"
    same = numbers(run("test", tmp_path, *TINY, partner, f"--ckpt_path={fitted / 'last.ckpt'}"))
    (expected,) = (
        value for key, value in same.items() if key.startswith("adapt/checkpoint") and key.endswith("_return")
    )
    assert past["adapt/past_return"] == expected


def test_a_seat_without_an_actor_is_refused():
    data = attached(tiny_data())
    seating = arrange([["learner", "past"]], 2, data.env, torch.Generator().device)
    with pytest.raises(ConfigError, match="no actor plays the seat 'past'"):
        play(data.env, seating, data.population.learners(()), torch.Generator())


@pytest.mark.parametrize("typed", [["--partners", "[past]"], ["--data.partners=[past]"]])
def test_references_beside_a_past_self_are_refused(typed, capsys):
    assert "the partner past changes during training" in refused(["references", *SMOKE, *TINY, *typed], capsys)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ({"state_dict": {"opponent.codes": torch.tensor([1.0, float("nan")])}}, "state_dict.opponent.codes"),
        ({"optimizer_states": [{"state": {0: {"exp_avg": torch.tensor(float("inf"))}}}]}, "exp_avg"),
    ],
)
def test_buffers_and_states_of_optimisers_that_are_not_finite_are_not_saved(where, words):
    fine = {"state_dict": {"a": torch.zeros(2)}, "optimizer_states": [{"state": {0: {"step": torch.tensor(1)}}}]}
    check_finite(fine)
    with pytest.raises(ConfigError, match=words):
        check_finite({**fine, **where})


def test_losses_that_overflow_name_the_size_of_the_views_and_the_cure():
    weights, views = {"vae": 1.0}, torch.tensor([[3, -1_000_000]])
    with pytest.raises(ConfigError, match=r"not finite \(vae inf; views reach 1e\+06\): lower .*, or scale the game's"):
        weigh({"vae": torch.tensor(float("inf"))}, weights, views)
    with pytest.raises(ConfigError, match=r"not finite \(vae nan\): lower model.learning_rate"):
        weigh({"vae": torch.tensor(float("nan"))}, weights)


def test_a_run_without_checkpoints_leaves_none(tmp_path):
    folder = run("fit", tmp_path, *TINY, *TWO, "--trainer.enable_checkpointing=false")
    assert numbers(folder)["return/episodes"] == 4
    assert newest(tmp_path) == folder
    assert not list(folder.glob("*.ckpt"))
