"""Training: the agent, and its checkpoints."""

from omg_lightning.training.agent import Agent, NetworkConfig, load_agent

__all__ = ["Agent", "NetworkConfig", "load_agent"]
