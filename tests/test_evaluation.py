"""Scores, statistics over seeds and references, by hand and against slow loops."""

import json

import numpy as np
import pytest
import torch
from scipy import stats

from omg_lightning.evaluation import (
    Record,
    References,
    Relationship,
    Result,
    iqm,
    labels,
    load,
    mean,
    normalise,
    numbers,
    refer,
    save,
    table,
)
from omg_lightning.evaluation.scores import Curve, adapted_at, curve, final_return, smooth, within
from omg_lightning.evaluation.seeds import gather, read, refer_all, seed_curve, summarise
from omg_lightning.types import AdaptationSegment, ConfigError

GAME = {"name": "stag_hunt", "num_players": 2, "max_steps": 35}
OTHER = {**GAME, "max_steps": 50}


def slow_final(played: Relationship, steps: int, last: int) -> float:
    """Step by step: an episode's return is booked at the step with which it ends."""
    booked, now = {}, 0
    for value, length in zip(played.returns, played.length, strict=True):
        for _ in range(length):
            now += 1
        booked[now] = value
    counted = [booked[step] for step in range(steps - last + 1, steps + 1) if step in booked]
    return sum(counted) / len(counted) if counted else float("nan")


@pytest.mark.parametrize("seed", range(20))
def test_final_return_equals_a_slow_loop(seed):
    random = np.random.default_rng(seed)
    length = random.integers(1, 8, size=40)
    played = Relationship(random.normal(size=40), length)
    for steps, last in ((60, 20), (60, 8), (60, 60), (7, 7)):
        assert final_return(played, steps, last) == pytest.approx(slow_final(played, steps, last))


def test_an_episode_counts_by_its_end_and_as_a_whole():
    played = Relationship(np.array([1.0, 2.0, 4.0, 8.0, 16.0]), np.array([4, 4, 4, 4, 4]))  # end at 4, 8, 12, 16, 20
    assert final_return(played, 16, 8) == (4 + 8) / 2, "it ends at step 8 of 16: before the last 8"
    assert final_return(played, 16, 9) == (2 + 4 + 8) / 3, "it only just ends in them, and counts whole"
    assert final_return(played, 19, 4) == 8, "the last one ends after the protocol"
    assert np.isnan(final_return(played, 19, 3))
    assert np.isnan(final_return(played, 21, 9)), "cut short: the last episodes are unknown"
    assert within(played, 19).returns.tolist() == [1, 2, 4, 8]


def test_a_curve_ends_where_the_shortest_relationship_ends():
    long, short = (Relationship(np.array(values), np.ones(len(values))) for values in ([1.0, 3.0, 9.0], [3.0, 5.0]))
    found = curve([long.returns, short.returns])
    assert found.mean.tolist() == [2, 4]
    assert found.smooth.tolist() == [3, 3]
    half = 12.706204736 * 2**0.5 / 2**0.5  # t with 1 degree of freedom; values that are 2 apart deviate by sqrt(2)
    np.testing.assert_allclose(found.high - found.smooth, half)
    np.testing.assert_allclose(found.smooth - found.low, half)
    alone = curve([long.returns])
    assert alone.smooth.tolist() == [13 / 3] * 3
    assert np.isnan([alone.low, alone.high]).all(), "one relationship has no interval"
    assert curve([long.returns, short.returns], (2, 5)).low.tolist() == [2, 2]


def test_smooth_is_the_mean_of_the_next_episodes_and_near_the_end_of_the_last_ones():
    assert smooth(np.array([1.0, 2.0, 6.0, 8.0]), 3).tolist() == [3, 16 / 3, 16 / 3, 16 / 3]
    assert smooth(np.array([1.0, 2.0]), 3).tolist() == [1.5, 1.5]


def test_adapted_at_is_the_first_episode_within_a_tenth_of_the_final_return():
    mean = smooth(np.array([0.0] * 3 + [10.0] * 20))
    assert adapted_at(mean, 10.0) == 4
    assert adapted_at(mean, 8.0) == 3, "0 and four times 10 are 8 in the mean"
    assert adapted_at(mean, 8.9) == 4
    assert adapted_at(mean, 11.2) is None
    assert adapted_at(smooth(np.array([-10.0] * 5 + [-1.0] * 9)), -1.0) == 6, "a tenth of a loss is a loss"
    assert adapted_at(mean, float("nan")) is None


def test_normalise_maps_random_to_0_and_the_best_response_to_1():
    assert normalise(2.0, 1.0, 5.0) == 0.25
    assert normalise(0.0, 1.0, 5.0) == -0.25
    with pytest.raises(ValueError, match="has return 5, not above 5 of random play"):
        normalise(2.0, 5.0, 5.0)


def test_iqm_drops_a_quarter_at_each_end():
    assert iqm([9.0, 1.0, 2.0, 3.0, -50.0]).value == 2  # of five, one at each end
    assert iqm([1.0, 2.0, 6.0]).value == 3  # of three, none
    assert iqm([100.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -9.0]).value == 3.5
    assert iqm([[0.0, 1.0], [2.0, 9.0]]).value == 1.5


@pytest.mark.parametrize("count", range(1, 14))
def test_iqm_equals_the_trimmed_mean_of_scipy(count):
    values = np.random.default_rng(count).normal(size=count)
    assert iqm(values).value == pytest.approx(stats.trim_mean(values, 0.25))


def test_the_interval_of_a_mean_is_that_of_students_t_test_over_seeds():
    values = np.array([[1.0, 2.0, 6.0], [3.0, 2.0, 1.0]])
    found = mean(values)
    assert found.value == 2.5
    assert found[1:] == pytest.approx(stats.ttest_1samp(values.mean(0), 0).confidence_interval(0.95))


def test_the_interval_of_an_iqm_by_hand():
    found = iqm([0.0, 1.0, 3.0, 9.0])  # winsorised: 1, 1, 3, 3, of deviation 2 / sqrt(3); two count
    half = 12.7062 * 2 / 3**0.5 * 2 / 4**0.5
    assert found == pytest.approx((2, 2 - half, 2 + half), rel=1e-5)
    assert iqm([0.0, 1.0, 3.0, 9.0], (0, 9))[1:] == (0, 9)
    assert iqm([1.0, 2.0, 6.0]) == pytest.approx(mean([1.0, 2.0, 6.0])), "of three none is left out"


def test_a_single_seed_has_no_interval():
    for statistic in (mean, iqm):
        value, low, high = statistic([[3.0], [5.0]])
        assert value == 4
        assert np.isnan(low)
        assert np.isnan(high)


# The record ---------------------------------------------------------------------------------------------------------


def segments() -> list[AdaptationSegment]:
    """Two partners, two relationships each; the second partner's episodes are twice as long."""

    def segment(*rows: tuple[int, int, float, int]) -> AdaptationSegment:
        partner, number, focal, length = (torch.tensor(column) for column in zip(*rows, strict=True))
        return AdaptationSegment(partner, 2 * partner + number, torch.stack([focal, -focal], 1), length)

    return [
        segment((0, 0, 1.0, 2), (1, 0, 5.0, 4), (0, 1, 3.0, 2), (1, 1, 7.0, 4)),
        segment((0, 0, 2.0, 2), (0, 1, 4.0, 2)),
        segment((0, 1, 9.0, 1), (0, 0, 6.0, 1), (1, 1, 8.0, 2), (1, 0, 8.0, 3)),
    ]


def recorded() -> Record:
    record = Record()
    for segment in segments():
        record.add(segment)
    return record


def test_a_record_sorts_episodes_by_partner_and_relationship():
    one = recorded().result(0, "random", "random", steps=5, last=3)
    assert one.curve.mean.tolist() == [2, 3, 7.5]
    assert one.final == ((2 + 6) / 2 + (4 + 9) / 2) / 2, "each relationship weighs the same"
    assert one.returns["return/episodes"] == 6
    two = recorded().result(1, "b", "b", steps=6, last=2)
    assert two.curve.mean.tolist() == [6], "the last episode of relationship 0 ends at step 7 of 6"
    assert np.isnan(two.final)
    assert two.returns["return/seat_1_mean"] == pytest.approx(-(5 + 7 + 8) / 3)
    assert recorded().result(2, "c", "c", 5, 3) is None
    assert Record().result(0, "a", "a", 5, 3) is None


def test_labels_are_short_and_differ():
    names = ["switcher:5", "checkpoint:a/b/last.ckpt", "checkpoint:c/b/last.ckpt", "checkpoint:d/last.ckpt"]
    found = ["switcher_5", "checkpoint_b_last.ckpt", "checkpoint_b_last.ckpt_2", "checkpoint_d_last.ckpt"]
    assert labels(names) == found


def test_flat_names_leave_out_unknown_numbers():
    one, two = recorded().result(0, "random", "random", 5, 3), recorded().result(1, "b", "b", 6, 2)
    found = numbers([one, two])
    assert found["adapt/random_return"] == one.final
    assert found["adapt/random_episode_1"] == 2
    assert found["return/random_seat_0_mean"] == pytest.approx(25 / 6)
    known = ("return", "low", "high", "episodes", "episode_1")  # it has not adapted, and there is no reference
    assert {name for name in found if name.startswith("adapt/random_")} == {f"adapt/random_{name}" for name in known}
    assert (found["adapt/random_low"], found["adapt/random_high"]) == (one.low, one.high)
    scored = numbers([one._replace(score=0.5, random=1.25, best_response=9.25, adapted=2)])
    assert [scored[f"adapt/random_{name}"] for name in ("score", "random", "best_response", "adapted_at")] == [
        0.5,
        1.25,
        9.25,
        2,
    ]
    assert not {"adapt/random_episode_5", "adapt/random_score", "adapt/b_return"} & found.keys()


def test_intervals_of_a_result_stay_within_what_the_game_pays():
    free, bound = (recorded().result(0, "random", "random", 5, 3, *each) for each in ((), ((0.0, 10.0), (0.0, 20.0))))
    half = 12.706204736 * (6.5 - 4) / 2  # t with 1 degree of freedom; the relationships end with 4 and 6.5
    assert (free.low, free.high) == pytest.approx((5.25 - half, 5.25 + half))
    assert (bound.low, bound.high) == (0, 10)
    assert (bound.curve.low >= 0).all()
    assert (free.curve.low < 0).any()
    # Every team has earned 0: Student's interval is a point, the one from bounds knows that six episodes are few.
    assert free.returns["return/team_high"] == 0 < bound.returns["return/team_high"]


# References ---------------------------------------------------------------------------------------------------------


def test_references_are_found_again_by_game_and_partner_alone(tmp_path):
    path = tmp_path / "deep" / "r.json"
    References(path).add(GAME, "random", {"random": 1.0, "best_response": 5.0})
    References(path).add(OTHER, "random", {"random": 2.0, "best_response": 6.0})
    found = References(path)
    assert found.find(dict(reversed(GAME.items())), "random")["best_response"] == 5
    assert found.find(OTHER, "random")["best_response"] == 6
    assert found.find(GAME, "nearest_stag") is None
    assert found.find({**GAME, "num_players": 3}, "random") is None


def test_a_checkpoint_is_identified_by_its_content(tmp_path):
    path, moved = tmp_path / "a.ckpt", tmp_path / "b.ckpt"
    path.write_text("weights")
    references = References(tmp_path / "r.json")
    references.add(GAME, f"checkpoint:{path}", {"random": 1.0, "best_response": 5.0})
    moved.write_text("weights")
    assert references.find(GAME, f"checkpoint:{moved}") is not None
    path.write_text("other weights")
    assert references.find(GAME, f"checkpoint:{path}") is None


def test_a_result_gets_its_score_or_a_note_why_there_is_none(tmp_path):
    result = recorded().result(0, "random", "random", 5, 3)  # final 5.25
    empty = References(tmp_path / "r.json")
    assert "no references in" in refer(result, empty, GAME).note
    empty.add(GAME, "random", {"random": 1.25, "best_response": 9.25})
    scored = refer(result, empty, GAME)
    assert (scored.score, scored.note) == (0.5, "")
    assert "0.50" in table([scored], 3).splitlines()[2]
    assert "other games" in refer(result, empty, OTHER).note
    assert "no reference for nearest_stag" in refer(result._replace(partner="nearest_stag"), empty, GAME).note
    poor = References(tmp_path / "poor.json")
    poor.add(GAME, "random", {"random": 9.0, "best_response": 9.0})
    bad = refer(result, poor, GAME)
    assert bad.score is None
    assert "has return 9, not above 9 of random play" in table([bad], 3)


@pytest.mark.parametrize("text", ["{", "[]", '{"games": {"a": {}}}', '{"games": {"a": {"partners": {"b": {}}}}}'])
def test_a_broken_file_of_references_is_refused(text, tmp_path):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ConfigError, match="not a file of references"):
        References(tmp_path / "r.json")


# Seeds --------------------------------------------------------------------------------------------------------------

ABOUT = {"game": GAME, "steps": 5, "score_steps": 3, "belief": True, "networks": False}


def a_run(folder, seed: int, score: float | None = 0.5, final: float = 2.0, **about):
    folder = folder / f"run_{seed}_{len(list(folder.iterdir()))}"
    folder.mkdir()
    shape = Curve(*(np.array([0.0, final if final == final else 0.0]) for _ in range(4)))
    references = {} if score is None else {"random": 0.0, "best_response": 4.0}
    result = Result("random", "random", shape, final, final, final, 1, score=score, **references)
    save(folder / "adaptation.json", [result], seed=seed, **{**ABOUT, **about})
    return folder


def test_saved_results_are_read_back_and_nan_is_null(tmp_path):
    folder = a_run(tmp_path, 3, None, float("nan"))
    assert "NaN" not in (folder / "adaptation.json").read_text()
    assert load(folder)["partners"]["random"]["final"] is None
    assert load(folder / "adaptation.json")["seed"] == 3


def test_adaptation_combines_seeds(tmp_path):
    runs = read([a_run(tmp_path, seed, seed / 4, float(seed)) for seed in range(4)])
    found = summarise(runs)
    assert found["seeds"] == [0, 1, 2, 3]
    assert found["partners"]["random"]["return"]["mean"]["value"] == 1.5
    assert found["partners"]["random"]["score"]["values"] == [[0, 0.25, 0.5, 0.75]]
    assert found["overall"]["score"]["iqm"]["value"] == 0.375
    assert found["overall"]["br_prox"]["values"] == [[0, 0.25, 0.5, 0.75]], "the best response has 4"
    assert (found["partners"]["random"]["random"], found["partners"]["random"]["best_response"]) == (0, 4)
    assert found["overall"]["score"]["mean"]["low"] < 0.375 < found["overall"]["score"]["mean"]["high"]
    shape = seed_curve([np.array([0.0, float(seed), 9.0]) for seed in range(4)])
    assert shape["mean"].tolist() == [0, 1.5, 9]
    assert shape["episode"].tolist() == [1, 2, 3]
    assert shape["low"][1] < 1.5 < shape["high"][1]
    assert seed_curve([np.array([1.0, 2.0])] * 3)["low"].tolist() == [1, 2], "all seeds alike"
    assert np.isnan(seed_curve([np.array([1.0, 2.0])])["low"]).all(), "one seed"
    long = seed_curve([np.arange(1.0, 13.0)] * 2)
    assert long["mean"].tolist() == long["episode"].tolist() == [1, 2, 3, 4, 5, 6.5, 10], "5, 2 and 5 episodes"
    alone = summarise(runs[:1])
    assert alone["overall"]["score"]["iqm"]["low"] is None
    json.dumps(found, allow_nan=False)


def long_run(folder, seed: int, start: float, **about):
    """Ten episodes: four with the return 0, then six that begin with `start` and rise by 0.1."""
    folder = folder / f"long_{seed}_{len(list(folder.iterdir()))}"
    folder.mkdir()
    mean = np.array([0.0] * 4 + [start + 0.1 * k for k in range(6)])
    shape = Curve(mean, mean, mean, mean)
    result = Result("random", "random", shape, 2.0, 2.0, 2.0, 1)
    save(folder / "adaptation.json", [result], seed=seed, **{**ABOUT, **about})
    return folder


def test_early_episodes_and_late_references(tmp_path):
    folders = [long_run(tmp_path, seed, float(seed)) for seed in range(2)]
    methods = gather([f"A={folders[1]}", f"A={folders[0]}", f"B={tmp_path}/long_*"])
    assert [run["seed"] for run in methods["A"]] == [0, 1]
    assert "score" not in summarise(methods["A"])["partners"]["random"]
    references = References(tmp_path / "r.json")
    references.add(GAME, "random", {"random": 0.25, "best_response": 4.25})
    refer_all(methods, references)
    for runs in methods.values():
        entry = summarise(runs)["partners"]["random"]
        assert entry["score"]["mean"]["value"] == (2 - 0.25) / 4
        assert entry["early"]["values"] == [[0.25, 1.25]]
        assert entry["early_score"]["values"] == [[0, 0.25]]
        assert entry["br_prox"]["values"] == [[2 / 4.25] * 2]
    unknown = {"cleaner": dict(methods["A"][0]["partners"]["random"])}
    with pytest.raises(ConfigError, match="has no reference for cleaner: python"):
        refer_all({"": [{**methods["A"][0], "partners": unknown}]}, references)
    (note,) = refer_all({"": [{**methods["A"][0], "partners": methods["A"][0]["partners"] | unknown}]}, references)
    assert "has no reference for cleaner" in note
    assert unknown["cleaner"]["score"] is None
    references.games[next(iter(references.games))]["partners"]["random"]["best_response"] = 0.2
    with pytest.raises(ConfigError, match=r"^random: .*train the reference for longer"):
        refer_all(methods, references)


def test_methods_of_one_comparison_have_equal_settings(tmp_path):
    one, other = long_run(tmp_path, 0, 1.0), long_run(tmp_path, 0, 1.0, steps=6)
    with pytest.raises(ConfigError, match="A and B differ in steps: 5 and 6"):
        gather([f"A={one}", f"B={other}"])
    with pytest.raises(ConfigError, match="with and without a method"):
        gather([f"A={one}", str(other)])
    with pytest.raises(ConfigError, match="no path matches"):
        gather([f"A={tmp_path}/nothing_*"])
    strangers = long_run(tmp_path, 0, 1.0)
    file = strangers / "adaptation.json"
    file.write_text(file.read_text().replace('"random": {', '"cleaner": {'))
    with pytest.raises(ConfigError, match="A and B have different partners"):
        gather([f"A={one}", f"B={strangers}"])
    below = tmp_path / "root/lightning_logs/version_0"
    below.parent.mkdir(parents=True)
    one.rename(below)
    assert gather([str(tmp_path / "root")]) == {"": read([below])}


def test_without_references_there_is_no_overall_score(tmp_path):
    found = summarise(read([a_run(tmp_path, seed, None) for seed in range(2)]))
    assert "overall" not in found
    assert not {"score", "br_prox", "random"} & found["partners"]["random"].keys()


def test_references_given_later_replace_those_of_the_runs(tmp_path):
    runs = read([a_run(tmp_path, 0), a_run(tmp_path, 1, None)])
    with pytest.raises(ConfigError, match="different references for random: give one file with --references"):
        summarise(runs)
    references = References(tmp_path / "r.json")
    references.add(GAME, "random", {"random": 0.25, "best_response": 4.25})
    refer_all({"": runs}, references)
    assert summarise(runs)["partners"]["random"]["best_response"] == 4.25


def test_runs_with_different_settings_are_refused(tmp_path):
    first = a_run(tmp_path, 0)
    other = {
        "game": a_run(tmp_path, 1, game=OTHER),
        "score_steps": a_run(tmp_path, 2, score_steps=4),
        "seed": a_run(tmp_path, 0),
        "interrupted": a_run(tmp_path, 4, 0.5, float("nan")),
        "different references": a_run(tmp_path, 5, None),
    }
    for word, folder in other.items():
        with pytest.raises(ConfigError, match=word):
            summarise(read([first, folder]))
    strangers = a_run(tmp_path, 6) / "adaptation.json"
    strangers.write_text(strangers.read_text().replace('"random": {', '"cleaner": {'))
    with pytest.raises(ConfigError, match="different partners"):
        read([first, strangers])


@pytest.mark.parametrize("text", ["{", "{}", "[]"])
def test_a_file_of_something_else_is_refused(text, tmp_path):
    with pytest.raises(ConfigError, match="does not exist: give the run folder of a `test`"):
        load(tmp_path)
    (tmp_path / "adaptation.json").write_text(text)
    with pytest.raises(ConfigError, match=r"is not a result of `test`.*: give the run folder"):
        load(tmp_path)
