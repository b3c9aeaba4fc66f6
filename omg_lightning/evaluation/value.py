"""The value of information: the largest gain that opponent models can bring, and the share that each one reaches."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from omg_lightning.evaluation.runs import Run
from omg_lightning.evaluation.statistics import Summary, mean
from omg_lightning.types import ConfigError

_LEVEL = 0.95


def ratio(above: ArrayLike, below: ArrayLike) -> Summary:
    """Return the ratio of two means with Fieller's 95% interval (1954), exact for jointly normal values.

    The interval contains every ratio r for which the mean of `above - r * below` does not differ from 0 by Student's t.
    It is bounded if the mean of `below` itself differs from 0; else, and for a single pair, both ends are NaN.

    Args:
        above: `[n]`, one value for each seed.
        below: `[n]`, of the same seeds; their correlation makes the interval shorter.
    """
    one, other = np.asarray(above, dtype=float), np.asarray(below, dtype=float)
    count, top, bottom = len(one), one.mean(), other.mean()
    value = float(top / bottom) if bottom else float("nan")
    if count < 2:
        return Summary(value, float("nan"), float("nan"))
    spread = stats.t.ppf((1 + _LEVEL) / 2, count - 1) ** 2 / count * np.cov(one, other)  # t^2 times that of the means
    # (top - r * bottom)^2 <= t^2 var(mean of one - r * other), a quadratic inequality in r
    square, linear, constant = bottom**2 - spread[1, 1], top * bottom - spread[0, 1], top**2 - spread[0, 0]
    if square <= 0:
        return Summary(value, float("nan"), float("nan"))
    half = max(linear**2 - square * constant, 0.0) ** 0.5
    return Summary(value, float((linear - half) / square), float((linear + half) / square))


def value_of(methods: Mapping[str, Sequence[Run]], metric: str, without: str, told: str) -> dict[str, Any]:
    """Return the value of information in one setting, and the share of it that each method reaches.

    V is the return of the method with the true goals minus that of the method without goals, paired by seed. A
    method's share is its own difference from the latter, divided by V, over the seeds that all three have.

    Args:
        methods: the runs of each method.
        metric: name of the metric.
        without: the method without goals.
        told: the method with the true goals.

    Returns:
        `value` (with interval and `seeds`), `above_0` (its interval excludes 0), `percent`: V as a percentage of
        the return of the method with true goals above random play, None if unknown; `returns` of each method, also
        `by_seed`; `shares` of all other methods, empty if V is not above 0.

    Raises:
        ConfigError: one of these two methods is missing, or they have no seed in common.
    """
    for name in (without, told):
        if name not in methods:
            raise ConfigError(
                f"got no runs of {name}, but of {', '.join(methods)}: add them, or set --without or --told"
            )
    each = {name: {run.seed: run.value(metric) for run in runs} for name, runs in methods.items()}
    common = [seed for seed in each[told] if seed in each[without]]
    if not common:
        got = f"{sorted(each[told])} and {sorted(each[without])}"
        raise ConfigError(f"{told} and {without} have no seed in common, {got}: give runs of the same seeds")
    value = mean([each[told][seed] - each[without][seed] for seed in common])
    above = bool(value.low > 0)
    shares: dict[str, Any] = {}
    for name in methods if above else ():
        seeds = [seed for seed in common if seed in each[name]]
        if name not in (without, told) and seeds:
            won = [each[name][seed] - each[without][seed] for seed in seeds]
            there = [each[told][seed] - each[without][seed] for seed in seeds]
            shares[name] = {"seeds": seeds, **_plain(ratio(won, there))}
    return {
        "value": {"seeds": common, **_plain(value)},
        "above_0": above,
        "percent": _percent(value, methods[told], metric),
        "returns": {name: {**_plain(mean(list(found.values()))), "by_seed": found} for name, found in each.items()},
        "shares": shares,
    }


def _percent(value: Summary, runs: Sequence[Run], metric: str) -> dict[str, float | None] | None:
    """Return V with its interval as percentages of the return of these runs above random play."""
    floors = [run.numbers.get("return/team_random") for run in runs]
    known = [floor for floor in floors if floor is not None]
    if metric != "return/team_mean" or len(known) < len(runs):
        return None
    span = float(np.mean([run.value(metric) for run in runs]) - np.mean(known))
    return _plain(Summary(*(100 * x / span for x in value))) if span > 0 else None


def sentence(found: Mapping[str, Any], without: str, told: str) -> str:
    """Return one sentence about the value of information in a setting."""
    value = found["value"]
    count = len(value["seeds"])
    seeds = f"{count} seed{'s' * (count > 1)}"
    if value["low"] is None:
        return f"V = {value['value']:.2f} with one seed: without an interval, it is unknown whether V is above 0."
    interval = f"{value['value']:.2f} [{value['low']:.2f}, {value['high']:.2f}] with {seeds}"
    if not found["above_0"]:
        return f"V = {interval} is not clearly above 0: these runs show no gain that an opponent model could reach."
    return f"V = {interval}: the gain of knowing the true goals ({told}) over a model without goals ({without})."


def _plain(summary: Summary) -> dict[str, float | None]:
    return {key: float(value) if np.isfinite(value) else None for key, value in summary._asdict().items()}
