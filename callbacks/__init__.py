"""Lightning callbacks: a hook does one thing, and there is no algorithm in here."""

from callbacks.buffer_refresh import BufferRefresh
from callbacks.report import Report
from callbacks.run_checkpoint import RunCheckpoint
from callbacks.run_progress import RunProgress
from callbacks.tree_count import TreeCount

__all__ = ["BufferRefresh", "Report", "RunCheckpoint", "RunProgress", "TreeCount"]
