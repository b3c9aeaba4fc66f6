"""The figure of the value of information: V in each setting, and the share of it that each method reaches."""

from collections.abc import Mapping
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from omg_lightning.evaluation.comparison_figure import COLOURS
from omg_lightning.games.grid.icons import INK

_FAINT, _GREY = "#DDDFE3", "#5F6673"
_MARKERS = "osD"
_ENDS = -0.5, 1.5  # of the axis of shares
_LEAST = 3.5  # lines of a setting without shares
_WIDTH = 18  # letters in a line of a setting's name


def value_figure(settings: Mapping[str, Mapping[str, Any]], unit: str) -> Figure:
    """Draw a row for each setting: V on the left, the shares of it on the right, a line for each method.

    Args:
        settings: results of `value_of` by name.
        unit: of V, which is used if some setting has no percentage.
    """
    percent = all(found["percent"] is not None for found in settings.values())
    methods = list(dict.fromkeys(name for found in settings.values() for name in found["shares"]))
    looks = [(colour, marker) for marker in _MARKERS for colour in COLOURS]  # another marker once colours run out
    look = {name: looks[k % len(looks)] for k, name in enumerate(methods)}
    heights = [max(_LEAST, len(found["shares"]) + 1) for found in settings.values()]  # in lines
    ends = np.cumsum([0, *heights])
    middles = (ends[:-1] + ends[1:]) / 2
    figure = Figure(figsize=(6.6, 1.3 + 0.12 * ends[-1]), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for middle, found in zip(middles, settings.values(), strict=True):
        value = found["percent"] if percent else found["value"]
        _point(left, value, middle, (INK if found["above_0"] else _GREY, "o"), found["above_0"])
        top = middle - (len(found["shares"]) - 1) / 2
        for line, (name, share) in enumerate(found["shares"].items()):
            label = name if name not in right.get_legend_handles_labels()[1] else None
            _point(right, share, top + line, look[name], True, label, _ENDS)
        if not found["shares"]:
            why = "no other methods" if found["above_0"] else "V is not above 0"
            right.text(0.5, middle, why, ha="center", va="center", fontsize=8, color=_GREY)
    for axes in (left, right):
        axes.hlines(ends[1:-1], 0, 1, transform=axes.get_yaxis_transform(), color=_FAINT, linewidth=0.8)
    left.axvline(0, color=_GREY, linewidth=1)
    for share in (0, 1):
        right.axvline(share, color=_GREY, linewidth=1, linestyle=(0, (4, 1.5)))
    left.set_yticks(middles, [fill(name, _WIDTH) for name in settings], fontsize=9)
    left.set_ylim(ends[-1], 0)
    right.set_xlim(*_ENDS)
    right.set_xticks([-0.5, 0, 0.5, 1, 1.5])
    right.xaxis.set_major_formatter(PercentFormatter(1))
    what = "V, % of what is earned above random play" if percent else f"V, {unit}"
    left.set_xlabel(f"{what}\n95% interval over seeds", fontsize=8.5)
    right.set_xlabel("share of V recovered\n95% interval over seeds (Fieller)", fontsize=8.5)
    for axes in (left, right):
        axes.grid(axis="x", color=_FAINT, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(axis="x", labelsize=8)
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right"]].set_visible(False)
    if methods:
        figure.legend(loc="outside lower center", ncols=min(len(methods), 4), frameon=False, fontsize=8.5)
    return figure


def _point(
    axes: Axes,
    found: Mapping[str, Any],
    row: float,
    look: tuple[str, str],
    filled: bool,
    label: str | None = None,
    ends: tuple[float, float] = (-np.inf, np.inf),
) -> None:
    """Draw a value with its interval, clipped to the axis; `look` is a colour and a marker."""
    colour, marker = look
    value = float(np.clip(found["value"], *ends))
    error = None
    if found["low"] is not None:
        low, high = (float(np.clip(found[end], *ends)) for end in ("low", "high"))
        error = [[max(value - low, 0.0)], [max(high - value, 0.0)]]
    face = colour if filled else "white"
    style: dict[str, Any] = {
        "color": colour,
        "markerfacecolor": face,
        "markersize": 4,
        "capsize": 2,
        "linewidth": 1.4,
    }
    axes.errorbar([value], [row], xerr=error, fmt=marker, label=label, **style)
