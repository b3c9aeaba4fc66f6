"""Figures of adaptation, cross-play and seeds: everything is there, where it can be read."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from omg_lightning.evaluation.few_shot_figure import few_shot_figure, final_figure
from omg_lightning.evaluation.figures import adaptation_figure, heat_map, scores_figure
from omg_lightning.evaluation.scores import Curve
from omg_lightning.games.grid.icons import INK


def legend(figure):
    return {text.get_text() for text in figure.legends[0].get_texts()}


@pytest.mark.parametrize("count", [1, 30])
def test_an_adaptation_figure_shows_every_episode_and_all_references(count):
    mean = np.linspace(1.0, 4.0, count)
    curve = Curve(mean, mean, mean - 1, mean + 1)
    figure = adaptation_figure(curve, "tit_for_tat", (3.0, 2.0, 4.0), 600, "16 relationships", 1.5, 6.0)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert axes.get_xlim()[0] <= 1
    assert axes.get_xlim()[1] > count
    assert axes.get_ylim()[0] <= 0
    assert axes.get_ylim()[1] > 6
    assert axes.get_title("left") == "beside tit_for_tat"
    words = {"each episode", "mean of 5 episodes, 95% interval over 16 relationships"}
    assert legend(figure) == words | {"best response: 6.00", "random play: 1.50", "last 600 steps: 3.00"}
    drawn = [list(line.get_xdata()) for line in axes.lines]
    assert drawn.count(list(range(1, count + 1))) == 2, "the episodes, and their running mean"


def test_an_adaptation_figure_draws_no_interval_that_is_not_known():
    mean, unknown = np.ones(4), np.full(4, np.nan)
    figure = adaptation_figure(Curve(mean, mean, unknown, unknown), "a", (np.nan,) * 3, 600, "one relationship")
    figure.draw_without_rendering()
    assert legend(figure) == {"each episode", "mean of 5 episodes of one relationship"}


@pytest.mark.parametrize(("second", "angle"), [("b", 0), ("a_long_name", 35)])
def test_a_heat_map_writes_each_number_in_a_colour_that_differs_from_its_cell(second, angle):
    figure = heat_map(np.array([[0.0, 10.0], [2.0, 7.0]]), ["a", second], "return")
    figure.draw_without_rendering()
    axes = figure.axes[0]
    found = {text.get_position(): (text.get_text(), to_rgb(text.get_color())) for text in axes.texts}
    white, dark = to_rgb("white"), to_rgb(INK)  # cividis is dark where values are low
    assert found == {
        (0, 0): ("0.00", white), (1, 0): ("10.00", dark), (0, 1): ("2.00", white), (1, 1): ("7.00", dark)
    }  # fmt: skip
    for ticks in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [tick.get_text() for tick in ticks] == ["a", second]
    assert {tick.get_rotation() for tick in axes.get_xticklabels()} == {angle}


@pytest.mark.parametrize("normalised", [True, False])
def test_a_figure_of_scores_shows_each_seed_and_each_interval(normalised):
    points, summaries = [np.array([0.1, 0.2, 0.6]), np.array([0.9])], np.array([[0.2, 0.1, 0.3], [0.9, np.nan, np.nan]])
    figure = scores_figure(["random", "switcher"], points, summaries, normalised)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["random", "switcher"]
    assert [text.get_text() for text in axes.texts] == (["random play", "best response"] if normalised else [])
    assert len({to_rgb(text.get_color()) for text in axes.texts}) == len(axes.texts), "each as its own line"
    assert axes.get_xlabel().startswith("normalised score" if normalised else "return in the last steps")
    drawn = [line.get_xdata() for line in axes.lines]
    for values in points:
        assert any(len(x) == len(values) and np.allclose(x, values) for x in drawn)
    (interval,) = [each for each in axes.collections if len(each.get_segments())]
    assert interval.get_segments()[0][:, 0] == pytest.approx([0.1, 0.3])


def method(shift: float, score: bool):
    curve = {"episode": [1.0, 2.0, 6.5], "mean": [1.0 + shift, 2.0, 3.0], "low": [0.5, 1.5, None], "high": [2, 3, None]}
    values = {"values": [[0.2, 0.4]], "iqm": {"value": 0.3, "low": 0.1, "high": 0.5}}
    entry = {"curve": curve, "return": values, "random": 0.5, "best_response": 4.0}
    entry |= {"score": values} if score else {}
    return {"seeds": [0, 1], "partners": {name: {**entry, "label": name} for name in ("random", "stag", "hare", "all")}}


@pytest.mark.parametrize("score", [True, False])
def test_figures_of_several_methods_show_all_of_them_beside_each_co_player(score):
    found = {"Codebook": method(0.0, score), "Direct": method(0.5, score)}
    figure = few_shot_figure(found)
    figure.draw_without_rendering()
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title("left") for axes in panels] == ["random", "stag", "hare", "all"]
    assert legend(figure) == {"Codebook", "Direct", "best response", "random play"}
    for axes in panels:
        one, other = (line.get_ydata()[0] for line in axes.lines if len(line.get_xdata()) == 3)
        assert (one, other) == (1.0, 1.5)
        heights = [line.get_ydata()[0] for line in axes.lines if len(line.get_xdata()) == 2]
        assert heights == [4.0, 0.5]
        assert axes.get_xscale() == "log"
    (axes,) = final_figure(found).axes
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    assert names[:4] == ["random: Codebook", "random: Direct", "stag: Codebook", "stag: Direct"]
    assert axes.get_xlabel().startswith("normalised score" if score else "return in the last steps")


def test_a_single_method_needs_no_name():
    figure = few_shot_figure({"": method(0.0, score=True)})
    assert "mean over seeds" in legend(figure)
    (axes,) = final_figure({"": method(0.0, score=True)}).axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["random", "stag", "hare", "all"]
