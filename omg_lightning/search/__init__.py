"""Batched tree search over a model function, with a budget. It imports no game, no network and no Lightning."""

from omg_lightning.search.policy import SearchConfig, SearchResult, greedy_action, pooled_policy
from omg_lightning.search.search import search
from omg_lightning.search.tree import ModelFn, ModelOutput, Root, Tree

__all__ = [
    "ModelFn",
    "ModelOutput",
    "Root",
    "SearchConfig",
    "SearchResult",
    "Tree",
    "greedy_action",
    "pooled_policy",
    "search",
]
