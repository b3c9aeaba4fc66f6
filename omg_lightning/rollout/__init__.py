"""Rollouts: whole episodes, in many environments at once, with search in the loop. The only user of `planning`."""

from omg_lightning.actors.search import plan, root_policy
from omg_lightning.rollout.matches import match
from omg_lightning.rollout.play import Played, play
from omg_lightning.actors.seating import (
    CHECKPOINT,
    LEARNER,
    PAST,
    Seats,
    arrange,
    is_planner,
    scripted_lineups,
    scripts_of,
)
from omg_lightning.actors.simulator import Node, Simulator

__all__ = [
    "CHECKPOINT",
    "LEARNER",
    "PAST",
    "Node",
    "Played",
    "Seats",
    "Simulator",
    "arrange",
    "is_planner",
    "match",
    "plan",
    "play",
    "root_policy",
    "scripted_lineups",
    "scripts_of",
]
