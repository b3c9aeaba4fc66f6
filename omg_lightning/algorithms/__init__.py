"""Learning algorithms: one file each."""

from omg_lightning.algorithms.base import Algorithm
from omg_lightning.algorithms.lola import LOLA
from omg_lightning.algorithms.policy import PolicyModule
from omg_lightning.algorithms.ppo import PPO, gae
from omg_lightning.algorithms.search import BestResponseSearch
from omg_lightning.types import OnPolicy

__all__ = ["LOLA", "PPO", "Algorithm", "BestResponseSearch", "OnPolicy", "PolicyModule", "gae"]
