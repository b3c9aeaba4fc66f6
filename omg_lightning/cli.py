"""The command line: `python -m omg_lightning {fit,validate,test,predict} --config configs/base.yaml`, and commands."""

import importlib
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from jsonargparse import ArgumentError
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

import omg_lightning.envs  # so that its classes are known by name
from callbacks import BufferRefresh, SeatSchedule, TreeCount  # a foreign package of that name fails at once
from omg_lightning.algorithms import Algorithm
from omg_lightning.data import EpisodeDataModule
from omg_lightning.encoders import Encoder
from omg_lightning.games import Game
from omg_lightning.opponents import OpponentModel
from omg_lightning.rewards import Reward
from omg_lightning.training import Agent
from omg_lightning.training.checkpoint import WholeCheckpointIO, new_run, read_checkpoint
from omg_lightning.types import ConfigError

Kind = TypeVar("Kind", bound="CLI")
COMMANDS = {
    "references": "make the references by which scores of `test` are normalised",
    "adaptation": "put together what `test` found with several seeds",
    "crossplay": "play every one of several checkpoints beside every other one",
}
CHOICES: dict[str, tuple[type, ...]] = {  # keys whose value is a class
    "data.game": (Game, omg_lightning.envs.VectorEnv),
    "model.opponent": (OpponentModel,),
    "model.algorithm": (Algorithm,),
    "model.encoder": (Encoder,),
    "model.reward": (Reward,),
}


class CLI(LightningCLI):
    """LightningCLI with the game linked from data to model, a run folder of its own, and an evaluation at the end."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Link what the model must know of the game, and one seed for everything; schedules get keys of their own.

        A list of callbacks can only be replaced whole, by another file. So those that are studied are not in it.
        """
        parser.add_lightning_class_args(SeatSchedule, "seat_schedule")
        parser.add_lightning_class_args(TreeCount, "tree_count")
        parser.add_lightning_class_args(BufferRefresh, "refresh")
        parser.link_arguments("data.spec", "model.spec", apply_on="instantiate")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=_seed)
        parser.link_arguments("seed_everything", "model.seed", compute_fn=_seed)

    def _parse_ckpt_path(self) -> None:
        """Command-line settings override the checkpoint; where they do not fit together, loading it raises."""
        path = self.config[self.config.subcommand].get("ckpt_path")
        if path and path not in ("best", "last"):
            read_checkpoint(path)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Give the trainer a new run folder, unless the configuration names a logger."""
        settings = self._get(self.config_init, "trainer")
        if settings.get("max_epochs") == 0:
            raise ConfigError("trainer.max_epochs is 0: nothing would be trained; give a number of rounds")
        endless = all(settings.get(name) in (None, -1) for name in ("max_epochs", "max_steps", "max_time"))
        if self.subcommand == "fit" and endless and not settings.get("fast_dev_run"):
            raise ConfigError("trainer.max_epochs is not set: give a number of rounds, or --config configs/base.yaml")
        if settings.get("logger") in (None, True) and not settings.get("fast_dev_run"):
            kwargs["logger"] = new_run(settings.get("default_root_dir") or ".")
        if settings.get("enable_progress_bar") is False:
            kwargs["callbacks"] = [
                item for item in settings.get("callbacks") or [] if not isinstance(item, ProgressBar)
            ]
        kwargs["plugins"] = [*(settings.get("plugins") or []), WholeCheckpointIO()]
        return super().instantiate_trainer(**kwargs)

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        """Put the schedules before the other callbacks, except those that the user's list names, too."""
        listed = config.get("callbacks") or []
        kinds = {type(callback) for callback in listed}
        config["callbacks"] = [*(each for each in callbacks if type(each) not in kinds), *listed]
        return super()._instantiate_trainer(config, [])

    def before_test(self) -> None:
        """Leave the table to the callback `Report`: Lightning's would have a line for each of a hundred numbers."""
        self.config_init["test"]["verbose"] = False

    def after_fit(self) -> None:
        """End a run with an evaluation of the last weights, in the same folder."""
        if not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            self.trainer.validate(self.model, self.datamodule)


def run(args: ArgsType = None, kind: type[Kind] = CLI) -> Kind:  # type: ignore[assignment]
    """Run a command line.

    Raises:
        ConfigError: the user made a mistake; or ArgumentError.
    """
    _quieten()
    return kind(
        Agent,
        EpisodeDataModule,
        args=args,
        auto_configure_optimizers=False,
        save_config_kwargs={"overwrite": True},  # the folder is this run's own
        seed_everything_default=0,
        parser_kwargs={"allow_abbrev": False, "exit_on_error": False, "epilog": _others()},
    )


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line. A mistake of the user's ends in one line on stderr and exit code 2."""
    folder = os.getcwd()
    if folder not in sys.path and "" not in sys.path:
        sys.path.insert(0, folder)  # `python -m` does so: classes of the user's are found alike
    words = list(sys.argv[1:] if args is None else args)
    with one_line():
        if words and words[0] in COMMANDS:
            importlib.import_module(f"omg_lightning.commands.{words[0]}").main(words[1:])
        else:
            run(words)


def _others() -> str:
    return "other subcommands: " + "; ".join(f"{name} ({words})" for name, words in COMMANDS.items())


def _seed(value: int | bool) -> int:
    """Return the seed of `--seed_everything`; true and false stand for 0, as Lightning records them."""
    return 0 if isinstance(value, bool) else int(value)


class Networks(CLI):
    """Model and data module of the command line of a `validate` that is not run: for commands that go another way."""

    datamodule: EpisodeDataModule
    model: Agent

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Return a trainer that knows the device and leaves nothing behind, no run folder either."""
        device = {key: self._get(self.config_init, "trainer")[key] for key in ("accelerator", "devices")}
        return Trainer(**device, logger=False, enable_checkpointing=False, enable_model_summary=False)

    def _run_subcommand(self, subcommand: str) -> None:
        """Run nothing: model and data module are all that is wanted."""


@contextmanager
def one_line() -> Iterator[None]:
    """End the program with one line on stderr and exit code 2 where the user made a mistake."""
    try:
        yield
    except (ConfigError, ArgumentError) as error:
        print(f"error: {explain(' '.join(str(error).split()))}", file=sys.stderr)
        sys.exit(2)


def explain(message: str) -> str:
    """Return jsonargparse's message about a class that it cannot find in plain words, with the known names; or as it is."""
    found = re.search(r'[Pp]arser key "([a-z_.]+)"', message)
    key = found.group(1) if found else ""
    if key not in CHOICES:
        return message
    named = re.search(r"given class_path '([^']+)': (.*?)( - |$)", message) or re.search(
        r"Expected a path but (\S+) either", message
    )
    if named is None:
        return message
    name = named.group(1)
    known = sorted(_known(CHOICES[key]))
    if "." not in name:
        return f"--{key} is {name}: expected one of {', '.join(known)}, or the dotted path of a class of yours"
    why = named.group(2).strip().rstrip(".") if named.lastindex and named.lastindex > 1 else "it cannot be found"
    bases = " or ".join(f"{base.__module__.rpartition('.base')[0]}.{base.__name__}" for base in CHOICES[key])
    return f"--{key} is {name}: {why}; expected a class that inherits {bases}, or one of {', '.join(known)}"


def _known(bases: Sequence[type]) -> set[str]:
    """Return the names of all classes of the project that inherit one of `bases` and can be made."""
    found: set[str] = set()
    for base in bases:
        for kind in base.__subclasses__():
            if kind.__module__.startswith("omg_lightning."):
                found |= _known([kind])
                if not getattr(kind, "__abstractmethods__", None) and not kind.__name__.startswith("_"):
                    found.add(kind.__name__)
    return found


def _quieten() -> None:
    """Silence known-harmless warnings, so that the others are seen."""
    for remark in (
        ".*isinstance.treespec, LeafSpec.*",  # inside Lightning
        ".*Your `IterableDataset` has `__len__` defined.*",  # exact on purpose, and there are no workers
        ".*Checkpoint directory .* exists and is not empty.*",  # the run folder is made before it is used
    ):
        warnings.filterwarnings("ignore", remark)
    for name in ("utilities.rank_zero", "trainer.connectors.checkpoint_connector"):
        logging.getLogger(f"lightning.pytorch.{name}").addFilter(
            lambda record: not any(word in record.getMessage() for word in ("litlogger", "`weights_only` was not set"))
        )
