"""Episodes: played online, kept in one buffer, served as batches."""

from omg_lightning.data.buffer import EpisodeBuffer
from omg_lightning.data.datamodule import EpisodeDataModule
from omg_lightning.data.dataset import Draws
from omg_lightning.data.game import GAMES, GameConfig
from omg_lightning.data.relationships import AdaptationConfig, Relationships

__all__ = [
    "GAMES",
    "AdaptationConfig",
    "Draws",
    "EpisodeBuffer",
    "EpisodeDataModule",
    "GameConfig",
    "Relationships",
]
