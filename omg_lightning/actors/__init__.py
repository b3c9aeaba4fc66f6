"""Actors: players, learners, checkpoints and past selves, and their assignment to seats."""

from omg_lightning.actors.base import Actor, Choice, Scene
from omg_lightning.actors.modelled import Decision, Memory, ModelActor
from omg_lightning.actors.policy import PolicyActor
from omg_lightning.actors.population import Population
from omg_lightning.actors.scripted import PlayerActor, make_player
from omg_lightning.actors.search import PlannerConfig, SearchActor
from omg_lightning.actors.seating import (
    CHECKPOINT,
    LEARNER,
    PAST,
    Seating,
    agents_of,
    arrange,
    as_lineups,
    beside_learner,
    check_lineups,
    check_true_goals,
    default_partners,
    has_networks,
    names_of_seats,
    scripted_lineups,
    seat,
)

__all__ = [
    "CHECKPOINT",
    "LEARNER",
    "PAST",
    "Actor",
    "Choice",
    "Decision",
    "Memory",
    "ModelActor",
    "PlannerConfig",
    "PlayerActor",
    "PolicyActor",
    "Population",
    "Scene",
    "SearchActor",
    "Seating",
    "agents_of",
    "arrange",
    "as_lineups",
    "beside_learner",
    "check_lineups",
    "check_true_goals",
    "default_partners",
    "has_networks",
    "make_player",
    "names_of_seats",
    "scripted_lineups",
    "seat",
]
