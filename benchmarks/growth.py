"""Draws how costs grow: `python benchmarks/growth.py docs/images/growth.png planner.txt games.txt`.

The files hold what `--growth` of benchmarks/planner.py and games.py printed; the last line is the JSON.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

# title, benchmark, x, y, what is held fixed, what distinguishes the lines
PANELS: list[tuple[str, str, str, str, dict[str, int], str]] = [
    ("search, 32 simulations", "planner", "trees", "simulations_per_s", {"simulations": 32, "actions": 7}, "rule"),
    ("search, 256 trees", "planner", "simulations", "simulations_per_s", {"trees": 256, "actions": 7}, "rule"),
    ("search, 1,024 trees", "planner", "actions", "simulations_per_s", {"trees": 1024, "simulations": 32}, "rule"),
    ("game, 4 hunters, 8x8", "games", "batch", "env_steps_per_s", {"players": 4, "side": 8}, "players"),
    ("game, batch 4,096, 8x8", "games", "players", "env_steps_per_s", {"batch": 4096, "side": 8}, "side"),
    ("game, batch 4,096, 4 hunters", "games", "side", "env_steps_per_s", {"batch": 4096, "players": 4}, "players"),
]

SPAN = 10  # times at least from the bottom of a panel to its top


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="figure to write")
    parser.add_argument("files", type=Path, nargs="+", help="printed output of the benchmarks")
    args = parser.parse_args()
    found = [json.loads(path.read_text().strip().splitlines()[-1]) for path in args.files]
    rows: dict[str, list[dict[str, Any]]] = {data["benchmark"]: data["rows"] for data in found}
    figure, axes = plt.subplots(2, 3, figsize=(11, 6), layout="constrained")
    for axis, (title, benchmark, x, y, fixed, lines) in zip(axes.flat, PANELS, strict=True):
        mine = [row for row in rows.get(benchmark, []) if fixed.items() <= row.items()]
        for name in dict.fromkeys(row[lines] for row in mine):
            line = sorted((row for row in mine if row[lines] == name), key=lambda row: row[x])
            axis.plot([row[x] for row in line], [row[y] for row in line], marker="o", label=f"{lines} {name}")
            line = [row for row in line if "peer_per_s" in row]
            if line and x in ("trees", "simulations", "batch"):  # the peer's game has its own players and grid
                style = {"linestyle": "--", "alpha": 0.6, "color": axis.lines[-1].get_color()}
                label = f"{lines} {name}: {line[0]['peer'].split(',')[0]}"
                axis.plot([row[x] for row in line], [row["peer_per_s"] for row in line], label=label, **style)
        unit = y.replace("_per_s", " / s").replace("_", " ")
        axis.set(title=title, xlabel=x, xscale="log", yscale="log", ylabel=unit)
        low, high = axis.get_ylim()
        wider = max(1, SPAN * low / high) ** 0.5  # or a few percent would look like a cliff
        axis.set_ylim(low / wider, high * wider)
        ticks = sorted({row[x] for row in mine})
        axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axis.xaxis.minorticks_off()
        axis.grid(alpha=0.3)
        if mine:
            axis.legend(fontsize=7)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=120)


if __name__ == "__main__":
    main()
