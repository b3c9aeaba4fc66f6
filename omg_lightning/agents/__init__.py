"""Trained agents for use from Python: load one, reset it in an environment, query its action and belief."""

from omg_lightning.agents.loaded import LoadedAgent, RootSearch, load_agent

__all__ = ["LoadedAgent", "RootSearch", "load_agent"]
