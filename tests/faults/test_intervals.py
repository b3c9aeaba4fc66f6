"""Intervals cover as often as they say, keep to what is possible, and a single value has none."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from command_line import QUIET, TINY, numbers, run
from scipy import stats
from test_evaluation import recorded

from callbacks.return_figure import return_figure
from omg_lightning.commands import crossplay
from omg_lightning.envs import as_env
from omg_lightning.evaluation import iqm, mean, save, table
from omg_lightning.evaluation.figures import adaptation_figure
from omg_lightning.games import MatrixGame, Snowdrift, StagHunt
from omg_lightning.metrics import intervals
from omg_lightning.metrics.intervals import bounded, of_episodes, student

COUNTS = (2, 3, 4, 10, 100)
BOUNDS = (0.0, 12.0)
SKEWED = {  # distributions of returns between 0 and 12, and their means
    "twelve of ten times nine, else three": (lambda random, n: np.where(random.random(n) < 0.9, 12.0, 3.0), 11.1),
    "hardly ever anything": (lambda random, n: np.where(random.random(n) < 0.05, 12.0, 0.0), 0.6),
    "skewed and smooth": (lambda random, n: 12 * random.beta(4, 1, n), 9.6),
    "even": (lambda random, n: random.uniform(0, 12, n), 6.0),
}


@pytest.mark.parametrize("count", COUNTS)
def test_students_interval_covers_the_mean_of_normal_values_19_times_of_20(count):
    low, high = student(np.random.default_rng(count).normal(3.0, 2.0, (20_000, count)))
    assert ((low <= 3) & (high >= 3)).mean() == pytest.approx(0.95, abs=0.006)


@pytest.mark.parametrize("count", [3, 4, 10, 100])
def test_students_interval_nearly_covers_the_mean_of_a_few_skewed_returns(count):
    """Final returns of `test` are means of several episodes, here of 17."""
    random = np.random.default_rng(count)
    finals = np.where(random.random((4_000, count, 17)) < 0.7, 12.0, 3.0).mean(-1)
    low, high = student(finals, BOUNDS)
    assert 0.92 <= ((low <= 9.3) & (high >= 9.3)).mean() <= 0.975


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", SKEWED)
def test_intervals_of_episodes_cover_the_mean_of_skewed_bounded_returns(name, count, monkeypatch):
    monkeypatch.setattr(intervals, "_DRAWS", 500)
    draw, middle = SKEWED[name]
    random = np.random.default_rng(count)
    found = np.array([bounded(draw(random, count), BOUNDS) for _ in range(250)])
    assert ((found[:, 0] <= middle) & (found[:, 1] >= middle)).mean() >= 0.93  # 0.95, less the noise of 250 trials
    assert found.min() >= 0
    assert found.max() <= 12


@pytest.mark.parametrize("statistic", [mean, iqm])
@pytest.mark.parametrize("partners", [1, 3])
@pytest.mark.parametrize("count", [2, 3, 4, 10])
def test_intervals_over_seeds_cover_where_a_seed_is_good_or_bad_beside_all(statistic, partners, count):
    random = np.random.default_rng(count)
    tables = random.normal(size=(1_000, partners, count)) + random.normal(size=(1_000, 1, count)) * (partners > 1)
    found = np.array([statistic(values) for values in tables])
    assert 0.9 <= ((found[:, 1] <= 0) & (found[:, 2] >= 0)).mean() <= 0.985


@pytest.mark.parametrize(("ones", "count"), [(0, 2), (2, 2), (1, 3), (9, 10), (40, 100)])
def test_for_zeros_and_ones_the_interval_is_that_of_clopper_and_pearson(ones, count):
    values = np.repeat([1.0, 0.0], [ones, count - ones])
    exact = stats.binomtest(ones, count).proportion_ci(0.95, "exact")
    assert bounded(values, (0.0, 1.0)) == pytest.approx((exact.low, exact.high), abs=0.01)
    assert bounded(5 * values - 2, (-2.0, 3.0)) == pytest.approx((5 * exact.low - 2, 5 * exact.high - 2), abs=0.05)


def test_many_episodes_have_nearly_the_interval_of_student_in_any_order():
    values = np.random.default_rng(0).uniform(4, 9, 2_000)
    found = bounded(values, BOUNDS)
    assert found == pytest.approx(student(values), abs=0.02)
    assert bounded(values[::-1], BOUNDS) == found, "the draws are always the same"


def test_intervals_are_cut_off_at_the_bounds():
    assert student([0.0, 12.0]) == pytest.approx((6 - 76.237, 6 + 76.237), abs=0.01)
    assert student([0.0, 12.0], BOUNDS) == BOUNDS
    assert of_episodes([2.0, 2.0], None) == (2, 2), "nothing is known but that they are equal"
    low, high = of_episodes([12.0, 12.0], BOUNDS)
    assert low < 3, "two episodes say little of the others"
    assert high == 12


@pytest.mark.parametrize("bounds", [None, BOUNDS])
def test_a_single_value_has_no_interval(bounds):
    assert np.isnan(of_episodes([3.0], bounds)).all()
    assert np.isnan(student([3.0], bounds)).all()


# Bounds of games -----------------------------------------------------------------------------------------------------

GAMES = {
    "4h1s": (StagHunt("4h1s"), (0, 5), (0, 12)),
    "4h2s": (StagHunt("4h2s"), (0, 5), (0, 20)),
    "2h1s_4x4": (StagHunt("2h1s_4x4"), (0, 5), (0, 10)),
    "strengths": (StagHunt("2h1s_4x4", strength=[1, 3]), (0, 7.5), (0, 10)),
    "prosocial": (StagHunt("4h1s_4x4", prosocial=True), (0, 3), (0, 12)),
    "dear hares": (StagHunt("2h1s_4x4", hare_reward=-1.0), (-1, 5), (-2, 10)),
    "msg": (Snowdrift("msg"), (0, 36), (0, 120)),
    "dear drifts": (Snowdrift("msg", shovel_cost=30.0), (-144, 36), (-36, 0)),
    "prosocial drifts": (Snowdrift("msg", prosocial=True), (0, 30), (0, 120)),
    "prisoners_dilemma": (MatrixGame("prisoners_dilemma"), (-75, 0), (-100, -50)),
    "climbing": (MatrixGame("climbing", max_steps=2), (-60, 22), (-120, 44)),
}


@pytest.mark.parametrize("name", GAMES)
def test_returns_of_random_play_lie_within_the_bounds_of_the_game(name):
    game, seat, team = GAMES[name]
    assert game.seat_bounds == seat
    assert game.team_bounds == team
    env, random = as_env(game), torch.Generator().manual_seed(0)
    assert (env.seat_bounds, env.team_bounds) == (seat, team)
    step = env.reset(30, random)
    returns = torch.zeros_like(step.reward)
    for _ in range(game.max_steps):
        eager = step.legal.float() ** 4 * torch.linspace(0.2, 2, game.num_actions)  # rather hunt, or shovel
        step = env.step(torch.multinomial(eager.flatten(0, 1), 1, generator=random).view(30, -1))
        returns += step.reward
    for values, (low, high) in ((returns, seat), (returns.sum(1), team)):
        assert values.min() >= low - 1e-4
        assert values.max() <= high + 1e-4


# What is written ---------------------------------------------------------------------------------------------------


def test_a_single_relationship_is_shown_without_an_interval(tmp_path):
    result = recorded().result(0, "random", "random", 5, 3, (0.0, 6.0), (-2.0, 3.0))
    assert (result.low, result.high) == (0, 6), "two relationships, cut off at the bounds of a seat"
    assert (result.curve.low.min(), result.curve.high.max()) == (0, 6)
    assert result.returns["return/team_low"] >= -2
    assert "5.25 [0.00, 6.00]" in table([result], 3)
    bare = np.full_like(result.curve.low, np.nan)
    alone = result._replace(low=np.nan, high=np.nan, curve=result.curve._replace(low=bare, high=bare))
    assert "5.25 " in table([alone], 3)
    assert "[" not in table([alone], 3)
    save(tmp_path / "a.json", [alone])
    found = json.loads((tmp_path / "a.json").read_text())["partners"]["random"]
    assert (found["low"], found["curve"]["low"]) == (None, [None] * 3)
    figure = adaptation_figure(alone.curve, "random", (5.25, np.nan, np.nan), 3, "1 relationship")
    figure.savefig(tmp_path / "a.png")
    assert "interval" not in figure.axes[0].get_legend_handles_labels()[1][1]


def test_an_evaluation_of_one_episode_is_drawn_without_an_interval(tmp_path):
    rounds = [[10, 1.0, 0.0, 2.0], [20, 2.0, 0.0, 2.0]]
    figure = return_figure(rounds, [[10, 2.0, np.nan, np.nan]], ["learner"])
    figure.savefig(tmp_path / "a.png")
    assert "evaluation: mean" in figure.axes[0].get_legend_handles_labels()[1]
    both = return_figure(rounds, [[10, 2.0, np.nan, np.nan], [20, 2.0, 1.0, 3.0]], ["learner"])
    both.savefig(tmp_path / "b.png")
    assert "evaluation: mean, 95% interval" in both.axes[0].get_legend_handles_labels()[1]


@pytest.mark.slow
def test_metrics_of_a_fit_keep_to_the_bounds_and_leave_out_an_interval_of_one_episode(tmp_path):
    few = ["--trainer.max_epochs=2", "--trainer.callbacks=[callbacks.ReturnFigure,callbacks.Report]", *QUIET]
    two, one = (numbers(run("fit", tmp_path, *TINY, *few, f"--data.evaluation.episodes={count}")) for count in (2, 1))
    assert 0 <= two["return/team_low"] <= two["return/team_mean"] <= two["return/team_high"] <= 10
    assert two["return/team_low"] < two["return/team_high"]
    assert (two["return/team_least"], two["return/team_most"]) == (0, 10)
    assert "return/team_mean" in one
    assert not {"return/team_low", "return/team_high"} & one.keys()


@pytest.mark.parametrize("episodes", [1, 3])
def test_cross_play_writes_intervals_within_the_bounds_and_none_for_one_episode(episodes, tmp_path):
    game = as_env(StagHunt("2h1s_4x4"))
    networks = SimpleNamespace(datamodule=SimpleNamespace(env=game, seed=0))
    returns = np.random.default_rng(0).choice([0.0, 1.0, 5.0], (2, 2, episodes, 2))
    crossplay.write(str(tmp_path / "x"), ["a", "b"], ["a.ckpt", "b.ckpt"], returns, networks)
    found = json.loads((tmp_path / "x.json").read_text())
    for name, most, values in (("focal", 5, returns[..., 0]), ("team", 10, returns.sum(-1))):
        if episodes == 1:
            assert found[f"{name}_low"] is found[f"{name}_high"] is None
            continue
        low, middle, high = (np.array(found[key]) for key in (f"{name}_low", name, f"{name}_high"))
        assert ((low >= 0) & (low <= middle) & (middle <= high) & (high <= most)).all()
        assert (low[0, 1], high[0, 1]) == bounded(values[0, 1], (0.0, most))
