"""Prints a Markdown table of runs and their mean over seeds, from the metrics.json files that `fit` wrote.

    python benchmarks/table.py runs/seed_*/lightning_logs/version_0
    python benchmarks/table.py 'none=runs/none_*/lightning_logs/version_0' 'codebook=runs/cb_*/lightning_logs/version_0'

The first prints a row for each run, with the interval over its evaluation episodes, and the mean over seeds (Student's
t, 95%). The second prints a row for each group of seeds, a label and a pattern in quotes: means over seeds, the
interval over seeds, or over episodes where there is only one.
"""

import argparse
import glob
import json
import math
import statistics
from pathlib import Path
from typing import Any

import yaml

from omg_lightning.metrics.intervals import student


def read(folder: Path) -> dict[str, Any]:
    """Return the metrics of a run, and its seed."""
    if not (folder / "metrics.json").is_file():
        raise SystemExit(f"no metrics.json in {folder}: give the folder of a `fit` that is over")
    seed = yaml.safe_load((folder / "config.yaml").read_text())["seed_everything"]
    return json.loads((folder / "metrics.json").read_text()) | {"seed": seed}


def half_width(values: list[float]) -> float:
    """Return half of the 95% interval of the mean over seeds (Student's t); NaN for a single value, which has none."""
    low, high = student(values)
    return float(high - low) / 2


def written(mean: float, half: float, sign: str = "") -> str:
    """Return a mean with its interval, where there is one."""
    return f"{mean:{sign}.2f}" if math.isnan(half) else f"{mean:{sign}.2f} +- {half:.2f}"


def over_seeds(runs: list[dict[str, Any]]) -> tuple[float, float]:
    """Return the 95% interval of the mean team return over seeds (Student's t), within what the game can pay."""
    first = runs[0]
    bounds = (first["return/team_least"], first["return/team_most"]) if "return/team_least" in first else None
    low, high = student([run["return/team_mean"] for run in runs], bounds)
    return float(low), float(high)


def ends(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{low:.2f} to {high:.2f}"


def print_runs(folders: list[Path]) -> None:
    print("| seed | env steps | training, s | memory, MiB | episodes | team return | 95% interval |")
    print("|---|---|---|---|---|---|---|")
    runs = [read(folder) for folder in folders]
    for found in runs:
        print(
            f"| {found['seed']} | {found['buffer/env_steps']:,.0f} | {found['time/fit_s']:.0f} "
            f"| {found['time/peak_memory_mib']:.0f} | {found['return/episodes']:.0f} | {found['return/team_mean']:.2f} "
            f"| {ends(found.get('return/team_low'), found.get('return/team_high'))} |"
        )
    teams = [found["return/team_mean"] for found in runs]
    if len(teams) > 1:
        print(f"\nMean over {len(teams)} seeds: {statistics.mean(teams):.2f}, 95% interval {ends(*over_seeds(runs))}")


def print_groups(groups: list[tuple[str, list[Path]]]) -> None:
    print("| runs | seeds | env steps | training, s | team return of each | mean | 95% interval |")
    print("|---|---|---|---|---|---|---|")
    for label, folders in groups:
        runs = sorted((read(folder) for folder in folders), key=lambda found: found["seed"])
        teams = [found["return/team_mean"] for found in runs]
        mean, low, high = statistics.mean(teams), runs[0].get("return/team_low"), runs[0].get("return/team_high")
        if len(runs) > 1:
            low, high = over_seeds(runs)
        steps, seconds = (statistics.mean(run[key] for run in runs) for key in ("buffer/env_steps", "time/fit_s"))
        row = label, len(runs), f"{steps:,.0f}", f"{seconds:.0f}", ", ".join(f"{team:.2f}" for team in teams)
        print("| " + " | ".join(map(str, (*row, f"{mean:.2f}", ends(low, high)))) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="run folders, or LABEL=PATTERN of run folders")
    asked = parser.parse_args().runs
    if not all("=" in each for each in asked):
        return print_runs([Path(each) for each in asked])
    groups = [(label, sorted(map(Path, glob.glob(pattern)))) for label, pattern in (x.split("=", 1) for x in asked)]
    for label, folders in groups:
        if not folders:
            parser.error(f"no run folder matches the pattern of {label}")
    return print_groups(groups)


if __name__ == "__main__":
    main()
