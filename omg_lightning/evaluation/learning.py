"""Learning curves of runs over environment steps and seconds of training, from their TensorBoard logs."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray

from omg_lightning.metrics.intervals import Bounds, student

WINDOW = 5  # rounds in the moving average
POINTS = 200  # points of a curve in a record
_CLOCK = "time/fit_s"
Curves = dict[str, list[list[float]]]  # by name: environment steps, seconds, values


class Band(NamedTuple):
    """The mean of several curves over environment steps, with its interval over seeds; NaN for no interval."""

    env_steps: NDArray  # [K]
    seconds: NDArray  # [K] mean seconds of training until these steps
    mean: NDArray  # [K]
    low: NDArray  # [K]
    high: NDArray  # [K]


def training_name(metric: str) -> str:
    """Return the name of an evaluation metric during training, such as `return/train_team_mean`."""
    return metric.replace("return/", "return/train_", 1) if metric.startswith("return/") else metric


def curves_of(folder: Path, names: Sequence[str] | None = None) -> Curves:
    """Read curves from the TensorBoard log of a run, and of the runs from which it was resumed.

    Args:
        folder: of the run.
        names: of scalars; those that are not in the log are omitted. By default the mean returns in training, and the
            team return in evaluations.

    Returns:
        For each name environment steps, seconds of training and values.
    """
    parts = [_scalars(each, names) for each in _history(folder)]
    found: Curves = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        steps, seconds, values = np.zeros(0), np.zeros(0), np.zeros(0)
        for part in parts:  # a resumed run repeats the rounds after its checkpoint
            if name in part:
                kept = steps < part[name][0][0]
                before = (row[kept] for row in (steps, seconds, values))
                steps, seconds, values = map(np.concatenate, zip(before, part[name], strict=True))
        chosen = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), POINTS)).round().astype(int))
        digits = (0, 2, 5)
        rows = zip((steps, seconds, values), digits, strict=True)
        found[name] = [np.round(row[chosen], each).tolist() for row, each in rows]
    return found


def smooth(values: NDArray, window: int = WINDOW) -> NDArray:
    """Return the centred running mean of `values` `[n]` over up to `window` points, fewer at both ends."""
    reach = window // 2
    return np.array([values[max(0, k - reach) : k + window - reach].mean() for k in range(len(values))])


def band(curves: Sequence[Sequence[Sequence[float]]], bounds: Bounds | None = None) -> Band | None:
    """Return the mean of smoothed curves over seeds with Student's t interval.

    It covers the environment steps that all curves have in common; None if there are none.

    Args:
        curves: one for each seed: environment steps, seconds and values.
        bounds: least and greatest possible value, if known.
    """
    first, last = max(each[0][0] for each in curves), min(each[0][-1] for each in curves)
    if first > last:
        return None
    grid = np.linspace(first, last, 200)
    values = np.stack([np.interp(grid, each[0], smooth(np.asarray(each[2]))) for each in curves])  # [seeds, K]
    seconds = np.mean([np.interp(grid, each[0], each[1]) for each in curves], 0)
    return Band(grid, seconds, values.mean(0), *student(values.T, bounds))


def _history(folder: Path) -> list[Path]:
    """Return the folders of a resumed run, the oldest first: `config.yaml` names the checkpoint of each resume."""
    found, seen = [folder], {folder.resolve()}
    while True:
        try:
            config = yaml.safe_load((found[0] / "config.yaml").read_text())
        except (OSError, yaml.YAMLError):
            break
        resumed = config.get("ckpt_path") if isinstance(config, Mapping) else None
        if not isinstance(resumed, str):
            break
        earlier = Path(resumed).parent
        places = (earlier, found[0].parent / earlier.name)  # the runs may have moved
        before = next((each for each in places if each.is_dir() and each.resolve() not in seen), None)
        if before is None:
            break
        found.insert(0, before)
        seen.add(before.resolve())
    return found


def _scalars(folder: Path, names: Sequence[str] | None) -> dict[str, Any]:
    """Return steps, seconds and values `[3, n]` of scalars in the log of one folder."""
    if not any(folder.glob("events.out.tfevents.*")):
        return {}
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # slow to import

    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    log = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 1, "tensors": 1, "histograms": 1})
    log.Reload()
    known = log.Tags()["scalars"]
    if names is None:
        names = [name for name in known if name.startswith("return/train_") and name.endswith(("_mean", "_discounted"))]
        names.append("return/team_mean")
    if not (wanted := [name for name in names if name in known]):
        return {}
    start = min(log.Scalars(name)[0].wall_time for name in known)
    clock = np.array([(each.step, each.value) for each in log.Scalars(_CLOCK)]).T if _CLOCK in known else None
    found = {}
    for name in wanted:
        events = log.Scalars(name)
        steps = np.array([each.step for each in events], dtype=float)
        wall = np.array([each.wall_time - start for each in events])
        seconds = wall if clock is None else np.interp(steps, *clock)
        found[name] = np.stack([steps, seconds, np.array([each.value for each in events])])
    return found
