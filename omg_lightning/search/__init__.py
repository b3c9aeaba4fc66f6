"""Batched tree search: two callables and a budget; no game, no network, no Lightning."""

from omg_lightning.search.policy import SearchConfig, SearchResult
from omg_lightning.search.search import search
from omg_lightning.search.tree import ModelFn, ModelOutput, Root

__all__ = ["ModelFn", "ModelOutput", "Root", "SearchConfig", "SearchResult", "search"]
