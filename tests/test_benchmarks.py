"""The measuring scripts run, and measure what they say. How fast anything is, is no matter for a test."""

import importlib.util
import json
import sys
import time
from itertools import count, product
from pathlib import Path

import pytest
import torch
from command_line import DATA, FEW, QUIET, SMOKE, TINY, trained_smoke
from lightning import Trainer
from PIL import Image
from toys import stag_hunt, tiny_agent

from omg_lightning.cli import main as command_line
from omg_lightning.commit import commit_of
from omg_lightning.games import LevelBasedForaging, StagHunt
from omg_lightning.search import SearchConfig, search
from omg_lightning.training import Agent

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
def test_planner(rule, workers, monkeypatch):
    planner = script("planner")
    monkeypatch.setattr(planner, "TURN", 240)  # simulations in each turn
    row = planner.measure(rule, 8, 3, 4, None, repeats=2, workers=workers, threads=1)
    assert row["trees"] == 8
    assert row["simulations_per_s"] > 0
    assert row["share"] == row["simulations_per_s"] / row["network_per_s"]
    assert "ratio" not in row


@pytest.mark.parametrize("observe", [True, False])
def test_games(observe):
    row = script("games").measure(2, None, batch=8, num_players=2, side=6, observe=observe)
    assert row["env_steps_per_s"] > 0
    assert (row["game"], row["batch"], row["players"], row["side"]) == ("StagHunt", 8, 2, 6)
    row = script("games").measure(1, None, batch=8, observe=observe, name="cramped_room", clock=count(0, 2).__next__)
    assert row["env_steps_per_s"] == 8 * 32 / 2
    assert (row["game"], row["players"], row["side"]) == ("Overcooked", 2, 4)
    row = script("games").measure(1, None, batch=8, observe=observe, name="7x7-3p-2f")
    assert (row["game"], row["batch"], row["players"], row["side"]) == ("LevelBasedForaging", 8, 3, 7)


SMALL = {"preset": "2h1s_4x4", "trees": 2, "simulations": 3, "num_envs": 2}


@pytest.mark.slow
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


@pytest.mark.slow
def test_simulations_prints_and_draws_a_row_for_each_number(tmp_path, capsys):
    agent = tiny_agent(stag_hunt(max_steps=35))
    checkpoint = tmp_path / "tiny.ckpt"
    torch.save({"hyper_parameters": dict(agent.hparams), "state_dict": agent.state_dict()}, checkpoint)
    arguments = ["--checkpoint", str(checkpoint), "--simulations", "1", "2", "--episodes", "3", "--num-envs", "2"]
    rows = script("simulations").main([*arguments, "--plot", str(tmp_path / "a" / "plot.png")])
    assert [(row["rule"], row["simulations"]) for row in rows] == [*product(("puct", "gumbel"), (1, 2))]
    assert all(row["episodes"] == 3 and 0 <= row["team"] <= 12 for row in rows)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["rows"] == rows
    assert (tmp_path / "a" / "plot.png").stat().st_size > 1000


def test_the_exponent_of_growth_is_the_slope_of_the_logarithms():
    growth = script("growth")
    line = growth.Line("search", "trees", "puct", [1, 2, 4], [1.0, 2.0, 4.0], [1e-4, 8e-4, 16e-4])  # slopes 3 and 1
    assert line.exponent == pytest.approx(2)
    assert line.steepest == pytest.approx(3)
    assert growth.Line("rules", "cells", "", [4, 8], [16.0, 64.0], [1.0, 8.0]).plain()["exponent"] == 1.5


def test_growth_measures_each_thing_at_each_size_and_in_seconds_of_what_it_says(monkeypatch, capsys):
    growth = script("growth")
    monkeypatch.setattr(growth, "search_time", lambda repeats, rule, trees, simulations: trees * simulations)
    monkeypatch.setattr(growth, "game_time", lambda repeats, **settings: sum(settings.values()))
    monkeypatch.setattr(growth, "rollout_time", lambda repeats, **settings: settings.get("players", 1))
    monkeypatch.setattr(growth, "nodes_passed", lambda rule, simulations: float(simulations**2))
    found = {(line.panel, line.unit, line.name): line for line in growth.lines(1)}
    assert [line.exponent for line in found.values()] == pytest.approx([1, 0.5, 1, 0.5, 1, 1, 0.5, 0, 0, 1, 1, 0])
    assert found["rules", "cells", ""].work == [16, 36, 64, 144, 256]
    assert found["rollout", "players", ""].work == [2, 3, 4, 6, 8]
    assert len(capsys.readouterr().out.splitlines()) == len(found)


@pytest.mark.slow
def test_growth_times_searches_rules_and_rollouts():
    growth = script("growth")
    assert growth.search_time(1, "puct", 2, 2) > 0
    assert growth.nodes_passed("puct", 1) == 1
    assert 8 < growth.nodes_passed("gumbel", 8) <= sum(range(9))
    assert growth.game_time(1, batch=2, side=4) > 0
    assert growth.rollout_time(1, trees=1, simulations=2, num_envs=2, players=2, side=4) > 0


def test_growth_draws_a_result_file_and_names_what_grows_faster_than_its_work(tmp_path, monkeypatch, capsys):
    growth = script("growth")
    lines = [
        growth.Line("rules", "cells", name, [1, 2], [1.0, 2.0], [1.0, end]).plain() for name, end in (("", 2), ("x", 3))
    ]
    (tmp_path / "growth.json").write_text(json.dumps({"lines": lines}))
    out = tmp_path / "a" / "growth.png"
    monkeypatch.setattr(sys, "argv", ["growth.py", str(tmp_path / "growth.json"), str(out), "--draw"])
    growth.main()
    assert out.stat().st_size > 1000
    assert capsys.readouterr().out.splitlines()[0] == "rules, cells: exponent 1.585 is above 1.05"


def test_whole_runs_of_two_checkouts_take_turns_and_rows_of_other_seeds_stay(tmp_path, monkeypatch):
    whole, asked = script("whole_run"), []

    def run(checkout, commit, seed, arguments):
        asked.append((checkout.name, seed, arguments))
        return {"seed": seed, "commit": commit, "processor_s": 1.0}

    monkeypatch.setattr(whole, "run", run)
    monkeypatch.setattr(whole, "commit_in", lambda checkout: f"{checkout.name}, {out.exists()}")
    out = tmp_path / "runs.json"
    for seeds in (["1", "2"], ["0", "1"]):
        words = ["whole_run.py", str(out), "--before", str(tmp_path), "--seeds", *seeds, "--", "--config", "x.yaml"]
        monkeypatch.setattr(sys, "argv", words)
        whole.main()
    mine, older = whole.HERE.name, tmp_path.name
    assert [each[:2] for each in asked[:4]] == [(older, 1), (mine, 1), (older, 2), (mine, 2)]
    assert asked[0][2] == ["--config", "x.yaml"]
    found = json.loads(out.read_text())
    assert [row["seed"] for row in found["before"]] == [row["seed"] for row in found["after"]] == [0, 1, 2]
    assert {row["commit"] for row in found["after"] if row["seed"] == 2} == {f"{mine}, False"}, "asked before it writes"


@pytest.mark.slow
def test_a_whole_run_says_what_it_took_and_what_its_last_screen_says():
    whole = script("whole_run")
    row = whole.run(whole.HERE, whole.commit_in(whole.HERE), 0, [*SMOKE, *TINY[:-1], "--trainer.max_epochs=3"])
    assert row["processor_s"] > 0
    assert row["wall_s"] > 0
    assert row["seed"] == 0
    assert row["commit"] == commit_of()
    assert row["buffer/env_steps"] > 0
    with pytest.raises(SystemExit, match="ended with exit code 2"):
        whole.run(whole.HERE, "", 0, ["--config", "none.yaml"])


@pytest.mark.slow
@pytest.mark.parametrize("opponent", ["Direct", "Declared", "Oracle", "Subgoal", "Codebook"])
def test_simulations_of_four_learners_with_any_opponent_model(opponent, tmp_path):
    game = StagHunt.preset("4h1s_6x6")
    agent, checkpoint = tiny_agent(game, opponent), tmp_path / "tiny.ckpt"
    torch.save({"hyper_parameters": dict(agent.hparams), "state_dict": agent.state_dict()}, checkpoint)
    where = ["--preset", "4h1s_6x6", "--seats", *["learner"] * 4]
    few = ["--simulations", "1", "2", "--trees", "1", "--episodes", "3", "--num-envs", "2"]
    rows = script("simulations").main(["--checkpoint", str(checkpoint), *where, *few])
    assert [(row["rule"], row["simulations"], row["episodes"]) for row in rows] == [
        (rule, simulations, 3) for rule in ("puct", "gumbel") for simulations in (1, 2)
    ]


@pytest.mark.slow
def test_the_profile_of_a_fit_accounts_for_all_of_it_and_cleans_up():
    before = StagHunt.step, Trainer.fit, Agent.log
    start = time.perf_counter()
    few = "--trainer.callbacks=[callbacks.GoalPictures,callbacks.RunCheckpoint]"
    found = script("fit_profile").profile([*SMOKE, *TINY[:-1], few, "--trainer.max_epochs=3"])
    assert 0 < sum(found.values()) < time.perf_counter() - start
    inside = set(script("fit_profile").INSIDE) - {"networks: policy"}  # that part is for algorithms without search
    for part in (*inside, "logging", "buffer", "rollout: bookkeeping", "callback GoalPictures"):
        assert found[part] > 0, part
    assert (StagHunt.step, Trainer.fit, Agent.log) == before
    assert "log" not in vars(Agent)


def test_best_response_of_a_run_against_the_exact_one(tmp_path, monkeypatch, capsys):
    config = ["--config", str(FOLDER.parent / "configs/matrix.yaml"), "--data.seats", "[learner, always_1]"]
    tiny = ["--trainer.max_epochs=2", "--data.offline.rounds=1", *TINY, "--trainer.default_root_dir", str(tmp_path)]
    command_line(["fit", *config, *tiny])
    out = tmp_path / "found.json"
    run = tmp_path / "lightning_logs/version_0"
    monkeypatch.setattr(sys, "argv", ["best_response.py", str(run), "--episodes", "5", "--out", str(out)])
    script("best_response").main()
    (row,) = json.loads(out.read_text())
    assert (row["partner"], row["seed"], row["best"]) == ("always_1", 0, -20)  # defect in each of 10 steps
    cooperated = 1 - row["decisions"]
    assert row["return"] == pytest.approx(-20 - 10 * cooperated)
    assert "| always_1 | 0 | -20.00 |" in capsys.readouterr().out


def test_best_response_refuses_runs_of_other_games(monkeypatch, capsys, tmp_path_factory):
    monkeypatch.setattr(sys, "argv", ["best_response.py", str(trained_smoke(tmp_path_factory))])
    with pytest.raises(SystemExit):
        script("best_response").main()
    assert "give one of MatrixGame with [learner, a script]" in capsys.readouterr().err


def test_selfish_prints_a_row_for_each_preset(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["selfish.py", "--presets", "4h1s_4x4", "--starts", "50"])
    script("selfish").main()
    row = [cell.strip() for cell in capsys.readouterr().out.splitlines()[-1].strip("|").split("|")]
    assert row[0] == "4h1s_4x4"
    three, four, team = map(float, row[1:4])
    # Two share the stag and two take hares (12), three and one (11), or all four share it (10).
    assert team == pytest.approx(12 - three - 2 * four, abs=0.011)


def test_the_picture_of_the_game_is_drawn(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["pictures.py", str(tmp_path / "game.png")])
    script("pictures").main()
    with Image.open(tmp_path / "game.png") as picture:
        assert min(picture.size) > 100


def test_the_fewest_steps_of_foraging_by_hand():
    foraging, game = script("foraging"), LevelBasedForaging("5x7-2p-1f")
    # The script loads from its third step on. Seat 0 is there in time, or walks four steps and loads in the fifth.
    for start, expected in (((2, 1), 3), ((0, 0), 5)):
        state = game.place(players=[(*start, 1), (2, 6, 1)], foods=[(2, 3, 2)])
        found = foraging.fewest_steps(game, state, "lexicographic", torch.Generator().manual_seed(0))
        assert found == expected
    row = foraging.measure(LevelBasedForaging("5x5-2p-1f"), 2, ["greedy"])[0]
    assert row["script"] == "greedy"
    assert 1 <= row["fewest"] <= 50
    assert 1 <= row["two_scripts"] <= 50


@pytest.mark.slow
def test_the_embedding_of_a_run_is_probed_beside_exact_bayes(tmp_path, monkeypatch, capsys):
    configs = [FOLDER.parent / "configs" / f"{name}.yaml" for name in ("matrix", "ppo", "liam")]
    game = ["--data.game.preset=null", "--data.game.payoff=[[1,0,0],[0,1,0],[0,0,1]]"]
    seats = ["--data.seats=[[learner,mostly_0],[learner,mostly_1],[learner,mostly_2]]", "--data.offline.rounds=0"]
    tiny = ["--trainer.max_epochs=1", *DATA, "--data.game.max_steps=20", FEW, *QUIET]
    files = [word for path in configs for word in ("--config", str(path))]
    command_line(["fit", *files, *game, *seats, *tiny, "--trainer.default_root_dir", str(tmp_path)])
    out, run = tmp_path / "found.json", tmp_path / "lightning_logs/version_0"
    monkeypatch.setattr(sys, "argv", ["liam.py", str(run), "--episodes", "60", "--out", str(out)])
    script("liam").main()
    row, bayes = json.loads(out.read_text())
    assert (row["opponent"], row["seed"], set(row["kind"])) == ("LIAM", 0, {"1", "5", "10", "19"})
    assert 0 < row["return"] < 16
    assert bayes["return"] == pytest.approx(15.06, abs=1)
    assert bayes["kind"]["19"] > 0.95
    assert "| LIAM | 0 |" in capsys.readouterr().out


# Long runs ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_growth_is_the_last_third_of_the_readings_minus_the_third_before_it():
    soak = script("soak")
    rows = [dict.fromkeys(soak.KINDS, float(value)) for value in (100, 1, 2, 3, 5, 6, 10)]
    assert soak.growth(rows) == dict.fromkeys(soak.KINDS, (6 + 10) / 2 - (3 + 5) / 2)
    found = soak.reading()
    kept = [torch.zeros(2**18) for _ in range(3)]
    more = soak.reading()
    assert more["tensors"] - found["tensors"] == len(kept)
    assert more["tensors_mib"] - found["tensors_mib"] == pytest.approx(3)
    with open(FOLDER / "soak.py"):
        assert soak.reading()["files"] == found["files"] + 1
    assert found["threads"] >= 1


@pytest.mark.slow
def test_codes_and_beliefs_over_them_beside_exact_bayes(tmp_path):
    few = ["--games", "2h1s_4x4", "--belief", "2h1s_4x4", "--seeds", "1", "--episodes", "32", "--steps", "2"]
    rows = script("codes").main([*few, "--out", str(tmp_path / "codes.json")])
    assert rows[0]["nmi"] == pytest.approx(1)
    assert (rows[0]["missed"], rows[0]["false"]) == (0, 0)
    assert [row["belief"] for row in rows[1:]] == ["Declared", "Codebook", "exact Bayes"]
    assert rows[3]["true_5"] > max(rows[1]["true_5"], rows[2]["true_5"]), "two steps of training teach little"
    written = json.loads((tmp_path / "codes.json").read_text())
    assert written["rows"] == rows
    assert written["command"].startswith("python benchmarks/codes.py --games 2h1s_4x4")


def test_a_second_mutation_run_adds_to_the_first_and_repeats_nothing(tmp_path, monkeypatch):
    mutation = script("mutation")
    made, codes = tmp_path / "mutants/game.py", {"game.x_f__mutmut_1": 1, "game.x_f__mutmut_2": None}
    made.parent.mkdir()
    made.write_text(
        "def x_f__mutmut_orig(a):\n    return a + 1\n\n\ndef x_f__mutmut_1(a):\n    return a - 1\n\n\n"
        "def x_f__mutmut_2(a):\n    return a + 2\n"
    )

    def write(codes: dict) -> None:
        made.with_name("game.py.meta").write_text(json.dumps({"exit_code_by_key": codes}))

    monkeypatch.setattr(mutation, "MADE", made.parent)
    monkeypatch.setattr(mutation, "OUT", tmp_path / "mutation.json")
    write(codes)
    first = mutation.results({"game.x_f__mutmut_1"}, mutation.recorded())
    assert first["killed"] == {"game.f": ["- return a + 1\n+ return a - 1"]}
    mutation.OUT.write_text(json.dumps(first))
    assert mutation.drawn(1.0, 0, ["*"], mutation.recorded()) == ["game.x_f__mutmut_2"]
    write({"game.x_f__mutmut_1": None, "game.x_f__mutmut_2": 0})  # mutmut has made them anew
    second = mutation.results({"game.x_f__mutmut_2"}, mutation.recorded())
    assert second["killed"] == first["killed"]
    row = {"function": "game.f", "change": "- return a + 1\n+ return a + 2", "state": "survived", "why": mutation.OPEN}
    assert second["survivors"] == [row]
    assert second["total"] == {"mutants": 2, "run": 2, "killed": 1, "survived": 1}
    row["why"] = "a reason"
    second["survivors"] = [row]
    mutation.OUT.write_text(json.dumps(second))
    assert mutation.results(set(), mutation.recorded())["survivors"] == [row], "what somebody wrote stays"
    made.write_text(made.read_text().replace("a + 2", "a + 3"))
    assert mutation.results(set(), mutation.recorded())["survivors"] == [], "the code has no such change any more"


def test_a_change_by_hand_reaches_functions_with_decorators(tmp_path, monkeypatch):
    by_hand = script("by_hand")
    code = compile(
        "@wrapped\ndef f():\n    return 1\nclass A:\n    @property\n    def g(self):\n        return 2\n", "", "exec"
    )
    assert [name for name, _ in by_hand.functions(code)] == ["f", "A.g"]
    assert by_hand.live(sys.modules["omg_lightning.rollout.play"], "play").__code__.co_varnames[0] == "env"
    module = type("module", (), {"A": type("A", (), {"g": property(lambda self: 2)})})
    assert by_hand.live(module, "A.g")(None) == 2
    assert all(change[0] in by_hand.TESTS for change in by_hand.CHANGES)
