"""Agents that infer what the others want, predict what they will do, and plan a best response."""

__version__ = "0.1.0"
