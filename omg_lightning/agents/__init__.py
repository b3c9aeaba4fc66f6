"""Trained agents for use from Python: load one, seat it in an environment, ask what it does and what it believes."""

from omg_lightning.agents.loaded import LoadedAgent, RootSearch, load_agent

__all__ = ["LoadedAgent", "RootSearch", "load_agent"]
