"""Goals: where they come from, the belief over them, and which future state was one."""

from omg_lightning.goals.belief import inter, intra
from omg_lightning.goals.codebook import Codebook, endings, event_labels, own_frame
from omg_lightning.goals.controls import ShuffledGoals, UninformedGoals
from omg_lightning.goals.selector import SelectorRule, candidates, select, shift
from omg_lightning.goals.sources import (
    BeliefConfig,
    CodebookGoals,
    DeclaredGoals,
    GoalKind,
    NoGoals,
    OracleGoals,
    Subgoals,
    hindsight_goals,
    one_hot_goals,
    rewarded,
)

__all__ = [
    "BeliefConfig",
    "Codebook",
    "CodebookGoals",
    "DeclaredGoals",
    "GoalKind",
    "NoGoals",
    "OracleGoals",
    "SelectorRule",
    "ShuffledGoals",
    "Subgoals",
    "UninformedGoals",
    "candidates",
    "endings",
    "event_labels",
    "hindsight_goals",
    "inter",
    "intra",
    "one_hot_goals",
    "own_frame",
    "rewarded",
    "select",
    "shift",
]
