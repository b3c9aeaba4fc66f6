"""Compare methods over seeds: learning curves with intervals, a table and statistics.

    python -m omg_lightning compare 'HOP=runs/hop_*' 'direct=runs/direct_*' --plot hop.png
    python -m omg_lightning compare runs/smoke --plot smoke.png

Each method is NAME=RUN: the folder of a `fit` (its --trainer.default_root_dir, or the run folder in it) or a quoted
pattern of several. Runs with the same name are seeds of one method. Or give the folder of a study: its methods are
compared in each of its games. Prints a table: mean with 95% interval over seeds (Student's t), interquartile mean,
paired difference from the first method, and the probability that a run is better than a run of the first method.
--plot writes a figure and a JSON file with all numbers.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omg_lightning.commands.parser import CommandParser
from omg_lightning.evaluation.comparison import Group, compare
from omg_lightning.evaluation.comparison_figure import comparison_figure
from omg_lightning.evaluation.figures import check_figure, save_figure
from omg_lightning.evaluation.runs import METRIC, gather
from omg_lightning.files import check_writable, compact, replace_text
from omg_lightning.types import ConfigError


def main(args: Sequence[str]) -> None:
    """Run the command.

    Raises:
        ConfigError: an argument is invalid.
    """
    parser = CommandParser("compare", __doc__)
    parser.add_argument("runs", nargs="*", metavar="NAME=RUN", help="a method and its runs; or the folder of one study")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="figure to write; FILE.json gets its numbers")
    parser.add_argument(
        "--metrics",
        nargs="+",
        default=[METRIC],
        metavar="NAME",
        help=f"names of metrics in metrics.json; the figure shows the first one; default: {METRIC}",
    )
    parser.add_argument("--group", metavar="NAME", help="compare only this group of the study")
    parser.add_argument("--each", action="store_true", help="also print one row for each run")
    parser.add_argument(
        "--line", action="append", default=[], metavar="'LABEL: VALUE'", help="published value to draw as a line"
    )
    own = parser.parse_args(args)
    if not own.runs:
        raise ConfigError("compare got no runs: give NAME=RUN [NAME=RUN ...], or the folder of a study")
    lines = [_line(text) for text in own.line]
    if own.plot is not None:
        check_figure(own.plot)
        check_writable(own.plot.with_suffix(".json"), "--plot")
    games = gather(own.runs, own.group, own.metrics[0])
    found = compare(games, own.metrics)
    for game, entry in found["games"].items():
        title = f"{game}\n\n" if len(games) > 1 else ""
        print(title + _table(entry, own.metrics) + "\n")
    if "overall" in found:
        print(f"all games, share of the best possible return\n\n{_overall(found['overall'])}\n")
    if own.each:
        print(_each(games, own.metrics[0]) + "\n")
    if own.plot is not None:
        figure = comparison_figure(found, lines)
        save_figure(figure, own.plot)
        replace_text(own.plot.with_suffix(".json"), compact(found))
        print(f"written to {own.plot} and {own.plot.with_suffix('.json')}")


def _line(text: str) -> tuple[str, float]:
    label, _, value = text.rpartition(":")
    try:
        return label.strip(), float(value)
    except ValueError:
        raise ConfigError(f"--line got {text!r}: expected a label and a number, such as 'HOP: 11.1'") from None


def _table(game: dict[str, Any], metrics: Sequence[str]) -> str:
    """Return the Markdown table of a game: one row for each method, or for each method and metric."""
    several, methods = len(metrics) > 1, game["methods"]
    head = ["method", *(["number"] if several else []), "seeds", "env steps", "training, s", "mean [95%]", "IQM [95%]"]
    first = next(iter(methods))
    if len(methods) > 1:
        head += [f"minus {first} [95%]", *([] if several else [f"better than {first}"])]
    rows = [head]
    for metric in metrics:
        for name, entry in methods.items():
            found = entry["metrics"][metric]
            counted = [str(len(found["values"])), _whole(entry["buffer/env_steps"]), _whole(entry["time/fit_s"])]
            row = [name, *([metric] if several else []), *counted, _cell(found["mean"]), _cell(found["iqm"])]
            if len(methods) > 1:
                row.append("-" if found.get("difference") is None else _cell(found["difference"], "+"))
                row += [] if several else ["-" if name == first else f"{game['improvement'][name][first]:.2f}"]
            rows.append(row)
    return _markdown(rows, 1 + several)


def _overall(found: dict[str, Any]) -> str:
    rows = [["method", "seeds", "mean [95%]", "IQM [95%]"]]
    rows += [[name, str(each["seeds"]), _cell(each["mean"]), _cell(each["iqm"])] for name, each in found.items()]
    return _markdown(rows)


def _each(games: Mapping[str, Group], metric: str) -> str:
    """Return a table with one row for each run; the interval is over the episodes of its evaluation."""
    counted = ["env steps", "training, s", "memory, MiB", "episodes"]
    rows = [["method", "seed", *counted, "value [95% over episodes]", "run"]]
    for methods in games.values():
        for name, run in ((name, run) for name, runs in methods.items() for run in runs):
            get = run.numbers.get
            stem = metric.removesuffix("_mean")
            ends = {"value": run.value(metric), "low": get(f"{stem}_low"), "high": get(f"{stem}_high")}
            counts = (get("buffer/env_steps"), get("time/fit_s"), get("time/peak_memory_mib"), get("return/episodes"))
            rows.append([name, str(run.seed), *map(_whole, counts), _cell(ends), run.path])
    return _markdown(rows)


def _cell(summary: dict[str, Any], sign: str = "") -> str:
    text = f"{summary['value']:{sign}.2f}"
    return text if summary["low"] is None else f"{text} [{summary['low']:{sign}.2f}, {summary['high']:{sign}.2f}]"


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _markdown(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Return a Markdown table with aligned columns; the first columns, which hold words, are left-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(map(_put, row, widths, range(len(row)), [left] * len(row))) + " |" for row in rows]
    rules = ["-" * (width + 2) if k < left else "-" * (width + 1) + ":" for k, width in enumerate(widths)]
    return "\n".join([lines[0], f"|{'|'.join(rules)}|", *lines[1:]])


def _put(cell: str, width: int, column: int, left: int) -> str:
    return cell.ljust(width) if column < left else cell.rjust(width)
