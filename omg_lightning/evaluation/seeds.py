"""Combine the results of `test` over several training seeds."""

import glob
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omg_lightning.evaluation.protocol import FILE, load
from omg_lightning.evaluation.references import COMMAND, References
from omg_lightning.evaluation.scores import normalise
from omg_lightning.evaluation.statistics import Summary, iqm, mean
from omg_lightning.files import named
from omg_lightning.metrics.intervals import Bounds, student
from omg_lightning.types import ConfigError

_SAME = "give runs of `test` with the same settings"
EARLY = 5, 10  # the first and the last of the early episodes of a relationship, whose mean return is reported
_SHARED = ("game", "steps", "score_steps", "belief", "networks", "unseen", "ratio", "change_episodes", "change_within")


def gather(words: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the runs of each method, in the order of their seeds; "" is the name of a single method without one.

    Args:
        words: RUN each; or NAME=RUN, with a folder or a pattern of several.

    Raises:
        ConfigError: a run does not exist; or runs of a method differ in more than the seed, those of several methods in
            more than that and the partners.
    """
    split = [named(word) for word in words]
    if len({bool(name) for name, _ in split}) > 1:
        raise ConfigError("got runs with and without a method: give NAME=RUN for all of them, or for none")
    paths: dict[str, list[Path]] = {}
    for name, pattern in split:
        found = [Path(each) for each in sorted(glob.glob(pattern))] if glob.has_magic(pattern) else [Path(pattern)]
        if not found:
            raise ConfigError(
                f"no path matches {pattern}: give the run folders of `test`, such as 'runs/test_*' in quotes"
            )
        paths.setdefault(name, []).extend(map(_folder, found))
    methods = {name: sorted(read(each), key=lambda run: run["seed"]) for name, each in paths.items()}
    (first, runs), *others = methods.items()
    for name, each in others:
        for key in _SHARED:
            if runs[0].get(key) != each[0].get(key):
                both = f"{runs[0].get(key)} and {each[0].get(key)}"
                raise ConfigError(f"{first} and {name} differ in {key}: {both}; {_SAME}")
        if runs[0]["partners"].keys() != each[0]["partners"].keys():
            raise ConfigError(f"{first} and {name} have different partners: {list(each[0]['partners'])}; {_SAME}")
    return methods


def _folder(path: Path) -> Path:
    """Return the path of a run, which may be the only one below its `lightning_logs`."""
    below = sorted(path.glob(f"lightning_logs/version_*/{FILE}"))
    return below[0] if len(below) == 1 and not (path / FILE).is_file() else path


def read(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Read the runs, and check that they differ only in their seed.

    Raises:
        ConfigError: the runs have different games, settings or co-players, or a seed occurs twice.
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
        for result in run["partners"].values():
            if result["final"] is None:
                raise ConfigError(f"{path} was interrupted: run `test` to the end")
    return runs


def refer_all(methods: Mapping[str, Sequence[dict[str, Any]]], references: References) -> list[str]:
    """Compute the scores of all runs from these references, in place; return a note for each partner without one.

    Raises:
        ConfigError: there is no reference for any partner, or a best response is no better than random play.
    """
    notes: dict[str, str] = {}
    every = [(run["game"], *item) for runs in methods.values() for run in runs for item in run["partners"].items()]
    for game, partner, result in every:
        entry = references.find(game, partner)
        if entry is None:
            notes[partner] = f"{references.missing(game, partner)}: {COMMAND} makes it"
            result |= dict.fromkeys(("random", "best_response", "score"))
            continue
        random, best = float(entry["random"]), float(entry["best_response"])
        try:
            score = normalise(result["final"], random, best)
        except ValueError as error:
            raise ConfigError(f"{partner}: {error}: train the reference for longer") from error
        result |= {"random": random, "best_response": best, "score": score}
    if len(notes) == len({partner for _, partner, _ in every}):
        raise ConfigError(next(iter(notes.values())))
    return list(notes.values())


def summarise(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return mean and interquartile mean of final returns, scores and shares of the best response's return (BR-Prox).

    For each co-player, and over all that have them.

    Raises:
        ConfigError: the runs have different references.
    """
    for partner, result in runs[0]["partners"].items():
        if any(run["partners"][partner][key] != result[key] for run in runs for key in ("random", "best_response")):
            raise ConfigError(f"the runs have different references for {partner}: give one file with --references")
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
        curves = [np.array(run["partners"][partner]["curve"]["mean"], dtype=float) for run in runs]
        entry["curve"] = _plain_lists(seed_curve(curves, bounds))
        first, last = EARLY
        if all(len(curve) >= last for curve in curves):
            early = np.array([curve[first - 1 : last].mean() for curve in curves])
            entry["early"] = _both([early], bounds)
        if result["best_response"] is not None and result["best_response"] > 0:
            shares[partner] = _values(runs, partner, "final") / result["best_response"]
            entry["br_prox"] = _both([shares[partner]], None)
        if result["score"] is not None:
            ends = [normalise(end, result["random"], result["best_response"]) for end in bounds or ()]
            scales[partner] = (ends[0], ends[1]) if ends else None
            entry["score"] = _both([_values(runs, partner, "score")], scales[partner])
            if "early" in entry:
                scores = [normalise(value, result["random"], result["best_response"]) for value in early.tolist()]
                entry["early_score"] = _both([np.array(scores)], scales[partner])
        found["partners"][partner] = entry
    scored = [partner for partner in partners if "score" in found["partners"][partner]]
    if scored:  # returns with different co-players are on different scales; only scores can be averaged
        known = [scale for name in scored if (scale := scales[name]) is not None]
        whole = (min(low for low, _ in known), max(high for _, high in known)) if known else None
        found["overall"] = {"partners": scored, "score": _both([_values(runs, x, "score") for x in scored], whole)}
        if all(partner in shares for partner in scored):
            found["overall"]["br_prox"] = _both([shares[partner] for partner in scored], None)
    return found


def seed_curve(means: Sequence[NDArray], bounds: Bounds | None = None) -> dict[str, NDArray]:
    """Return the mean return over seeds in each group of episodes that all seeds have, with Student's t intervals.

    Args:
        means: for each seed, the mean return at each episode index `[K]`.
        bounds: of the return, if known.

    Returns:
        `episode`, the middle of each group; `mean`, `low` and `high`, NaN for no interval.
    """
    groups = groups_of(min(map(len, means)))
    table = np.array([[values[low:high].mean() for low, high in groups] for values in means])  # [seeds, groups]
    ends = student(table.T, bounds)
    return {"episode": np.array([(low + high + 1) / 2 for low, high in groups]), "mean": table.mean(0)} | dict(
        zip(("low", "high"), ends, strict=True)
    )


def groups_of(count: int) -> list[tuple[int, int]]:
    """Split `count` episodes into groups, each half-open: the first five alone, later ones growing by a half."""
    ends = [0]
    while ends[-1] < count:
        ends.append(max(ends[-1] + 1, ends[-1] * 3 // 2) if ends[-1] >= 5 else ends[-1] + 1)
    whole = [(low, high) for low, high in pairwise(ends) if high <= count]
    return whole if whole and whole[-1][1] == count else [*whole[:-1], (whole[-1][0], count)]


def _values(runs: Sequence[dict[str, Any]], partner: str, key: str) -> NDArray:
    return np.array([run["partners"][partner][key] for run in runs], dtype=float)


def _both(rows: Sequence[NDArray], bounds: Bounds | None) -> dict[str, Any]:
    values = [row.tolist() for row in rows]
    return {"values": values, "mean": _plain(mean(rows, bounds)), "iqm": _plain(iqm(rows, bounds))}


def _plain(summary: Summary) -> dict[str, float | None]:
    return {key: float(value) if np.isfinite(value) else None for key, value in summary._asdict().items()}


def _plain_lists(curve: Mapping[str, NDArray]) -> dict[str, list[float | None]]:
    return {key: [float(x) if np.isfinite(x) else None for x in values] for key, values in curve.items()}
