"""Time to target: how long a run trains until its evaluations are at a given return for good."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from omg_lightning.games.grid.icons import INK

METRIC = "return/team_mean"  # of the evaluations during training
_MEDIAN, _FAINT = "#B00060", "#DDDFE3"
Curve = Sequence[Sequence[float]]  # environment steps, seconds of training, values


def held_from(curve: Curve, target: float) -> tuple[float, float] | None:
    """Return environment steps and seconds of the first evaluation from which on none is below the target.

    The seconds include the evaluations. None if the last evaluation is below the target.
    """
    steps, seconds, values = curve
    below = [k for k, value in enumerate(values) if value < target]
    first = below[-1] + 1 if below else 0
    return (steps[first], seconds[first]) if first < len(values) else None


def summarise(curves: Sequence[Curve | None], target: float) -> dict[str, Any]:
    """Return when each run holds the target, with the median and the range over runs.

    A run that never holds it, or has no evaluations, counts as later than all others. Its values are None, and so are
    a median and an end of the range that it determines.
    """
    found = [held_from(curve, target) if curve is not None and curve[0] else None for curve in curves]
    held: dict[str, Any] = {"target": target, "runs": len(found), "held": sum(each is not None for each in found)}
    for k, name in enumerate(("env_steps", "seconds")):
        values = [np.inf if each is None else each[k] for each in found]
        ends = {"median": median(values), "low": min(values), "high": max(values)} if values else {}
        shown = {key: float(value) if np.isfinite(value) else None for key, value in ends.items()}
        held[name] = {"values": [None if np.isinf(value) else float(value) for value in values], **shown}
    return held


def of_study(content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the summary of each setting, `game` or `game, method`, of the content of `study.json` with targets."""
    targets, runs = content["targets"], content["runs"]
    methods = list(dict.fromkeys(run["method"] for run in runs))
    found = {}
    for game, target in targets.items():
        for method in methods:
            own = [run for run in runs if (run["game"], run["method"]) == (game, method)]
            if own:
                curves = [run.get("curves", {}).get(METRIC) for run in own]
                found[game if len(methods) == 1 else f"{game}, {method}"] = summarise(curves, target)
    return found


def rows(found: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Return the lines of a table, the header first."""
    lines = [["setting", "target", "held by", "seconds: median [range]", "environment steps: median [range]"]]
    for name, each in found.items():
        cells = [_cell(each[what], unit) for what, unit in (("seconds", 1), ("env_steps", 1000))]
        lines.append([name, f"{each['target']:g}", f"{each['held']} of {each['runs']}", cells[0], cells[1]])
    return lines


def time_figure(found: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw a row for each setting: every run as a dot, and the median; seconds on the left, steps on the right."""
    figure = Figure(figsize=(6.6, 1.1 + 0.36 * len(found)), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, what, label in ((left, "seconds", "seconds of training"), (right, "env_steps", "environment steps")):
        for row, each in enumerate(found.values()):
            _row(axes, row, each[what], each["runs"] - each["held"])
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_xlabel(f"{label} until the target is held", fontsize=8.5)
        axes.grid(axis="x", color=_FAINT, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    left.set_yticks(range(len(found)), [f"{name} ({each['target']:g})" for name, each in found.items()], fontsize=8.5)
    left.set_ylim(len(found) - 0.5, -0.5)
    return figure


def _row(axes: Axes, row: int, each: Mapping[str, Any], missed: int) -> None:
    values = [value for value in each["values"] if value is not None]
    axes.plot(values, [row] * len(values), "o", color=INK, alpha=0.35, markersize=5, markeredgewidth=0)
    if each.get("median") is not None:
        axes.plot([each["median"]], [row], "|", color=_MEDIAN, markersize=14, markeredgewidth=2.2)
    if missed:
        place = axes.get_yaxis_transform()  # x from 0 to 1, y in rows
        axes.text(1, row, f"{missed} not held", transform=place, ha="right", va="center", fontsize=7.5, color=_MEDIAN)


def _cell(each: Mapping[str, Any], unit: int) -> str:
    if each.get("low") is None:
        return "-"
    low, middle, high = ("not held" if each[k] is None else f"{each[k] / unit:,.0f}" for k in ("low", "median", "high"))
    return f"{middle}{' k' if unit > 1 and middle != 'not held' else ''} [{low}, {high}]"
