"""The figure of a comparison: learning curves, final values over seeds, performance profile."""

from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter

from omg_lightning.evaluation.learning import WINDOW
from omg_lightning.games.grid.icons import INK

# Colour-blind safe (Okabe and Ito); the lighter ones are darkened, because names are written in these colours.
COLOURS = ("#0072B2", "#D55E00", "#00825E", "#B0508A", "#A87400", "#3C9BD6", "#5F6673")
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)))
_SIGNS = ("", "- - ", "··· ")  # shown before the name of a method with this line style
_FAINT, _GREY, _SMALL, _TEXT = "#DDDFE3", "#5F6673", 7.5, 8.5
_NAMES = {"return/team_mean": "team return", "return/team_discounted": "discounted team return"}
Line = tuple[str, float]  # label and value of a reference


def comparison_figure(found: Mapping[str, Any], lines: Sequence[Line] = ()) -> Figure:
    """Draw the result of `compare`: one row of panels per game, or two rows for a single game.

    Args:
        found: see `omg_lightning.evaluation.comparison.compare`.
        lines: reference values, drawn for every game.
    """
    games, metric = found["games"], found["metrics"][0]
    names = list(dict.fromkeys(name for game in games.values() for name in game["methods"]))
    looks = dict(zip(names, islice(cycle(_looks()), len(names)), strict=False))
    curves = any(entry["curve"] for game in games.values() for entry in game["methods"].values())
    if len(games) == 1:
        return _single(found, next(iter(games.values())), metric, looks, curves, lines)
    return _several(found, metric, looks, curves, lines)


def _single(
    found: Mapping[str, Any], game: Mapping[str, Any], metric: str, looks: Mapping[str, Any], curves: bool, lines: Any
) -> Figure:
    above, below = 2.1 * curves, max(1.5, 0.85 + 0.3 * len(game["methods"]))
    figure = Figure(figsize=(5.4, 0.25 + above + below), dpi=110, layout="constrained")
    parts = figure.subfigures(1 + curves, 1, height_ratios=[above, below][1 - curves :], squeeze=False)[:, 0]
    if curves:
        left, right = parts[0].subplots(1, 2, sharey=True)
        _curves(left, game, "env_steps", looks, lines)
        _curves(right, game, "seconds", looks, lines)
        left.set_ylabel(f"{_named(metric)}\nin training", fontsize=_TEXT)
        _labels(left, game, looks, 1.5)
    left, right = parts[-1].subplots(1, 2)
    _final(left, game, metric, looks, lines)
    _profile(right, found, f"{_named(metric)} after training", looks)
    _caption(figure, found, curves)
    return figure


def _several(
    found: Mapping[str, Any], metric: str, looks: Mapping[str, Any], curves: bool, lines: Sequence[Line]
) -> Figure:
    games, heights = found["games"], []
    columns = (["env_steps", "seconds"] if curves else []) + ["final"]
    rows = [[f"{game}/{column}" for column in columns] for game in games]
    heights = [max(1.35, 0.7 + 0.25 * len(game["methods"])) for game in games.values()]
    if "overall" in found:
        rows.append(["profile"] * (len(columns) - 1) + ["overall"] if curves else ["overall"])
        heights.append(max(1.5, 0.7 + 0.25 * len(found["overall"])))
    figure = Figure(figsize=(7.2 if curves else 4.2, 0.3 + sum(heights)), dpi=110, layout="constrained")
    axes = figure.subplot_mosaic(rows, height_ratios=heights)  # type: ignore[arg-type]
    for name, game in games.items():
        for column in columns[:-1]:
            each = axes[f"{name}/{column}"]
            _curves(each, game, column, looks, lines)
        if curves:
            axes[f"{name}/seconds"].sharey(axes[f"{name}/env_steps"])
            axes[f"{name}/seconds"].tick_params(labelleft=False)
            axes[f"{name}/env_steps"].set_ylabel(f"{_named(metric)}\nin training", fontsize=_SMALL)
        _final(axes[f"{name}/final"], game, metric, looks, lines)
        axes[f"{name}/{columns[0]}"].set_title(name, fontsize=9, loc="left", fontweight="bold")
    if "overall" in found:
        if curves:
            _profile(axes["profile"], found, "share of what can be earned, over games", looks)
            axes["profile"].set_title("all games", fontsize=9, loc="left", fontweight="bold")
        _rows(axes["overall"], {name: (entry, [], entry["seeds"]) for name, entry in found["overall"].items()}, looks)
        axes["overall"].set_xlabel("share of what can be earned", fontsize=_TEXT)
    _caption(figure, found, curves)
    return figure


def _curves(axes: Axes, game: Mapping[str, Any], axis: str, looks: Mapping[str, Any], lines: Sequence[Line]) -> None:
    """Draw mean curves and their intervals over `env_steps` or `seconds`."""
    longest = max((entry["curve"][axis][-1] for entry in game["methods"].values() if entry["curve"]), default=1)
    unit, name = (1, "environment steps") if axis == "env_steps" else _clock(longest)
    for method, entry in game["methods"].items():
        if not entry["curve"]:
            continue
        rows = {key: np.array(row, dtype=float) for key, row in entry["curve"].items()}  # null becomes NaN
        colour, dash = looks[method]
        axes.fill_between(rows[axis] / unit, rows["low"], rows["high"], color=colour, alpha=0.16, linewidth=0)
        axes.plot(rows[axis] / unit, rows["mean"], color=colour, linestyle=dash, linewidth=1.6)
    for label, value in lines:
        axes.axhline(value, color=_GREY, linewidth=0.9, linestyle=(0, (4, 1.5)), zorder=1)
        if axis == "env_steps":
            place = axes.get_yaxis_transform()
            axes.text(0.02, value, f"{label}: {value:g}", transform=place, fontsize=_SMALL, color=_GREY, va="bottom")
    axes.set_xlabel(name, fontsize=_TEXT)
    axes.set_xlim(left=0)
    if axis == "env_steps":
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    _tidy(axes, "y")


def _clock(longest: float) -> tuple[float, str]:
    """Return a unit of time in seconds, and its axis label."""
    for unit, name in ((3600, "hours"), (60, "minutes")):
        if longest >= 3 * unit:
            return unit, f"training time ({name})"
    return 1, "training time (seconds)"


def _labels(axes: Axes, game: Mapping[str, Any], looks: Mapping[str, Any], height: float) -> None:
    """Write the methods' names at the ends of their curves, apart from each other; `height` of the panel in inches."""
    ends = {method: float(entry["curve"]["mean"][-1]) for method, entry in game["methods"].items() if entry["curve"]}
    bottom, top = axes.get_ylim()
    places = spread(list(ends.values()), 1.25 * _SMALL / 72 / height * (top - bottom), bottom, top)
    right = axes.secondary_yaxis("right")
    right.set_yticks(places, [_SIGNS[DASHES.index(looks[name][1])] + name for name in ends], fontsize=_SMALL)
    right.tick_params(length=0, pad=2)
    right.spines[:].set_visible(False)
    for text, method in zip(right.get_yticklabels(), ends, strict=True):
        text.set_color(looks[method][0])


def spread(values: Sequence[float], gap: float, bottom: float, top: float) -> list[float]:
    """Return positions near `values`, in their order, that are `gap` apart and between `bottom` and `top`.

    If the space is too small, they are closer together.
    """
    order, count = np.argsort(values, kind="stable"), len(values)
    gap = min(gap, (top - bottom) / max(1, count - 1))
    places = np.asarray(values, dtype=float)[order]
    for _ in range(100):
        for k in range(count - 1):
            short = max(0.0, gap - (places[k + 1] - places[k]))
            places[k : k + 2] += (-short / 2, short / 2)
    room = np.arange(count) * gap
    places = np.maximum.accumulate(places.clip(bottom + room, top - room[::-1]) - room) + room
    found = np.empty(count)
    found[order] = places
    return found.tolist()


def _final(axes: Axes, game: Mapping[str, Any], metric: str, looks: Mapping[str, Any], lines: Sequence[Line]) -> None:
    """Draw the final values of each method: seeds, mean with its interval."""
    rows = {}
    for method, entry in game["methods"].items():
        numbers = entry["metrics"][metric]
        rows[method] = numbers, numbers["values"], len(numbers["values"])
    for _, value in lines:
        axes.axvline(value, color=_GREY, linewidth=0.9, linestyle=(0, (4, 1.5)), zorder=1)
    _rows(axes, rows, looks)
    axes.set_xlabel(f"{_named(metric)} after training", fontsize=_TEXT)


def _rows(axes: Axes, rows: Mapping[str, Any], looks: Mapping[str, Any]) -> None:
    """Draw a row for each method: its summaries, its values, and their number."""
    for row, (method, (summary, values, _)) in enumerate(rows.items()):
        colour, mean = looks[method][0], summary["mean"]
        axes.plot(values, np.full(len(values), row + 0.28), "o", color=colour, alpha=0.45, markersize=3.5, mew=0)
        if mean["low"] is not None:
            axes.plot([mean["low"], mean["high"]], [row, row], color=colour, linewidth=2, solid_capstyle="butt")
        axes.plot([mean["value"]], [row], "D", color=colour, markersize=4, zorder=5)
    counts = [f"{method}\n{_seeds(count)}" for method, (_, _, count) in rows.items()]
    axes.set_yticks(range(len(rows)), counts, fontsize=_SMALL, linespacing=0.95)
    for text, method in zip(axes.get_yticklabels(), rows, strict=True):
        text.set_color(looks[method][0])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    _tidy(axes, "x")


def _seeds(count: int) -> str:
    return "1 seed, no interval" if count == 1 else f"{count} seeds"


def _profile(axes: Axes, found: Mapping[str, Any], name: str, looks: Mapping[str, Any]) -> None:
    """Draw the share of runs above each level."""
    levels = found["profile"]["levels"]
    for method, shares in found["profile"]["methods"].items():
        colour, dash = looks[method]
        axes.plot(levels, shares, color=colour, linestyle=dash, linewidth=1.6, drawstyle="steps-post")
    axes.set_ylim(-0.04, 1.06)
    axes.set_yticks([0, 0.5, 1])
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_ylabel("runs above", fontsize=_TEXT)
    axes.set_xlabel(name, fontsize=_TEXT)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    _tidy(axes, "both")


def _caption(figure: Figure, found: Mapping[str, Any], curves: bool) -> None:
    """Write a caption in small print."""
    counts = [len(entry["seeds"]) for game in found["games"].values() for entry in game["methods"].values()]
    words = "Diamonds: means; dots: seeds"
    if max(counts) > 1:
        words += f"; bars{' and shades' if curves else ''}: 95% intervals over seeds (Student's t)"
    if curves:
        words += f"\nCurves: means of seeds, each a running mean of {WINDOW} rounds"
    figure.supxlabel(words, fontsize=6.5, color=_GREY, x=0.01, ha="left")


def _named(metric: str) -> str:
    name = metric.rpartition("/")[2]  # without its group, and the evaluation of a study
    return _NAMES.get(metric, name.replace("_mean", "").replace("_", " "))


def _looks() -> list[tuple[str, Any]]:
    """Return colours and dashes in the order of the methods."""
    return [(colour, dash) for dash in DASHES for colour in COLOURS]


def _tidy(axes: Axes, lines: Any) -> None:
    axes.grid(axis=lines, color=_FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(labelsize=_SMALL)
