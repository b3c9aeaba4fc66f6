"""Adaptation over seeds: combine the results of `test` in several runs, with intervals over seeds.

    python -m omg_lightning adaptation RUN RUN RUN --plot adaptation.png

A RUN is the run folder of a `test`, or its `adaptation.json`; runs differ only by seed. Prints, for each co-player
and over all of them, mean and interquartile mean (Agarwal et al. 2021, arXiv 2108.13264) with 95% intervals over seeds
(Student's t), of the return, the score and the share of the best response's return (BR-Prox), and writes them to a
JSON file. With --plot, also draws the scores and, for each co-player, the return over episode indices
(`adaptation_<partner>.png`).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from omg_lightning.commands.parser import CommandParser
from omg_lightning.evaluation import Summary, align
from omg_lightning.evaluation.figures import adaptation_figure, check_figure, save_figure, scores_figure
from omg_lightning.evaluation.seeds import read, seed_curve, summarise
from omg_lightning.files import check_writable, replace_text, unwritable


def main(args: Sequence[str]) -> None:
    """Run the command.

    Raises:
        ConfigError: an argument is invalid.
    """
    parser = CommandParser("adaptation", __doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument(
        "--out", type=Path, default=Path("adaptation_seeds.json"), help="JSON file to write; default: %(default)s"
    )
    parser.add_argument("--plot", type=Path, help="figure to write: a .png, .pdf or .svg file")
    own = parser.parse_args(args)
    check_writable(own.out)
    if own.plot is not None:
        check_figure(own.plot)
    runs = read(own.runs)
    found = summarise(runs)
    print(_table(found), flush=True)  # before files are written, which may fail
    try:
        replace_text(own.out, json.dumps(found, indent=2) + "\n")
        print(f"written to {own.out}")
        if own.plot is not None:
            draw(own.plot, runs, found)
    except OSError as error:
        raise unwritable(Path(error.filename or own.out), error, "--out or --plot") from error


def draw(path: Path, runs: Sequence[dict[str, Any]], found: dict[str, Any]) -> None:
    """Draw the scores, or the returns if some co-player has no score, and a curve for each co-player."""
    partners = found["partners"]
    what = "score" if all("score" in entry for entry in partners.values()) else "return"
    points = [np.array(entry[what]["values"][0]) for entry in partners.values()]
    rows = [entry[what]["iqm"] for entry in partners.values()]
    summaries = np.array([[np.nan if x is None else x for x in (r["value"], r["low"], r["high"])] for r in rows])
    _save(scores_figure([entry["label"] for entry in partners.values()], points, summaries, what == "score"), path)
    for partner, entry in partners.items():
        each = [run["partners"][partner] for run in runs]
        final = [np.nan if entry["return"]["mean"][k] is None else entry["return"]["mean"][k] for k in Summary._fields]
        over, references = f"{len(runs)} seeds", (each[0]["random"], each[0]["best_response"])
        shape = seed_curve([np.array(one["curve"]["mean"]) for one in each], runs[0].get("seat_bounds"))
        figure = adaptation_figure(shape, entry["label"], final, runs[0]["score_steps"], over, *references)
        _save(figure, path.with_stem(f"{path.stem}_{entry['label']}"))


def _table(found: dict[str, Any]) -> str:
    lines = [
        ["co-player", "random", "best", *(f"{what}: {kind}" for what in _WHAT.values() for kind in ("mean", "IQM"))]
    ]
    rows = {entry["label"]: entry for entry in found["partners"].values()}
    if "overall" in found:
        rows[f"all {len(found['overall']['partners'])} with a score"] = found["overall"]
    for name, entry in rows.items():
        ends = [f"{entry[key]:.2f}" if key in entry else "-" for key in ("random", "best_response")]
        cells = [_cell(entry[what][kind]) if what in entry else "-" for what in _WHAT for kind in _KINDS]
        lines.append([name, *ends, *cells])
    count = len(found["seeds"])
    note = "one seed: no interval" if count == 1 else f"{count} seeds; [95% interval over seeds]"
    if "overall" not in found:
        note += "\nno scores: `test` had no references, see python -m omg_lightning references"
    return f"{align(lines)}\n{note}"


_KINDS = ("mean", "iqm")
_WHAT = {"return": "return", "score": "score", "br_prox": "of best"}


def _cell(summary: dict[str, float | None]) -> str:
    text = f"{summary['value']:.2f}"
    return text if summary["low"] is None else f"{text} [{summary['low']:.2f}, {summary['high']:.2f}]"


def _save(figure: Any, path: Path) -> None:
    save_figure(figure, path)
    print(f"drawn: {path}")
