"""LightningModules: each part has its own loss; `Agent` composes them, takes the training step and logs."""

from omg_lightning.modules.agent import Agent
from omg_lightning.modules.goal_vae import GoalVAE
from omg_lightning.modules.policy import PolicyModule
from omg_lightning.modules.settings import LossWeights, SelectorConfig, VAEConfig
from omg_lightning.modules.subgoal_predictor import SubgoalPredictor

__all__ = ["Agent", "GoalVAE", "LossWeights", "PolicyModule", "SelectorConfig", "SubgoalPredictor", "VAEConfig"]
