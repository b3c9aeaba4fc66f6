"""Prints a Markdown table of runs and their mean over seeds, from the metrics.json files that `fit` wrote.

    python benchmarks/table.py runs/seed_*/lightning_logs/version_0

The interval of each run is over its evaluation episodes; that of the mean is over seeds (Student's t, 95%).
"""

import argparse
import json
import statistics
from pathlib import Path

import yaml

T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}  # by seeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="run folders")
    teams = []
    print("| seed | env steps | training, s | memory, MiB | episodes | team return | 95% interval |")
    print("|---|---|---|---|---|---|---|")
    for folder in parser.parse_args().folders:
        seed = yaml.safe_load((folder / "config.yaml").read_text())["seed_everything"]
        found = json.loads((folder / "metrics.json").read_text())
        teams.append(found["return/team_mean"])
        print(
            f"| {seed} | {found['buffer/env_steps']:,.0f} | {found['time/fit_s']:.0f} "
            f"| {found['time/peak_memory_mib']:.0f} | {found['return/episodes']:.0f} | {teams[-1]:.2f} "
            f"| {found['return/team_low']:.2f} to {found['return/team_high']:.2f} |"
        )
    if len(teams) in T95:
        half = T95[len(teams)] * statistics.stdev(teams) / len(teams) ** 0.5
        print(f"\nMean over {len(teams)} seeds: {statistics.mean(teams):.2f} +- {half:.2f} (95% interval over seeds)")


if __name__ == "__main__":
    main()
