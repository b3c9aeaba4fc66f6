"""Rollouts: whole episodes in many environments at once, with actors in the seats."""

from omg_lightning.rollout.collector import Collector
from omg_lightning.rollout.matches import match
from omg_lightning.rollout.play import Played, Prior, RolloutState, play
from omg_lightning.rollout.workers import at_once, generators

__all__ = ["Collector", "Played", "Prior", "RolloutState", "at_once", "generators", "match", "play"]
