"""A population of partners by one command, and seats that stand for all of its agents."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from command_line import FEW, QUIET, SMOKE, TINY, refused, run
from torch import nn
from toys import same, tiny_data

from omg_lightning.actors import arrange, as_lineups
from omg_lightning.cli import main
from omg_lightning.commands.population import Snapshots
from omg_lightning.envs import RulesEnv
from omg_lightning.games import StagHunt
from omg_lightning.training import read_agent
from omg_lightning.types import ConfigError

SMALL = [*SMOKE, *TINY, *QUIET, "--trainer.max_epochs=2", "--data.offline.rounds=0", "--trainer.callbacks=[]"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a population of one run."""
    root = tmp_path_factory.mktemp("population")
    main(["population", *SMALL, "--trainer.default_root_dir", str(root), "--seed", "3", "--runs", "1", "--out",
          str(root / "all")])  # fmt: skip
    return root / "all"


def weights(folder):
    return dict(read_agent(folder).weights)


def test_each_run_leaves_its_agent_at_the_start_half_way_and_at_the_end(made):
    assert sorted(path.name for path in made.iterdir()) == ["seed_3_end", "seed_3_half", "seed_3_start"]
    kept = {name: weights(made / f"seed_3_{name}") for name in ("start", "half", "end")}
    assert not same(kept["start"], kept["half"])
    assert not same(kept["half"], kept["end"])
    made_by = read_agent(made / "seed_3_half").made
    assert (made_by["share"], made_by["seed"], made_by["rounds"]) == (0.5, 3, 2)


@pytest.mark.slow
def test_the_agent_of_half_way_is_that_of_a_run_of_half_the_length(made, tmp_path):
    short = ["--trainer.max_epochs=1", "--data.offline.rounds=0", FEW, "--seed_everything=3"]
    folder = run("fit", tmp_path, *TINY, "--data.seats=[learner,learner]", *short)  # the first half of it, alone
    assert same(weights(made / "seed_3_half"), weights(folder))


def test_population_skips_finished_runs_and_refuses_runs_with_other_settings(made, capsys):
    words = ["population", *SMALL, "--seed", "3", "--runs", "1", "--out", str(made)]
    main(words)
    assert "seed 3: skipped, its agents exist in" in capsys.readouterr().out
    other = [*words, "--model.learning_rate=0.5"]
    assert "was made with other settings: choose another --out" in refused(other, capsys)
    (made / "seed_4_end").mkdir()
    assert "not all agents of this run" in refused([*words, "--seed", "4"], capsys)
    (made / "seed_4_end").rmdir()


@pytest.mark.slow
def test_a_training_beside_a_population_runs(made, tmp_path):
    seats = f'--data.seats=["learner", "checkpoint:{made}/*"]'
    folder = run(
        "fit", tmp_path, *TINY, seats, "--data.num_envs=6", "--trainer.max_epochs=1", "--data.offline.rounds=0"
    )
    assert json.loads((folder / "metrics.json").read_text())["return/episodes"] == 4


def test_a_learner_meets_all_agents_of_a_folder_in_equal_shares(made):
    env = RulesEnv(StagHunt("2h1s_4x4"))
    lineups = as_lineups(["learner", f"checkpoint:{made}/*"])
    seating = arrange(lineups, 6, env, torch.Generator().device)
    assert [Path(name).name for name in seating.names] == ["learner", "seed_3_end", "seed_3_half", "seed_3_start"]
    assert seating.who.tolist() == [[0, 1], [0, 2], [0, 3]] * 2


def agents(folder, *names):
    for name in names:
        (folder / name).mkdir(parents=True)
    return f"checkpoint:{folder}/*"


def test_a_pattern_in_several_seats_is_one_agent_and_two_patterns_are_all_pairs(tmp_path):
    some = agents(tmp_path / "a", "seed_10", "seed_2")
    two, ten = (f"checkpoint:{tmp_path}/a/seed_{number}" for number in (2, 10))
    assert as_lineups(["learner", some, some]) == [["learner", two, two], ["learner", ten, ten]]
    other = agents(tmp_path / "b", "x")
    pairs = as_lineups([["learner", some, other], ["learner", "random", "past"]])
    x = f"checkpoint:{tmp_path}/b/x"
    assert pairs == [["learner", two, x], ["learner", ten, x], ["learner", "random", "past"]]


def test_partners_of_the_test_may_be_a_pattern(made):
    data = tiny_data(
        game=StagHunt("2h1s_4x4"), seats=["learner", "random"], partners=["random", f"checkpoint:{made}/*"]
    )
    assert data.partners == ["random", *(f"checkpoint:{made}/seed_3_{name}" for name in ("end", "half", "start"))]


@pytest.mark.parametrize(
    ("seats", "says"),
    [
        (["learner", "checkpoint:nowhere/*"], "the seat checkpoint:nowhere/\\* matches no agent"),
        (["learner", "{made}"], "expand to 3 line-ups, but data.num_envs is 2, .* set it to 3 or a multiple"),
    ],
)
def test_a_pattern_that_cannot_play_is_refused_in_one_line(made, seats, says):
    with pytest.raises(ConfigError, match=says) as caught:
        tiny_data(game=StagHunt("2h1s_4x4"), seats=[s.format(made=f"checkpoint:{made}/*") for s in seats], num_envs=2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rounds", [1, None, -1])
def test_snapshots_need_at_least_two_rounds(rounds):
    message = f"trainer.max_epochs is {rounds}: expected at least 2 rounds for a population"
    with pytest.raises(ConfigError, match=message):
        Snapshots().on_fit_start(SimpleNamespace(max_epochs=rounds), nn.Linear(1, 1))


def test_a_run_that_ends_before_half_of_its_rounds_is_refused():
    snapshots, trainer, module = Snapshots(), SimpleNamespace(max_epochs=4, current_epoch=0), nn.Linear(1, 1)
    snapshots.on_fit_start(trainer, module)
    snapshots.on_train_epoch_end(trainer, module)
    with pytest.raises(ConfigError, match="the run ended after 0 of 4 rounds, before half of them: set"):
        snapshots.on_train_end(trainer, module)
    trainer.current_epoch = 1
    snapshots.on_train_epoch_end(trainer, module)
    snapshots.on_train_end(trainer, module)
    assert list(snapshots.weights) == ["start", "half", "end"]
