"""Measure self-play on a GPU: rates, memory, launches and waits.

Run:  python benchmarks/gpu.py [--out docs/results/gpu.json]
Four learners play 8x8 Stag-Hunt with the settings of configs/4h1s.yaml (Codebook, Paths, 2 trees x 32 simulations) and
untrained networks, in 256 to 16,384 environments at once, with and without `planner.cuda_graph`. An episode ends after
`--steps` steps. The same is measured on one core of the CPU. Launches, waits of the CPU for the GPU, and the time that
the GPU computes are those of the first step of a round, with its reset. `waits` lists the lines of code that wait most.
Prints a line for each measurement and then one JSON line.
"""

import argparse
import json
import platform
import time
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import omg_lightning  # noqa: F401 - first, for it sets how threads wait before torch is loaded

# isort: split
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from omg_lightning.actors import PlannerConfig, arrange
from omg_lightning.algorithms import BestResponseSearch
from omg_lightning.commit import commit_of
from omg_lightning.encoders import Paths
from omg_lightning.envs import RulesEnv
from omg_lightning.games import StagHunt
from omg_lightning.opponents import Codebook
from omg_lightning.rollout import play
from omg_lightning.spec import GameSpec
from omg_lightning.training import Agent

SIZES = (256, 1024, 4096, 16384)
CPU_SIZES = (128, 1024)
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")


def player(device: str, num_envs: int, steps: int, graph: bool) -> Any:
    """Return a function that plays a round of self-play, and returns its environment steps."""
    torch.manual_seed(0)
    env = RulesEnv(StagHunt("4h1s", max_steps=steps))
    search = partial(
        BestResponseSearch, trees=2, simulations=32, planner=PlannerConfig(beta=10, rescale=True, cuda_graph=graph)
    )
    agent = Agent(Codebook, search, encoder=Paths, spec=GameSpec.of(env).plain()).to(device).eval()
    generator = torch.Generator(device).manual_seed(0)
    seating = arrange([["learner"] * 4], num_envs, env, generator.device)
    learners = {"learner": agent.actor()}
    return lambda: play(env, seating, learners, generator).env_steps


def timed(run: Callable[[], int], device: str) -> tuple[int, float]:
    """Return the environment steps and the seconds of a round."""
    wait(device)
    start = time.perf_counter()
    env_steps = run()
    wait(device)
    return env_steps, time.perf_counter() - start


def wait(device: str) -> None:
    """Wait until the device is idle."""
    if device != "cpu":
        torch.cuda.synchronize()


def row(device: str, num_envs: int, steps: int, repeats: int, graph: bool = False) -> dict[str, Any]:
    """Measure one number of environments: medians over the repeats, after a round to warm up."""
    run = player(device, num_envs, steps, graph)
    run()
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    measured = [timed(run, device) for _ in range(repeats)]
    found: dict[str, Any] = {
        "device": device,
        "num_envs": num_envs,
        "cuda_graph": graph,
        "env_steps": measured[0][0],
        "seconds": median(seconds for _, seconds in measured),
        "env_steps_per_s": median(env_steps / seconds for env_steps, seconds in measured),
    }
    if device != "cpu":
        found["peak_mib"] = torch.cuda.max_memory_allocated() / 2**20
        found |= profiled(player(device, num_envs, 1, graph), 1)
    shown = (f"{name} {f'{value:,.4g}' if isinstance(value, float) else value}" for name, value in found.items())
    print("  ".join(shown), flush=True)
    return found


def waits(run: Callable[[], int]) -> dict[str, int]:
    """Return how often each line of code waits for the device in one more round: the ten that wait most."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        run()
        torch.cuda.set_sync_debug_mode("default")
    lines = Counter(f"{'/'.join(Path(each.filename).parts[-2:])}:{each.lineno}" for each in caught)
    return dict(lines.most_common(10))


def profiled(run: Callable[[], int], steps: int) -> dict[str, float]:
    """Return what a step launches, how often it waits for the device, and how long the device computes.

    Args:
        run: plays a round of `steps` steps.
        steps: of an episode.
    """
    run()
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as found:
        run()
        wait("cuda")
    events = found.key_averages()
    count = {event.key: event.count for event in events}
    launched = sum(number for name, number in count.items() if "LaunchKernel" in name or "GraphLaunch" in name)
    busy = sum(event.self_device_time_total for event in events if event.device_type != DeviceType.CPU)
    return {
        "launches_per_step": launched / steps,
        "waits_per_step": sum(count.get(name, 0) for name in WAITS) / steps,
        "device_s_per_step": busy / 1e6 / steps,
    }


def machine(device: str, commit: str | None) -> dict[str, Any]:
    """Describe the machine and the commit."""
    found = {"machine": platform.machine(), "torch": torch.__version__, "commit": commit}
    return found | ({} if device == "cpu" else {"gpu": torch.cuda.get_device_name()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="numbers of environments on the device")
    parser.add_argument("--cpu-sizes", type=int, nargs="*", default=CPU_SIZES, help="and on one core of the CPU")
    parser.add_argument("--steps", type=int, default=8, help="of an episode")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--commit", default=commit_of(), help="of a copy without its history")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    if args.device != "cpu" and not torch.cuda.is_available():
        parser.error("PyTorch finds no GPU here: run this on a machine with one, or give --device cpu")
    torch.set_num_threads(1)
    rows = [
        row(args.device, size, args.steps, args.repeats, graph)
        for size in args.sizes
        for graph in ((False,) if args.device == "cpu" else (False, True))
    ]
    rows += [row("cpu", size, args.steps, args.repeats) for size in args.cpu_sizes]
    result = {"benchmark": "gpu", **machine(args.device, args.commit), "steps": args.steps, "rows": rows}
    if args.device != "cpu" and args.sizes:
        result["waits"] = waits(player(args.device, min(args.sizes), args.steps, True))
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
