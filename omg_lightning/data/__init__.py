"""Episodes: played online, stored in one buffer, sampled as batches."""

from omg_lightning.data.buffer import EpisodeBuffer
from omg_lightning.data.datamodule import EpisodeDataModule
from omg_lightning.data.dataset import LazyDataset
from omg_lightning.data.relationships import Relationships
from omg_lightning.data.settings import AdaptationConfig, EvaluationConfig, OfflineConfig, TrainingConfig

__all__ = [
    "AdaptationConfig",
    "EpisodeBuffer",
    "EpisodeDataModule",
    "EvaluationConfig",
    "LazyDataset",
    "OfflineConfig",
    "Relationships",
    "TrainingConfig",
]
