"""The command line: LightningCLI with the agent and the episode data module."""
from typing import Any
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from callbacks import BufferRefresh, TreeCount
from omg_lightning.data import EpisodeDataModule
from omg_lightning.modules import Agent

SIZES = ("observation_shape", "num_players", "num_actions", "max_steps", "num_goals")

class CLI(LightningCLI):
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        for name in SIZES:
            parser.link_arguments(f"data.{name}", f"model.{name}", apply_on="instantiate")
        parser.link_arguments("data.game_name", "model.game", apply_on="instantiate")

def main(args: Any = None) -> None:
    CLI(Agent, EpisodeDataModule, args=args, auto_configure_optimizers=False, save_config_kwargs={"overwrite": True}, seed_everything_default=0)
