"""Time the search on a toy model, compared with the network alone and, optionally, with mctx.

Run:  python benchmarks/planner.py [--peer-python peer/bin/python] [--workers 2] [--growth]
`--workers` shares the trees among processes, as `data.workers` shares the environments of a rollout. `--peer-python` is
an interpreter with mctx (`python -m venv peer; peer/bin/pip install mctx`), run in turns with ours.
Prints a table and then one JSON line. Medians over the repeats; `share` is ours / network alone, at the same batch, and
`most` the same of a search without a tree: network, transition, and fetching and storing one state in each simulation.

The model: observation 256 -> 128 -> 128 -> (7 logits, 1 value), ReLU; a transition rolls the observation by one place
and adds 0.01 * action; reward 0.01 * x[0]; discount 0.95; everything legal. Compilation is not counted.
"""

import argparse
import json
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import omg_lightning  # noqa: F401 - first, for it sets how threads wait before torch is loaded

# isort: split
import torch
from torch import Tensor

from omg_lightning.search import ModelFn, ModelOutput, Root, SearchConfig, search

A, D, HIDDEN = 7, 256, 128
TARGETS = [("puct", 1024, 32), ("puct", 4096, 32), ("puct", 1024, 200), ("gumbel", 1024, 32), ("gumbel", 4096, 32)]
TURN = 200_000  # simulations in each turn, or one search that has more: searches follow each other in a rollout, too
PAUSE = 0.1  # s between turns: threads of the side that was on go on waiting for work for a while, on a core
RULES = ("puct", "gumbel")
GROWTH = [
    *((rule, trees, 32) for rule in RULES for trees in (16, 64, 256, 1024, 4096)),
    *((rule, 256, simulations) for rule in RULES for simulations in (8, 16, 64, 128, 256)),
]
ACTIONS = (2, 4, 16, 32)  # grown at 1,024 trees x 32 simulations; the peer's model has 7


def toy(trees: int, actions: int = A) -> tuple[Root, ModelFn, Callable[[], Any]]:
    """Return the root, the model, and a call of the network alone."""
    generator = torch.Generator().manual_seed(0)
    shapes = (D, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, actions + 1)
    w1, w2, w3 = (torch.randn(shape, generator=generator) * 0.05 for shape in shapes)

    def net(x: Tensor) -> tuple[Tensor, Tensor]:
        out = ((x @ w1).relu_() @ w2).relu_() @ w3
        return out[:, :actions], out[:, actions].tanh()

    discount, legal = torch.full((trees,), 0.95), torch.ones(trees, actions, dtype=torch.bool)

    def model(x: Tensor, action: Tensor) -> tuple[ModelOutput, Tensor]:
        x = x.roll(1, 1).add_(0.01 * action[:, None])
        logits, value = net(x)
        return ModelOutput(logits, value, 0.01 * x[:, 0], discount, legal), x

    x = torch.randn(trees, D, generator=generator)
    logits, value = net(x)
    return Root(logits, value, legal, x), model, lambda: net(x)


def carry(root: Root, model: ModelFn, trees: int, simulations: int) -> Callable[[], None]:
    """Return the least that a search does: each simulation fetches a state, asks the model, and stores a state."""
    store = root.state.repeat(simulations, 1)
    rows, action = torch.randperm(trees), torch.randint(0, A, (trees,))

    def run() -> None:
        for k in range(simulations):
            _, state = model(store.index_select(0, rows), action)
            store[k * trees : (k + 1) * trees].copy_(state)

    return run


def serve(pipe: Connection, threads: int, rule: str, trees: int, simulations: int, actions: int) -> None:
    """Serve as one of our processes: run the part that it is told to, so many times."""
    torch.set_num_threads(threads)
    root, model, network = toy(trees, actions)
    config, generator = SearchConfig(num_simulations=simulations, rule=rule), torch.Generator().manual_seed(0)
    parts = {
        "search": lambda: search(root, model, config, generator),
        "network": network,
        "carry": carry(root, model, trees, simulations),
    }
    with torch.inference_mode():  # as in a rollout
        for part in parts.values():
            part()
        while True:
            pipe.send("ready")
            name, calls = pipe.recv()
            for _ in range(calls):
                parts[name]()


@contextmanager
def ours(workers: int, *args: Any) -> Iterator[Callable[[str, int], float]]:
    """Start our processes and yield a function that times a call of a part in all of them at once."""
    context = get_context("fork")
    pipes, ends = zip(*(context.Pipe() for _ in range(workers)), strict=True)
    processes = [context.Process(target=serve, args=(end, *args), daemon=True) for end in ends]
    for process, end in zip(processes, ends, strict=True):
        process.start()
        end.close()  # or a process that has failed would be waited for
    for pipe in pipes:
        pipe.recv()

    def seconds(name: str, calls: int) -> float:
        start = time.perf_counter()
        for pipe in pipes:
            pipe.send((name, calls))
        for pipe in pipes:
            pipe.recv()
        return (time.perf_counter() - start) / calls

    try:
        yield seconds
    finally:
        for process in processes:
            process.terminate()


@contextmanager
def peer(python: str | None, rule: str, trees: int, simulations: int) -> Iterator[tuple[str, Callable[[int], float]]]:
    """Start mctx and yield its version and a function that times a search of it, the mean of so many calls."""
    if python is None:
        yield "", lambda calls: float("nan")
        return
    script = Path(__file__).parent / "peers" / "mctx_planner.py"
    args = ["--rule", rule, "--trees", str(trees), "--simulations", str(simulations)]
    with subprocess.Popen([python, str(script), *args], stdin=-1, stdout=-1, text=True, bufsize=1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        write, read = process.stdin.write, process.stdout.readline
        yield read().strip(), lambda calls: float((write(f"{calls}\n"), read())[1])
        process.stdin.close()


def measure(
    rule: str, trees: int, simulations: int, actions: int, python: str | None, repeats: int, workers: int, threads: int
) -> dict[str, Any]:
    work = trees * simulations
    calls = max(1, TURN // work)
    searches, networks, least, theirs = [], [], [], []
    args = (threads, rule, trees // workers, simulations, actions)
    with ours(workers, *args) as time_ours, peer(python, rule, trees, simulations) as (version, time_peer):
        for _ in range(repeats):
            time.sleep(PAUSE)
            searches.append(time_ours("search", calls))
            networks.append(time_ours("network", 20 * calls))
            least.append(time_ours("carry", calls))
            if python is not None:
                time.sleep(PAUSE)
                theirs.append(time_peer(calls))
    row: dict[str, Any] = {"rule": rule, "trees": trees, "simulations": simulations, "actions": actions}
    row |= {"simulations_per_s": work / median(searches), "network_per_s": trees / median(networks)}
    row["share"] = row["simulations_per_s"] / row["network_per_s"]
    row["most"] = work / median(least) / row["network_per_s"]
    if theirs:
        row |= {"peer": version, "peer_per_s": work / median(theirs), "ratio": median(theirs) / median(searches)}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", help="Python interpreter with mctx installed")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument(
        "--growth", action="store_true", help="measure how cost grows with trees, simulations and actions"
    )
    parser.add_argument(
        "--workers", type=int, default=1, help="number of processes that divide the trees, as data.workers"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of each process")
    args = parser.parse_args()
    runs = [(*size, A, args.peer_python) for size in (GROWTH if args.growth else TARGETS)]
    if args.growth:
        runs += [(rule, 1024, 32, actions, None) for rule in RULES for actions in ACTIONS]
    if args.workers < 1 or any(trees % args.workers for _, trees, *_ in runs):
        parser.error(f"--workers is {args.workers}: give a number that divides all numbers of trees, such as 2 or 4")
    rows = []
    names = f"{'rule':8}{'trees':>7}{'sims':>6}{'actions':>9}{'ours/s':>11}{'network/s':>12}{'share':>7}{'most':>6}"
    print(f"{names}{'mctx/s':>11}{'ratio':>7}")
    for run in runs:
        row = measure(*run, args.repeats, args.workers, args.threads)
        rows.append(row)
        line = f"{row['rule']:8}{row['trees']:7}{row['simulations']:6}{row['actions']:9}"
        line += f"{row['simulations_per_s']:11,.0f}{row['network_per_s']:12,.0f}{row['share']:7.2f}{row['most']:6.2f}"
        print(line + (f"{row['peer_per_s']:11,.0f}{row['ratio']:7.2f}" if "ratio" in row else ""), flush=True)
    machine = {"machine": platform.machine(), "torch": torch.__version__}
    used = {"workers": args.workers, "threads": args.threads}
    print(json.dumps({"benchmark": "planner", **machine, **used, "rows": rows}))


if __name__ == "__main__":
    main()
