"""Train a population of partners by self-play, for Fictitious Co-Play (Strouse et al., NeurIPS 2021, arXiv 2110.08176).

    python -m omg_lightning population --config configs/overcooked.yaml --runs 3 --out population
    python -m omg_lightning fit --config configs/overcooked.yaml --data.seats '[learner, checkpoint:population/*]'

Each run is a `fit` with learners in all seats and a seed of its own. From each run, the agent is saved before training,
after half of it and at its end, in the folders `OUT/seed_0_start`, `OUT/seed_0_half`, `OUT/seed_0_end` and so on, which
have the format of `export`. A seat `checkpoint:OUT/*` stands for all of them, each in an equal share of the
environments. A run whose agents already exist is skipped. All other options are those of `fit`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from omg_lightning import __version__
from omg_lightning.actors import LEARNER
from omg_lightning.cli import CLI, Networks, run
from omg_lightning.commands.parser import CommandParser
from omg_lightning.commit import commit_of
from omg_lightning.experiments.record import shown
from omg_lightning.files import check_writable, unwritable
from omg_lightning.sources import DESCRIPTION
from omg_lightning.training import write_agent
from omg_lightning.training.stored import StoredAgent, read_description
from omg_lightning.types import ConfigError

SHARES = {"start": 0.0, "half": 0.5, "end": 1.0}  # share of a run's rounds after which its agent is saved


def main(args: Sequence[str]) -> None:
    """Run the command.

    Raises:
        ConfigError: an argument is invalid.
    """
    parser = CommandParser("population", __doc__)
    parser.add_argument("--runs", type=int, default=3, help="number of self-play runs; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first run; each next run adds 1")
    parser.add_argument(
        "--out", type=Path, default=Path("population"), help="folder of the agents; default: %(default)s"
    )
    own, settings = parser.parse_known_args(args)
    if own.runs < 1 or own.seed < 0:
        raise ConfigError(f"--runs is {own.runs} and --seed {own.seed}: expected at least 1 and at least 0")
    check_writable(own.out / DESCRIPTION)
    networks = run(["validate", *settings], Networks)
    if networks.config["validate"]["trainer"]["fast_dev_run"]:
        raise ConfigError("--trainer.fast_dev_run is set, but a population needs complete runs: leave it out")
    seats = json.dumps([LEARNER] * networks.datamodule.env.num_players)
    made = 0
    for seed in range(own.seed, own.seed + own.runs):
        wanted = _plain({**networks.model.hparams, "seed": seed})
        if _is_there(own.out, seed, wanted):
            print(f"seed {seed}: skipped, its agents exist in {own.out}", flush=True)
            continue
        print(f"seed {seed}: training in self-play", flush=True)
        words = [*settings, f"--data.seats={seats}", f"--seed_everything={seed}"]
        _keep(run(["fit", *words], Kept), own.out, seed, words)
        made += 1
    print(f"{made} of {own.runs} runs trained; written to {own.out}: use the seat checkpoint:{own.out}/*")


class Snapshots(Callback):
    """Keeps copies of the weights in memory: before training, after half of the rounds, and at the end.

    Attributes:
        weights: by the names of `SHARES`; those of later rounds are missing.
    """

    def __init__(self) -> None:
        self.weights: dict[str, dict[str, Tensor]] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copy the untrained weights.

        Raises:
            ConfigError: the number of rounds is unknown, or less than 2.
        """
        if trainer.max_epochs is None or trainer.max_epochs < 2:
            raise ConfigError(
                f"trainer.max_epochs is {trainer.max_epochs}: expected at least 2 rounds for a population"
            )
        self._keep("start", pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copy the weights after half of the rounds."""
        if trainer.current_epoch + 1 == int(SHARES["half"] * (trainer.max_epochs or 0)):
            self._keep("half", pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copy the last weights.

        Raises:
            ConfigError: the run ended before half of its rounds.
        """
        if "half" not in self.weights:
            raise ConfigError(
                f"the run ended after {trainer.current_epoch} of {trainer.max_epochs} rounds, before half of them: "
                "set trainer.max_epochs lower instead of trainer.max_steps or max_time"
            )
        self._keep("end", pl_module)

    def _keep(self, name: str, pl_module: LightningModule) -> None:
        self.weights[name] = {key: value.detach().clone() for key, value in pl_module.state_dict().items()}


class Kept(CLI):
    """A `fit` that records snapshots."""

    snapshots: Snapshots

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        """Add the callback `Snapshots`."""
        self.snapshots = Snapshots()
        return super()._instantiate_trainer(config, [*callbacks, self.snapshots])


def folder_of(out: Path, seed: int, name: str) -> Path:
    """Return the folder of an agent of a population."""
    return out / f"seed_{seed}_{name}"


def _is_there(out: Path, seed: int, wanted: Mapping[str, Any]) -> bool:
    """Return whether all agents of a seed exist; raise ConfigError if only some do, or their settings differ."""
    folders = [folder_of(out, seed, name) for name in SHARES]
    there = [folder for folder in folders if folder.exists()]
    if there and len(there) < len(folders):
        raise ConfigError(f"{there[0]} exists, but not all agents of this run: choose another --out, or remove it")
    for folder in there:
        if read_description(folder)["settings"] != wanted:
            raise ConfigError(f"{folder} was made with other settings: choose another --out, or remove it")
    return bool(there)


def _keep(trained: Kept, out: Path, seed: int, words: Sequence[str]) -> None:
    """Write the agents of a run."""
    if not trained.trainer.is_global_zero:
        return
    made = {"seed": seed, "version": __version__, "commit": commit_of(), "command": shown(["fit", *words])}
    made |= {"rounds": trained.trainer.max_epochs, "env_steps": trained.datamodule.env_steps}
    for name, weights in trained.snapshots.weights.items():
        folder, about = folder_of(out, seed, name), {**made, "share": SHARES[name]}
        try:
            write_agent(StoredAgent(_plain(trained.model.hparams), weights, about), folder)
        except OSError as error:
            raise unwritable(folder, error) from error


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as they are after a round trip through JSON."""
    found: dict[str, Any] = json.loads(json.dumps(dict(settings)))
    return found
