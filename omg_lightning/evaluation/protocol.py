"""The adaptation protocol's results: from the episodes played to a table, to flat names, and to a file and back."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from omg_lightning.evaluation.references import COMMAND, References
from omg_lightning.evaluation.scores import Curve, Relationship, adapted_at, curve, final_return, normalise, within
from omg_lightning.files import replace_text
from omg_lightning.metrics import return_statistics
from omg_lightning.metrics.intervals import Bounds, student
from omg_lightning.types import AdaptationSegment, ConfigError

FILE = "adaptation.json"
SHOWN = (1, 5, 10)  # episode indices in the table


class Result(NamedTuple):
    """How a learner adapted to one kind of partner. Returns are those of the learner's seat."""

    partner: str
    label: str  # the partner's name in metrics and files
    curve: Curve  # over episode indices
    final: float  # mean over relationships of the return in the last steps; NaN if the protocol was cut short
    low: float  # 95% interval of `final`, over relationships; NaN for a single one
    high: float
    adapted: int | None  # episode index at which it did about as well as in the end
    random: float | None = None  # references: a random player and a best response in the learner's place
    best_response: float | None = None
    score: float | None = None  # `final`, normalised between them
    note: str = ""  # why there is no score
    returns: dict[str, float] | None = None  # the statistics of all episodes, by name


class Record:
    """Collects the episodes of a run of the protocol."""

    def __init__(self) -> None:
        self._segments: list[AdaptationSegment] = []

    def add(self, segment: AdaptationSegment) -> None:
        """Add the episodes of a segment."""
        self._segments.append(segment._replace(batches=()))  # nothing big is kept

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
        """Return the result beside a partner, without references; None if no episode was played with it.

        Args:
            index: of the partner, in `AdaptationSegment.partner`.
            partner: its name.
            label: its name in metrics and files.
            steps: environment steps of each relationship; episodes that end later do not count.
            last: steps at the end that make the final return.
            seat: bounds of the return of a seat, where they are known.
            team: and of the team.
        """
        mine = [segment.partner == index for segment in self._segments]
        if not any(bool(rows.any()) for rows in mine):
            return None
        parts = list(zip(self._segments, mine, strict=True))
        number = torch.cat([segment.relationship[rows] for segment, rows in parts]).cpu()
        returns = torch.cat([segment.returns[rows] for segment, rows in parts]).cpu()
        length = torch.cat([segment.length[rows] for segment, rows in parts]).cpu()
        played, finals, kept_rows = [], [], []
        for each in number.unique():
            own = (number == each).nonzero()[:, 0]
            whole = Relationship(returns[own, 0].numpy(), length[own].numpy())
            finals.append(final_return(whole, steps, last))
            played.append(within(whole, steps))
            kept_rows.append(own[: len(played[-1].returns)])
        kept = torch.cat(kept_rows)
        low, high = map(float, student(finals, seat))
        final, shape = float(np.mean(finals)), curve(played, seat)
        statistics = return_statistics(returns[kept], length[kept], team)
        numbers = {name: float(value) for name, value in statistics.items()}
        return Result(partner, label, shape, final, low, high, adapted_at(shape.smooth, final), returns=numbers)


def refer(result: Result, references: References, game: Mapping[str, Any]) -> Result:
    """Add the references and the normalised score to a result, or a note that says why there is none."""
    entry = references.find(game, result.partner)
    if entry is None:
        return result._replace(note=f"{references.missing(game, result.partner)}: {COMMAND} makes it")
    random, best = float(entry["random"]), float(entry["best_response"])
    result = result._replace(random=random, best_response=best)
    try:
        return result._replace(score=normalise(result.final, random, best))
    except ValueError as error:
        return result._replace(note=f"{error}: train the reference for longer")


def labels(partners: Sequence[str]) -> list[str]:
    """Return names of partners for metrics and files: unique, of plain letters, with the last two parts of a path."""
    found: list[str] = []
    for partner in partners:
        kind, colon, rest = partner.partition(":")
        short = kind + colon + "/".join(Path(rest).parts[-2:])
        label = base = re.sub(r"[^A-Za-z0-9_.-]+", "_", short)
        count = 1
        while label in found:
            count += 1
            label = f"{base}_{count}"
        found.append(label)
    return found


def numbers(results: Sequence[Result]) -> dict[str, float]:
    """Return the numbers of all results by flat name, as in `metrics.json`; unknown ones are left out."""
    found: dict[str, float] = {}
    for result in results:
        mean = result.curve.mean
        known: dict[str, float | None] = {
            "return": result.final,
            "low": result.low,
            "high": result.high,
            "score": result.score,
            "random": result.random,
            "best_response": result.best_response,
            "adapted_at": result.adapted,
            "episodes": len(mean),
            **{f"episode_{k}": float(mean[k - 1]) for k in SHOWN if k <= len(mean)},
        }
        named = {f"adapt/{result.label}_{name}": value for name, value in known.items()}
        found |= {name: float(value) for name, value in named.items() if value is not None and np.isfinite(value)}
        for name, value in (result.returns or {}).items():
            found[name.replace("return/", f"return/{result.label}_")] = value
    return found


def table(results: Sequence[Result], last: int) -> str:
    """Return a table with a line for each partner, and the notes below it."""
    head = ["partner", "adapted at", *(f"episode {k}" for k in SHOWN), f"last {last} steps", "random", "best", "score"]
    lines = [head]
    for result in results:
        mean = result.curve.mean
        adapted = "-" if result.adapted is None else str(result.adapted)
        early = [_two(mean[k - 1]) if k <= len(mean) else "-" for k in SHOWN]
        final = _two(result.final)
        if np.isfinite(result.low):
            final += f" [{_two(result.low)}, {_two(result.high)}]"
        rest = [_two(result.random), _two(result.best_response), _two(result.score)]
        lines.append([result.label, adapted, *early, final, *rest])
    notes = dict.fromkeys(f"no score: {result.note}" for result in results if result.note)
    return "\n".join([align(lines), *notes])


def align(lines: Sequence[Sequence[str]]) -> str:
    """Align cells in columns, the first to the left, the others to the right; the first line is the header."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in lines]
    return "\n".join([rows[0], "-" * len(rows[0]), *rows[1:]])


def save(path: Path, results: Sequence[Result], **about: Any) -> None:
    """Write results, and facts `about` the run, as JSON."""
    partners = {result.partner: _plain(result) for result in results}
    replace_text(path, json.dumps({**about, "partners": partners}, indent=2, allow_nan=False) + "\n")


def load(path: Path) -> dict[str, Any]:
    """Read what `save` wrote; a folder stands for the file in it.

    Raises:
        ConfigError: there is no such file, or it is something else.
    """
    path = path / FILE if path.is_dir() else path
    if not path.is_file():
        raise ConfigError(f"no {path}: give the folder of a run of `test`, which leaves {FILE} there")
    try:
        found = json.loads(path.read_text())
        if {"seed", "game", "steps", "score_steps", "partners"} <= found.keys():
            return found
    except (ValueError, AttributeError) as error:
        raise ConfigError(f"{path} is not what `test` writes: {error}") from error
    raise ConfigError(f"{path} is not what `test` writes")


def _two(value: float | None) -> str:
    return "-" if value is None or not np.isfinite(value) else f"{value:.2f}"


def _plain(result: Result) -> dict[str, Any]:
    """Return a result in the types of JSON; NaN becomes null."""
    shape = {name: [_known(x) for x in values.tolist()] for name, values in result.curve._asdict().items()}
    return {key: _known(value) for key, value in (result._asdict() | {"curve": shape}).items()}


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value
