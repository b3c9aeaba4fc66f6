"""Learning algorithms: one file each."""

from omg_lightning.algorithms.base import Algorithm, OnPolicy
from omg_lightning.algorithms.policy import PolicyModule
from omg_lightning.algorithms.ppo import PPO, gae
from omg_lightning.algorithms.search import BestResponseSearch

__all__ = ["PPO", "Algorithm", "BestResponseSearch", "OnPolicy", "PolicyModule", "gae"]
