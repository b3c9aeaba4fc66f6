"""Profile a real `fit`: time in games, search, networks and optimiser, and in all other code.

Run:  python benchmarks/fit_profile.py [--threads 1] [arguments of `fit`; without any, `--config configs/base.yaml`]
Runs the command line's `fit` in a temporary folder, with timers around its parts. A part does not contain the others:
time belongs to the innermost one. The evaluation that follows a `fit` is not counted. Prints a table, what share is
outside of games, search, networks and optimiser, and then one JSON line.
"""

import argparse
import json
import platform
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import omg_lightning  # noqa: F401 - first, for it sets how threads wait before torch is loaded

# isort: split
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loops.optimization.automatic import Closure

import callbacks
from omg_lightning import opponents
from omg_lightning.actors import PolicyActor, SearchActor
from omg_lightning.cli import main as command_line
from omg_lightning.data import EpisodeBuffer, evaluation
from omg_lightning.games import MatrixGame, Snowdrift, StagHunt, matrix, scripts, switcher
from omg_lightning.games.grid import scripted
from omg_lightning.rollout import collector
from omg_lightning.training import Agent

INSIDE = (
    "games and players",
    "search",
    "networks: policy",
    "networks: goals",
    "networks: losses",
    "networks: gradients",
    "optimiser",
)
REST = "Lightning and the rest"
_RULES = ("reset", "step", "observe", "legal", "active", "realised")


def parts() -> list[tuple[str, Any, tuple[str, ...]]]:
    """Return what is timed: part, owner, names of functions."""
    modules = (scripts, scripted, switcher, matrix)
    players = [thing for module in modules for thing in vars(module).values() if "act" in vars_of(thing)]
    kinds = (thing for thing in vars(opponents).values() if isinstance(thing, type))
    models = [kind for kind in kinds if issubclass(kind, opponents.OpponentModel)]
    return [
        *(("games and players", game, _RULES) for game in (StagHunt, Snowdrift, MatrixGame)),
        *(("games and players", player, ("act", "reset")) for player in dict.fromkeys(players)),
        *(("networks: goals", model, ("start", "infer", "update")) for model in models),
        ("search", SearchActor, ("decide",)),
        ("networks: policy", PolicyActor, ("decide",)),
        ("networks: losses", Agent, ("losses",)),
        ("networks: gradients", torch.Tensor, ("backward",)),
        ("optimiser", torch.optim.Adam, ("step", "zero_grad")),
        (REST, Closure, ("closure",)),
        *(("rollout: bookkeeping", user, ("play",)) for user in (collector, evaluation)),
        ("buffer", EpisodeBuffer, ("add", "drop", "sample", "passes", "oldest")),
        ("evaluation metrics", Agent, ("validation_step", "on_validation_epoch_end")),
        ("training step: checks", Agent, ("training_step", "on_train_batch_end")),
        ("logging", LightningModule, ("log", "log_dict")),
        ("logging", TensorBoardLogger, ("log_metrics", "save")),
        ("checkpoints", Trainer, ("save_checkpoint",)),
        *(
            (f"callback {name}", owner := getattr(callbacks, name), tuple(x for x in dir(owner) if x.startswith("on_")))
            for name in callbacks.__all__
        ),
    ]


def vars_of(thing: Any) -> dict[str, Any]:
    """Return what a class itself defines; nothing for other objects."""
    return dict(vars(thing)) if isinstance(thing, type) else {}


@contextmanager
def timers(seconds: dict[str, float]) -> Iterator[None]:
    """Add up the time in each part of a `Trainer.fit`, without what other parts take within it."""
    stack, last = list[str](), 0.0

    def switch() -> None:
        nonlocal last
        now = time.perf_counter()
        if stack:
            seconds[stack[-1]] += now - last
        last = now

    def timed(part: str, function: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            if not stack and function is not fit:  # before or after it
                return function(*args, **options)
            switch()
            stack.append(part)
            try:
                return function(*args, **options)
            finally:
                switch()
                stack.pop()

        return call

    fit = Trainer.fit
    kept: list[tuple[Any, str, Any]] = []
    for part, owner, names in [*parts(), (REST, Trainer, ("fit",))]:
        for name in names:
            own = vars(owner).get(name)
            kept.append((owner, name, own))
            setattr(owner, name, timed(part, getattr(owner, name)))
    try:
        yield
    finally:
        for owner, name, own in reversed(kept):
            if own is None:
                delattr(owner, name)
            else:
                setattr(owner, name, own)


def profile(arguments: list[str]) -> dict[str, float]:
    """Run `fit` with the arguments; return the seconds in each part."""
    seconds: dict[str, float] = defaultdict(float)
    with timers(seconds), tempfile.TemporaryDirectory() as folder:
        command_line(["fit", *arguments, "--trainer.default_root_dir", folder])
    return dict(sorted(seconds.items(), key=lambda item: -item[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args, arguments = parser.parse_known_args()
    torch.set_num_threads(args.threads)
    found = profile(arguments or ["--config", "configs/base.yaml"])
    total = sum(found.values())
    outside = 1 - sum(found.get(part, 0.0) for part in INSIDE) / total
    print(f"{'part':32}{'s':>9}{'share':>8}")
    for part, spent in found.items():
        print(f"{part:32}{spent:9.2f}{spent / total:8.1%}{'' if part in INSIDE else '  outside'}")
    print(f"{'all':32}{total:9.2f}\noutside of games, search, networks and optimiser: {outside:.1%}")
    machine = {"machine": platform.machine(), "threads": args.threads, "torch": torch.__version__}
    print(json.dumps({"benchmark": "fit-profile", **machine, "seconds": found, "outside": outside}))


if __name__ == "__main__":
    main()
