"""Figures of adaptation over seeds: the return over episodes beside each co-player, and the final returns."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, ScalarFormatter

from omg_lightning.evaluation.comparison_figure import COLOURS
from omg_lightning.evaluation.figures import scores_figure

_BEST, _RANDOM, _FAINT = "#00735A", "#5F6673", "#DDDFE3"
_COLUMNS = 3
Found = Mapping[str, Mapping[str, Any]]  # method -> what `summarise` returns


def few_shot_figure(found: Found) -> Figure:
    """Draw a panel for each co-player: the mean return in each episode, on a logarithmic axis, a line for each method.

    Bands are 95% intervals over seeds. Dashed lines are a best response and random play, where they are known. Later
    episodes are averaged in groups, see `omg_lightning.evaluation.seeds.groups_of`.
    """
    partners = {entry["label"]: key for method in found.values() for key, entry in method["partners"].items()}
    columns = min(_COLUMNS, len(partners))
    rows = -(-len(partners) // columns)
    figure = Figure(figsize=(0.6 + 2.3 * columns, 0.75 + 2.0 * rows), dpi=110, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for (label, partner), axes in zip(partners.items(), panels, strict=False):
        for name, method, colour in zip(found, found.values(), COLOURS * len(found), strict=False):
            if partner in method["partners"]:
                _curve(axes, method["partners"][partner]["curve"], name or "mean over seeds", colour)
        _references(axes, [method["partners"].get(partner, {}) for method in found.values()])
        axes.set_title(label, fontsize=9, loc="left")
        _tidy(axes)
    for axes in list(panels):
        axes.set_visible(False)
    figure.supxlabel("episode with the same co-players", fontsize=9)
    figure.supylabel("return of the learner", fontsize=9)
    lines = dict(zip(*reversed(figure.axes[0].get_legend_handles_labels()), strict=True))
    figure.legend(lines.values(), lines, loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    return figure


def final_figure(found: Found) -> Figure:
    """Draw a row for each co-player and method: the interquartile mean of the scores, or of the returns."""
    rows = [(name, entry) for name, method in found.items() for entry in method["partners"].values()]
    what = "score" if all("score" in entry for _, entry in rows) else "return"
    order = list(dict.fromkeys(entry["label"] for _, entry in rows))
    rows.sort(key=lambda row: order.index(row[1]["label"]))
    names = [f"{entry['label']}: {name}" if name else entry["label"] for name, entry in rows]
    points = [np.array(entry[what]["values"][0]) for _, entry in rows]
    ends = [[entry[what]["iqm"][key] for key in ("value", "low", "high")] for _, entry in rows]
    return scores_figure(names, points, np.array(ends, dtype=float), what == "score")


def _curve(axes: Axes, curve: Mapping[str, Any], name: str, colour: str) -> None:
    """Draw the mean over seeds, with its interval if it is known."""
    low, high = (np.array(curve[key], dtype=float) for key in ("low", "high"))
    axes.fill_between(curve["episode"], low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(curve["episode"], curve["mean"], "-", marker=".", markersize=4, color=colour, linewidth=1.4, label=name)


def _references(axes: Axes, entries: list[Mapping[str, Any]]) -> None:
    for key, name, colour in (("best_response", "best response", _BEST), ("random", "random play", _RANDOM)):
        if known := [entry[key] for entry in entries if key in entry]:
            axes.axhline(known[0], color=colour, linestyle=(0, (4, 1.5)), linewidth=1.2, label=name)


def _tidy(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    last = axes.get_xlim()[1]
    axes.set_xticks([tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500) if tick < last])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.tick_params(labelsize=8)
    axes.grid(axis="y", color=_FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
