"""Opponent models, one file each, and their tools."""

from omg_lightning.opponents.base import BeliefView, MixtureConfig, OpponentModel, Targets
from omg_lightning.opponents.codebook import Codebook
from omg_lightning.opponents.controls import ShuffledGoals, UninformedGoals
from omg_lightning.opponents.declared import Declared
from omg_lightning.opponents.direct import Direct
from omg_lightning.opponents.exact_bayes import ExactBayes
from omg_lightning.opponents.explicit import BeliefConfig, ExplicitBelief
from omg_lightning.opponents.goal_vae import GoalVAE, VAEConfig
from omg_lightning.opponents.liam import LIAM, MeLIBA
from omg_lightning.opponents.locations import Locations
from omg_lightning.opponents.oracle import Oracle
from omg_lightning.opponents.recurrent import Recurrent
from omg_lightning.opponents.selector import SelectorConfig
from omg_lightning.opponents.subgoal import Subgoal
from omg_lightning.opponents.subgoal_predictor import SubgoalPredictor
from omg_lightning.opponents.transition import TransitionConfig

__all__ = [
    "LIAM",
    "BeliefConfig",
    "BeliefView",
    "Codebook",
    "Declared",
    "Direct",
    "ExactBayes",
    "ExplicitBelief",
    "GoalVAE",
    "Locations",
    "MeLIBA",
    "MixtureConfig",
    "OpponentModel",
    "Oracle",
    "Recurrent",
    "SelectorConfig",
    "ShuffledGoals",
    "Subgoal",
    "SubgoalPredictor",
    "Targets",
    "TransitionConfig",
    "UninformedGoals",
    "VAEConfig",
]
