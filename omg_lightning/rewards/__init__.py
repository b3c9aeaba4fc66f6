"""Rewards for learning."""

from omg_lightning.rewards.base import GameReward, Reward, others_mean
from omg_lightning.rewards.goal_bonus import GoalBonus
from omg_lightning.rewards.influence import SocialInfluence
from omg_lightning.rewards.prosocial import Prosocial
from omg_lightning.rewards.svo import SVO

__all__ = ["SVO", "GameReward", "GoalBonus", "Prosocial", "Reward", "SocialInfluence", "others_mean"]
