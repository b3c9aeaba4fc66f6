"""Draws the pictures of the page Concepts: `python docs/tools/pictures.py docs/images/concepts`."""

import argparse
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from omg_lightning.games import StagHunt
from omg_lightning.games.grid.stag_hunt import LEFT, UP

BLUE, RED, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#666666"
PALE = {BLUE: "#d9e8f3", RED: "#fbe3d4", GREEN: "#d5eee6", GREY: "#eeeeee"}
STYLE = {"font.size": 11, "svg.hashsalt": "omg_lightning", "svg.fonttype": "path", "figure.facecolor": "white"}


def blank(width: float, height: float) -> Any:
    """Return axes in which a unit is a tenth of an inch, without frame."""
    figure = plt.figure(figsize=(width / 10, height / 10))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    return axes


def box(
    axes: Any, x: float, y: float, width: float, height: float, title: str, text: str = "", colour: str = BLUE
) -> None:
    """Draw a box with a title and a text below it."""
    shape = "round,pad=0,rounding_size=1"
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=shape, fc=PALE[colour], ec=colour, lw=1.4))
    middle = x + width / 2
    axes.text(
        middle,
        y + height - (1.4 if text else height / 2),
        title,
        ha="center",
        va="top" if text else "center",
        weight="bold",
    )
    axes.text(middle, y + height - 4.4, text, ha="center", va="top", fontsize=9.5, color="#333333", linespacing=1.3)


def arrow(axes: Any, start: tuple[float, float], end: tuple[float, float], text: str = "", bend: float = 0.0) -> None:
    """Draw an arrow with a text above its middle."""
    style = f"arc3,rad={bend}"
    axes.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=13, color=GREY, lw=1.4, connectionstyle=style)
    )
    axes.text(
        (start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + 0.8, text, ha="center", va="bottom", fontsize=9.5, color=GREY
    )


def run() -> None:
    """Draw the flow of data in a run."""
    axes = blank(82, 26)
    parts = (
        ("Game", "rules, or\nenvironment", BLUE),
        ("Rollout", "actors\nin seats", BLUE),
        ("Buffer", "whole\nepisodes", GREEN),
        ("Losses", "opponent model,\nalgorithm", RED),
        ("Weights", "checkpoint,\nlogs", RED),
    )
    for k, (title, text, colour) in enumerate(parts):
        box(axes, 1 + 16.4 * k, 13, 13.4, 11, title, text, colour)
        if k:
            arrow(axes, (14.6 + 16.4 * (k - 1), 18.5), (17.2 + 16.4 * (k - 1), 18.5))
    axes.plot([73.3, 73.3, 24.1, 24.1], [13, 6, 6, 12], color=GREY, lw=1.4)
    arrow(axes, (24.1, 10), (24.1, 12.8))
    axes.text(48.7, 7, "the current weights come back as an actor", ha="center", fontsize=10, color=GREY)
    axes.text(48.7, 2.4, "nothing else flows backwards", ha="center", fontsize=10, color=GREY)


def decision() -> None:
    """Draw the four stages of a decision."""
    axes = blank(86, 34)
    stages = (
        ("1  Infer", "what is each\nco-player after?"),
        ("2  Sample", "one goal a co-player\nfor each of K trees"),
        ("3  Search", "only the own actions\nbranch"),
        ("4  Play", "by the values, averaged\nover the trees"),
    )
    for k, (title, text) in enumerate(stages):
        box(axes, 1 + 21.4 * k, 1, 19.4, 32, title, text)
        if k:
            arrow(axes, (20.3 + 21.4 * (k - 1), 17), (22.5 + 21.4 * (k - 1), 17))
    for k, (name, share, colour) in enumerate((("stag", 0.7, RED), ("hare", 0.3, GREEN))):
        axes.add_patch(Rectangle((7.5, 13 - 6 * k), 10 * share, 3, color=colour))
        axes.text(6.9, 14.5 - 6 * k, name, ha="right", va="center", fontsize=10)
        axes.text(8 + 10 * share, 14.5 - 6 * k, f"{share:.1f}", va="center", fontsize=10)
    for k, (name, colour) in enumerate((("stag", RED), ("hare", GREEN), ("stag", RED))):
        axes.text(25.5 + 6.3 * k, 16.5, f"tree {k + 1}", ha="center", fontsize=9)
        axes.add_patch(
            FancyBboxPatch(
                (22.9 + 6.3 * k, 9.5), 5.2, 4.4, boxstyle="round,pad=0,rounding_size=.8", fc="white", ec=colour, lw=1.4
            )
        )
        axes.text(25.5 + 6.3 * k, 11.7, name, ha="center", va="center", fontsize=10, color=colour)
    nodes = {(53.5, 19): ((49, 13), (53.5, 13), (58, 13)), (49, 13): ((47, 7), (51, 7)), (58, 13): ((58, 7),)}
    for start, ends in nodes.items():
        for end in ends:
            axes.plot(*zip(start, end, strict=True), color=GREY, lw=1.2, zorder=1)
    for x, y in {*nodes, *(end for ends in nodes.values() for end in ends)}:
        axes.scatter([x], [y], s=60, color="white", edgecolor=BLUE, linewidth=1.5, zorder=2)
    axes.text(53.5, 2.6, "co-players act as predicted\nunder their goal", ha="center", fontsize=8.5, color=GREY)
    for k, (name, value) in enumerate((("left", 0.35), ("up", 1.0), ("stay", 0.2))):
        axes.add_patch(Rectangle((69.4 + 5 * k, 6), 3.6, 12 * value, color=BLUE if value == 1 else "#9cc3de"))
        axes.text(71.2 + 5 * k, 4.9, name, ha="center", va="top", fontsize=10)


def belief() -> None:
    """Draw exact Bayes about a hunter that walks past a hare to the stag: real rules, real scripts."""
    game = StagHunt.preset("2h1s_4x4")
    layout = {"hunters": [(0, 0), (3, 3)], "stags": [(0, 1)], "hares": [(1, 2), (2, 0)]}
    state = game.place(1, **layout)
    scripts = [game.players[name]() for name in ("nearest_stag", "nearest_hare")]
    for script in scripts:
        script.reset(1, 1, game, torch.Generator().manual_seed(0))
    beliefs, cells = [np.array([0.5, 0.5])], [(3, 3)]
    for action in (UP, UP, LEFT, UP, LEFT):
        view, legal = game.observe(state)[:, 1], game.legal(state)[:, 1]
        chance = np.array([script.action_probabilities(view, legal)[0, action].item() for script in scripts])
        beliefs.append((beliefs[-1] * chance).clip(1e-3) / (beliefs[-1] * chance).clip(1e-3).sum())
        state, _ = game.step(state, torch.tensor([[game.noop, action]]))
        row, column = cells[-1]
        cells.append((row - (action == UP), column - (action == LEFT)))
    _, axes = plt.subplots(
        2, len(cells), figsize=(9.6, 3.7), gridspec_kw={"height_ratios": (1.5, 1)}, layout="constrained"
    )
    for k, (cell, now) in enumerate(zip(cells, beliefs, strict=True)):
        board, bars = axes[:, k]
        board.set(
            xlim=(-0.5, 3.5),
            ylim=(3.5, -0.5),
            xticks=[],
            yticks=[],
            aspect="equal",
            title=f"after {k} steps" if k != 1 else "after 1 step",
        )
        board.title.set_fontsize(10)
        for line in (0.5, 1.5, 2.5):
            board.axhline(line, color="#dddddd", lw=0.8)
            board.axvline(line, color="#dddddd", lw=0.8)
        board.text(1, 0, "S", ha="center", va="center", weight="bold", color=RED, fontsize=13)
        for row, column in layout["hares"]:
            board.text(column, row, "h", ha="center", va="center", weight="bold", color=GREEN, fontsize=13)
        rows, columns = zip(*cells[: k + 1], strict=True)
        board.plot(columns, rows, color=BLUE, lw=1.5)
        board.plot(
            cell[1],
            cell[0],
            "o",
            color=BLUE,
            ms=13,
            mfc="none" if cell in (*layout["hares"], *layout["stags"]) else BLUE,
            mew=2,
        )
        bars.bar(["stag", "hare"], now, color=(RED, GREEN), width=0.7)
        bars.set(ylim=(0, 1.18), yticks=[])
        bars.spines[["top", "right", "left"]].set_visible(False)
        for x, share in enumerate(now):
            bars.text(x, share + 0.03, f"{share:.2f}", ha="center", fontsize=9.5)
    axes[1, 0].set_ylabel("belief")


def targets() -> None:
    """Draw which future step names the goal of a step, by opponent model."""
    axes = blank(84, 34)
    xs = 24 + 7.2 * np.arange(8)
    axes.text(1, 30, "steps of a co-player", va="center", weight="bold")
    for t, x in enumerate(xs):
        reward = t in (3, 6)
        axes.add_patch(
            Rectangle(
                (x - 2.6, 27.4), 5.2, 5.2, fc=PALE[RED] if reward else "white", ec=RED if reward else GREY, lw=1.3
            )
        )
        axes.text(x, 30, "hare" if t == 3 else "stag" if t == 6 else "", ha="center", va="center", fontsize=9.5)
    rows = (
        ("Declared, Locations", "label: the goal that it achieves next", 3, RED),
        ("Codebook", "label: the learned code of the object that it takes next", 3, GREEN),
        ("Subgoal", "label: the latent code of one state within the horizon", 5, BLUE),
    )
    for k, (name, text, t, colour) in enumerate(rows):
        y = 19.5 - 8 * k
        axes.text(1, y, name, va="center", weight="bold", color=colour)
        axes.plot([xs[1]], [y], "o", color=colour, ms=8)
        if t == 5:
            axes.add_patch(Rectangle((xs[2] - 2.6, y - 1.6), xs[6] - xs[2] + 5.2, 3.2, fc=PALE[colour], ec="none"))
        arrow(axes, (xs[1] + 0.8, y), (xs[t], y))
        axes.text(xs[1], y - 2, text, va="top", fontsize=9.5, color="#333333")
    axes.text(xs[1], 25.9, "labelled step", ha="center", va="top", fontsize=9.5, color=GREY)


def adaptation() -> None:
    """Draw the adaptation protocol: an invented learner, to explain the numbers."""
    _, axes = plt.subplots(figsize=(8.2, 2.9), layout="constrained")
    steps = np.arange(20, 2401, 40)
    returns = 4.6 - 3.0 * np.exp(-steps / 350) + 0.18 * np.sin(steps / 53)
    axes.axvspan(1800, 2400, color=PALE[BLUE], lw=0)
    axes.text(2100, 3.0, "final return: mean of the\nepisodes that end here", ha="center", va="center", fontsize=9.5)
    axes.axhline(5, color=GREEN, lw=1.2, ls="--")
    axes.text(15, 5.08, "a best response earns this: score 1", va="bottom", fontsize=9.5, color=GREEN)
    axes.axhline(1, color=RED, lw=1.2, ls="--")
    axes.text(640, 0.9, "random play earns this: score 0", va="top", fontsize=9.5, color=RED)
    axes.plot(steps, returns, ".", color=BLUE, ms=7)
    axes.annotate(
        "adapted: from here on within a tenth\nof the final return",
        (steps[21], returns[21]),
        (900, 2.2),
        fontsize=9.5,
        arrowprops={"arrowstyle": "-|>", "color": GREY},
    )
    axes.set(
        xlim=(0, 2400),
        ylim=(0, 5.9),
        xlabel="environment steps with the same co-players (one point: one episode)",
        ylabel="return",
    )
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Draw all pictures into a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        for draw in (run, decision, belief, targets, adaptation):
            draw()
            plt.savefig(folder / f"{draw.__name__}.svg", metadata={"Date": None})
            plt.close()


if __name__ == "__main__":
    main()
