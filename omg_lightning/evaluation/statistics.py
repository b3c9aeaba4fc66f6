"""Statistics over seeds: interquartile mean and stratified bootstrap (Agarwal et al. 2021, arXiv 2108.13264)."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

DRAWS = 10_000
Statistic = Callable[[NDArray], NDArray]  # float [..., n] -> [...], over the last axis


class Summary(NamedTuple):
    """A statistic of several seeds, with a 95% interval; low and high are NaN for a single seed."""

    value: float
    low: float
    high: float


def mean(values: NDArray) -> NDArray:
    """Return the mean over the last axis of `values` `[..., n]`."""
    return np.asarray(values.mean(-1))


def iqm(values: NDArray) -> NDArray:
    """Return the interquartile mean over the last axis of `[..., n]`: without the lowest and the highest quarter.

    A quarter is rounded down, as in `scipy.stats.trim_mean(x, 0.25)`: of five seeds one is left out at each end, of
    three none.
    """
    count = values.shape[-1]
    cut = count // 4
    return np.asarray(np.sort(values, axis=-1)[..., cut : count - cut].mean(-1))


def bootstrap(strata: Sequence[NDArray], statistic: Statistic, draws: int = DRAWS, seed: int = 0) -> Summary:
    """Return a statistic of all values, with its percentile interval under a stratified bootstrap.

    Args:
        strata: for each co-player, the values of its seeds `[n]`. Seeds are drawn again, with replacement, within each
            co-player, so that every sample has as many of each as the data.
        statistic: of all values together.
        draws: bootstrap samples.
        seed: of the draws.
    """
    value = float(statistic(np.concatenate(strata)))
    if all(len(values) < 2 for values in strata):
        return Summary(value, float("nan"), float("nan"))
    random = np.random.default_rng(seed)
    samples = [values[random.integers(len(values), size=(draws, len(values)))] for values in strata]
    low, high = np.percentile(statistic(np.concatenate(samples, axis=-1)), [2.5, 97.5])
    return Summary(value, float(low), float(high))
