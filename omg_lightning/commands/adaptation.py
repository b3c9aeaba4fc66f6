"""Adaptation over seeds: combine the results of `test` in several runs, with intervals over seeds.

    python -m omg_lightning adaptation RUN RUN RUN --plot adaptation.png
    python -m omg_lightning adaptation 'Codebook=runs/codebook_*' 'Direct=runs/direct_*' --plot adaptation.png

A RUN is the run folder of a `test`, the `--trainer.default_root_dir` of a single one, or its `adaptation.json`; the
runs of a method differ only by seed. Prints, for each method and co-player and over all co-players, mean and
interquartile mean (Agarwal et al. 2021, arXiv 2108.13264) with 95% intervals over seeds (Student's t), of the return,
the score and the share of the best response's return (BR-Prox), and writes them to a JSON file. With --plot, also draws
the return over episodes beside each co-player, with all methods, and the final scores (`adaptation_scores.png`).
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omg_lightning.commands.parser import CommandParser
from omg_lightning.evaluation import References, align
from omg_lightning.evaluation.few_shot_figure import few_shot_figure, final_figure
from omg_lightning.evaluation.figures import check_figure, save_figure
from omg_lightning.evaluation.seeds import EARLY, gather, refer_all, summarise
from omg_lightning.files import check_writable, compact, replace_text, unwritable


def main(args: Sequence[str]) -> None:
    """Run the command.

    Raises:
        ConfigError: an argument is invalid.
    """
    parser = CommandParser("adaptation", __doc__)
    parser.add_argument("runs", nargs="+", metavar="[NAME=]RUN", help="runs of `test`; or a method and its runs")
    parser.add_argument(
        "--out", type=Path, default=Path("adaptation_seeds.json"), help="JSON file to write; default: %(default)s"
    )
    parser.add_argument("--plot", type=Path, help="figure to write: a .png, .pdf or .svg file")
    parser.add_argument(
        "--references", type=Path, help="file of `references` to compute all scores from; default: as in the runs"
    )
    own = parser.parse_args(args)
    check_writable(own.out)
    scores = None
    if own.plot is not None:
        scores = own.plot.with_stem(f"{own.plot.stem}_scores")
        check_figure(own.plot)
        check_writable(scores, "--plot")
    methods = gather(own.runs)
    if own.references is not None:
        for note in refer_all(methods, References(own.references)):
            print(f"no score: {note}", file=sys.stderr)
    found = {name: summarise(runs) for name, runs in methods.items()}
    print(_table(found), flush=True)  # before files are written, which may fail
    try:
        replace_text(own.out, compact(found if list(found) != [""] else found[""]))
        print(f"written to {own.out}")
        if own.plot is not None and scores is not None:
            save_figure(few_shot_figure(found), own.plot)
            save_figure(final_figure(found), scores)
            print(f"drawn: {own.plot} and {scores}")
    except OSError as error:
        raise unwritable(Path(error.filename or own.out), error, "--out or --plot") from error


_EARLY = f"episodes {EARLY[0]}-{EARLY[1]}"
_COLUMNS = {  # of the table: what, and which statistic
    "return": ("return", "mean"),
    _EARLY: ("early", "mean"),
    "score": ("score", "mean"),
    "score, IQM": ("score", "iqm"),
    f"score, {_EARLY}": ("early_score", "mean"),
    "of best, IQM": ("br_prox", "iqm"),
}


def _table(found: Mapping[str, Mapping[str, Any]]) -> str:
    one = next(iter(found.values()))
    known = {what for method in found.values() for entry in method["partners"].values() for what in entry}
    columns = {name: column for name, column in _COLUMNS.items() if column[0] in known}
    lines = [["co-player", *(["method"] if list(found) != [""] else []), "random", "best", *columns]]
    rows = [(entry["label"], partner) for partner, entry in one["partners"].items()]
    if "overall" in one:
        rows.append((f"all {len(one['overall']['partners'])} with a score", ""))
    for label, partner in rows:
        for name, method in found.items():
            entry = method["partners"][partner] if partner else method["overall"]
            ends = [f"{entry[key]:.2f}" if key in entry else "-" for key in ("random", "best_response")]
            cells = [_cell(entry[what][kind]) if what in entry else "-" for what, kind in columns.values()]
            lines.append([label, *([name] if name else []), *ends, *cells])
    counts = {len(method["seeds"]) for method in found.values()}
    count = f"{min(counts)} to {max(counts)}" if len(counts) > 1 else f"{max(counts)}"
    note = "one seed: no interval" if counts == {1} else f"{count} seeds; [95% interval over seeds]"
    if "overall" not in one:
        note += "\nno scores: `test` had no references, see python -m omg_lightning references, and --references"
    return f"{align(lines)}\n{note}"


def _cell(summary: Mapping[str, float | None]) -> str:
    text = f"{summary['value']:.2f}"
    return text if summary["low"] is None else f"{text} [{summary['low']:.2f}, {summary['high']:.2f}]"
