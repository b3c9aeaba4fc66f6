"""Combine the results of `test` over several training seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omg_lightning.evaluation.protocol import load
from omg_lightning.evaluation.scores import Curve, normalise, smooth
from omg_lightning.evaluation.statistics import Summary, iqm, mean
from omg_lightning.metrics.intervals import Bounds, student
from omg_lightning.types import ConfigError

_SAME = "give runs of `test` with the same settings"
_SHARED = ("game", "steps", "score_steps", "belief", "networks", "unseen", "ratio", "change_episodes", "change_within")


def read(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Read the runs, and check that they differ only in their seed.

    Raises:
        ConfigError: the runs have different games, settings, co-players or references, or a seed occurs twice.
    """
    runs = [load(path) for path in paths]
    first, seeds = runs[0], [run["seed"] for run in runs]
    if len(set(seeds)) < len(seeds):
        raise ConfigError(
            f"the runs were trained with seeds {seeds}: give one run of each seed, since intervals are over seeds"
        )
    for path, run in zip(paths, runs, strict=True):
        for key in _SHARED:
            if run.get(key) != first.get(key):
                raise ConfigError(
                    f"{path} and {paths[0]} differ in {key}: {run.get(key)} and {first.get(key)}; {_SAME}"
                )
        if run["partners"].keys() != first["partners"].keys():
            raise ConfigError(f"{path} and {paths[0]} have different partners: {list(run['partners'])}; {_SAME}")
        for partner, result in run["partners"].items():
            if result["final"] is None:
                raise ConfigError(f"{path} was interrupted: run `test` to the end")
            for key in ("random", "best_response"):
                if result[key] != first["partners"][partner][key]:
                    raise ConfigError(f"{path} and {paths[0]} have different references: repeat `test` with one file")
    return runs


def summarise(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return mean and interquartile mean of final returns, scores and shares of the best response's return (BR-Prox).

    For each co-player, and over all that have them.
    """
    partners, bounds = list(runs[0]["partners"]), runs[0].get("seat_bounds")
    scales: dict[str, Bounds | None] = {}  # of scores
    shares: dict[str, NDArray] = {}
    found: dict[str, Any] = {"seeds": [run["seed"] for run in runs], "partners": {}}
    for partner in partners:
        entry: dict[str, Any] = {
            "label": runs[0]["partners"][partner]["label"],
            "return": _both([_values(runs, partner, "final")], bounds),
        }
        result = runs[0]["partners"][partner]
        entry |= {key: result[key] for key in ("random", "best_response") if result[key] is not None}
        if result["best_response"] is not None and result["best_response"] > 0:
            shares[partner] = _values(runs, partner, "final") / result["best_response"]
            entry["br_prox"] = _both([shares[partner]], None)
        if result["score"] is not None:
            ends = [normalise(end, result["random"], result["best_response"]) for end in bounds or ()]
            scales[partner] = (ends[0], ends[1]) if ends else None
            entry["score"] = _both([_values(runs, partner, "score")], scales[partner])
        found["partners"][partner] = entry
    scored = [partner for partner in partners if "score" in found["partners"][partner]]
    if scored:  # returns with different co-players are on different scales; only scores can be averaged
        known = [scale for name in scored if (scale := scales[name]) is not None]
        whole = (min(low for low, _ in known), max(high for _, high in known)) if known else None
        found["overall"] = {"partners": scored, "score": _both([_values(runs, x, "score") for x in scored], whole)}
        if all(partner in shares for partner in scored):
            found["overall"]["br_prox"] = _both([shares[partner] for partner in scored], None)
    return found


def seed_curve(means: Sequence[NDArray], bounds: Bounds | None = None) -> Curve:
    """Return the mean return over seeds at each episode index that all seeds have, with Student's t intervals."""
    length = min(map(len, means))
    table = np.stack([values[:length] for values in means])  # [seeds, K]
    smoothed = np.stack([smooth(row) for row in table])
    return Curve(table.mean(0), smoothed.mean(0), *student(smoothed.T, bounds))


def _values(runs: Sequence[dict[str, Any]], partner: str, key: str) -> NDArray:
    return np.array([run["partners"][partner][key] for run in runs], dtype=float)


def _both(rows: Sequence[NDArray], bounds: Bounds | None) -> dict[str, Any]:
    values = [row.tolist() for row in rows]
    return {"values": values, "mean": _plain(mean(rows, bounds)), "iqm": _plain(iqm(rows, bounds))}


def _plain(summary: Summary) -> dict[str, float | None]:
    return {key: float(value) if np.isfinite(value) else None for key, value in summary._asdict().items()}
