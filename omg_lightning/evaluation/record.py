"""The record of the adaptation protocol: from episodes to the result with each kind of partner."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from omg_lightning.evaluation.scores import (
    Curve,
    Relationship,
    adapted_at,
    curve,
    final_return,
    gain,
    is_short,
    mean_stretch,
    stretches,
    within,
)
from omg_lightning.evaluation.statistics import Summary, iqm, mean
from omg_lightning.metrics import return_statistics
from omg_lightning.metrics.intervals import Bounds, stratified, student
from omg_lightning.types import AdaptationSegment

ALL, SEEN, UNSEEN = "all", "seen", "unseen"  # labels of groups
_UNKNOWN = Summary(float("nan"), float("nan"), float("nan"))


class Result(NamedTuple):
    """How a learner adapted to one kind of partner. Returns are those of the learner's seat."""

    partner: str
    label: str  # the partner's name in metrics and files
    curve: Curve  # over episode indices since this partner came, which can happen several times
    final: float  # mean over relationships of the return in the last steps; NaN if the protocol was interrupted
    low: float  # 95% interval of `final`, over relationships; NaN for a single one
    high: float
    adapted: int | None  # episode index at which the return is near the final return
    random: float | None = None  # references: a random player and a best response in the learner's seat
    best_response: float | None = None
    score: float | None = None  # `final`, normalised to 0 for random play and 1 for a best response
    note: str = ""  # why there is no score
    returns: dict[str, float] | None = None  # the statistics of all episodes, by name
    gain: Summary = _UNKNOWN  # adaptation gain, see `scores.gain`, over relationships that have one
    prox: float | None = None  # `final` as a share of the best response's return, where this is above 0


class Group(NamedTuple):
    """The result of a learner with several kinds of partners."""

    label: str
    final: float  # mean return in the last steps, over relationships
    low: float  # 95% interval, over relationships within kinds; NaN where a kind has a single one
    high: float
    score: float | None  # mean of the kinds' scores, weighted by their relationships; None if one is unknown
    prox: float | None  # interquartile mean of the kinds' shares of the best response's return


class Episodes(NamedTuple):
    """The episodes of one relationship."""

    partner: Tensor  # int64 [E]
    returns: Tensor  # float [E, P]
    length: Tensor  # int64 [E]

    def beside(self, kinds: Sequence[int]) -> Relationship:
        """Return the relationship with the focal seat's returns; only episodes with these kinds count."""
        counts = torch.isin(self.partner, torch.tensor(list(kinds)))
        return Relationship(self.returns[:, 0].numpy(), self.length.numpy(), counts.numpy())


class Record:
    """Collects the episodes of a run of the protocol."""

    def __init__(self) -> None:
        self._segments: list[AdaptationSegment] = []

    def add(self, segment: AdaptationSegment) -> None:
        """Add the episodes of a segment."""
        self._segments.append(segment._replace(batches=()))  # drop the large tensors

    def relationships(self) -> list[Episodes]:
        """Return the episodes of each relationship in order of play."""
        if not self._segments:
            return []
        fields = ("partner", "relationship", "returns", "length")
        partner, number, returns, length = (
            torch.cat([getattr(segment, name) for segment in self._segments]).cpu() for name in fields
        )
        order = number.argsort(stable=True)
        counts = number.unique(return_counts=True)[1].tolist()
        parts = (field[order].split(counts) for field in (partner, returns, length))
        return [Episodes(*each) for each in zip(*parts, strict=True)]

    def result(
        self,
        index: int,
        partner: str,
        label: str,
        steps: int,
        last: int,
        seat: Bounds | None = None,
        team: Bounds | None = None,
    ) -> Result | None:
        """Return the result with a partner, without references; None if no episode with it counts.

        Args:
            index: of the partner, in `AdaptationSegment.partner`.
            partner: its name.
            label: its name in metrics and files.
            steps: environment steps of each relationship; episodes that end later do not count.
            last: number of last steps that determine the final return.
            seat: bounds of the return of a seat, if known.
            team: bounds of the return of the team, if known.
        """
        met = [each for each in self.relationships() if (each.partner == index).any()]
        if not met:
            return None
        played = [each.beside([index]) for each in met]
        finals = _finals(played, steps, last)
        kept = [within(each, steps) for each in played]
        changes = not all(each.counts.all() for each in played if each.counts is not None)
        rows = [mean_stretch(runs) for each in kept if (runs := stretches(each))]
        if not rows:  # no partner stayed until a change
            rows = [mean_stretch(runs) for each in kept if (runs := stretches(each, whole=False))]
        if not rows:
            return None
        shape = curve(rows, seat, ragged=changes)
        gains = [value for each in kept if not np.isnan(value := gain(each))]
        counted = [
            (one.returns[: len(each.returns)][each.counts], one.length[: len(each.returns)][each.counts])
            for one, each in zip(met, kept, strict=True)
        ]
        returns, length = (torch.cat(column) for column in zip(*counted, strict=True))
        statistics = return_statistics(returns, length, team)
        final = float(np.mean(finals)) if finals else float("nan")
        low, high = student(finals, seat) if finals else _UNKNOWN[1:]
        return Result(
            partner,
            label,
            shape,
            final,
            float(low),
            float(high),
            adapted_at(shape.smooth, final),
            returns={name: float(value) for name, value in statistics.items()},
            gain=mean(gains) if gains else _UNKNOWN,
        )

    def group(
        self,
        label: str,
        kinds: Sequence[int],
        results: Sequence[Result | None],
        steps: int,
        last: int,
        seat: Bounds | None = None,
    ) -> Group | None:
        """Return the result over the partners `kinds`; None if none of them was met.

        Args:
            label: of the group.
            kinds: indices of partners.
            results: those of all partners, by index.
            steps: see `result`.
            last: see `result`.
            seat: see `result`.
        """
        met = [one for kind in kinds if (one := results[kind]) is not None]
        if not met:
            return None
        strata: dict[int, list[Relationship]] = {}  # by the first kind of a relationship
        for each in self.relationships():
            if np.isin(each.partner.numpy(), list(kinds)).any():
                strata.setdefault(int(each.partner[0]), []).append(each.beside(kinds))
        finals = [found for played in strata.values() if (found := _finals(played, steps, last))]
        final = float(np.mean(np.concatenate(finals))) if finals else float("nan")
        weights = [float(len(strata.get(kind, ()))) for kind in kinds if results[kind] is not None]
        scores = [one.score for one in met]
        known = [score for score in scores if score is not None]
        score = float(np.average(known, weights=weights)) if len(known) == len(met) and any(weights) else None
        shares = [one.prox for one in met if one.prox is not None]
        prox = iqm(np.array(shares)[:, None]).value if len(shares) == len(met) else None
        low, high = stratified(finals, seat)
        return Group(label, final, float(low), float(high), score, prox)


def _finals(played: Sequence[Relationship], steps: int, last: int) -> list[float]:
    """Return the final return of each relationship with these partners in the last steps.

    The value is NaN for a relationship that was interrupted, or without an episode that ends in the last
    steps.
    """
    found = [(each, final_return(each, steps, last)) for each in played]
    return [
        final
        for each, final in found
        if not np.isnan(final) or is_short(each, steps) or each.counts is None or each.counts.all()
    ]
