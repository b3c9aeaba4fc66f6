"""The command line: `python -m omg_lightning {fit,validate,test,predict} --config configs/base.yaml`."""

import sys
from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from callbacks import BufferRefresh, Report, RunCheckpoint, RunProgress, TreeCount  # noqa: F401 (named in configs)
from omg_lightning.data import EpisodeDataModule
from omg_lightning.modules import Agent
from omg_lightning.runs import WholeCheckpointIO, new_run
from omg_lightning.types import ConfigError

_SIZES = ("observation_shape", "num_players", "num_actions", "max_steps", "num_goals")


class CLI(LightningCLI):
    """LightningCLI with sizes linked from the data to the model, a run folder of its own, and an evaluation at the end."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Links what the model must know of the game, and one seed for everything."""
        for name in _SIZES:
            parser.link_arguments(f"data.{name}", f"model.{name}", apply_on="instantiate")
        parser.link_arguments("data.game_name", "model.game", apply_on="instantiate")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
        parser.link_arguments("seed_everything", "model.seed", compute_fn=int)

    def _parse_ckpt_path(self) -> None:
        """What is typed is what runs: a checkpoint does not change settings, it is checked against them."""
        path = self.config[self.config.subcommand].get("ckpt_path")
        if path and path not in ("best", "last") and not Path(path).is_file():
            raise ConfigError(f"no checkpoint at {path}: give the path of a .ckpt file that `fit` wrote")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Gives the trainer a new run folder, unless the configuration names a logger."""
        settings = self._get(self.config_init, "trainer")
        if settings.get("logger") in (None, True) and not settings.get("fast_dev_run"):
            kwargs["logger"] = new_run(settings.get("default_root_dir") or ".")
        kwargs["plugins"] = [*(settings.get("plugins") or []), WholeCheckpointIO()]
        return super().instantiate_trainer(**kwargs)

    def after_fit(self) -> None:
        """Ends a run with an evaluation of the last weights, in the same folder."""
        if not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            self.trainer.validate(self.model, self.datamodule)


def main(args: ArgsType = None) -> None:
    """Runs the command line. A mistake of the user's ends in one line on stderr and exit code 2."""
    try:
        CLI(
            Agent,
            EpisodeDataModule,
            args=args,
            auto_configure_optimizers=False,
            save_config_kwargs={"overwrite": True},  # the folder is this run's own
            seed_everything_default=0,
            parser_kwargs={"allow_abbrev": False},
        )
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
