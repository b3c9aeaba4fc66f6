"""The value of information: ratios by hand and their coverage, shares of V, and what the command says and draws."""

import json

import numpy as np
import pytest
from command_line import refused
from PIL import Image
from test_compare import run

from omg_lightning.cli import main
from omg_lightning.evaluation.runs import Run
from omg_lightning.evaluation.value import ratio, sentence, value_of
from omg_lightning.evaluation.value_figure import value_figure

T2 = 4.302652729911275  # Student's t, 97.5%, two degrees of freedom


def runs(values: dict[int, float], random: float | None = None) -> list[Run]:
    numbers = {} if random is None else {"return/team_random": random}
    return [Run(f"run_{seed}", seed, "game", {"return/team_mean": x, **numbers}, {}) for seed, x in values.items()]


def valued(**methods) -> dict:
    return value_of({name: runs(values) for name, values in methods.items()}, "return/team_mean", "Direct", "Oracle")


# Ratios -------------------------------------------------------------------------------------------------------------


def test_the_ends_of_a_ratio_are_where_the_difference_just_differs_from_0():
    above, below = np.array([1.0, 2.0, 1.5]), np.array([4.0, 4.5, 5.0])
    value, low, high = ratio(above, below)
    assert value == pytest.approx(1 / 3)
    for end in (low, high):
        left = above - end * below
        assert abs(left.mean()) == pytest.approx(T2 * left.std(ddof=1) / 3**0.5)
    assert low < 1 / 3 < high


def test_a_ratio_has_no_interval_if_its_denominator_may_be_0_or_for_a_single_seed():
    for above, below in (([1.0, 2.0, 3.0], [-1.0, 0.0, 2.0]), ([1.0], [2.0])):
        value, low, high = ratio(above, below)
        assert value == pytest.approx(np.mean(above) / np.mean(below))
        assert np.isnan([low, high]).all()
    assert ratio([1.0, 1.1, 1.2], [2.0, 2.2, 2.4]) == pytest.approx((0.5, 0.5, 0.5)), "always the same share"


@pytest.mark.parametrize("count", [3, 5])
@pytest.mark.parametrize("common", [0.0, 0.3])
def test_intervals_of_shares_cover_19_times_of_20(count, common):
    random, hits = np.random.default_rng(count), []
    for _ in range(600):
        both = random.normal(size=count)  # a seed's luck, which both have
        below = 2 + common * both + 0.2 * random.normal(size=count)
        above = 1 + common * both / 2 + 0.3 * random.normal(size=count)
        _, low, high = ratio(above, below)
        hits.append(low <= 0.5 <= high)
    assert np.mean(hits) == pytest.approx(0.95, abs=0.03)


# Shares of V --------------------------------------------------------------------------------------------------------


def test_v_is_a_difference_seed_by_seed_and_a_share_is_of_the_seeds_that_all_have():
    found = valued(
        Direct={0: 1.0, 1: 2.0, 2: 3.0}, Oracle={2: 7.0, 1: 6.5, 0: 4.5, 9: 99.0}, Model={0: 3.0, 1: 4.0, 5: 50.0}
    )
    assert (found["value"]["value"], sorted(found["value"]["seeds"])) == (4, [0, 1, 2])
    half = T2 * 0.5 / 3**0.5  # the differences are 3.5, 4.5 and 4
    assert (found["value"]["low"], found["value"]["high"]) == pytest.approx((4 - half, 4 + half))
    share = found["shares"]["Model"]
    assert (sorted(share["seeds"]), share["value"]) == ([0, 1], pytest.approx(2 / 4))
    assert set(found["shares"]) == {"Model"}, "the ends have no share"
    assert found["returns"]["Direct"]["value"] == 2
    assert found["returns"]["Model"]["by_seed"] == {0: 3.0, 1: 4.0, 5: 50.0}
    assert "V = 4.00 [" in sentence(found, "Direct", "Oracle")


def test_without_a_positive_v_there_is_no_share_but_one_sentence():
    found = valued(Direct={0: 1.0, 1: 2.0}, Oracle={0: 2.0, 1: 2.5}, Model={0: 1.5, 1: 2.0})
    assert not found["above_0"]
    assert found["shares"] == {}
    words = sentence(found, "Direct", "Oracle")
    assert "is not clearly above 0: these runs show no gain" in words
    assert words.count(".") == words.count("0.75") + words.count("-2.43") + words.count("3.93") + 1
    alone = valued(Direct={0: 1.0}, Oracle={0: 2.0}, Model={0: 1.5})
    assert (alone["above_0"], alone["shares"]) == (False, {})
    assert "one seed" in sentence(alone, "Direct", "Oracle")
    worse = valued(Direct={0: 3.0, 1: 3.1, 2: 3.0}, Oracle={0: 1.0, 1: 1.0, 2: 1.1}, Model={0: 1.5})
    assert not worse["above_0"], "V is below 0"


def test_v_is_a_percentage_of_what_is_earned_above_random_play():
    methods = {"Direct": runs({0: 3.0, 1: 3.0}, 1.0), "Oracle": runs({0: 5.0, 1: 5.0}, 1.0)}
    assert value_of(methods, "return/team_mean", "Direct", "Oracle")["percent"]["value"] == 50
    methods["Oracle"] = runs({0: 5.0, 1: 5.0})
    assert value_of(methods, "return/team_mean", "Direct", "Oracle")["percent"] is None


# The command --------------------------------------------------------------------------------------------------------


def test_the_command_prints_a_sentence_and_a_table_and_writes_figure_and_numbers(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for seed in range(3):
        for name, team in (("Direct", 2.0), ("Declared", 3.0), ("Oracle", 4.0)):
            run(tmp_path / f"{name}_{seed}", seed, team + seed / 10 + 0.01 * (name == "Oracle") * seed, rounds=0)
    words = [f"{name}={name}_*" for name in ("Direct", "Declared", "Oracle")]
    main(["value", *words, "--plot", "v.png"])
    out = capsys.readouterr().out
    assert "V = 2.01 [1.99, 2.03] with 3 seeds: the gain of knowing the true goals (Oracle) over a model" in out
    assert "Declared" in out
    assert "0.50 [0.49, 0.50]" in out
    found = json.loads((tmp_path / "v.json").read_text())
    assert found["settings"][""]["shares"]["Declared"]["value"] == pytest.approx(1 / 2.01)
    with Image.open(tmp_path / "v.png") as image:
        assert image.width > 1000
    main(["value", *words, "--without", "Declared"])
    assert "Direct" in capsys.readouterr().out


def test_each_method_has_a_line_of_its_own_within_its_setting():
    many = {f"m{k}": {0: 1.0, 1: 1.2 + k} for k in range(4)}
    ends = {"Direct": {0: 0.0, 1: 0.0}, "Oracle": {0: 4.0, 1: 4.1}}
    found = {"full": valued(**ends, **many), "none": valued(Direct={0: 1.0, 1: 2.0}, Oracle={0: 2.0, 1: 1.0})}
    found["few"] = valued(**ends, m1={0: 1.0, 1: 1.3})
    left, right = value_figure(found, "team return").axes
    lines = sorted(float(part.lines[0].get_ydata()[0]) for part in right.containers)
    assert np.diff(lines[:4]).tolist() == [1, 1, 1]
    full, none, few = left.get_yticks()
    assert lines[3] < (full + none) / 2 < right.texts[0].get_position()[1] < (none + few) / 2 < lines[4]
    assert len(lines) == 5


def test_a_setting_without_other_methods_does_not_claim_that_v_is_0():
    ends = valued(Direct={0: 0.0, 1: 0.0}, Oracle={0: 4.0, 1: 4.1})
    (text,) = value_figure({"a": ends}, "team return").axes[1].texts
    assert text.get_text() == "no other methods"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "value got no runs"),
        (["Direct=direct_*"], "no folder matches"),
        (["Direct=a"], "got no runs of Oracle, but of Direct"),
        (["Direct=a", "Oracle=b"], "no seed in common"),
        (["Direct=a", "Oracle=a", "--metric", "return/team"], "has no metric return/team"),
        (["Direct=a", "--plot", "v.txt"], "cannot draw v.txt"),
    ],
)
def test_mistakes_are_one_line(words, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run(tmp_path / "a", 0, 1.0, rounds=0)
    run(tmp_path / "b", 1, 2.0, rounds=0)
    assert expected in refused(["value", *words], capsys)
