"""Draw forest plots of result files.

- `python docs/tools/forest.py docs/results/controls.json docs/images/controls` writes a picture for each study.
- `python docs/tools/forest.py docs/results/selfplay.json docs/images` writes `selfplay_goals.png`.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

METRICS = ("team return, difference", "discounted team return, difference")
CLEAR, UNCLEAR = "#0072B2", "#5F6673"  # the interval excludes zero, or not


def forest(group: Mapping[str, Any]) -> Figure:
    """Return a panel for each metric: differences from the reference with their 95% intervals, a row for each method.

    Args:
        group: of `docs/results/controls.json`: `reference`, `seeds` and `methods`, each metric a pair of mean and half
            width.
    """
    rows = {name: found for name, found in group["methods"].items() if name != group["reference"]}
    figure = Figure(figsize=(7.2, 0.85 + 0.27 * len(rows)), dpi=110, layout="constrained")
    panels = figure.subplots(1, len(METRICS), sharey=True)
    for axes, metric in zip(panels, METRICS, strict=True):
        axes.axvline(0, color="#BBBFC6", linewidth=1)
        for row, found in enumerate(rows.values()):
            mean, half = found[metric]
            colour = CLEAR if abs(mean) > half else UNCLEAR
            axes.errorbar(mean, row, xerr=half, fmt="o", color=colour, markersize=4.5, linewidth=1.6)
        axes.set_yticks(range(len(rows)), rows, fontsize=8)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel(metric.removesuffix(", difference"), fontsize=8.5)
        axes.tick_params(axis="x", labelsize=8)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    title = f"Difference from “{group['reference']}”, 95% interval over {group['seeds']} seeds; blue: excludes zero"
    figure.suptitle(title, fontsize=8.5, x=0.01, ha="left")
    return figure


def means(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Return a panel for each game: the mean team return of each method, its 95% interval, and the value of each seed.

    Args:
        rows: of `docs/results/selfplay.json`.
    """
    games = list(dict.fromkeys(row["game"] for row in rows))
    figure = Figure(figsize=(7.2, 1.7 * -(-len(games) // 2)), dpi=110, layout="constrained")
    for axes, game in zip(figure.subplots(-(-len(games) // 2), 2).flat, games, strict=False):
        found = [row for row in rows if row["game"] == game]
        for place, row in enumerate(found):
            axes.plot([row["low"], row["high"]], [place, place], color=CLEAR, linewidth=1.6)
            axes.plot(row["returns"], [place] * len(row["returns"]), "|", color=UNCLEAR, markersize=8)
            axes.plot(row["mean"], place, "o", color=CLEAR, markersize=4.5)
        axes.set_yticks(range(len(found)), [f"{row['method']} ({len(row['returns'])})" for row in found], fontsize=8)
        axes.set_ylim(len(found) - 0.5, -0.5)
        axes.set_title(game, fontsize=8.5, loc="left")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.tick_params(axis="x", labelsize=8)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    figure.supxlabel("team return: mean, 95% interval, seeds (their number in brackets)", fontsize=8.5)
    return figure


def main() -> None:
    """Write the pictures of a result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    found = json.loads(args.results.read_text(encoding="utf-8"))
    if "rows" in found:
        means(found["rows"]).savefig(args.folder / "selfplay_goals.png")
    for name, group in found.get("groups", {}).items():
        forest(group).savefig(args.folder / f"{name}.png")


if __name__ == "__main__":
    main()
