"""The learner's belief about each co-player over the steps of an episode, below the frames of the episode."""

from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor

from callbacks.table_figures import GOAL_COLOURS, NOTHING
from omg_lightning.games.grid.icons import INK, SEAT_COLOURS
from omg_lightning.types import NO_GOAL

_LEFT, _RIGHT, _ABOVE, _BELOW, _GAP, _HEIGHT, _WIDTH = 0.95, 0.1, 0.52, 0.68, 0.1, 0.95, 7.2  # inches
_STRIP = (1.08, 1.3)  # bottom and top of the bar of the true goal above a belief, in units of its axis
_ROOM = 0.08  # share of the steps that the name of a goal needs
_DARK = 1.5  # sum of red, green and blue below which white text is readable
_TITLE = "What the learner believes about {} in one evaluation episode"


class Part(NamedTuple):
    """Label and colour of a goal, or of a learned code."""

    place: int  # index in the belief
    goal: int  # the declared goal that a code stands for, or NO_GOAL
    label: str
    colour: str


class Panel(NamedTuple):
    """The belief about one co-player."""

    seat: int
    name: str  # the player in this seat
    belief: NDArray  # float [T, G] before each of its steps
    truth: Sequence[int]  # T true goals, or NO_GOAL
    exact: NDArray | None  # float [T, num_goals] the belief of exact Bayes


def named_parts(goal_names: Sequence[str], size: int, usage: Tensor | None) -> list[Part]:
    """Return label and colour for each entry of a belief; codes of the same goal are neighbours.

    Args:
        goal_names: of the game.
        size: G.
        usage: for learned codes, `[G, num_goals + 1]` events for each code and achieved goal: a code gets the name of
            the goal that was achieved most often with it. `None` where the belief is over the declared goals.
    """
    if usage is None:
        return [Part(k, k, name, GOAL_COLOURS[k % len(GOAL_COLOURS)]) for k, name in enumerate(goal_names)][:size]
    known = usage[:, :-1]
    goals = [int(row.argmax()) if row.any() else NO_GOAL for row in known]
    order = sorted(range(size), key=lambda code: (goals[code] % (len(goal_names) + 1), -float(usage[code].sum())))
    parts, seen = [], dict.fromkeys(range(NO_GOAL, len(goal_names)), 0)
    for code in order:
        goal = goals[code]
        label = f"code {code} ({goal_names[goal]})" if goal != NO_GOAL else f"code {code}"
        base = GOAL_COLOURS[goal % len(GOAL_COLOURS)] if goal != NO_GOAL else NOTHING
        parts.append(Part(code, goal, label, _paler(base, seen[goal])))
        seen[goal] += 1
    return parts


def frame_steps(length: int, count: int) -> list[int]:
    """Return at most `count` evenly spaced steps of an episode of `length` steps, with the first and the last."""
    return sorted({round(k * length / (count - 1)) for k in range(count)})


def belief_figure(
    frames: Mapping[int, NDArray[np.uint8]],
    panels: Sequence[Panel],
    parts: Sequence[Part],
    goal_names: Sequence[str],
) -> Figure:
    """Draw the figure: each frame is above its step.

    Args:
        frames: step to board, uint8 `[H, W, 3]`, in rising order; the last one is the end of the episode.
        panels: one for each co-player.
        parts: the entries of a belief, from the bottom up.
        goal_names: of the game.
    """
    steps, end = list(frames), max(frames)
    margin = 0.5 * end / max(len(steps) - 1, 1)
    limits = (-margin, end + margin)
    gaps = [later - step for step, later in pairwise(steps)]
    each = (_WIDTH - _LEFT - _RIGHT) * min(gaps, default=end) / (end + 2 * margin)  # inches: no frame hides another
    tall = 0.94 * each * frames[end].shape[0] / frames[end].shape[1]
    height = _ABOVE + tall + len(panels) * (_HEIGHT + _GAP) + _BELOW
    figure = Figure(figsize=(_WIDTH, height), dpi=110)

    def place(x: float, top: float, width: float, size: float) -> Axes:
        return figure.add_axes((x / _WIDTH, 1 - (top + size) / height, width / _WIDTH, size / height))

    for step in steps:
        middle = _LEFT + (step - limits[0]) / (limits[1] - limits[0]) * (_WIDTH - _LEFT - _RIGHT)
        axes = place(middle - 0.47 * each, _ABOVE, 0.94 * each, tall)
        axes.imshow(frames[step])
        axes.axis("off")
        words = "end" if step == end else f"t = {step}"
        axes.set_title(words, fontsize=8, color=INK, pad=2)
    for k, panel in enumerate(panels):
        top = _ABOVE + tall + _GAP + k * (_HEIGHT + _GAP)
        axes = place(_LEFT, top, _WIDTH - _LEFT - _RIGHT, _HEIGHT)
        _draw(axes, panel, parts, goal_names)
        axes.set_xlim(limits)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.tick_params(labelbottom=k == len(panels) - 1)
    axes.set_xlabel("actions observed", fontsize=8.5, labelpad=2)
    whom = "its partner" if len(panels) == 1 else "its co-players"
    figure.suptitle(
        _TITLE.format(whom), x=_LEFT / _WIDTH, y=1 - 0.04 / height, ha="left", va="top", fontsize=9.5, color=INK
    )
    _legend(figure, panels, parts, goal_names)
    return figure


def _draw(axes: Axes, panel: Panel, parts: Sequence[Part], goal_names: Sequence[str]) -> None:
    """Draw a belief as stacked areas, the true goal as a bar above them, and exact Bayes as a dashed line."""
    time = np.arange(len(panel.belief) + 1)

    def held(row: NDArray) -> NDArray:
        return np.append(row, row[-1])  # the last belief is drawn until the end of its step

    edge = np.zeros(len(time))
    for part in parts:
        above = edge + held(panel.belief[:, part.place])
        axes.fill_between(time, edge, above, step="post", color=part.colour, linewidth=0)
        edge = above
    colours = {part.goal: part.colour for part in reversed(parts)}
    step = 0
    for goal, run in groupby(panel.truth):
        end = step + len(list(run))
        colour = colours.get(goal, NOTHING)
        axes.fill_between([step, end], *_STRIP, color=colour, linewidth=0)
        if goal != NO_GOAL and end - step >= _ROOM * len(panel.truth):
            words, ink = goal_names[goal], "white" if sum(to_rgb(colour)) < _DARK else INK
            axes.text((step + end) / 2, sum(_STRIP) / 2, words, ha="center", va="center", fontsize=7, color=ink)
        step = end
    if panel.exact is not None:
        axes.step(time, held(panel.exact[:, 0]), where="post", color=INK, linewidth=1.1, linestyle=(0, (2, 1.2)))
    axes.set_ylim(0, _STRIP[1])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"], fontsize=7.5)
    beside = axes.get_yaxis_transform()  # x from 0 to 1, y in data units
    words = "true goal" if any(goal != NO_GOAL for goal in panel.truth) else "no true goal"
    axes.text(-0.008, sum(_STRIP) / 2, words, transform=beside, ha="right", va="center", fontsize=7, color=INK)
    axes.tick_params(axis="x", labelsize=7.5)
    axes.tick_params(length=2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines["left"].set_bounds(0, 1)
    colour = SEAT_COLOURS[panel.seat % len(SEAT_COLOURS)]
    axes.set_ylabel(f"belief about\nseat {panel.seat}\n{panel.name}", fontsize=7.5, color=colour)


def _legend(figure: Figure, panels: Sequence[Panel], parts: Sequence[Part], goal_names: Sequence[str]) -> None:
    believed = [part for part in parts if any((panel.belief[:, part.place] > 0.02).any() for panel in panels)]
    handles: list = [Patch(color=part.colour, label=f"belief: {part.label}") for part in believed]
    if any(panel.exact is not None for panel in panels):
        words = f"{goal_names[0]}, by exact Bayes with known scripts"
        handles += figure.axes[-1].plot([], [], color=INK, linewidth=1.1, linestyle=(0, (2, 1.2)), label=words)
    columns = min(len(handles), 4)
    figure.legend(handles=handles, loc="lower center", ncols=columns, frameon=False, fontsize=7.5, handlelength=1.6)


def _paler(colour: str, times: int) -> str:
    """Return the colour mixed with white `times` times."""
    share = 0.72**times
    return to_hex(tuple(1 - share * (1 - part) for part in to_rgb(colour)))  # type: ignore[arg-type]
