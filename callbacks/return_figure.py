"""The figure of returns: of the team and of each seat, over environment steps."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator
from numpy.typing import NDArray

from omg_lightning import ranks
from omg_lightning.evaluation.figures import save_figure
from omg_lightning.games.grid.icons import INK, SEAT_COLOURS
from omg_lightning.types import ConfigError

WINDOW = 5  # rounds in the moving average
_EVALUATION, _FAINT = "#B00060", "#5F6673"
_DASHES = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)))  # keeps seats with equal returns apart


class ReturnFigure(Callback):
    """Draws the team return and the return per seat over environment steps.

    The figure is added to TensorBoard's images as `figures/return`, every few epochs and at the end of `fit`, and then
    also to `return.png` in the run folder. An evaluation right after `fit` is added to both. Must come after
    `BufferRefresh` in the list of callbacks.

    Args:
        every: epochs between figures.
    """

    def __init__(self, every: int = 10) -> None:
        if every < 1:
            raise ConfigError(f"ReturnFigure every is {every}: it must be at least 1")
        self.every = every
        # Rounds: [env_steps, seconds, offline, return of seat 0, 1, ...]. Evaluations: [env_steps, mean, low, high].
        self.rounds: list[list[float]] = []
        self.evaluations: list[list[float]] = []
        self._seconds, self._resumed_at = 0.0, 0.0
        self._shown: Any = None  # the last round and evaluation in the last figure

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; a resumed run continues its clock."""
        self._resumed_at = time.perf_counter() - self._seconds

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Record the latest round, before any evaluation or checkpoint of this epoch."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if data.latest is None or (self.rounds and self.rounds[-1][0] == data.env_steps):
            return
        self._seconds = time.perf_counter() - self._resumed_at
        parts = ranks.gather(data.latest.episodes.reward.sum(0).mean(0).tolist())
        seats = [sum(values) / len(parts) for values in zip(*parts, strict=True)]
        offline = data.latest_offline
        self.rounds.append([float(data.env_steps), self._seconds, float(offline), *seats])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the evaluation; it replaces an earlier one at the same step."""
        found = trainer.callback_metrics
        if trainer.sanity_checking or not self._resumed_at or not self.rounds or "return/team_mean" not in found:
            return
        names = ("return/team_mean", "return/team_low", "return/team_high")  # one episode has no interval
        point = [self.rounds[-1][0], *(float(found.get(name, np.nan)) for name in names)]
        self.evaluations = [old for old in self.evaluations if old[0] != point[0]] + [point]
        if trainer.state.fn != "fit":
            self._show(trainer, save=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Update the training time, and show the figure every few epochs."""
        self._seconds = time.perf_counter() - self._resumed_at
        if (trainer.current_epoch + 1) % self.every == 0:
            self._show(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show and save the figure."""
        self._show(trainer, save=True)

    def state_dict(self) -> dict[str, Any]:
        """Return the history, for the figure of a resumed run."""
        return {"rounds": self.rounds, "evaluations": self.evaluations, "seconds": self._seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the history."""
        self.rounds, self.evaluations = list(state_dict["rounds"]), list(state_dict["evaluations"])
        self._seconds = state_dict["seconds"]

    def _show(self, trainer: Trainer, save: bool = False) -> None:
        folder = Path(trainer.log_dir or trainer.default_root_dir)  # on all ranks: it waits for the others
        if not self.rounds or not trainer.is_global_zero:
            return
        figure = return_figure(self.rounds, self.evaluations, trainer.datamodule.seats)  # type: ignore[attr-defined]
        if save and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            save_figure(figure, folder / "return.png")
        shown, self._shown = self._shown, (self.rounds[-1], self.evaluations[-1:])
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and shown != self._shown:
                logger.experiment.add_figure("figures/return", figure, int(self.rounds[-1][0]))


def return_figure(
    rounds: Sequence[Sequence[float]], evaluations: Sequence[Sequence[float]], seats: Sequence[str]
) -> Figure:
    """Draw the figure: the team return and the evaluations above, the seats below.

    Args:
        rounds: `[env_steps, seconds, offline, return of seat 0, 1, ...]`, means over the episodes of a round.
        evaluations: `[env_steps, mean, low, high]` of the team return.
        seats: the player in each seat, in the online phase.
    """
    table = np.asarray(rounds, dtype=float)
    steps, online, returns = table[:, 0], table[:, 2] == 0, table[:, 3:]
    figure = Figure(figsize=(5.4, 5.4), dpi=110, layout="constrained")  # TensorBoard shows it small
    team, each = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    _curve(team, steps, online, returns.sum(1), INK, f"training: {_mean_of(int(online.sum()))}", dots="each round")
    _evaluations(team, evaluations)
    for seat, name in enumerate(seats):
        colour, dash = SEAT_COLOURS[seat % len(SEAT_COLOURS)], _DASHES[seat % len(_DASHES)]
        _curve(each, steps, online, returns[:, seat], colour, f"seat {seat}: {name}", dash)
    team.set_ylabel("team return\n(points per episode)")
    each.set_ylabel("return of each seat\n(points per episode)")
    each.set_xlabel("environment steps")
    each.xaxis.set_major_formatter(EngFormatter(sep=""))
    for axes in (team, each):
        axes.set_xlim(0, 1.02 * steps[-1])
        low, high = min(0.0, axes.get_ylim()[0]), axes.get_ylim()[1]
        axes.set_ylim(low, high + 0.08 * (high - low))  # space for the text above
        _shade(axes, steps, ~online, "offline phase:\nscripted seats" if axes is team else "")
        axes.grid(axis="y", color="#DDDFE3", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    # Below the panels: inside, a legend could hide an early evaluation.
    style: dict[str, Any] = {"frameon": False, "fontsize": 8, "handlelength": 1.8, "columnspacing": 1.2}
    team.legend(loc="upper center", bbox_to_anchor=(0.46, -0.03), ncols=3, **style)
    each.legend(loc="upper center", bbox_to_anchor=(0.46, -0.3), ncols=2 if len(seats) in (2, 4) else 3, **style)
    _clock(team, steps, table[:, 1])
    return figure


def smooth(values: NDArray) -> NDArray:
    """Return centred means over `WINDOW` neighbours, over fewer at both ends."""
    if len(values) == 0:
        return values
    first, kernel = WINDOW // 2, np.ones(WINDOW)
    total, count = (np.convolve(x, kernel)[first : first + len(values)] for x in (values, np.ones(len(values))))
    return total / count


def _mean_of(rounds: int) -> str:
    """Return what the curve shows for this number of online rounds."""
    return "one round" if rounds == 1 else f"mean of {min(WINDOW, rounds)} rounds"


def _curve(
    axes: Axes,
    x: NDArray,
    online: NDArray,
    y: NDArray,
    colour: str,
    label: str,
    dash: Any = "-",
    dots: str = "_rounds",
) -> None:
    """Draw a point for each round, and the moving average over the online rounds, in which the learner plays.

    Points are drawn above everything else, so that an evaluation at the same step does not hide them.
    """
    drawn = bool(online.any())
    points = dots if drawn or dots != "_rounds" else label
    axes.plot(x, y, ".", color=colour, alpha=0.35, markersize=5, markeredgewidth=0, label=points, zorder=6)
    if drawn:
        axes.plot(x[online], smooth(y[online]), color=colour, linestyle=dash, linewidth=1.6, label=label)


def _evaluations(axes: Axes, evaluations: Sequence[Sequence[float]]) -> None:
    if not evaluations:
        return
    steps, mean, low, high = np.asarray(evaluations, dtype=float).T
    known = "evaluation: mean, 95% interval" if np.isfinite(low).any() else "evaluation: mean"
    axes.errorbar(
        steps,
        mean,
        yerr=[mean - low, high - mean],
        fmt="D",
        color=_EVALUATION,
        markersize=5,
        markeredgecolor="white",
        markeredgewidth=0.8,
        capsize=3,
        linewidth=1.2,
        zorder=5,
        label=known,
    )


def _shade(axes: Axes, steps: NDArray, offline: NDArray, words: str) -> None:
    """Shade the offline phase, from step 0 to its last round."""
    if not offline.any():
        return
    end = steps[offline].max()
    axes.axvspan(0, end, color="#EDEEF1", zorder=0, linewidth=0)
    place = axes.get_xaxis_transform()  # x in steps, y from 0 to 1
    axes.text(0.01 * axes.get_xlim()[1], 0.97, words, transform=place, va="top", fontsize=7.5, color=_FAINT)


def _clock(axes: Axes, steps: NDArray, seconds: NDArray) -> None:
    """Add wall-clock time along the top: a tick at each round number of seconds."""
    top = axes.twiny()
    left, right = axes.get_xlim()
    top.set_xlim(left, right)
    ticks, labels = [0.0], ["0"]
    for tick in MaxNLocator(6, steps=[1, 2, 3, 5, 6, 10]).tick_values(0, seconds[-1])[1:]:
        at = float(np.interp(tick, [0.0, *seconds], [0.0, *steps]))
        if tick <= seconds[-1] and at - ticks[-1] > 0.07 * (right - left):  # labels must not overlap
            ticks, labels = [*ticks, at], [*labels, f"{tick:g}"]
    top.set_xticks(ticks, labels)
    top.set_xlabel("wall-clock time (s)")
    top.spines[["right"]].set_visible(False)
