"""What was believed of each co-player over the steps of an episode, under the frames of it."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
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

_LEFT, _RIGHT, _ABOVE, _BELOW, _GAP, _HEIGHT, _WIDTH = 0.95, 0.1, 0.25, 0.68, 0.1, 0.95, 7.2  # inches
_STRIP = (1.1, 1.26)  # the line of the true goal above a belief, in units of its axis


class Part(NamedTuple):
    """A goal, or a code, as it is drawn."""

    place: int  # in the belief
    goal: int  # the declared goal that it stands for, or NO_GOAL
    label: str
    colour: str


class Panel(NamedTuple):
    """What was believed of one co-player."""

    seat: int
    name: str  # who sits there
    belief: NDArray  # float [T, G] before each of its steps
    truth: Sequence[int]  # T true goals, or NO_GOAL
    exact: NDArray | None  # float [T, num_goals] what exact Bayes believes


def named_parts(goal_names: Sequence[str], size: int, usage: Tensor | None) -> list[Part]:
    """Names and colours of what a belief is over, those of one goal side by side.

    Args:
        goal_names: of the game.
        size: G.
        usage: for learned codes, `[G, num_goals + 1]` events for each code and goal realised there: a code goes by the
            goal that was realised most often beside it. `None` where the belief is over the declared goals.
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
    """At most `count` steps of an episode of `length` steps, evenly spread: the start and the end are among them."""
    return sorted({round(k * length / (count - 1)) for k in range(count)})


def belief_figure(
    frames: Mapping[int, NDArray[np.uint8]],
    panels: Sequence[Panel],
    parts: Sequence[Part],
    goal_names: Sequence[str],
) -> Figure:
    """Draws the figure: each frame stands over its step.

    Args:
        frames: uint8 `[H, W, 3]` each, the board after so many steps, rising; the last one is the end.
        panels: one for each co-player.
        parts: what a belief is over, from the bottom up.
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
        _draw(axes, panel, parts)
        axes.set_xlim(limits)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.tick_params(labelbottom=k == len(panels) - 1)
    axes.set_xlabel("steps seen", fontsize=8.5, labelpad=2)
    _legend(figure, panels, parts, goal_names)
    return figure


def _draw(axes: Axes, panel: Panel, parts: Sequence[Part]) -> None:
    """Draws a belief as areas, the true goal as a line above, and exact Bayes as the edge that it would have."""
    time = np.arange(len(panel.belief) + 1)

    def held(row: NDArray) -> NDArray:
        return np.append(row, row[-1])  # the last belief holds until its step is over

    edge = np.zeros(len(time))
    for part in parts:
        above = edge + held(panel.belief[:, part.place])
        axes.fill_between(time, edge, above, step="post", color=part.colour, linewidth=0)
        edge = above
    colours = {part.goal: part.colour for part in reversed(parts)}
    for step, goal in enumerate(panel.truth):
        axes.fill_between([step, step + 1], *_STRIP, color=colours.get(goal, NOTHING), linewidth=0)
    if panel.exact is not None:
        axes.step(time, held(panel.exact[:, 0]), where="post", color=INK, linewidth=1.1, linestyle=(0, (2, 1.2)))
    axes.set_ylim(0, _STRIP[1])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"], fontsize=7.5)
    beside = axes.get_yaxis_transform()  # x from 0 to 1, y as it is
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
    handles: list = [Patch(color=part.colour, label=part.label) for part in believed]
    if any(panel.exact is not None for panel in panels):
        words = f"exact Bayes: probability of {goal_names[0]}"
        handles += figure.axes[-1].plot([], [], color=INK, linewidth=1.1, linestyle=(0, (2, 1.2)), label=words)
    columns = min(len(handles), 4)
    figure.legend(handles=handles, loc="lower center", ncols=columns, frameon=False, fontsize=7.5, handlelength=1.6)


def _paler(colour: str, times: int) -> str:
    """The same colour, mixed with white once for each of the `times` it is already there."""
    share = 0.72**times
    return to_hex(tuple(1 - share * (1 - part) for part in to_rgb(colour)))  # type: ignore[arg-type]
