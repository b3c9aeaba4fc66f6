"""Two tables as figures: played against predicted actions, and codes against goals."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from omg_lightning.games import Game
from omg_lightning.games.grid.icons import INK, PAPER, TILE, Pen, draw_thing

# Distinguishable for colour-blind people, and not used for seats; the first two are the colours of stag and hare.
GOAL_COLOURS = ("#9A5B2E", "#9DA9BC", "#E3C567", "#4F8A6B", "#A05C92", "#3F4E73", "#D98880", "#6E6E6E")
NOTHING = "#E6E8EB"  # no goal
_EDGE = "#FFFFFF"
_CELL = 96  # pixels of a cell


def confusion_figure(confusion: Tensor, names: Sequence[str]) -> Figure:
    """Draw the confusion matrix of played and predicted actions, normalised by row.

    Args:
        confusion: `[A, A]` counts, rows are the actions played, columns those predicted.
        names: A names of actions.
    """
    counts = confusion.numpy()
    total = counts.sum(1, keepdims=True)
    shares = counts / total.clip(1)
    size = 0.55 * len(names)
    figure = Figure(figsize=(size + 2.4, size + 1.5), dpi=110, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(shares.shape):
        if counts[row, column]:
            colour = _EDGE if shares[row, column] > 0.55 else INK
            percent = f"{100 * shares[row, column]:.0f}" if shares[row, column] >= 0.005 else "<1"
            axes.text(column, row, percent, ha="center", va="center", color=colour, fontsize=8.5)
    words = [name.replace("_", " ") for name in names]
    axes.set_xticks(range(len(names)), words, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), [f"{w}  (n = {int(n):,})" for w, n in zip(words, total[:, 0], strict=True)])
    axes.set_xlabel("predicted action")
    axes.set_ylabel("co-players' action")
    axes.set_title(f"top-1 {counts.trace() / counts.sum():.3f} of {int(counts.sum()):,} actions", fontsize=9.5)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(1, len(names)) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, len(names)) - 0.5, minor=True)
    axes.grid(which="minor", color=_EDGE, linewidth=1.5)
    axes.tick_params(which="minor", length=0)
    figure.colorbar(
        image, ax=axes, shrink=0.8, label="share of the row (numbers: in %)", ticks=[0, 0.5, 1]
    ).outline.set_visible(False)
    return figure


def code_figure(codes: Tensor, usage: Tensor, game: Game) -> Figure:
    """Draw how often each code occurred at an event, by achieved goal, below the decoded code.

    Args:
        codes: `[G, size]`; on a grid the planes of each kind of object.
        usage: `[G, num_goals + 1]` events for each code and achieved goal; the last column is for none.
        game: for the names of goals and of planes.
    """
    used = [code for code in usage.sum(1).argsort(descending=True).tolist() if usage[code].any()]
    shares = (usage / usage.sum()).numpy()
    figure = Figure(figsize=(1.15 * max(len(used), 3) + 0.9, 4.2), dpi=110, layout="constrained")
    pictures, axes = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2.4))
    _bars(axes, shares[used], game.goal_names)
    for place, code in enumerate(used if game.layout is not None else ()):
        patch = pictures.inset_axes((place - 0.45, 0.0, 0.9, 1.0), transform=pictures.transData)
        patch.imshow(code_picture(codes[code], game))
        patch.axis("off")
    pictures.set_ylim(0, 1)
    pictures.axis("off")
    if game.layout is not None:
        words = "the kind of object"
        pictures.set_title(words, fontsize=8.5, color=INK)
    axes.set_xlim(-0.6, max(len(used), 3) - 0.4)
    axes.set_xticks(range(len(used)), [f"code {code}" for code in used])
    axes.set_xlabel(f"{len(usage) - len(used)} of {len(usage)} codes were at no event", fontsize=8.5)
    return figure


def _bars(axes: Axes, shares: NDArray, goal_names: Sequence[str]) -> None:
    """Draw a bar for each row of `shares` `[m, num_goals + 1]`, stacked by goal."""
    bottom = np.zeros(len(shares))
    for goal, height in enumerate(shares.T):
        last = goal == len(goal_names)
        name, colour = ("none", NOTHING) if last else (goal_names[goal], GOAL_COLOURS[goal % len(GOAL_COLOURS)])
        if height.any():
            axes.bar(range(len(shares)), height, 0.7, bottom, color=colour, edgecolor=_EDGE, label=name)
        bottom = bottom + height
    for place, top in enumerate(bottom):
        axes.text(place, top + 0.01, f"{100 * top:.1f}%", ha="center", va="bottom", fontsize=8, color=INK)
    axes.set_ylim(0, 1.12 * bottom.max())
    axes.set_ylabel("share of the events\n(a co-player is rewarded)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(title="goal realised", frameon=False, fontsize=8, title_fontsize=8, loc="upper right")


def code_picture(code: Tensor, game: Game) -> NDArray[np.uint8]:
    """Draw the kind of object that a code `[size]` stands for.

    Returns:
        uint8 `[H, W, 3]`.
    """
    assert game.layout is not None
    canvas = Image.new("RGB", (_CELL, _CELL), PAPER)
    square = Pen(ImageDraw.Draw(canvas), 0, 0, _CELL)
    square.tile(TILE, outline=INK, width=0.04)
    for name, shown in zip(game.layout.plane_names[game.num_players :], code.tolist(), strict=True):
        if shown:
            draw_thing(square.part(0.5, 0.5, 0.9), name)
    return np.asarray(canvas)
