"""Measure how costs grow with work, fit an exponent to each, and draw them.

Run:  python benchmarks/growth.py docs/results/growth.json docs/images/growth.png
      python benchmarks/growth.py docs/results/growth.json docs/images/growth.png --draw    # the figure alone

Three things grow: a search of the toy model of planner.py, a step of the rules of Stag-Hunt (what is legal, and the
joint step, as in games.py), and a rollout of learners that search (self-play with `Subgoal`, as in iteration.py).
Seconds are processor time of one process, so that other programs disturb little: medians over the repeats.

An exponent is the slope of log(seconds) over log(work), by least squares over all points of a line. It is 1 where
twice the work takes twice the time, and lower where large batches are more efficient. The work of a search with more
simulations is the number of nodes on their paths: trees become deeper, and each simulation chooses an action at every
node that it passes and backs a return up through it. `steepest` is the largest slope between neighbouring points.
"""

import argparse
import importlib
import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import omg_lightning  # noqa: F401 - first, for it sets how threads wait before torch is loaded

# isort: split
import matplotlib.pyplot as plt
import numpy as np
import torch

from omg_lightning.commit import commit_of
from omg_lightning.search import SearchConfig, search

sys.path.insert(0, str(Path(__file__).parent))
games, iteration, planner = (importlib.import_module(name) for name in ("games", "iteration", "planner"))

LIMIT = 1.05  # nothing may grow faster than its work; the rest is noise
SIDES = (4, 6, 8, 12, 16)
PLAYERS = (2, 3, 4, 6, 8)


@dataclass(frozen=True)
class Line:
    """Costs over work: `seconds` of `work` units, such as 64 cells; `size` is the setting, such as a side of 8."""

    panel: str
    unit: str
    name: str
    size: list[int]
    work: list[float]
    seconds: list[float]

    @property
    def exponent(self) -> float:
        """The slope of log(seconds) over log(work)."""
        return float(np.polyfit(np.log(self.work), np.log(self.seconds), 1)[0])

    @property
    def steepest(self) -> float:
        """The largest slope between neighbouring points."""
        return float(np.max(np.diff(np.log(self.seconds)) / np.diff(np.log(self.work))))

    def plain(self) -> dict[str, Any]:
        """Return the line with its exponents, for the result file."""
        return {**asdict(self), "exponent": round(self.exponent, 3), "steepest": round(self.steepest, 3)}


def search_time(repeats: int, rule: str, trees: int, simulations: int) -> float:
    """Return the seconds of one search of the toy model."""
    root, model, _ = planner.toy(trees)
    config, generator = SearchConfig(num_simulations=simulations, rule=rule), torch.Generator().manual_seed(0)  # type: ignore[arg-type]
    calls = max(1, 20_000 // (trees * simulations))

    def run() -> float:
        start = time.process_time()
        for _ in range(calls):
            search(root, model, config, generator)
        return (time.process_time() - start) / calls

    run()
    return median(run() for _ in range(repeats))


def nodes_passed(rule: str, simulations: int) -> float:
    """Return the mean number of nodes below the root that the simulations of a tree of the toy model pass."""
    trees = 64
    root, model, _ = planner.toy(trees)
    config, generator = SearchConfig(num_simulations=simulations, rule=rule), torch.Generator().manual_seed(0)  # type: ignore[arg-type]
    _, tree = search(root, model, config, generator, return_tree=True)  # type: ignore[misc]
    return float(tree.visits.sum()) / trees


def game_time(repeats: int, **settings: int) -> float:
    """Return the seconds of a step of the whole batch, see `games.measure`."""
    row = games.measure(repeats, None, clock=time.process_time, **settings)
    return row["batch"] / row["env_steps_per_s"]


def rollout_time(
    repeats: int, trees: int = 2, simulations: int = 16, num_envs: int = 16, players: int = 4, side: int = 8
) -> float:
    """Return the seconds of a decision, on average, in self-play of 8 steps on a board without blocks."""
    board = {"num_players": players, "height": side, "width": side, "num_blocks": 0, "max_steps": 8}
    data, _ = iteration.build("4h1s", trees, simulations, num_envs, **board)

    def run() -> float:
        start = time.process_time()
        played, _ = data.refresh(max_age=1)
        return (time.process_time() - start) / int(played.episodes.learner.sum())

    run()
    return median(run() for _ in range(repeats))


def lines(repeats: int) -> list[Line]:
    """Measure all lines."""
    found = []

    def add(
        panel: str,
        unit: str,
        name: str,
        sizes: tuple[int, ...],
        cost: Callable[[int], float],
        work: Callable[[int], float] = float,
    ) -> None:
        found.append(Line(panel, unit, name, list(sizes), [*map(work, sizes)], [*map(cost, sizes)]))
        print(f"{panel:10}{unit:14}{name:20}{found[-1].exponent:8.2f}{found[-1].steepest:10.2f}", flush=True)

    def cells(side: int) -> float:
        return float(side**2)

    budgets = (8, 16, 32, 64, 128, 256)
    with torch.inference_mode():  # as in a rollout
        for rule in planner.RULES:
            add("search", "trees", rule, (16, 64, 256, 1024, 4096), partial(search_time, repeats, rule, simulations=32))
            add(
                "search",
                "nodes passed",
                rule,
                budgets,
                partial(search_time, repeats, rule, 256),
                partial(nodes_passed, rule),
            )
        add("rules", "environments", "", (64, 256, 1024, 4096, 16384), lambda n: game_time(repeats, batch=n))
        add("rules", "players", "", PLAYERS, lambda n: game_time(repeats, num_players=n))
        add("rules", "cells", "", SIDES, lambda n: game_time(repeats, side=n), cells)
    add("rollout", "trees", "", (1, 2, 4, 8, 16), lambda n: rollout_time(repeats, trees=n))
    add("rollout", "simulations", "", (8, 16, 32, 64, 128), lambda n: rollout_time(repeats, simulations=n))
    add("rollout", "environments", "", (4, 16, 64, 256), lambda n: n * rollout_time(repeats, num_envs=n))
    add("rollout", "players", "", PLAYERS, lambda n: rollout_time(repeats, players=n, num_envs=96 // n))
    add("rollout", "cells", "", SIDES, lambda n: rollout_time(repeats, side=n), cells)
    return found


def draw(found: list[dict[str, Any]], out: Path) -> None:
    """Draw a panel for each unit of each thing, with a dashed line of exponent 1 through the largest point."""
    panels = list(dict.fromkeys((line["panel"], line["unit"]) for line in found))
    figure, axes = plt.subplots(2, -(-len(panels) // 2), figsize=(14, 6), layout="constrained", squeeze=False)
    for axis, panel in zip(axes.flat, panels, strict=False):
        mine = [line for line in found if (line["panel"], line["unit"]) == panel]
        for line in mine:
            label = f"{line['name']} exponent {line['exponent']:.2f}".strip()
            axis.plot(line["work"], line["seconds"], marker="o", label=label)
        work, seconds = mine[0]["work"], mine[0]["seconds"]
        axis.plot(work, [seconds[-1] * each / work[-1] for each in work], "--", color="grey", label="exponent 1")
        per = {"search": "a search", "rules": "a step of the batch", "rollout": "a decision"}[panel[0]]
        per += " in each" if panel == ("rollout", "environments") else ""
        axis.set(title=panel[0], xlabel=panel[1], ylabel=f"seconds of {per}", xscale="log", yscale="log")
        axis.set_xticks(work, [f"{each:,.0f}" for each in work], fontsize=7)
        axis.xaxis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="result file to write")
    parser.add_argument("figure", type=Path, help="figure to write")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--draw", action="store_true", help="draw the figure from an existing result file")
    args = parser.parse_args()
    if not args.draw:
        torch.set_num_threads(1)
        commit = commit_of()  # before the measurement, which takes minutes
        print(f"{'':10}{'work':14}{'':20}{'exponent':>8}{'steepest':>10}")
        rows = [line.plain() for line in lines(args.repeats)]
        machine = {"machine": platform.machine(), "torch": torch.__version__, "threads": 1, "clock": "processor time"}
        made = {"benchmark": "growth", "command": "python " + " ".join(["benchmarks/growth.py", *sys.argv[1:]])}
        result = {**made, "commit": commit, **machine, "repeats": args.repeats, "limit": LIMIT, "lines": rows}
        args.results.parent.mkdir(parents=True, exist_ok=True)
        args.results.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    result = json.loads(args.results.read_text(encoding="utf-8"))
    draw(result["lines"], args.figure)
    for line in result["lines"]:
        if line["exponent"] > LIMIT:
            print(f"{line['panel']}, {line['unit']}: exponent {line['exponent']} is above {LIMIT}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
