"""LightningModules: each part has its own loss; `Agent` composes them, takes the training step and logs."""

from omg_lightning.training.agent import Agent
from omg_lightning.opponents.goal_vae import GoalVAE
from omg_lightning.algorithms.policy import PolicyModule
from omg_lightning.training.settings import LossWeights, SelectorConfig, VAEConfig
from omg_lightning.opponents.subgoal_predictor import SubgoalPredictor

__all__ = ["Agent", "GoalVAE", "LossWeights", "PolicyModule", "SelectorConfig", "SubgoalPredictor", "VAEConfig"]
