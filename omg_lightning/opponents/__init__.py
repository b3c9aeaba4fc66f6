"""Goals: where they come from, the belief over them, and which future state was one."""

from omg_lightning.opponents.belief import inter, intra
from omg_lightning.opponents.codebook import Codebook, own_frame
from omg_lightning.opponents.controls import ShuffledGoals, UninformedGoals
from omg_lightning.opponents.events import endings, hindsight_goals, one_hot_goals, rewarded
from omg_lightning.opponents.explicit import BeliefConfig, CodebookGoals, DeclaredGoals
from omg_lightning.opponents.places import PlaceGoals, place_labels
from omg_lightning.opponents.selector import SelectorRule, candidates, select, shift
from omg_lightning.opponents.sources import GoalKind, NoGoals, OracleGoals, Subgoals

__all__ = [
    "BeliefConfig",
    "Codebook",
    "CodebookGoals",
    "DeclaredGoals",
    "GoalKind",
    "NoGoals",
    "OracleGoals",
    "PlaceGoals",
    "SelectorRule",
    "ShuffledGoals",
    "Subgoals",
    "UninformedGoals",
    "candidates",
    "endings",
    "hindsight_goals",
    "inter",
    "intra",
    "one_hot_goals",
    "own_frame",
    "place_labels",
    "rewarded",
    "select",
    "shift",
]
