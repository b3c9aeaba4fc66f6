"""Return against simulations, for both rules and the same networks: does a small search play as well as a large one?

Run:  python benchmarks/simulations.py --checkpoint runs/.../last.ckpt --preset 2h1s_4x4 --seats learner nearest_stag
Plays greedy evaluation episodes from the same starts for each rule and number of simulations, and nothing is learned.
Trees are as in the checkpoint, unless `--trees` is given. Prints a table (team return, 95% interval
over episodes, milliseconds for each decision) and then one JSON line; `--plot` draws it.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import omg_lightning  # noqa: F401 - first, for it sets how threads wait before torch is loaded

# isort: split
import matplotlib.pyplot as plt
import numpy as np
import torch

from omg_lightning.actors import Actor, SearchActor
from omg_lightning.algorithms import BestResponseSearch
from omg_lightning.data import EpisodeDataModule
from omg_lightning.games import StagHunt
from omg_lightning.metrics.intervals import of_episodes
from omg_lightning.training import Agent, read_agent, restore

SIMULATIONS = (4, 8, 16, 32, 64, 128, 200)


def measure(
    agent: Agent, data: EpisodeDataModule, seats: list[str], rule: Any, simulations: int, trees: int, episodes: int
) -> dict[str, Any]:
    """Play `episodes` greedy episodes; return a row of results."""

    def learner() -> Actor:
        actor = agent.actor()
        assert isinstance(actor, SearchActor)
        return replace(actor, simulations=simulations, trees=trees, planner=replace(actor.planner, rule=rule))

    data.attach(learner, agent.load_actor)
    teams, decisions, start = [], 0, time.perf_counter()
    for chunk in data.evaluate([seats], episodes):
        teams.append(chunk.reward.sum((0, 2)))  # [B]
        decisions += int(chunk.learner.sum())
    seconds, team = time.perf_counter() - start, torch.cat(teams)
    low, high = of_episodes(team.cpu().numpy(), data.env.team_bounds)
    ends = {"low": float(low), "high": float(high)} if len(team) > 1 else {"low": None, "high": None}
    row = {"rule": rule, "simulations": simulations, "trees": trees, "episodes": len(team)}
    return row | {"team": float(team.mean()), **ends, "ms_per_decision": 1e3 * seconds / decisions}


def draw(rows: list[dict[str, Any]], title: str, path: Path) -> None:
    """Draw the return against simulations, one line for each rule."""
    figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
    for rule in dict.fromkeys(row["rule"] for row in rows):
        mine = [row for row in rows if row["rule"] == rule]
        x, y = [row["simulations"] for row in mine], [row["team"] for row in mine]
        known = [[row["team"] if row[end] is None else row[end] for row in mine] for end in ("low", "high")]
        error = [np.subtract(y, known[0]), np.subtract(known[1], y)]
        axes.errorbar(x, y, error, marker="o", capsize=3, label=rule)
    axes.set(xscale="log", xlabel="simulations per tree", ylabel="team return", title=title)
    axes.set_xticks([row["simulations"] for row in rows], [str(row["simulations"]) for row in rows], minor=False)
    axes.minorticks_off()
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--preset", default="2h1s_4x4", help="preset of Stag-Hunt, that of the training")
    parser.add_argument("--seats", nargs="+", default=["learner", "nearest_stag"])
    parser.add_argument("--rules", nargs="+", default=["puct", "gumbel"], choices=["puct", "gumbel"])
    parser.add_argument("--simulations", nargs="+", type=int, default=list(SIMULATIONS))
    parser.add_argument("--trees", type=int, help="number of trees; default: the checkpoint's")
    parser.add_argument("--episodes", type=int, default=256)
    parser.add_argument("--num-envs", type=int, default=64)
    parser.add_argument("--workers", type=int, default=1, help="number of processes, as data.workers")
    parser.add_argument("--plot", type=Path, help="figure to write, such as docs/images/simulations.png")
    args = parser.parse_args(arguments)
    agent = restore(read_agent(args.checkpoint), "cpu")
    if not isinstance(agent.algorithm, BestResponseSearch):
        parser.error(f"{args.checkpoint} uses {type(agent.algorithm).__name__}: give a checkpoint that searches")
    trees = args.trees or agent.algorithm.trees
    sizes = {"num_envs": args.num_envs, "workers": args.workers}
    data = EpisodeDataModule(StagHunt(args.preset), args.seats, **sizes)
    rows = []
    print(f"{'rule':8}{'simulations':>12}{'team return':>13}{'95%':>16}{'ms/decision':>13}")
    for rule in args.rules:
        for simulations in args.simulations:
            row = measure(agent, data, args.seats, rule, simulations, trees, args.episodes)
            rows.append(row)
            interval = "-" if row["low"] is None else f"{row['low']:.2f} to {row['high']:.2f}"
            print(
                f"{rule:8}{simulations:12}{row['team']:13.2f}{interval:>16}{row['ms_per_decision']:13.2f}", flush=True
            )
    print(json.dumps({"benchmark": "simulations", "preset": args.preset, "seats": args.seats, "rows": rows}))
    if args.plot:
        draw(rows, f"{args.preset}, same networks", args.plot)
    return rows


if __name__ == "__main__":
    main()
