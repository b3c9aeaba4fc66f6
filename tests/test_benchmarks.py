"""The measuring scripts run, and measure what they say. How fast anything is, is no matter for a test."""

import importlib.util
import json
import sys
import time
from itertools import product
from pathlib import Path

import pytest
import torch
from lightning import Trainer
from toys import stag_hunt, tiny_agent

from omg_lightning.games import StagHunt
from omg_lightning.training import Agent
from omg_lightning.search import SearchConfig, search

FOLDER = Path(__file__).parents[1] / "benchmarks"


def script(name):
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_planners_toy_is_the_model_it_describes():
    root, model, network = script("planner").toy(5, actions=3)
    action = torch.tensor([0, 1, 2, 1, 0])
    output, state = model(root.state, action)
    torch.testing.assert_close(state, root.state.roll(1, 1) + 0.01 * action[:, None])
    torch.testing.assert_close(output.reward, 0.01 * state[:, 0])
    again, _ = model(state.roll(-1, 1), torch.zeros(5, dtype=torch.int64))  # the same observation, the same answer
    torch.testing.assert_close(again.prior_logits, output.prior_logits)
    assert network()[0].shape == (5, 3)
    assert search(root, model, SearchConfig(4)).visits.sum(-1).tolist() == [4] * 5


@pytest.mark.parametrize(("rule", "workers"), [("puct", 1), ("gumbel", 2)])
def test_planner(rule, workers):
    row = script("planner").measure(rule, 8, 3, 4, None, repeats=2, workers=workers, threads=1)
    assert row["trees"] == 8
    assert row["simulations_per_s"] > 0
    assert row["share"] == row["simulations_per_s"] / row["network_per_s"]
    assert "ratio" not in row


def test_games():
    row = script("games").measure(2, None, batch=8, num_players=2, side=6, observe=True)
    assert row["env_steps_per_s"] > 0
    assert (row["batch"], row["players"], row["side"]) == (8, 2, 6)


SMALL = {"preset": "2h1s_4x4", "trees": 2, "simulations": 3, "num_envs": 2}


def test_iteration_scales_to_its_decisions():
    iteration = script("iteration")
    row = iteration.measure(1, **SMALL)
    assert 0 < row["decisions"] <= 2 * 2 * 35
    assert row["total_s"] == row["play_s"] + row["train_s"]
    assert row["simulations_per_s"] == pytest.approx(2 * 3 * iteration.DECISIONS / row["play_s"])
    assert 0 < iteration.resident() <= iteration.peak() * 1.1


def test_profile_accounts_for_everything_and_cleans_up():
    before = StagHunt.step
    parts = script("iteration").profile(1, **SMALL)
    assert len(parts) == 10
    assert all(seconds >= 0 for seconds in parts.values())
    assert parts["game step"] > 0
    assert parts["co-players: network and draw"] > 0
    assert StagHunt.step is before


def test_simulations_and_growth(tmp_path, monkeypatch, capsys):
    agent = tiny_agent(stag_hunt(max_steps=35))
    checkpoint = tmp_path / "tiny.ckpt"
    torch.save({"hyper_parameters": dict(agent.hparams), "state_dict": agent.state_dict()}, checkpoint)
    arguments = ["--checkpoint", str(checkpoint), "--simulations", "1", "2", "--episodes", "3", "--num-envs", "2"]
    rows = script("simulations").main([*arguments, "--plot", str(tmp_path / "a" / "plot.png")])
    assert [(row["rule"], row["simulations"]) for row in rows] == [*product(("puct", "gumbel"), (1, 2))]
    assert all(row["episodes"] == 3 and 0 <= row["team"] <= 12 for row in rows)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["rows"] == rows
    assert (tmp_path / "a" / "plot.png").stat().st_size > 1000

    planner = {"rule": "puct", "trees": 256, "simulations": 8, "actions": 7, "simulations_per_s": 9.0}
    games = {"batch": 64, "players": 4, "side": 8, "env_steps_per_s": 5.0, "peer": "jax, x", "peer_per_s": 3.0}
    for name, row in (("planner", planner), ("games", games)):
        (tmp_path / name).write_text("a table\n" + json.dumps({"benchmark": name, "rows": [row]}) + "\n")
    out = str(tmp_path / "growth.png")
    monkeypatch.setattr(sys, "argv", ["growth.py", out, str(tmp_path / "planner"), str(tmp_path / "games")])
    script("growth").main()
    assert Path(out).stat().st_size > 1000


@pytest.mark.parametrize("goals", ["none", "declared", "oracle", "subgoal", "codebook"])
def test_simulations_of_four_learners_with_any_goals(goals, tmp_path):
    game = StagHunt.preset("4h1s_6x6")
    agent, checkpoint = tiny_agent(game, goals), tmp_path / "tiny.ckpt"
    torch.save({"hyper_parameters": dict(agent.hparams), "state_dict": agent.state_dict()}, checkpoint)
    where = ["--preset", "4h1s_6x6", "--seats", *["learner"] * 4]
    few = ["--simulations", "1", "2", "--trees", "1", "--episodes", "3", "--num-envs", "2"]
    rows = script("simulations").main(["--checkpoint", str(checkpoint), *where, *few])
    assert [(row["rule"], row["simulations"], row["episodes"]) for row in rows] == [
        (rule, simulations, 3) for rule in ("puct", "gumbel") for simulations in (1, 2)
    ]


def test_the_profile_of_a_fit_accounts_for_all_of_it_and_cleans_up():
    before = StagHunt.step, Trainer.fit, Agent.log
    start = time.perf_counter()
    found = script("fit_profile").profile(["--config", str(FOLDER.parent / "configs" / "smoke.yaml")])
    assert 0 < sum(found.values()) < time.perf_counter() - start
    for part in (*script("fit_profile").INSIDE, "logging", "buffer", "callback GoalPictures"):
        assert found[part] > 0, part
    assert (StagHunt.step, Trainer.fit, Agent.log) == before
    assert "log" not in vars(Agent)


def test_table_of_runs_and_of_groups_of_seeds(tmp_path, monkeypatch, capsys):
    for seed, team in enumerate((10.0, 11.0, 12.0)):
        (tmp_path / f"run_{seed}").mkdir()
        (tmp_path / f"run_{seed}" / "config.yaml").write_text(f"seed_everything: {seed}")
        found = {"team_mean": team, "team_low": team - 0.5, "team_high": team + 0.5, "episodes": 9}
        metrics = {f"return/{name}": value for name, value in found.items()}
        metrics |= {"buffer/env_steps": 1000 * (seed + 1), "time/fit_s": 60.0, "time/peak_memory_mib": 500}
        (tmp_path / f"run_{seed}" / "metrics.json").write_text(json.dumps(metrics))
    table = script("table")

    def printed(*args):
        monkeypatch.setattr(sys, "argv", ["table.py", *args])
        table.main()
        return capsys.readouterr().out

    mean = "11.00 +- 2.48"  # 4.303 * 1 / sqrt(3)
    assert mean in printed(*(str(tmp_path / f"run_{seed}") for seed in range(3)))
    rows = printed(f"all={tmp_path}/run_*", f"one={tmp_path}/run_1").splitlines()
    assert rows[2:] == [
        "| all | 3 | 2,000 | 60 | 10.00, 11.00, 12.00 | 11.00 | 8.52 to 13.48 |",
        "| one | 1 | 2,000 | 60 | 11.00 | 11.00 | 10.50 to 11.50 |",
    ]
    many = table.half_width([0.0, 2.0] * 6)
    assert many == pytest.approx(2.262 * (12 / 11) ** 0.5 / 12**0.5)
    with pytest.raises(SystemExit):
        printed(f"none={tmp_path}/no_*")
    with pytest.raises(SystemExit, match="metrics"):
        printed(str(tmp_path))
