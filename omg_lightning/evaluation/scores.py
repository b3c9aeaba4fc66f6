"""The numbers of the adaptation protocol, from the returns of a relationship's episodes. Arrays in, numbers out."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from omg_lightning.metrics.intervals import Bounds, student

WINDOW = 5  # episodes in the moving average that tells when a learner has adapted
SHARE = 0.9  # of the final return that it has to reach


class Relationship(NamedTuple):
    """The episodes of one relationship, in the order in which they were played."""

    returns: NDArray  # float [E] of the focal seat
    length: NDArray  # int [E] environment steps


class Curve(NamedTuple):
    """The return at each episode index, over relationships or seeds."""

    mean: NDArray  # float [K]
    smooth: NDArray  # float [K] mean of this episode and the next ones, `WINDOW` in all
    low: NDArray  # float [K] 95% interval of `smooth`; NaN where there is none
    high: NDArray  # float [K]


def within(played: Relationship, steps: int) -> Relationship:
    """Return the episodes that end within the first `steps` environment steps."""
    count = int((np.cumsum(played.length) <= steps).sum())
    return Relationship(played.returns[:count], played.length[:count])


def final_return(played: Relationship, steps: int, last: int) -> float:
    """Return the mean return of the episodes that end after step `steps - last` and not after `steps`.

    An episode counts whole or not at all, so the score is on the scale of a return. One that began before the last
    steps and ends in them counts; one that is cut by the end of the protocol does not.

    Returns:
        NaN if there is none, or if the relationship did not last for all steps.
    """
    ends = np.cumsum(played.length)
    if len(ends) == 0 or ends[-1] < steps:
        return float("nan")
    counts = (ends > steps - last) & (ends <= steps)
    return float(played.returns[counts].mean()) if counts.any() else float("nan")


def smooth(values: NDArray, window: int = WINDOW) -> NDArray:
    """Return means of each value `[K]` and the next ones, `window` in all; near the end, of the last `window`."""
    last = max(0, len(values) - window)
    return np.array([values[min(k, last) :][:window].mean() for k in range(len(values))])


def curve(relationships: Sequence[Relationship], bounds: Bounds | None = None) -> Curve:
    """Return the mean return at each episode index that all relationships reached, with Student's t intervals.

    Beyond it the mean would be over the relationships with short episodes alone.
    """
    length = min(len(each.returns) for each in relationships)
    table = np.stack([each.returns[:length] for each in relationships]).astype(float)  # [R, K]
    smoothed = np.stack([smooth(row) for row in table])
    return Curve(table.mean(0), smoothed.mean(0), *student(smoothed.T, bounds))


def adapted_at(smoothed: NDArray, final: float) -> int | None:
    """Return the first episode index, from 1, at which the learner earns about its final return.

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
        ValueError: the best response is no better than random.
    """
    if best_response <= random:
        raise ValueError(f"the best response earns {best_response:.3g}, no more than random play with {random:.3g}")
    return (value - random) / (best_response - random)
