"""Rewards for learning."""

from omg_lightning.rewards.base import GameReward, Reward
from omg_lightning.rewards.prosocial import Prosocial

__all__ = ["GameReward", "Prosocial", "Reward"]
