"""Times one research iteration: self-play of four learners on 6x6 with goals on, and the training that follows it.

Run:  python benchmarks/iteration.py [--growth] [--iterations 5]
An iteration plays one episode in each environment, 3 trees x 200 simulations for each decision, and trains 16 batches.
How many decisions that makes depends on how long the episodes get, so playing time is scaled to 2,621 decisions: an
earlier system took 1,680 s for these. `growth` is what memory gained since the second iteration. Prints a table and
then one JSON line.
"""

import argparse
import json
import platform
import resource
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import omg_lightning  # noqa: F401  # first, for it sets how threads wait before torch is loaded
import torch

from omg_lightning.data import EpisodeDataModule
from omg_lightning.data.game import GameConfig
from omg_lightning.modules import Agent
from omg_lightning.types import PlannerConfig

DECISIONS = 2621
GROWTH: list[dict[str, Any]] = [
    *({"trees": trees} for trees in (1, 3, 5)),
    *({"simulations": simulations} for simulations in (32, 100, 200)),
    *({"num_envs": num_envs} for num_envs in (8, 24, 64)),
    *({"preset": preset} for preset in ("2h1s_4x4", "4h1s_4x4", "4h1s_6x6", "4h1s")),
    {"rule": "gumbel"},
]


def resident() -> float:
    """Memory in use, MiB; the peak where there is no /proc."""
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * resource.getpagesize() / 2**20
    return peak()


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def measure(
    iterations: int,
    preset: str = "4h1s_6x6",
    trees: int = 3,
    simulations: int = 200,
    num_envs: int = 24,
    rule: str = "puct",
    goals: str = "subgoal",
) -> dict[str, Any]:
    """Plays and trains; a row of results, medians over iterations after one to warm up."""
    torch.manual_seed(0)
    game = GameConfig(preset=preset)
    seats = ["learner"] * game.build().num_players
    data = EpisodeDataModule(game=game, seats=seats, num_envs=num_envs, offline_rounds=0, batch_size=32)
    agent = Agent(
        goals=goals,
        trees=trees,
        simulations=simulations,
        planner=PlannerConfig(rule=rule),
        game=data.game_name,
        observation_shape=data.observation_shape,
        num_players=data.num_players,
        num_actions=data.num_actions,
        max_steps=data.max_steps,
        num_goals=data.num_goals,
    )
    data.attach(agent.learner, agent.load_learner)
    optimizer = agent.configure_optimizers()
    weights = asdict(agent.weights)
    playing, training, decisions, memory = [], [], [], []
    for _ in range(iterations + 1):
        start = time.perf_counter()
        played, _ = data.refresh(max_age=8)
        middle = time.perf_counter()
        for batch in data.train_dataloader():
            losses = agent.losses(batch)
            total = sum(weight * losses[name] for name, weight in weights.items() if name in losses)
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
        playing.append(middle - start)
        training.append(time.perf_counter() - middle)
        decisions.append(int(played.episodes.planned.sum()))
        memory.append(resident())
    per_decision = median(seconds / count for seconds, count in zip(playing[1:], decisions[1:], strict=True))
    train = median(training[1:])
    return {
        "preset": preset,
        "rule": rule,
        "trees": trees,
        "simulations": simulations,
        "num_envs": num_envs,
        "decisions": median(decisions[1:]),
        "simulations_per_s": trees * simulations / per_decision,
        "play_s": per_decision * DECISIONS,
        "train_s": train,
        "total_s": per_decision * DECISIONS + train,
        "growth_mib": memory[-1] - memory[1],
        "peak_mib": peak(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--growth", action="store_true", help="how cost grows with trees, simulations, batch and board")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    kinds = {"preset": "10", "rule": "8", "trees": "6", "simulations": "12", "num_envs": "9", "decisions": "10.0f"}
    kinds |= {"simulations_per_s": "18,.0f", "play_s": "8.2f", "train_s": "8.2f", "total_s": "8.2f"}
    kinds |= {"growth_mib": "11.0f", "peak_mib": "9.0f"}
    print(" ".join(f"{name:>{kind.split('.')[0].strip(',')}}" for name, kind in kinds.items()))
    rows = []
    for settings in GROWTH if args.growth else [{}]:
        row = measure(args.iterations, **settings)
        rows.append(row)
        print(" ".join(f"{row[name]:>{kind}}" for name, kind in kinds.items()), flush=True)
    machine = {"machine": platform.machine(), "threads": args.threads, "torch": torch.__version__}
    print(json.dumps({"benchmark": "iteration", **machine, "rows": rows}))


if __name__ == "__main__":
    main()
