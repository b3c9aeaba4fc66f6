"""The command line: `python -m omg_lightning {fit,validate,test,predict} --config configs/base.yaml`, and commands."""

import importlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
from jsonargparse import ArgumentError
from jsonargparse.typing import PositiveFloat, PositiveInt
from lightning import Callback, Trainer
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.strategies import SingleDeviceStrategy, StrategyRegistry
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from callbacks import BufferRefresh, SeatSchedule, TreeCount  # a foreign package of that name fails at once
from omg_lightning import interrupts
from omg_lightning.choices import CHOICES
from omg_lightning.config_files import find_shipped
from omg_lightning.data import EpisodeDataModule
from omg_lightning.mistakes import end_of_thread, one_line, suggest
from omg_lightning.parsing import Help, Parser, listed, one, seed_of
from omg_lightning.remarks import quieten
from omg_lightning.training import Agent, processes
from omg_lightning.training.checkpoint import WholeCheckpointIO, read_checkpoint
from omg_lightning.training.folders import CONFIG, RunFolder, RunLogger, SaveConfig, newest_checkpoint
from omg_lightning.training.trainer import check_resume, check_trainer
from omg_lightning.types import ConfigError

Kind = TypeVar("Kind", bound="CLI")
COMMANDS = {
    "study": "Run a study of games x methods x seeds, on this machine or on a cluster.",
    "compare": "Compare methods over seeds: learning curves, a table and statistics.",
    "value": "Measure the largest gain that an opponent model can bring, and the share of it that each one reaches.",
    "references": "Measure random play and best responses, which normalise the scores of `test`.",
    "adaptation": "Combine the results of `test` over several training seeds.",
    "population": "Train partners by self-play, and save each one untrained, half trained and fully trained.",
    "crossplay": "Evaluate all pairs of several checkpoints.",
    "play": "Play with trained agents in the browser, and see their beliefs.",
    "replay": "Show episodes of trained agents, or saved games, in the browser or as one HTML file.",
    "export": "Write a trained agent as weights and a description, without pickle.",
    "zoo": "List the trained agents that come with the package.",
}
RUNS = {  # of Lightning's trainer; its own descriptions are about other programs
    "fit": "Train an agent, evaluate it, and write checkpoints, metrics and figures into a new run folder.",
    "validate": "Evaluate a checkpoint with the players of data.evaluation.seats.",
    "test": "Measure how a checkpoint adapts to each of data.partners.",
    "predict": "Write episodes of a checkpoint as GIFs and as one HTML page.",
}
MOST = 2**32 - 1  # the largest seed that NumPy accepts


class CLI(LightningCLI):
    """LightningCLI that passes the game from data to model, makes a run folder, and ends `fit` with an evaluation."""

    datamodule: EpisodeDataModule
    model: Agent
    untrained = False  # whether `validate` accepts untrained networks, without a checkpoint
    _folder: RunFolder | None  # of this run; None if the run writes no files

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        words = kwargs.get("args")
        first = words[0] if isinstance(words, Sequence) and words else None
        self._command = first if first in self.subcommands() else None  # None: any of them
        super().__init__(*args, **kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Link the game's description to the model, and one seed to everything; give the schedules keys of their own.

        A later configuration file can only replace a list of callbacks as a whole, so callbacks that users tune have
        keys of their own.
        """
        parser.add_argument(
            "--other_rules",
            type=bool,
            default=False,
            help="Accept checkpoints of a game with other rules if observations, players and actions agree.",
        )
        parser.add_argument(
            "--threads",
            type=PositiveInt,
            default=1,
            help="Threads of each process for tensor operations; overrides OMP_NUM_THREADS and affects rounding.",
        )
        parser.add_argument(
            "--join_seconds",
            type=PositiveFloat,
            default=processes.JOIN_SECONDS,
            help="Seconds to wait for the other processes of --trainer.devices and --trainer.num_nodes to start.",
        )
        parser.add_lightning_class_args(SeatSchedule, "seat_schedule")
        parser.add_lightning_class_args(TreeCount, "tree_count")
        parser.add_lightning_class_args(BufferRefresh, "refresh")
        parser.link_arguments("data.spec", "model.spec", apply_on="instantiate")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=seed_of)
        parser.link_arguments("seed_everything", "model.seed", compute_fn=seed_of)

    def _add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:
        """Add the commands of the trainer, with this project's descriptions."""
        super()._add_subcommands(parser, **{name: {"description": text} for name, text in RUNS.items()} | kwargs)
        assert parser._subcommands_action is not None, "the parent has added the commands"
        for command in parser._subcommands_action._choices_actions:
            command.help = RUNS[command.dest]

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        """Return the parser of a command; an empty one for those that do not run, since building one takes long."""
        if self._command not in (None, subcommand):
            return self.init_parser(**kwargs)
        return super()._prepare_subcommand_parser(klass, subcommand, **kwargs)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the arguments; for an unknown key, suggest the most similar one."""
        if isinstance(args, Sequence):
            args = find_shipped([str(word) for word in args])
        self._words = args if isinstance(args, list) else []
        try:
            super().parse_arguments(parser, args)
        except ArgumentError as error:
            own = self._subcommand_parsers.get(self._words[0] if self._words else "", parser)
            raise ConfigError(
                suggest(" ".join(str(error).split()), [action.dest for action in own._actions])
            ) from error

    def _parse_ckpt_path(self) -> None:
        """Find the checkpoint and check that it is valid, before any object is built.

        Command-line settings override the checkpoint; a mismatch raises an error when the checkpoint is loaded.
        """
        command = self.config.subcommand
        settings = self.config[command]
        path, root = settings.get("ckpt_path"), settings.trainer.default_root_dir or "."
        if path is None:
            if command != "fit" and not self.untrained:
                newest = newest_checkpoint(root)
                known = f"such as {newest}, the newest" if newest else f"written by `fit`; no run in {root} has one"
                raise ConfigError(f"{command} got no checkpoint: expected trained networks; give --ckpt_path, {known}")
            return
        if path in ("best", "last"):
            found = newest_checkpoint(root, path)
            if found is None:
                raise ConfigError(
                    f"--ckpt_path is {path}, but no run in {root} has a {path}.ckpt: give the path of a file, or set "
                    "--trainer.default_root_dir"
                )
            print(f"--ckpt_path {path} is {found}", file=sys.stderr)
            path = settings.ckpt_path = found
        checkpoint = read_checkpoint(path)
        if command == "fit":
            check_resume(checkpoint, path, settings.trainer)

    def _set_seed(self) -> None:
        """Seed all libraries with the seed of data and model, and record it."""
        config = self.config[self.config.subcommand]
        seed = config["seed_everything"] = seed_of(config["seed_everything"])
        if not 0 <= seed <= MOST:
            raise ConfigError(f"--seed_everything is {seed}: it must lie between 0 and {MOST}")
        super()._set_seed()

    def before_instantiate_classes(self) -> None:
        """Remember why a game could not be built, see `instantiate_classes`."""
        torch.set_num_threads(1)  # overrides the environment; a forked process does not inherit running threads
        self._error: Exception | None = None

        def make(kind: type, *args: Any, **kwargs: Any) -> Any:
            try:
                return kind(*args, **kwargs)
            except Exception as error:
                self._error = error
                raise

        for base in CHOICES["data.game"].bases:
            self.parser.add_instantiator(make, base)

    def instantiate_classes(self) -> None:
        """Build all objects; raise a game's own error unchanged.

        `data.game` has one of two base classes. If the first fails, jsonargparse tries the second, and reports both
        errors in a message of its own.
        """
        try:
            super().instantiate_classes()
        except ValueError:
            if self._error is None:
                raise
            raise self._with_source(self._error) from None
        self.model.other_rules = self._get(self.config_init, "other_rules")
        if not isinstance(self.trainer.strategy, processes.Processes):
            torch.set_num_threads(self._get(self.config_init, "threads"))

    def _with_source(self, error: Exception) -> Exception:
        """Return a game's error; if it is about an option from a configuration file, say so."""
        game = self.config[self.config.subcommand].data.game
        typed = {word.partition("=")[0] for word in self._words}
        given = [name for name, value in game.get("init_args", {}).items() if value is not None and name in str(error)]
        kept = [name for name in given if f"--data.game.{name}" not in typed]
        if not isinstance(error, ConfigError) or not kept:
            return error
        return ConfigError(f"{error} (a configuration file sets {kept[0]}: set --data.game.{kept[0]} as well)")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Give the trainer a new run folder; refuse a user's logger whose folder has the files of another run."""
        settings = self._get(self.config_init, "trainer")
        sizes = self.datamodule.evaluation
        episodes = sizes.val_episodes if self.subcommand == "fit" else sizes.episodes
        check_trainer(settings, -(-episodes // self.datamodule.num_envs))
        endless = all(settings.get(name) in (None, -1) for name in ("max_epochs", "max_steps", "max_time"))
        if self.subcommand == "fit" and endless and not settings.get("fast_dev_run"):
            typed = "is -1" if settings.get("max_epochs") == -1 else "is not set"
            raise ConfigError(f"trainer.max_epochs {typed}: give a number of rounds, or --config configs/base.yaml")
        if self.subcommand == "fit" and not settings.get("fast_dev_run"):
            rounds = settings.get("max_epochs")
            scheduled = bool(self._get(self.config_init, "seat_schedule").schedule)
            self.datamodule.check_rounds(float("inf") if rounds in (None, -1) else rounds, scheduled)
        logger, root = settings.get("logger"), settings.get("default_root_dir") or "."
        if self.subcommand == "predict":
            kwargs |= {"devices": one(settings.get("devices")), "num_nodes": 1, "strategy": "auto"}  # a few episodes
        switches = {"enable_progress_bar": ProgressBar, "enable_checkpointing": Checkpoint}
        off = tuple(kind for name, kind in switches.items() if settings.get(name) is False)
        kwargs["callbacks"] = [item for item in listed(settings.get("callbacks")) if not isinstance(item, off)]
        kwargs["plugins"] = [*listed(settings.get("plugins")), WholeCheckpointIO()]
        StrategyRegistry.register("ddp", processes.Processes, override=True)  # `auto` uses it for several devices
        if settings.get("fast_dev_run"):
            self._folder = None
            return self._shared(super().instantiate_trainer(**kwargs))
        if logger in (None, True, False):
            trainer = self._shared(super().instantiate_trainer(**kwargs, logger=False))
            folder = RunFolder.new(root) if trainer.is_global_zero else RunFolder.unknown(root)
            if logger is False:
                trainer._default_root_dir = str(folder.path)  # type: ignore[attr-defined]
            else:
                trainer.logger = folder.logger()
        else:
            trainer = self._shared(super().instantiate_trainer(**kwargs))
            folder = RunFolder(Path(trainer.log_dir or root))
        self._folder = folder if trainer.is_global_zero else None
        if self._folder is not None and (self._folder.path / CONFIG).exists():
            raise ConfigError(
                f"{trainer.log_dir} has the files of another run: set another folder, name or version in trainer.logger"
            )
        return trainer

    def _shared(self, trainer: Trainer) -> Trainer:
        """Prepare for several processes: check that they can share the work evenly, and print the share of each."""
        strategy = self._get(self.config_init, "trainer").get("strategy")
        # Lightning reads the rank from environment variables, which another program may have set.
        rank_zero_only.rank = trainer.global_rank  # type: ignore[attr-defined]
        if not isinstance(trainer.strategy, SingleDeviceStrategy | processes.Processes):
            raise ConfigError(f"--trainer.strategy is {strategy}: expected auto or ddp")
        count, data = trainer.world_size, self.datamodule
        if not isinstance(trainer.strategy, processes.Processes):
            return trainer
        trainer.strategy.join_seconds = self._get(self.config_init, "join_seconds")
        trainer.strategy.threads = self._get(self.config_init, "threads")
        if count == 1:
            return trainer
        data.check_ranks(count, self.model.algorithm.on_policy, self.subcommand == "fit")
        # Lightning's handlers communicate with other ranks as soon as a signal comes; ours wait for a safe point.
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
        rank_zero_info(
            f"{count} processes: each plays {data.num_envs / count:g} of data.num_envs {data.num_envs} environments "
            "and trains on its share of each batch; all settings data.* and all metrics are totals over processes"
        )
        return trainer

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        """Put the schedules before the other callbacks, except those that are also in the user's list."""
        given = listed(config.get("callbacks"))
        kinds = {type(callback) for callback in given}
        config["callbacks"] = [*(each for each in callbacks if type(each) not in kinds), *given]
        return super()._instantiate_trainer(config, [])

    def _run_subcommand(self, subcommand: str) -> None:
        """Run the command; a signal waits for the next safe point."""
        refused: AbstractContextManager[None] = nullcontext()
        if self._folder is not None:
            refused = self._folder.removed_if_refused(self.trainer.callbacks)  # type: ignore[attr-defined]
        with interrupts.deferred(), refused:
            super()._run_subcommand(subcommand)

    def before_validate(self) -> None:
        """Leave the table to the callback `Report`: Lightning's table has a line for each of a hundred metrics."""
        self.config_init[self.subcommand]["verbose"] = False

    before_test = before_validate

    def after_fit(self) -> None:
        """Evaluate the last weights at the end of a run, in the same folder, under tags of their own."""
        if self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        for logger in self.trainer.loggers:
            if isinstance(logger, RunLogger):
                logger.ending = True
        self.trainer.validate(self.model, self.datamodule, verbose=False)


def run(args: ArgsType = None, kind: type[Kind] = CLI) -> Kind:  # type: ignore[assignment]
    """Run a command line.

    Raises:
        ConfigError: an argument is invalid; `ArgumentError` for some errors of parsing.
    """
    threading.excepthook = end_of_thread
    quieten()
    return kind(
        Agent,
        EpisodeDataModule,
        args=args,
        parser_class=Parser,
        auto_configure_optimizers=False,
        save_config_callback=SaveConfig,
        seed_everything_default=0,
        parser_kwargs={
            "prog": "python -m omg_lightning",
            "description": "Train agents that infer others' goals, predict their actions and plan a best response.",
            "epilog": _others(),
            "formatter_class": Help,
            "exit_on_error": False,
        },
    )


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line. A user's mistake prints one line on stderr and returns exit code 2."""
    folder = os.getcwd()
    if folder not in sys.path and "" not in sys.path:
        sys.path.insert(0, folder)  # as `python -m` does, so that the user's classes are importable
    words = list(sys.argv[1:] if args is None else args)
    with interrupts.handled(_signals()), processes.ends(), one_line():
        command = words[0] if words else "--help"
        if command in COMMANDS:
            importlib.import_module(f"omg_lightning.commands.{command}").main(words[1:])
        elif command.startswith("-") or command in CLI.subcommands():
            run(words or [command])
        else:
            known = ", ".join((*CLI.subcommands(), *COMMANDS))
            raise ConfigError(f"unknown command {command!r}: expected one of {known}")


def _others() -> str:
    """Return the other commands, one per line."""
    return "\n".join(["other commands:", *(f"    {name:20}{words}" for name, words in COMMANDS.items())])


class Networks(CLI):
    """Build model and data module from the options of `validate`, without running it: for the other commands."""

    untrained = True

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Return a trainer that knows the device and writes no files, not even a run folder."""
        settings = self._get(self.config_init, "trainer")
        device = {"accelerator": settings["accelerator"], "devices": one(settings["devices"])}
        return Trainer(**device, logger=False, enable_checkpointing=False, enable_model_summary=False)

    def _run_subcommand(self, subcommand: str) -> None:
        """Do nothing: the caller uses only the model and the data module."""


def _signals() -> list[int]:
    """Return the signals that end a program; on SLURM, Lightning uses SIGUSR1 to requeue the job.

    It does so for a single process only: with several tasks SIGUSR1 ends the run.
    """
    alone = SLURMEnvironment.detect() and os.environ.get("SLURM_NTASKS", "1") == "1"
    return [signal.SIGINT, signal.SIGTERM, *([] if alone else [signal.SIGUSR1])]
