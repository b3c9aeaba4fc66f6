"""Batched tree search: two callables and a budget; no game, no network, no Lightning."""

from omg_lightning.planning.policy import SearchConfig, SearchResult
from omg_lightning.planning.search import search
from omg_lightning.planning.tree import ModelFn, ModelOutput, Root

__all__ = ["ModelFn", "ModelOutput", "Root", "SearchConfig", "SearchResult", "search"]
