"""95% intervals of a mean: for few or many values, and never outside of the possible range.

Two methods. `bounded` needs the least and the greatest possible value and assumes nothing else, so it also covers
returns that are nearly always equal. `student` needs no bounds; it is exact for normal values, and so about right for
means of many episodes. Returns of single episodes are skewed, so they use `bounded` if bounds are known.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

LEVEL = 0.95
_TAILS = (1 - LEVEL) / 2, (1 + LEVEL) / 2
_DRAWS = 10_000
_AT_ONCE = 2**20  # weights sampled at once
Bounds = tuple[float, float]  # the least and the greatest possible value


class Interval(NamedTuple):
    """Both ends of an interval; NaN if there are too few values."""

    low: NDArray  # float [...]
    high: NDArray  # float [...]


def student(
    values: ArrayLike, bounds: Bounds | None = None, spread: NDArray | None = None, less: float = 0
) -> Interval:
    """Return Student's t interval of the mean over the last axis of `values` `[..., n]`, cut off at the bounds.

    Equal values have an interval of length 0, and a single value has none.

    Args:
        values: independent of each other.
        bounds: least and greatest possible value, if known.
        spread: standard deviation `[...]` to use instead of that of the values.
        less: number of degrees of freedom to subtract from n - 1.
    """
    table = np.asarray(values, dtype=float)
    count, middle = table.shape[-1], table.mean(-1)
    if count < 2:
        return Interval(np.full_like(middle, np.nan), np.full_like(middle, np.nan))
    deviation = table.std(-1, ddof=1) if spread is None else spread
    half = stats.t.ppf(_TAILS[1], count - 1 - less) * deviation / count**0.5
    low, high = (-np.inf, np.inf) if bounds is None else bounds
    return Interval(np.maximum(middle - half, low), np.minimum(middle + half, high))


def stratified(strata: Sequence[ArrayLike], bounds: Bounds | None = None) -> Interval:
    """Return the interval of the mean of independent values in strata, such as kinds of partners.

    The strata are fixed, so differences between them are not random: the variance is that within them, and the degrees
    of freedom are those of Welch and Satterthwaite (1946). There is no interval if a stratum has a single value.

    Args:
        strata: the values `[n]` of each; the weight of a stratum is its number of values.
        bounds: least and greatest possible value, if known.
    """
    tables = [np.asarray(values, dtype=float) for values in strata]
    counts = np.array([len(values) for values in tables])
    if not len(counts) or counts.min() < 2:
        return Interval(np.array(np.nan), np.array(np.nan))
    shares = counts / counts.sum()
    parts = shares**2 * np.array([values.var(ddof=1) for values in tables]) / counts  # variance of the mean, by stratum
    freedom = parts.sum() ** 2 / (parts**2 / (counts - 1)).sum() if parts.sum() else 1.0
    half = stats.t.ppf(_TAILS[1], freedom) * parts.sum() ** 0.5
    middle = np.concatenate(tables).mean()
    low, high = (-np.inf, np.inf) if bounds is None else bounds
    return Interval(np.maximum(middle - half, low), np.minimum(middle + half, high))


def bounded(values: ArrayLike, bounds: Bounds) -> Interval:
    """Return Gaffke's interval of the mean of `values` `[n]`, which assumes only that they are bounded.

    The lower end is a quantile of means of the values and the lower bound, with random weights: those of the Bayesian
    bootstrap, Dirichlet(1, ..., 1). The upper end likewise. For values that are 0 or 1 it is the interval of Clopper
    and Pearson. That it always covers is conjectured, and no counter-example is known (Learned-Miller and Thomas 2019,
    arXiv 1905.06208).
    """
    table = np.asarray(values, dtype=float)
    if len(table) < 2:
        return Interval(np.array(np.nan), np.array(np.nan))
    alone, times = np.unique(table, return_counts=True)  # equal values share their weights
    random, ends = np.random.default_rng(0), []
    for bound, tail in zip(bounds, _TAILS, strict=True):
        levels, shapes, means = np.append(alone, bound), np.append(times, 1), []
        chunk = max(1, _AT_ONCE // len(levels))
        for start in range(0, _DRAWS, chunk):
            weights = random.standard_gamma(shapes, size=(min(chunk, _DRAWS - start), len(shapes)))
            means.append(weights @ levels / weights.sum(1))
        ends.append(np.quantile(np.concatenate(means), tail))
    low, high = np.minimum(ends[0], table.mean()), np.maximum(ends[1], table.mean())
    return Interval(np.maximum(low, bounds[0]), np.minimum(high, bounds[1]))


def of_episodes(values: ArrayLike, bounds: Bounds | None) -> Interval:
    """Return the interval of the mean of single episodes `[n]`: `bounded` if bounds are known, else `student`."""
    return student(values) if bounds is None else bounded(values, bounds)
