"""Comparisons over seeds: which runs are read, the statistics, the figure."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from command_line import refused
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from omg_lightning.cli import main
from omg_lightning.evaluation.comparison import compare, improvement, profile
from omg_lightning.evaluation.comparison_figure import comparison_figure, spread
from omg_lightning.evaluation.learning import band, curves_of, smooth
from omg_lightning.evaluation.runs import find, read, study_runs
from omg_lightning.files import compact

TAG = "return/train_team_mean"


def log(folder: Path, rows: list[tuple[int, float, float]], tag: str = TAG) -> None:
    """A TensorBoard log of one scalar and of the seconds of training, from (env steps, seconds, value)."""
    writer = EventFileWriter(str(folder))
    for step, seconds, value in rows:
        for name, number in ((tag, value), ("time/fit_s", seconds)):
            summary = Summary(value=[Summary.Value(tag=name, simple_value=number)])
            writer.add_event(Event(wall_time=1000.0, step=step, summary=summary))
    writer.close()


def run(root: Path, seed: int, team: float, rounds: int = 4, **config: object) -> Path:
    """What a `fit` leaves that is compared; its curve ends at `team`."""
    folder = root / "lightning_logs" / "version_0"
    folder.mkdir(parents=True)
    game = {"class_path": "omg_lightning.games.StagHunt", "init_args": {"preset": "4h1s", "width": None}}
    (folder / "config.yaml").write_text(yaml.safe_dump({"seed_everything": seed, "data": {"game": game}} | config))
    numbers = {"return/team_mean": team, "return/team_low": team - 0.5, "return/team_high": team + 0.5}
    numbers |= {"return/episodes": 9.0, "buffer/env_steps": 1000.0 * (seed + 1), "time/fit_s": 60.0}
    (folder / "metrics.json").write_text(json.dumps(numbers | {"time/peak_memory_mib": 500.0}))
    if rounds:
        log(folder, [(100 * k, 10.0 * k, team * k / rounds) for k in range(1, rounds + 1)])
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Statistics ---------------------------------------------------------------------------------------------------------


def test_improvement_counts_pairs_and_equal_ones_half():
    assert improvement([1, 2, 3], [2]) == pytest.approx((0 + 0.5 + 1) / 3)
    assert improvement([5, 6], [1, 2, 3]) == 1
    assert improvement([1, 1], [1, 1]) == 0.5


def test_a_profile_is_the_share_of_runs_above_in_the_mean_over_games():
    levels = np.array([0.0, 1.0, 2.5])
    assert profile([[1, 2, 3]], levels).tolist() == pytest.approx([1, 2 / 3, 1 / 3])
    assert profile([[1, 2, 3], [0, 1]], levels).tolist() == pytest.approx([(1 + 1 / 2) / 2, 2 / 6, 1 / 6])


def test_smoothed_curves_are_running_means_as_long_as_the_run():
    values = np.arange(6.0) ** 2  # 0, 1, 4, 9, 16, 25
    assert smooth(values, 3).tolist() == pytest.approx([1 / 2, 5 / 3, 14 / 3, 29 / 3, 50 / 3, 41 / 2])
    assert smooth(values[:2], 5).tolist() == [0.5, 0.5]
    assert smooth(values[:1], 5).tolist() == [0.0]
    assert smooth(values, 1).tolist() == values.tolist()


def test_a_band_is_the_mean_over_seeds_with_students_interval_over_their_common_steps():
    one, two, three = ([[0, 100, 200], [0, 10, 20], [v, v, v]] for v in (1.0, 2.0, 3.0))
    three[0], three[1] = [50, 100, 150], [10, 20, 30]
    found = band([one, two, three], (0, 4.2))
    assert (found.env_steps[0], found.env_steps[-1]) == (50, 150)
    assert (found.seconds[0], found.seconds[-1]) == (pytest.approx(20 / 3), pytest.approx((15 + 15 + 30) / 3))
    assert found.mean == pytest.approx(2)
    assert found.low == pytest.approx(max(0, 2 - 4.302653 / 3**0.5))
    assert found.high == pytest.approx(4.2), "cut off at what is possible: it would be 4.48"
    assert np.isnan(band([one]).low).all()
    assert band([one, [[300, 400], [1, 2], [0, 0]]]) is None


def test_labels_are_moved_apart_and_stay_in_order():
    places = spread([1.0, 1.1, 0.9, 5.0], 1.0, -10, 10)
    assert places[3] == 5
    assert (places[2], places[0], places[1]) == pytest.approx((0, 1, 2), abs=0.01)
    assert spread([3.0], 1.0, 0, 5) == [3.0]
    assert spread([5.0, 5.0, 5.0], 1.0, 0, 5) == pytest.approx([3, 4, 5])
    assert spread([0.0, 0.0, 0.0], 4.0, 0, 5) == pytest.approx([0, 2.5, 5])


def test_files_of_results_have_a_line_for_each_list_of_numbers():
    content = {"a": [[1.5, None, -3e-05], [1]], "b": ["1,  2"], "c": "[1,\n 2]", "d": float("nan")}
    text = compact(content)
    assert str(json.loads(text)) == str(content)
    assert "  [ 1.5, null, -3e-05 ],\n" in text


# Curves -------------------------------------------------------------------------------------------------------------


def test_the_curve_of_a_resumed_run_has_all_of_its_parts(here):
    first, second = here / "version_0", here / "version_1"
    for folder, before in ((first, None), (second, "somewhere/version_0/last.ckpt")):
        folder.mkdir()
        (folder / "config.yaml").write_text(yaml.safe_dump({"ckpt_path": before}))
    log(first, [(100, 1.0, 1.0), (200, 2.0, 2.0), (300, 3.0, 9.0)])  # the last round was after the checkpoint
    log(second, [(300, 3.5, 3.0), (400, 4.5, 4.0)])
    assert curves_of(second)[TAG] == [[100, 200, 300, 400], [1, 2, 3.5, 4.5], [1, 2, 3, 4]]
    assert curves_of(first)[TAG] == [[100, 200, 300], [1, 2, 3], [1, 2, 9]]


@pytest.mark.parametrize(("tag", "known"), [("return/team_mean", True), (TAG, True), ("loss/policy", False)])
def test_curves_are_of_returns_in_training_and_of_evaluations(tag, known, here):
    (here / "version_0").mkdir()
    log(here / "version_0", [(100, 1.0, 1.0), (200, 2.0, 2.0)], tag)
    assert curves_of(here / "version_0") == ({tag: [[100, 200], [1, 2], [1, 2]]} if known else {})


# The command --------------------------------------------------------------------------------------------------------


def test_methods_are_compared_in_a_table_a_figure_and_a_file(here, capsys):
    for seed in range(3):
        run(here / f"a_{seed}", seed, 10.0 + seed)
        run(here / f"b_{seed}", seed, 10.5 + seed)
    main(["compare", "A=a_*", "B=b_*", "--plot", "deep/out.png", "--line", "most: 12"])
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()[:4]]
    mean = "11.00 [8.52, 13.48]"  # 4.303 * 1 / sqrt(3) each way
    assert rows[2] == ["A", "3", "2,000", "60", mean, mean, "-", "-"]
    assert rows[3][4:] == ["11.50 [9.02, 13.98]", "11.50 [9.02, 13.98]", "+0.50 [+0.50, +0.50]", "0.67"]
    found = json.loads(Path("deep/out.json").read_text())
    (game,) = found["games"].values()
    entry = game["methods"]["B"]
    assert entry["metrics"]["return/team_mean"]["values"] == [10.5, 11.5, 12.5]
    assert entry["metrics"]["return/team_mean"]["difference"] == {
        **{"seeds": [0, 1, 2], "value": 0.5},
        **{"low": 0.5, "high": 0.5},
    }
    assert entry["curve"]["env_steps"][-1] == 400
    assert entry["curve"]["seconds"][-1] == 40
    assert game["improvement"]["B"]["A"] == pytest.approx(6 / 9)
    assert found["profile"]["methods"]["A"][0] == 1
    assert Image.open("deep/out.png").size[0] > 1000


def test_one_seed_has_no_interval_and_the_figure_says_so(here, capsys):
    run(here / "a", 4, 11.0)
    main(["compare", "A=a", "--each"])
    shown = capsys.readouterr().out
    assert shown.splitlines()[2] == "| A      |     1 |     5,000 |          60 |      11.00 |     11.00 |"
    assert "11.00 [10.50, 11.50]" in shown, "of a single run, over the episodes of its evaluation"
    found = compare({"": {"A": find("a", "return/team_mean")}}, ["return/team_mean"])
    (game,) = found["games"].values()
    assert game["methods"]["A"]["metrics"]["return/team_mean"]["mean"] == {"value": 11.0, "low": None, "high": None}
    figure = comparison_figure(found)
    words = [label.get_text() for axes in figure.axes for label in axes.get_yticklabels()]
    assert "A\n1 seed, no interval" in words


@pytest.mark.parametrize("rounds", [0, 1])
def test_runs_without_a_log_and_short_ones_are_drawn(rounds, here):
    runs = [read(run(here / f"a_{seed}", seed, 3.0, rounds), "return/team_mean") for seed in range(2)]
    figure = comparison_figure(compare({"": {"A": runs}}, ["return/team_mean"]))
    assert len(figure.axes) == (2 if rounds == 0 else 4), "curves are drawn where there is a log"


def test_other_numbers_are_compared_too(here, capsys):
    for seed in range(2):
        run(here / f"a_{seed}", seed, 3.0)
    main(["compare", "A=a_*/lightning_logs/version_0", "--metrics", "return/team_mean", "time/fit_s"])
    assert "| A      | time/fit_s       |     2 |" in capsys.readouterr().out


def study(folder: Path, bounds: bool = True) -> None:
    """The file of a study of two methods in two games, of which one run is not done."""
    folder.mkdir()
    cells = [[game, method, seed] for game in ("g", "h") for method in ("A", "B") for seed in (0, 1)]
    runs = []
    for game, method, seed in cells[:-1]:
        team = (seed + 2 * (method == "B")) * (10 if game == "h" else 1)
        numbers = {"return/team_mean": team, "buffer/env_steps": 5, "time/fit_s": 1}
        if bounds:
            numbers |= {"return/team_least": 0, "return/team_most": 40 if game == "h" else 4}
        curves = {TAG: [[1, 2], [1, 2], [0.0, team]]}
        about = {"game": game, "method": method, "seed": seed, "state": "done", "commit": "abc"}
        runs.append({**about, "folder": f"{game}/{method}/{seed}", "numbers": numbers, "curves": curves})
    runs.append({"game": "h", "method": "B", "seed": 1, "state": "broken"})
    groups = {"small": cells[:2]}
    (folder / "study.json").write_text(json.dumps({"planned": cells, "groups": groups, "runs": runs}))


def test_a_study_is_compared_game_by_game_and_over_games_from_its_file_alone(here, capsys):
    study(here / "s")
    main(["compare", "s"])
    shown = capsys.readouterr()
    assert "all games, share of the best possible return" in shown.out
    assert "note: 1 of 8 runs are not done, so they are omitted" in shown.err
    _, runs = study_runs(here / "s")
    games = {game: {name: [runs[cell] for cell in runs if cell[:2] == (game, name)] for name in "AB"} for game in "gh"}
    found = compare(games, ["return/team_mean"])
    assert found["overall"]["A"]["mean"]["value"] == pytest.approx((0 + 0.25) / 2)
    single = {"value": 0.5, "low": None, "high": None}
    assert found["overall"]["B"] == {"seeds": 1, "mean": single, "iqm": single}
    assert len(comparison_figure(found).axes) == 2 * 3 + 2
    main(["compare", "s", "--group", "small"])
    assert "| A " in (small := capsys.readouterr().out)
    assert "| B " not in small
    study(here / "t", bounds=False)
    main(["compare", "t"])
    assert "all games" not in capsys.readouterr().out, "games without bounds are on scales of their own"


def test_mistakes_are_one_line(here, capsys):
    run(here / "a_0", 0, 1.0)
    run(here / "a_1", 0, 1.0)
    run(here / "b", 0, 1.0, data={"game": {"class_path": "omg_lightning.games.Snowdrift", "init_args": {}}})
    (here / "empty").mkdir()
    study(here / "s")
    for words, said in (
        (["A=c_*"], "no folder matches c_*"),
        (["A=a_0", "B=b"], "the runs have different games, a_0/lightning_logs/version_0 is of StagHunt preset="),
        (["A=empty"], "empty has no metrics.json"),
        (["A=a_*"], "A has seed 0 twice"),
        (["A=a_0/lightning_logs/version_0/config.yaml"], "is a file: give the folders of runs"),
        (["a_0"], "a_0 is not a study: expected NAME=RUN"),
        (["s", "A=a_0"], "expected NAME=RUN [NAME=RUN ...], or the folder of one study"),
        (["s", "--group", "big"], "--group is big: expected one of small, the groups of s"),
        (["A=a_0", "--group", "small"], "--group needs the folder of a study"),
        (["A=a_0", "--metrics", "return/team_men"], "did you mean return/team_mean?"),
        (["A=a_0", "--plot", "x.bogus"], "cannot draw x.bogus"),
        (["A=a_0", "--line", "best"], "expected a label and a number"),
        ([], "compare got no runs"),
    ):
        assert said in refused(["compare", *words], capsys), words
