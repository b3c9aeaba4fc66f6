"""Goals: where they come from, the belief over them, and which future state was one."""

from omg_lightning.goals.belief import inter, intra
from omg_lightning.goals.selector import SelectorRule, candidates, select, shift
from omg_lightning.goals.sources import (
    BeliefConfig,
    DeclaredGoals,
    GoalKind,
    NoGoals,
    OracleGoals,
    Subgoals,
    hindsight_goals,
    one_hot_goals,
)

__all__ = [
    "BeliefConfig",
    "DeclaredGoals",
    "GoalKind",
    "NoGoals",
    "OracleGoals",
    "SelectorRule",
    "Subgoals",
    "candidates",
    "hindsight_goals",
    "inter",
    "intra",
    "one_hot_goals",
    "select",
    "shift",
]
