"""Times one research iteration: self-play of four learners on 6x6 with goals on, and the training that follows it.

Run:  python benchmarks/iteration.py [--growth | --trees 1 5 | --profile] [--iterations 5] [--workers 2]
An iteration plays one episode in each environment, 3 trees x 200 simulations for each decision, and trains 16 batches.
How many decisions that makes depends on how long the episodes get, so playing time is scaled to 2,621 decisions: an
earlier system took 1,680 s for these. `growth_mib` is what memory gained since the second iteration. `--trees` compares
numbers of trees, with the same simulations in each. `--profile` prints where the time of playing goes instead. Prints a
table and then one JSON line.
"""

import argparse
import json
import platform
import resource
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any, Literal

import omg_lightning  # noqa: F401 - first, for it sets how threads wait before torch is loaded

# isort: split
import torch

from omg_lightning.actors import PlannerConfig
from omg_lightning.actors.simulator import Simulator
from omg_lightning.algorithms import BestResponseSearch, PolicyModule
from omg_lightning.data import EpisodeDataModule, OfflineConfig, TrainingConfig
from omg_lightning.games import StagHunt
from omg_lightning.opponents import Subgoal
from omg_lightning.training import Agent

DECISIONS = 2621
GROWTH: list[dict[str, Any]] = [
    *({"trees": trees} for trees in (1, 3, 5)),
    *({"simulations": simulations} for simulations in (32, 100, 200)),
    *({"num_envs": num_envs} for num_envs in (14, 28, 112)),
    *({"preset": preset} for preset in ("2h1s_4x4", "4h1s_4x4", "4h1s_6x6", "4h1s")),
    {"rule": "gumbel"},
]


_SEARCH = import_module("omg_lightning.search.search")  # the name `search.search` is the function
WHOLE = "all of the search"
PARTS: dict[str, list[tuple[Any, str]]] = {
    "select: descend, climb, choose": [(_SEARCH, "descend"), (_SEARCH, "climb"), (_SEARCH, "choose_at")],
    "expand": [(_SEARCH, "expand"), (_SEARCH, "prior_of")],
    "back up": [(_SEARCH, "backup")],
    "states: gather and store": [(_SEARCH, "map_state")],
    "game step": [(StagHunt, "step")],
    "views and legal actions": [(StagHunt, "observe"), (StagHunt, "legal")],
    "network of the ego": [(PolicyModule, "forward")],
    "co-players: network and draw": [(Simulator, "_draw")],
    WHOLE: [(_SEARCH, "_simulate")],
}


@contextmanager
def timers(seconds: dict[str, float]) -> Iterator[None]:
    """Add up the time that searches spend in each of PARTS, which do not overlap, but for WHOLE."""
    kept = [(owner, name, getattr(owner, name)) for pairs in PARTS.values() for owner, name in pairs]
    searching = False

    def timed(part: str, function: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal searching
            if part != WHOLE and not searching:  # the rollout itself steps the game, too
                return function(*args, **options)
            searching, start = True, time.perf_counter()
            result = function(*args, **options)
            seconds[part] += time.perf_counter() - start
            searching = part != WHOLE
            return result

        return call

    for part, pairs in PARTS.items():
        for owner, name in pairs:
            setattr(owner, name, timed(part, getattr(owner, name)))
    try:
        yield
    finally:
        for owner, name, function in kept:
            setattr(owner, name, function)


def profile(iterations: int, **settings: Any) -> dict[str, float]:
    """Return the seconds in each part of playing, scaled to the decisions of one iteration."""
    seconds: dict[str, float] = defaultdict(float)
    data, _ = build(**settings)
    data.refresh()
    with timers(seconds):
        start = time.perf_counter()
        played = [data.refresh(max_age=8)[0] for _ in range(iterations)]
        total = time.perf_counter() - start
    scale = DECISIONS / sum(int(x.episodes.learner.sum()) for x in played)
    inside = seconds.pop(WHOLE)
    parts = {part: seconds[part] * scale for part in PARTS if part in seconds}
    parts["the rest of the search"] = (inside - sum(seconds.values())) * scale
    return parts | {"playing outside of the search": (total - inside) * scale}


def resident() -> float:
    """Return the memory in use, MiB; the peak where there is no /proc."""
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * resource.getpagesize() / 2**20
    return peak()


def peak(workers: int = 1) -> float:
    """Return the most memory ever used, MiB; with workers an upper bound, because they share most of it."""
    own, child = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return (own + (workers * child if workers > 1 else 0)) / 2**10


def build(
    preset: str = "4h1s_6x6",
    trees: int = 3,
    simulations: int = 200,
    num_envs: int = 56,
    rule: Literal["puct", "gumbel"] = "puct",
    workers: int = 1,
    **board: int,
) -> tuple[EpisodeDataModule, Agent]:
    """Return the data module, in which learners hold all seats, and the agent with its default networks.

    `board` are arguments of `StagHunt` that replace those of the preset.
    """
    torch.manual_seed(0)
    game = StagHunt(preset, **board)  # type: ignore[arg-type]
    training, offline = TrainingConfig(batch_size=32), OfflineConfig(rounds=0)
    seats = ["learner"] * game.num_players
    data = EpisodeDataModule(game, seats, num_envs, workers, training=training, offline=offline)
    search = partial(BestResponseSearch, trees=trees, simulations=simulations, planner=PlannerConfig(rule=rule))
    agent = Agent(Subgoal, search, spec=data.spec)
    data.attach(agent.actor, agent.load_actor)
    return data, agent


def train(data: EpisodeDataModule, agent: Agent, optimizer: torch.optim.Optimizer) -> None:
    """Train on one round of batches, as in a `fit`."""
    for batch in data.train_dataloader():
        loss = agent.weigh(agent.losses(batch))
        assert loss is not None
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def measure(iterations: int, **settings: Any) -> dict[str, Any]:
    """Play and train; return a row of results, medians over iterations after one to warm up."""
    data, agent = build(**settings)
    search = agent.algorithm
    assert isinstance(search, BestResponseSearch)
    optimizer = agent.optimizer()
    playing, training, decisions, memory = [], [], [], []
    for _ in range(iterations + 1):
        start = time.perf_counter()
        played, _ = data.refresh(max_age=8)
        middle = time.perf_counter()
        train(data, agent, optimizer)
        decisions.append(int(played.episodes.learner.sum()))
        playing.append((middle - start) / decisions[-1])
        training.append(time.perf_counter() - middle)
        memory.append(resident())
    play_s, train_s = median(playing[1:]) * DECISIONS, median(training[1:])
    return {
        "preset": str(settings.get("preset", "4h1s_6x6")),
        "rule": search.planner.rule,
        "trees": search.trees,
        "simulations": search.simulations,
        "num_envs": data.num_envs,
        "decisions": median(decisions[1:]),
        "simulations_per_s": search.trees * search.simulations * DECISIONS / play_s,
        "play_s": play_s,
        "train_s": train_s,
        "total_s": play_s + train_s,
        "growth_mib": memory[-1] - memory[min(2, iterations)],
        "peak_mib": peak(data.workers),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument(
        "--growth", action="store_true", help="measure how cost grows with trees, simulations, batch and board"
    )
    parser.add_argument("--trees", type=int, nargs="+", help="numbers of trees per decision to compare")
    parser.add_argument("--profile", action="store_true", help="profile the time of playing")
    parser.add_argument("--workers", type=int, default=1, help="number of processes that play, as data.workers")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    if args.profile and args.workers > 1:
        parser.error("--profile measures one process: remove --workers")
    torch.set_num_threads(args.threads)
    machine = {"machine": platform.machine(), "torch": torch.__version__}
    machine |= {"workers": args.workers, "threads": args.threads}
    if args.profile:
        parts = profile(args.iterations)
        for part, spent in parts.items():
            print(f"{part:32}{spent:7.2f} s{spent / sum(parts.values()):7.1%}")
        print(json.dumps({"benchmark": "iteration-profile", **machine, "seconds": parts}))
        return
    kinds = {"preset": "10", "rule": "8", "trees": "6", "simulations": "12", "num_envs": "9", "decisions": "10.0f"}
    kinds |= {"simulations_per_s": "18,.0f", "play_s": "8.2f", "train_s": "8.2f", "total_s": "8.2f"}
    kinds |= {"growth_mib": "11.0f", "peak_mib": "9.0f"}
    print(" ".join(f"{name:>{kind.split('.')[0].strip(',')}}" for name, kind in kinds.items()))
    rows = []
    for settings in GROWTH if args.growth else [{"trees": trees} for trees in args.trees or [3]]:
        row = measure(args.iterations, workers=args.workers, **settings)
        rows.append(row)
        print(" ".join(f"{row[name]:>{kind}}" for name, kind in kinds.items()), flush=True)
    for row in rows[1:] if args.trees else []:
        ratio = row["play_s"] / rows[0]["play_s"]
        print(f"playing with {row['trees']} trees takes {ratio:.2f} times as long as with {rows[0]['trees']}")
    print(json.dumps({"benchmark": "iteration", **machine, "rows": rows}))


if __name__ == "__main__":
    main()
