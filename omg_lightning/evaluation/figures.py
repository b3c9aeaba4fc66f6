"""Figures of the adaptation protocol and of cross-play."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from omg_lightning.evaluation.scores import WINDOW, Curve
from omg_lightning.files import check_writable, replacing
from omg_lightning.games.grid.icons import INK, SEAT_COLOURS
from omg_lightning.types import ConfigError

_BEST, _RANDOM, _FINAL, _FAINT = "#00735A", "#5F6673", "#B00060", "#DDDFE3"


def check_figure(path: Path) -> None:
    """Check that a figure can be written to the user's `--plot`.

    Raises:
        ConfigError: the file cannot be written, or its suffix is not a format of figures.
    """
    if path.suffix.removeprefix(".").lower() not in Figure().canvas.get_supported_filetypes():
        raise ConfigError(f"cannot draw {path}: expected a path that ends in .png, .pdf or .svg")
    check_writable(path, "--plot")


def save_figure(figure: Figure, path: str | os.PathLike[str], **settings: Any) -> None:
    """Write a figure to a file atomically; the suffix sets the format.

    Args:
        figure: the figure.
        path: with the suffix of a format that matplotlib supports, such as `.png`.
        **settings: of `Figure.savefig`.

    Raises:
        OSError: the file cannot be written; `filename` is `path`.
    """
    with replacing(path) as file:
        figure.savefig(file, format=Path(path).suffix.removeprefix("."), dpi=300, **settings)


def adaptation_figure(
    curve: Curve,
    partner: str,
    final: Sequence[float],
    last: int,
    over: str,
    random: float | None = None,
    best_response: float | None = None,
) -> Figure:
    """Draw the return of the focal seat over episode indices.

    Args:
        curve: mean and interval at each episode index; NaN for no interval.
        partner: the name of the partner.
        final: mean, low and high of the return in the last steps.
        last: the number of last steps.
        over: the averaged units, such as `16 relationships`.
        random: return of a random player in this seat, if known.
        best_response: return of a best response, if known.
    """
    figure = Figure(figsize=(5.4, 3.6), dpi=110, layout="constrained")
    axes = figure.subplots()
    index = np.arange(1, len(curve.mean) + 1)
    axes.plot(index, curve.mean, ".", color=INK, alpha=0.3, markersize=4, markeredgewidth=0, label="each episode")
    axes.fill_between(index, curve.low, curve.high, color=SEAT_COLOURS[0], alpha=0.18, linewidth=0)
    words = f"mean of {WINDOW} episodes"
    words += f", 95% interval over {over}" if np.isfinite(curve.low).any() else f" of {over}"
    axes.plot(index, curve.smooth, color=SEAT_COLOURS[0], linewidth=1.6, label=words)
    for value, name, colour in ((best_response, "best response", _BEST), (random, "random play", _RANDOM)):
        if value is not None:
            axes.axhline(value, color=colour, linestyle=(0, (4, 1.5)), linewidth=1.2, label=f"{name}: {value:.2f}")
    _final(axes, final, index[-1], last)
    axes.set_xlabel("episode with the same co-players")
    axes.set_ylabel("return of the learner\n(points per episode)")
    axes.set_title(f"beside {partner}", fontsize=10, loc="left")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(1 - 0.02 * max(len(index), 25), 1.08 * index[-1])
    bottom, top = axes.get_ylim()
    axes.set_ylim(min(0.0, bottom), top + 0.06 * (top - min(0.0, bottom)))
    _tidy(axes)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8, columnspacing=1.4)
    return figure


def _final(axes: Axes, final: Sequence[float], end: float, last: int) -> None:
    """Draw a diamond on the right: the final return and its interval."""
    if not np.isfinite(final[0]):
        return
    mean, low, high = final
    error = None if not np.isfinite(low) else [[mean - low], [high - mean]]
    style: dict[str, Any] = {"markersize": 6, "markeredgecolor": "white", "capsize": 3, "zorder": 5}
    axes.errorbar(
        [1.04 * end], [mean], yerr=error, fmt="D", color=_FINAL, label=f"last {last} steps: {mean:.2f}", **style
    )


def heat_map(values: NDArray, names: Sequence[str], title: str, unit: str = "points per episode") -> Figure:
    """Draw a matrix `[n, n]` of returns: row i in the focal seat, column j in all other seats."""
    count = len(names)
    side = max(3.4, 1.6 + 0.62 * count)
    figure = Figure(figsize=(side + 0.9, side), dpi=110, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(values, cmap="cividis")
    middle = (values.min() + values.max()) / 2
    for row, column in np.ndindex(values.shape):
        colour = "white" if values[row, column] <= middle else INK
        weight = "bold" if row == column else "normal"
        axes.text(
            column, row, f"{values[row, column]:.2f}", ha="center", va="center", color=colour, size=8, weight=weight
        )
    slant: dict[str, Any] = (
        {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if max(map(len, names)) > 4 else {}
    )
    axes.set_xticks(range(count), names, fontsize=8, **slant)
    axes.set_yticks(range(count), names, fontsize=8)
    axes.set_xlabel("in all other seats", fontsize=9)
    axes.set_ylabel("in seat 0", fontsize=9)
    axes.set_title(title, fontsize=10, loc="left")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.82)
    bar.set_label(unit, fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    return figure


def scores_figure(names: Sequence[str], points: Sequence[NDArray], summaries: NDArray, normalised: bool) -> Figure:
    """Draw a row for each co-player: every seed as a dot, the interquartile mean with its interval.

    Args:
        names: of the co-players.
        points: for each co-player, the values of the seeds `[n]`.
        summaries: for each co-player, interquartile mean, low and high, `[co-players, 3]`; NaN for no interval.
        normalised: whether the values are scores between random play and a best response, not returns.
    """
    figure = Figure(figsize=(5.4, 1.2 + 0.36 * len(names)), dpi=110, layout="constrained")
    axes = figure.subplots()
    if normalised:
        for value, name, colour in ((0, "random play", _RANDOM), (1, "best response", _BEST)):
            axes.axvline(value, color=colour, linestyle=(0, (4, 1.5)), linewidth=1.2)
            place = axes.get_xaxis_transform()  # x in scores, y from 0 to 1
            axes.text(value, 1.02, name, transform=place, ha="center", va="bottom", fontsize=8, color=colour)
    for row, (values, (value, low, high)) in enumerate(zip(points, summaries, strict=True)):
        axes.plot(values, np.full(len(values), row + 0.24), "o", color=INK, alpha=0.35, markersize=4, markeredgewidth=0)
        error = [[value - low], [high - value]] if np.isfinite(low) else None
        axes.errorbar([value], [row], xerr=error, fmt="D", color=_FINAL, markersize=5, capsize=3, linewidth=1.4)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_ylim(len(names) - 0.4, -0.6)
    what = "normalised score" if normalised else "return in the last steps"
    axes.set_xlabel(f"{what}: interquartile mean, 95% interval; each seed", fontsize=9)
    _tidy(axes, "x")
    return figure


def _tidy(axes: Axes, lines: Any = "y") -> None:
    axes.grid(axis=lines, color=_FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
