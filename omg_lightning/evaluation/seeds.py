"""Puts together what `test` found with several seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omg_lightning.evaluation.protocol import load
from omg_lightning.evaluation.scores import Curve, smooth
from omg_lightning.evaluation.statistics import Summary, bootstrap, iqm, mean
from omg_lightning.types import ConfigError

_CURVE_DRAWS = 1_000
_SHARED = ("game", "steps", "score_steps", "belief", "networks")


def read(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Read the runs, and check that they differ in the seed alone.

    Raises:
        ConfigError: runs of other games, settings, co-players or references; or twice of one seed.
    """
    runs = [load(path) for path in paths]
    first, seeds = runs[0], [run["seed"] for run in runs]
    if len(set(seeds)) < len(seeds):
        raise ConfigError(
            f"the runs were trained with seeds {seeds}: give one of each seed, for these are what is resampled"
        )
    for path, run in zip(paths, runs, strict=True):
        for key in _SHARED:
            if run.get(key) != first.get(key):
                raise ConfigError(f"{path} and {paths[0]} differ in {key}: {run.get(key)} and {first.get(key)}")
        if run["partners"].keys() != first["partners"].keys():
            raise ConfigError(f"{path} and {paths[0]} have other partners: {list(run['partners'])}")
        for partner, result in run["partners"].items():
            if result["final"] is None:
                raise ConfigError(f"{path} was cut short: run `test` to the end")
            for key in ("random", "best_response"):
                if result[key] != first["partners"][partner][key]:
                    raise ConfigError(f"{path} and {paths[0]} were scored by other references: run `test` again")
    return runs


def summarise(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return mean and interquartile mean of final returns and scores, for each co-player and over all with a score."""
    partners = list(runs[0]["partners"])
    found: dict[str, Any] = {"seeds": [run["seed"] for run in runs], "partners": {}}
    for partner in partners:
        entry: dict[str, Any] = {
            "label": runs[0]["partners"][partner]["label"],
            "return": _both([_values(runs, partner, "final")]),
        }
        if runs[0]["partners"][partner]["score"] is not None:
            entry["score"] = _both([_values(runs, partner, "score")])
        found["partners"][partner] = entry
    scored = [partner for partner in partners if "score" in found["partners"][partner]]
    if scored:  # returns beside different co-players are on different scales; only scores go together
        found["overall"] = {"partners": scored, "score": _both([_values(runs, name, "score") for name in scored])}
    return found


def seed_curve(means: Sequence[NDArray]) -> Curve:
    """Return the mean return over seeds at each episode index that all seeds reached, with bootstrap intervals."""
    length = min(map(len, means))
    table = np.stack([values[:length] for values in means])  # [seeds, K]
    smoothed = np.stack([smooth(row) for row in table])
    columns = np.array([bootstrap([values], mean, _CURVE_DRAWS) for values in smoothed.T])  # [K, 3], NaN for one seed
    low, high = (np.where(np.isnan(edge), columns[:, 0], edge) for edge in columns.T[1:])
    return Curve(table.mean(0), columns[:, 0], low, high)


def _values(runs: Sequence[dict[str, Any]], partner: str, key: str) -> NDArray:
    return np.array([run["partners"][partner][key] for run in runs], dtype=float)


def _both(strata: Sequence[NDArray]) -> dict[str, Any]:
    return {
        "values": [values.tolist() for values in strata],
        "mean": _plain(bootstrap(strata, mean)),
        "iqm": _plain(bootstrap(strata, iqm)),
    }


def _plain(summary: Summary) -> dict[str, float | None]:
    return {key: float(value) if np.isfinite(value) else None for key, value in summary._asdict().items()}
