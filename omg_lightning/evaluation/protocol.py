"""The adaptation protocol's results: as a table, as metrics by name, and as a file."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from omg_lightning.evaluation.record import ALL, SEEN, UNSEEN, Group, Result
from omg_lightning.evaluation.references import COMMAND, References
from omg_lightning.evaluation.scores import normalise
from omg_lightning.files import replace_text
from omg_lightning.games.switcher import HANDOVER, parse_handover
from omg_lightning.types import ConfigError

FILE = "adaptation.json"
SHOWN = (1, 5, 10)  # episode indices in the table


def refer(result: Result, references: References, game: Mapping[str, Any]) -> Result:
    """Add the references and the normalised score to a result, or a note that explains why there is none."""
    entry = references.find(game, result.partner)
    if entry is None:
        return result._replace(note=f"{references.missing(game, result.partner)}: {COMMAND} makes it")
    random, best = float(entry["random"]), float(entry["best_response"])
    share = result.final / best if best > 0 and np.isfinite(result.final) else None
    result = result._replace(random=random, best_response=best, prox=share)
    try:
        return result._replace(score=normalise(result.final, random, best))
    except ValueError as error:
        return result._replace(note=f"{error}: train the reference for longer")


def labels(partners: Sequence[str]) -> list[str]:
    """Return names of partners for metrics and files: unique, of plain letters, with the last two parts of a path."""
    taken, found = [ALL, SEEN, UNSEEN], list[str]()
    for partner in partners:
        kind, colon, rest = partner.partition(":")
        short = kind + colon + "/".join(Path(rest).parts[-2:])
        if kind == HANDOVER:
            short = f"{parse_handover(partner)[1][0]}_{HANDOVER}"  # its first kind
        label = base = re.sub(r"[^A-Za-z0-9_.-]+", "_", short)
        count = 1
        while label in taken + found:
            count += 1
            label = f"{base}_{count}"
        found.append(label)
    return found


def numbers(results: Sequence[Result], groups: Sequence[Group] = ()) -> dict[str, float]:
    """Return the numbers of all results and groups by name, as in `metrics.json`; unknown ones are omitted."""
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
            "br_prox": result.prox,
            "gain": result.gain.value,
            "gain_low": result.gain.low,
            "gain_high": result.gain.high,
            "adapted_at": result.adapted,
            "episodes": len(mean),
            **{f"episode_{k}": float(mean[k - 1]) for k in SHOWN if k <= len(mean)},
        }
        named = {f"adapt/{result.label}_{name}": value for name, value in known.items()}
        found |= {name: float(value) for name, value in named.items() if value is not None and np.isfinite(value)}
        for name, value in (result.returns or {}).items():
            found[name.replace("return/", f"return/{result.label}_")] = value
    for group in groups:
        each = {"return": group.final, "low": group.low, "high": group.high, "score": group.score}
        named = {f"adapt/{group.label}_{name}": value for name, value in (each | {"br_prox": group.prox}).items()}
        found |= {name: float(value) for name, value in named.items() if value is not None and np.isfinite(value)}
    return found


def table(results: Sequence[Result], last: int, groups: Sequence[Group] = ()) -> str:
    """Return a table with a row for each partner and each group of partners, with notes below it."""
    gains = any(np.isfinite(result.gain.value) for result in results)
    head = ["partner", "adapted at", *(f"episode {k}" for k in SHOWN), *(["gain"] if gains else [])]
    lines = [[*head, f"last {last} steps", "random", "best", "score", "of best"]]
    for result in results:
        mean = result.curve.mean
        adapted = "-" if result.adapted is None else str(result.adapted)
        early = [_two(mean[k - 1]) if k <= len(mean) else "-" for k in SHOWN]
        early += [_two(result.gain.value)] if gains else []
        rest = [_two(result.random), _two(result.best_response), _two(result.score), _two(result.prox)]
        lines.append([result.label, adapted, *early, _interval(result), *rest])
    for group in groups:
        blank = ["-"] * (len(head) - 1)
        lines.append([group.label, *blank, _interval(group), "-", "-", _two(group.score), _two(group.prox)])
    notes = dict.fromkeys(f"no score: {result.note}" for result in results if result.note)
    return "\n".join([align(lines), *notes])


def align(lines: Sequence[Sequence[str]], words: bool = False) -> str:
    """Align cells in columns, the first to the left, the others to the right, or to the left if they are `words`.

    The first line is the header.
    """
    widths, move = [max(map(len, column)) for column in zip(*lines, strict=True)], str.ljust if words else str.rjust
    rows = ["  ".join([row[0].ljust(widths[0]), *map(move, row[1:], widths[1:])]).rstrip() for row in lines]
    return "\n".join([rows[0], "-" * len(rows[0]), *rows[1:]])


def save(path: Path, results: Sequence[Result], groups: Sequence[Group] = (), **about: Any) -> None:
    """Write results, and facts `about` the run, as JSON."""
    found = {"partners": {result.partner: _plain(result) for result in results}}
    found |= {"groups": {group.label: _plain(group) for group in groups}} if groups else {}
    replace_text(path, json.dumps({**about, **found}, indent=2, allow_nan=False) + "\n")


def load(path: Path) -> dict[str, Any]:
    """Read a file that `save` wrote, or the one in a folder.

    Raises:
        ConfigError: the file does not exist, or `save` did not write it.
    """
    path = path / FILE if path.is_dir() else path
    if not path.is_file():
        raise ConfigError(f"{path} does not exist: give the run folder of a `test`, which writes {FILE} there")
    try:
        found = json.loads(path.read_text())
        if {"seed", "game", "steps", "score_steps", "partners"} <= found.keys():
            return found
    except (ValueError, AttributeError) as error:
        raise ConfigError(f"{path} is not a result of `test` ({error}): give the run folder of a `test`") from error
    raise ConfigError(f"{path} is not a result of `test`: give the run folder of a `test`")


def _two(value: float | None) -> str:
    return "-" if value is None or not np.isfinite(value) else f"{value:.2f}"


def _interval(found: Result | Group) -> str:
    """Return a final return with its interval, if it has one."""
    return _two(found.final) + (f" [{_two(found.low)}, {_two(found.high)}]" if np.isfinite(found.low) else "")


def _plain(value: Any) -> Any:
    """Return a result as JSON types; NaN becomes null."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {key: _plain(each) for key, each in value._asdict().items()}
    if isinstance(value, np.ndarray):
        return [_plain(each) for each in value.tolist()]
    return None if isinstance(value, float) and not np.isfinite(value) else value
