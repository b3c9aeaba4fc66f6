"""The command line: `python -m omg_lightning {fit,validate,test,predict} --config configs/base.yaml`."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from jsonargparse import ArgumentError
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from callbacks import BufferRefresh, SeatSchedule, TreeCount  # a foreign package of that name fails at once
from omg_lightning.data import EpisodeDataModule
from omg_lightning.training import Agent
from omg_lightning.training.runs import WholeCheckpointIO, new_run, read_checkpoint
from omg_lightning.types import ConfigError

Kind = TypeVar("Kind", bound="CLI")
_SIZES = ("observation_shape", "num_players", "num_actions", "max_steps", "num_goals", "goal_action", "walls")


class CLI(LightningCLI):
    """LightningCLI with sizes linked from data to model, a run folder of its own, and an evaluation at the end."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Links what the model must know of the game, and one seed for everything; schedules get keys of their own.

        A list of callbacks can only be replaced whole, by another file. So those that are studied are not in it.
        """
        parser.add_lightning_class_args(SeatSchedule, "seat_schedule")
        parser.add_lightning_class_args(TreeCount, "tree_count")
        parser.add_lightning_class_args(BufferRefresh, "refresh")
        for name in _SIZES:
            parser.link_arguments(f"data.{name}", f"model.{name}", apply_on="instantiate")
        parser.link_arguments("data.game_name", "model.game", apply_on="instantiate")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
        parser.link_arguments("seed_everything", "model.seed", compute_fn=int)

    def _parse_ckpt_path(self) -> None:
        """What is typed is what runs: a checkpoint does not change settings, it is checked against them."""
        path = self.config[self.config.subcommand].get("ckpt_path")
        if path and path not in ("best", "last"):
            read_checkpoint(path)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Gives the trainer a new run folder, unless the configuration names a logger."""
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
        """Puts the schedules before the other callbacks, except those which a list of the user's names, too."""
        listed = config.get("callbacks") or []
        kinds = {type(callback) for callback in listed}
        config["callbacks"] = [*(each for each in callbacks if type(each) not in kinds), *listed]
        return super()._instantiate_trainer(config, [])

    def before_test(self) -> None:
        """Leaves the table to the callback `Report`: Lightning's would have a line for each of a hundred numbers."""
        self.config_init["test"]["verbose"] = False

    def after_fit(self) -> None:
        """Ends a run with an evaluation of the last weights, in the same folder."""
        if not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            self.trainer.validate(self.model, self.datamodule)


def run(args: ArgsType = None, kind: type[Kind] = CLI) -> Kind:  # type: ignore[assignment]
    """Runs a command line.

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
        parser_kwargs={"allow_abbrev": False, "exit_on_error": False},
    )


def main(args: ArgsType = None) -> None:
    """Runs the command line. A mistake of the user's ends in one line on stderr and exit code 2."""
    with one_line():
        run(args)


class Parts(CLI):
    """Model and data module of the command line of a `validate` that is not run: for commands that go another way."""

    datamodule: EpisodeDataModule
    model: Agent

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """A trainer that knows the device and leaves nothing behind, no run folder either."""
        device = {key: self._get(self.config_init, "trainer")[key] for key in ("accelerator", "devices")}
        return Trainer(**device, logger=False, enable_checkpointing=False, enable_model_summary=False)

    def _run_subcommand(self, subcommand: str) -> None:
        """The parts are all that is wanted."""


@contextmanager
def one_line() -> Iterator[None]:
    """Ends the program with one line on stderr and exit code 2 where the user made a mistake."""
    try:
        yield
    except (ConfigError, ArgumentError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


def _quieten() -> None:
    """Passes over remarks that do not concern a run of ours, so that those which do are seen."""
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
