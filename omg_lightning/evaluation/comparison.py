"""Comparison of several methods with several seeds each, in one or more games. Runs in, plain numbers out.

Aggregates are those of Agarwal et al. 2021 (arXiv 2108.13264); intervals over seeds are Student's t, see
`omg_lightning/metrics/intervals.py`, because the bootstrap of that paper is too narrow below ten seeds.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from omg_lightning.evaluation.learning import Band, band
from omg_lightning.evaluation.runs import Group, Run
from omg_lightning.evaluation.scores import normalise
from omg_lightning.evaluation.statistics import Summary, iqm, mean
from omg_lightning.metrics.intervals import Bounds

LEVELS = 201  # number of levels of a performance profile


def improvement(first: ArrayLike, second: ArrayLike) -> float:
    """Return the probability that a run of `first` has a larger value than a run of `second`; a tie counts as half.

    This is the statistic of Mann and Whitney over the number of pairs (Agarwal et al. 2021, section 4.3).
    """
    one, other = np.asarray(first, dtype=float)[:, None], np.asarray(second, dtype=float)[None]
    return float(((one > other) + 0.5 * (one == other)).mean())


def profile(rows: Sequence[ArrayLike], levels: NDArray) -> NDArray:
    """Return the share of runs above each level `[L]`, averaged over games (Agarwal et al. 2021, section 4.2).

    Args:
        rows: for each game, the values of the seeds.
        levels: `[L]`.
    """
    return np.mean([(np.asarray(row, dtype=float)[:, None] > levels).mean(0) for row in rows], 0)


def compare(games: Mapping[str, Group], metrics: Sequence[str]) -> dict[str, Any]:
    """Return all numbers of a comparison as JSON types.

    Args:
        games: the runs of each method in each game; some may lack a method.
        metrics: names of metrics; curves, profiles and improvements are for the first one.

    Returns:
        `games`: for each game `methods` (for each of them its runs, and `metrics` and `curve`) and `improvement`, the
        probability that a run of one method is better than one of another. `profile`: levels, and the share of runs of
        each method above them, for methods with runs in all games. With several games, `overall`: mean and
        interquartile mean of these methods over games, normalised by the best possible return, if it is known.
    """
    metric = metrics[0]
    found: dict[str, Any] = {"metrics": list(metrics), "games": {}}
    for game, methods in games.items():
        first = next(iter(methods.values()))
        values = {name: _values(runs, metric) for name, runs in methods.items()}
        found["games"][game] = {
            "bounds": _bounds(methods, metric),
            "methods": {name: _method(runs, first, methods, metrics) for name, runs in methods.items()},
            "improvement": {
                one: {other: improvement(values[one], values[other]) for other in values} for one in values
            },
        }
    everywhere = [name for name in next(iter(games.values())) if all(name in methods for methods in games.values())]
    scale = _scale(games, metric)
    if scale is not None:
        common = {name: _common([games[game][name] for game in games]) for name in everywhere}
        rows = {
            name: [scale[game](_values(row, metric)) for game, row in zip(games, runs, strict=True)]
            for name, runs in common.items()
            if runs[0]
        }
        levels = _levels(np.concatenate([value for row in rows.values() for value in row] or [np.zeros(1)]))
        found["profile"] = {
            "levels": levels.tolist(),
            "methods": {name: profile(row, levels).tolist() for name, row in rows.items()},
        }
        if len(games) > 1:
            found["overall"] = {name: _overall(row) for name, row in rows.items()}
    return found


def _method(runs: Sequence[Run], first: Sequence[Run], methods: Group, metrics: Sequence[str]) -> dict[str, Any]:
    """Return the numbers of one method in one game."""
    entry: dict[str, Any] = {
        "runs": [run.path for run in runs],
        "seeds": [run.seed for run in runs],
        "commits": sorted({run.commit for run in runs if run.commit}),
        "metrics": {},
        "curve": None,
    }
    for name in metrics:
        values, bounds = _values(runs, name), _bounds(methods, name)
        entry["metrics"][name] = {
            "values": values.tolist(),
            "mean": _plain(mean(values, bounds)),
            "iqm": _plain(iqm(values, bounds)),
        }
        if runs is not first:
            entry["metrics"][name]["difference"] = _difference(runs, first, name)
    for name in ("buffer/env_steps", "time/fit_s"):
        known = [run.numbers[name] for run in runs if name in run.numbers]
        entry[name] = float(np.mean(known)) if known else None
    curves = [curve for run in runs if (curve := run.curve(metrics[0])) is not None]
    if len(curves) == len(runs) and (found := band(curves, _bounds(methods, metrics[0]))) is not None:
        entry["curve"] = _table(found)
    return entry


def _difference(runs: Sequence[Run], first: Sequence[Run], metric: str) -> dict[str, Any] | None:
    """Return the mean paired difference from the first method, with its interval; None without common seeds."""
    one, other = ({run.seed: run.value(metric) for run in each} for each in (runs, first))
    common = [seed for seed in one if seed in other]
    if not common:
        return None
    return {"seeds": common, **_plain(mean([one[seed] - other[seed] for seed in common]))}


def _scale(games: Mapping[str, Group], metric: str) -> dict[str, Any] | None:
    """Return for each game how its values map to a common scale; None if one of several games has no bounds."""
    if len(games) == 1:
        return {game: lambda values: values for game in games}
    bounds = {game: _bounds(methods, metric) for game, methods in games.items()}
    if not all(each is not None and each[1] > each[0] for each in bounds.values()):
        return None
    return {
        game: lambda values, ends=each: np.array([normalise(value, *ends) for value in values])
        for game, each in bounds.items()
    }


def _common(games: Sequence[Sequence[Run]]) -> list[list[Run]]:
    """Return the runs of a method in each game, for the seeds that all games have."""
    seeds = set.intersection(*({run.seed for run in runs} for runs in games))
    return [[run for run in runs if run.seed in seeds] for runs in games]


def _levels(values: NDArray) -> NDArray:
    """Return the levels of a profile: the range of all values, with a margin."""
    low, high = values.min(), values.max()
    margin = 0.05 * (high - low) or 0.05 * max(1.0, abs(high))
    return np.linspace(low - margin, high + margin, LEVELS)


def _overall(row: Sequence[NDArray]) -> dict[str, Any]:
    """Return mean and interquartile mean over games, each with the values of the same seeds."""
    table = np.stack(row)  # [C, n]
    return {"seeds": table.shape[1], "mean": _plain(mean(table, (0, 1))), "iqm": _plain(iqm(table, (0, 1)))}


def _values(runs: Sequence[Run], metric: str) -> NDArray:
    return np.array([run.value(metric) for run in runs], dtype=float)


def _bounds(methods: Group, metric: str) -> Bounds | None:
    return next((known for runs in methods.values() for run in runs if (known := run.bounds(metric))), None)


def _plain(summary: Summary) -> dict[str, float | None]:
    return {key: float(value) if np.isfinite(value) else None for key, value in summary._asdict().items()}


def _table(curve: Band) -> dict[str, list[float | None]]:
    return {
        name: [float(value) if np.isfinite(value) else None for value in np.asarray(row, dtype=float).round(6).tolist()]
        for name, row in curve._asdict().items()
    }
