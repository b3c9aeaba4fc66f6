"""The numbers of the adaptation protocol, from the returns of a relationship's episodes. Arrays in, numbers out."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from omg_lightning.metrics.intervals import Bounds, student

WINDOW = 5  # episodes in the moving average that determines when a learner has adapted
SHARE = 0.9  # share of the final return that counts as adapted
GAIN = 20  # episodes at the start and at the end that the adaptation gain compares


class Relationship(NamedTuple):
    """The episodes of one relationship, in order of play."""

    returns: NDArray  # float [E] of the focal seat
    length: NDArray  # int [E] environment steps
    counts: NDArray | None = None  # bool [E] the episodes with the partners of interest; None for all


class Curve(NamedTuple):
    """The return at each episode index, over relationships or seeds."""

    mean: NDArray  # float [K]
    smooth: NDArray  # float [K] mean of this episode and the next ones, `WINDOW` in all
    low: NDArray  # float [K] 95% interval of `smooth`; NaN for no interval
    high: NDArray  # float [K]


def within(played: Relationship, steps: int) -> Relationship:
    """Return the episodes that end within the first `steps` environment steps."""
    count = int((np.cumsum(played.length) <= steps).sum())
    return Relationship(*(None if field is None else field[:count] for field in played))  # type: ignore[arg-type]


def final_return(played: Relationship, steps: int, last: int) -> float:
    """Return the mean return of the episodes that end after step `steps - last` and not after `steps`.

    An episode counts as a whole or not at all, so the score is on the scale of a return. An episode that began before
    the last steps and ends in them counts; one that the end of the protocol cuts off does not.

    Returns:
        NaN if there is no such episode, or if the relationship was interrupted.
    """
    ends = np.cumsum(played.length)
    if is_short(played, steps):
        return float("nan")
    counts = (ends > steps - last) & (ends <= steps) & (True if played.counts is None else played.counts)
    return float(played.returns[counts].mean()) if counts.any() else float("nan")


def is_short(played: Relationship, steps: int) -> bool:
    """Return whether the relationship was interrupted before its last step."""
    return int(played.length.sum()) < steps


def gain(played: Relationship) -> float:
    """Return the adaptation gain: mean return of the last `GAIN` episodes that count, minus that of the first.

    Returns:
        NaN if these would overlap.
    """
    returns = played.returns if played.counts is None else played.returns[played.counts]
    return float(returns[-GAIN:].mean() - returns[:GAIN].mean()) if len(returns) >= 2 * GAIN else float("nan")


def stretches(played: Relationship, whole: bool = True) -> list[NDArray]:
    """Return the returns of each run of episodes that count.

    Args:
        played: the relationship; a run is the time for which a partner stays.
        whole: omit a run that the end cut off. A partner that always stays is never cut off.
    """
    if played.counts is None or played.counts.all():
        return [played.returns] if len(played.returns) else []
    edges = np.flatnonzero(np.diff(np.concatenate([[0], played.counts.astype(int), [0]])))
    runs = [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]
    return [played.returns[start:stop] for start, stop in runs if not whole or stop < len(played.returns)]


def mean_stretch(runs: Sequence[NDArray]) -> NDArray:
    """Return the mean return at each episode index over runs of any length, up to the longest: float `[K]`."""
    longest = max(map(len, runs))
    return np.array([np.mean([run[k] for run in runs if len(run) > k]) for k in range(longest)])


def smooth(values: NDArray, window: int = WINDOW) -> NDArray:
    """Return means of each value `[K]` and the next ones, `window` in all; near the end, of the last `window`."""
    last = max(0, len(values) - window)
    return np.array([values[min(k, last) :][:window].mean() for k in range(len(values))])


def curve(rows: Sequence[NDArray], bounds: Bounds | None = None, ragged: bool = False) -> Curve:
    """Return the mean return at each episode index, with Student's t intervals.

    Args:
        rows: for each relationship, the return at each episode index.
        bounds: of a return, if known.
        ragged: continue to the longest row. By default the curve ends with the shortest row: beyond it, the mean would
            only be over relationships with short episodes. If partners change after a number of episodes, lengths
            do not depend on play.
    """
    length = (max if ragged else min)(map(len, rows))
    table, smoothed = np.full((2, len(rows), length), np.nan)
    for k, row in enumerate(rows):
        kept = np.asarray(row[:length], dtype=float)
        table[k, : len(kept)], smoothed[k, : len(kept)] = kept, smooth(kept)
    columns = [column[~np.isnan(column)] for column in smoothed.T]
    ends = np.array([student(column, bounds) for column in columns]).reshape(length, 2)
    return Curve(np.nanmean(table, 0), np.array([column.mean() for column in columns]), *ends.T)


def adapted_at(smoothed: NDArray, final: float) -> int | None:
    """Return the first episode index, from 1, at which the learner's return is near its final return.

    That is the first k at which the mean of `WINDOW` episodes k, k + 1, ... is not below `final` by more than a tenth
    of it; None if there is none.

    Args:
        smoothed: `Curve.smooth` `[K]`.
        final: the return in the end.
    """
    reached = smoothed >= final - (1 - SHARE) * abs(final)
    return int(reached.argmax()) + 1 if reached.any() else None


def normalise(value: float, random: float, best_response: float) -> float:
    """Return a return normalised between that of a random player (0) and that of a best response (1).

    Raises:
        ValueError: the best response is not better than random play.
    """
    if best_response <= random:
        raise ValueError(f"the best response has return {best_response:.3g}, not above {random:.3g} of random play")
    return (value - random) / (best_response - random)
