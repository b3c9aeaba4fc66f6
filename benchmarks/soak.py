"""Check that a long `fit` does not leak memory, files or threads, with all callbacks and many short rounds.

Run:  python benchmarks/soak.py [--rounds 300] [--every 10] [--out soak.json] [further arguments of `fit`]
Runs configs/smoke.yaml, in which every callback is on, with still shorter rounds, in a temporary folder. After every so
many rounds it reads, with garbage collected: resident memory; objects of Python; tensors and their memory; open files;
threads. Prints a table and then one JSON line, with the growth of each: the mean of the last third of the readings
minus that of the third before it. What is loaded or cached on first use belongs to the first third.
"""

import argparse
import gc
import json
import os
import platform
import resource
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

import omg_lightning  # noqa: F401 - first, for it sets how threads wait before torch is loaded

# isort: split
import torch
from lightning import Callback, LightningModule, Trainer

from omg_lightning.cli import CLI, one_line, run

SMOKE = Path(__file__).parents[1] / "configs/smoke.yaml"
SHORT = ["--trainer.enable_progress_bar=false", "--trainer.check_val_every_n_epoch=20", "--model.networks.hidden=16"]
SHORT += ["--data.num_envs=2", "--data.game.max_steps=8", "--model.algorithm.simulations=2"]
SHORT += ["--data.training.batch_size=2", "--data.training.steps_per_epoch=1"]
SHORT += ["--data.evaluation.val_episodes=2", "--data.evaluation.episodes=2"]
KINDS = ("resident_mib", "objects", "tensors", "tensors_mib", "files", "threads")


def reading() -> dict[str, float]:
    """Return what this process holds now, by the names of KINDS; needs /proc, as on Linux."""
    gc.collect()
    objects = gc.get_objects()
    tensors = [thing for thing in objects if issubclass(type(thing), torch.Tensor)]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return {
        "resident_mib": int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20,
        "objects": len(objects),
        "tensors": len(tensors),
        "tensors_mib": sum(storages.values()) / 2**20,
        "files": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
    }


class Gauge(Callback):
    """Takes a reading after every so many rounds.

    Args:
        every: rounds between two readings.
    """

    def __init__(self, every: int) -> None:
        self.every, self.rows = every, list[dict[str, float]]()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read, when the round before, its evaluation and its checkpoint are over."""
        if trainer.current_epoch and trainer.current_epoch % self.every == 0:
            self.rows.append({"round": trainer.current_epoch, **reading()})


def soak(rounds: int, every: int, arguments: list[str]) -> list[dict[str, float]]:
    """Run so many rounds; return the readings."""
    gauge = Gauge(every)

    class Watched(CLI):
        """The command line, with the gauge behind all other callbacks."""

        def instantiate_trainer(self, **kwargs: Any) -> Trainer:
            trainer = super().instantiate_trainer(**kwargs)
            trainer.callbacks.append(gauge)  # type: ignore[attr-defined]
            return trainer

    with tempfile.TemporaryDirectory() as folder:
        # One round more than is read: a reading belongs to the start of the next round.
        length = [f"--trainer.max_epochs={rounds + 1}", f"--trainer.default_root_dir={folder}"]
        run(["fit", "--config", str(SMOKE), *SHORT, *length, *arguments], Watched)
    return gauge.rows


def growth(rows: list[dict[str, float]]) -> dict[str, float]:
    """Return how much the last third of at least three readings has, on average, more than the third before it."""
    third = len(rows) // 3
    before, after = rows[-2 * third : -third], rows[-third:]
    return {kind: mean(row[kind] for row in after) - mean(row[kind] for row in before) for kind in KINDS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--every", type=int, default=10, help="rounds between two readings")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args, arguments = parser.parse_known_args()
    if args.rounds < 3 * args.every:
        parser.error(f"--rounds is {args.rounds}: give {3 * args.every} or more, for at least three readings")
    with one_line():
        rows = soak(args.rounds, args.every, arguments)
    print(f"{'round':>8}", *(f"{kind:>13}" for kind in KINDS))
    for row in rows:
        print(f"{row['round']:8.0f}", *(f"{row[kind]:13.2f}" for kind in KINDS))
    grown = growth(rows)
    print(f"{'growth':>8}", *(f"{grown[kind]:13.2f}" for kind in KINDS))
    machine = {"machine": platform.machine(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    found = json.dumps({"benchmark": "soak", **machine, "rounds": args.rounds, "growth": grown, "rows": rows})
    if args.out is not None:
        args.out.write_text(found + "\n")
    print(found)


if __name__ == "__main__":
    main()
