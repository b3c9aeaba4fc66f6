"""Compare the learning of one and two processes at the same environment steps: a small game with PPO, several seeds.

    python benchmarks/ranks.py docs/results/ranks.json --seeds 5 --rounds 30

Each run is a command of its own, forked from this program; `--trainer.devices 2` is all that differs. `learned` is the
team return of the evaluation after training, `curve` the mean of the training rounds' team returns, `steps_to_90` the
environment steps until five rounds in a row have a mean of 90% of the best return, or all steps where they never do.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from scipy.stats import ttest_rel

from omg_lightning.cli import main as command

ROOT = Path(__file__).parents[1]
BEST, WINDOW = 500.0, 5  # team return of the penalty game: 25 steps of 10 for each of two; rounds
GAME = [
    *("--config", str(ROOT / "configs/matrix.yaml"), "--config", str(ROOT / "configs/ppo.yaml")),
    *("--data.game.preset", "penalty", "--data.seats", "[learner, learner]", "--model.opponent", "Direct"),
    *("--data.offline.rounds", "0", "--trainer.enable_progress_bar", "false"),
    *("--trainer.callbacks", "[benchmarks.ranks.Curve,callbacks.RunCheckpoint,callbacks.Report]"),
    *("--trainer.check_val_every_n_epoch", "1000"),
]


class Curve(Callback):
    """Keeps the team return of each round of training, over the episodes of all processes."""

    def __init__(self) -> None:
        self.rounds: list[list[float]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the round."""
        found = trainer.callback_metrics
        self.rounds.append([float(found[name]) for name in ("buffer/env_steps", "return/train_team_mean")])

    def state_dict(self) -> dict[str, list[list[float]]]:
        """Keep the rounds in the checkpoint."""
        return {"rounds": self.rounds}


def start(seed: int, processes: int, rounds: int, folder: Path) -> int:
    words = ["fit", *GAME, "--seed_everything", str(seed), "--trainer.max_epochs", str(rounds)]
    words += ["--trainer.default_root_dir", str(folder), "--trainer.devices", str(processes)]
    if (pid := os.fork()) == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            command(words)
        except SystemExit as stop:
            os._exit(stop.code or 0)
        os._exit(0)
    return pid


def result(seed: int, processes: int, folder: Path) -> dict[str, float]:
    run_folder = folder / "lightning_logs/version_0"
    numbers = json.loads((run_folder / "metrics.json").read_text())
    states = torch.load(run_folder / "last.ckpt", weights_only=True)["callbacks"]
    history = np.asarray(states["Curve"]["rounds"])  # [env_steps, team return]
    team = history[:, 1]
    means = np.convolve(team, np.ones(WINDOW) / WINDOW, "valid")
    reached = np.flatnonzero(means >= 0.9 * BEST)
    steps = float(history[reached[0] + WINDOW - 1, 0]) if len(reached) else float(history[-1, 0])
    return {
        "seed": seed,
        "processes": processes,
        "env_steps": numbers["buffer/env_steps"],
        "learned": numbers["return/team_mean"],
        "curve": float(team.mean()),
        "steps_to_90": steps,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--at_once", type=int, default=1, help="number of runs at the same time")
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    rows, running = [], {}
    due = [(seed, processes) for seed in range(args.seeds) for processes in (1, 2)]
    with tempfile.TemporaryDirectory() as root:
        while due or running:
            while due and len(running) < args.at_once:
                job, folder = due.pop(0), Path(root) / f"{len(due)}"
                running[start(*job, args.rounds, folder)] = *job, folder
            pid, status = os.wait()
            if code := os.waitstatus_to_exitcode(status):
                sys.exit(f"seed, processes, folder: {running[pid]} ended with exit code {code}")
            rows.append(result(*running.pop(pid)))
            print(rows[-1], flush=True)
    rows.sort(key=lambda row: (row["seed"], row["processes"]))
    found: dict[str, object] = {"best": BEST, "rounds": args.rounds, "rows": rows}
    for name in ("learned", "curve", "steps_to_90"):
        one, two = (np.array([row[name] for row in rows if row["processes"] == count]) for count in (1, 2))
        found[name] = {"one": one.mean(), "two": two.mean(), "difference": (two - one).mean()}
        if args.seeds > 1 and np.ptp(two - one) > 0:
            low, high = ttest_rel(two, one).confidence_interval()
            found[name] |= {"low": low, "high": high}  # Student's t over seeds, 95%
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({name: found[name] for name in ("learned", "curve", "steps_to_90")}, indent=1))


if __name__ == "__main__":
    main()
