"""Value of information V: the largest gain that an opponent model can bring, and the share of it that each one reaches.

    python -m omg_lightning value runs/value --plot value.png
    python -m omg_lightning value 'Direct=runs/direct_*' 'Oracle=runs/oracle_*' 'Declared=runs/declared_*'

V is the return of `Oracle`, which observes each co-player's true goal, minus that of `Direct`, which models no goals:
same game, same training, same seeds. A method's share of V is its own difference from `Direct`, divided by V. Both have
95% intervals over seeds: Student's t, and Fieller's for the share, a ratio of means. If V is not above 0, no share is
computed. Give runs as in `compare`: NAME=RUN, or the folder of a study, each of whose games is a setting. --plot
writes a figure and, beside it, a JSON file with all numbers.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omg_lightning.commands.parser import CommandParser
from omg_lightning.evaluation import align
from omg_lightning.evaluation.figures import check_figure, save_figure
from omg_lightning.evaluation.runs import METRIC, gather
from omg_lightning.evaluation.value import sentence, value_of
from omg_lightning.evaluation.value_figure import value_figure
from omg_lightning.files import check_writable, compact, replace_text
from omg_lightning.types import ConfigError


def main(args: Sequence[str]) -> None:
    """Run the command.

    Raises:
        ConfigError: an argument is invalid.
    """
    parser = CommandParser("value", __doc__)
    parser.add_argument("runs", nargs="*", metavar="NAME=RUN", help="a method and its runs; or the folder of one study")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="figure to write; FILE.json gets its numbers")
    parser.add_argument("--metric", default=METRIC, help="name of a metric in metrics.json; default: %(default)s")
    parser.add_argument("--group", metavar="NAME", help="use only this group of the study")
    parser.add_argument(
        "--without", default="Direct", metavar="NAME", help="method without goals; default: %(default)s"
    )
    parser.add_argument(
        "--told", default="Oracle", metavar="NAME", help="method with the true goals; default: %(default)s"
    )
    own = parser.parse_args(args)
    if not own.runs:
        raise ConfigError("value got no runs: give Direct=RUN Oracle=RUN [NAME=RUN ...], or the folder of a study")
    if own.plot is not None:
        check_figure(own.plot)
        check_writable(own.plot.with_suffix(".json"), "--plot")
    games = gather(own.runs, own.group, own.metric)
    whole = {game: methods for game, methods in games.items() if {own.without, own.told} <= methods.keys()}
    for game in games if whole else ():
        if game not in whole:
            print(f"note: {game} has no runs of {own.without} or {own.told} yet: omitted", file=sys.stderr)
    games = whole or games
    found = {game: value_of(methods, own.metric, own.without, own.told) for game, methods in games.items()}
    for game, each in found.items():
        title = f"{game}: " if game else ""
        print(f"{title}{sentence(each, own.without, own.told)}\n\n{_table(each)}\n")
    if own.plot is not None:
        about = {"metric": own.metric, "without": own.without, "told": own.told}
        save_figure(value_figure({game or "all runs": each for game, each in found.items()}, own.metric), own.plot)
        replace_text(own.plot.with_suffix(".json"), compact({**about, "settings": found}))
        print(f"written to {own.plot} and {own.plot.with_suffix('.json')}")


def _table(found: Mapping[str, Any]) -> str:
    """Return a table with one line per method: its return, and its share of V."""
    lines = [["method", "return [95%]", "share of V [95%]"]]
    for name, summary in found["returns"].items():
        share = found["shares"].get(name)
        lines.append([name, _cell(summary), "-" if share is None else _cell(share)])
    return align(lines)


def _cell(summary: Mapping[str, Any]) -> str:
    text = f"{summary['value']:.2f}"
    return text if summary["low"] is None else f"{text} [{summary['low']:.2f}, {summary['high']:.2f}]"
