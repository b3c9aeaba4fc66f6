"""Goals: where they come from, the belief over them, and which future state was one."""

from omg_lightning.goals.belief import inter, intra
from omg_lightning.goals.codebook import Codebook, own_frame
from omg_lightning.goals.controls import ShuffledGoals, UninformedGoals
from omg_lightning.goals.events import endings, hindsight_goals, one_hot_goals, rewarded
from omg_lightning.goals.explicit import BeliefConfig, CodebookGoals, DeclaredGoals
from omg_lightning.goals.places import PlaceGoals, place_labels
from omg_lightning.goals.selector import SelectorRule, candidates, select, shift
from omg_lightning.goals.sources import GoalKind, NoGoals, OracleGoals, Subgoals

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
