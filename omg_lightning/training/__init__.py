"""Training: the agent, and its checkpoints."""

from omg_lightning.training.agent import Agent, NetworkConfig, restore
from omg_lightning.training.stored import StoredAgent, read_agent, write_agent

__all__ = ["Agent", "NetworkConfig", "StoredAgent", "read_agent", "restore", "write_agent"]
