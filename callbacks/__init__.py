"""Lightning callbacks: a hook does one thing, and there is no algorithm in here."""

from callbacks.buffer_refresh import BufferRefresh
from callbacks.tree_count import TreeCount

__all__ = ["BufferRefresh", "TreeCount"]
