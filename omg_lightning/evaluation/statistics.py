"""Statistics over seeds: mean and interquartile mean (Agarwal et al. 2021, arXiv 2108.13264) with their intervals."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from omg_lightning.metrics.intervals import Bounds, student


class Summary(NamedTuple):
    """A statistic of several seeds, with a 95% interval; low and high are NaN for a single seed."""

    value: float
    low: float
    high: float


def mean(table: ArrayLike, bounds: Bounds | None = None) -> Summary:
    """Return the mean of `table` `[C, n]` or `[n]`, with Student's t interval over the n seeds.

    Args:
        table: for each co-player, the values of the seeds; column k belongs to seed k, whose values may be correlated.
        bounds: of the mean, if known.
    """
    seeds = np.atleast_2d(np.asarray(table, dtype=float)).mean(0)
    return Summary(float(seeds.mean()), *map(float, student(seeds, bounds)))


def iqm(table: ArrayLike, bounds: Bounds | None = None) -> Summary:
    """Return the interquartile mean of all values: without the lowest and the highest quarter; see `mean`.

    A quarter is rounded down, as in `scipy.stats.trim_mean(x, 0.25)`: of five values one is dropped at each end, of
    three none. The interval is that of Tukey and McLaughlin (1963): the spread is that of the winsorised values, in
    which each dropped value is replaced by the nearest one that counts, and these are averaged for each seed.
    """
    values = np.atleast_2d(np.asarray(table, dtype=float))
    rows, count = values.shape
    ranked = np.sort(values, axis=None)
    cut = len(ranked) // 4
    kept = ranked[cut : len(ranked) - cut]
    winsorised: NDArray = values.clip(kept[0], kept[-1]).mean(0)  # [n]
    if count < 2:
        return Summary(float(kept.mean()), float("nan"), float("nan"))
    spread = winsorised.std(ddof=1) * len(ranked) / len(kept)
    # One co-player: degrees of freedom from the values that count. With several ones a seed is hardly ever dropped.
    less = min(2 * cut / rows**2, count - 2)
    ends = student(winsorised - winsorised.mean() + kept.mean(), bounds, spread, less)
    return Summary(float(kept.mean()), *map(float, ends))
