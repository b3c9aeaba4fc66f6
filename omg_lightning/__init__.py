"""Agents that infer the others' goals, predict their actions, and plan a best response."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omg_lightning.agents import load_agent

# Search and rollouts run many small tensor operations. One thread is faster for them than two threads, which put each
# other to sleep and wake each other up between operations. Spinning threads are the fastest on an idle machine, but
# slow down many times over as soon as another process needs a core. OpenMP reads this when torch is first loaded; see
# docs/performance.md.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

__version__ = "0.2.0"
__all__ = ["load_agent"]


def __getattr__(name: str) -> Any:
    """Import `load_agent` on first access: importing torch takes seconds, and it must read the settings above first."""
    if name == "load_agent":
        from omg_lightning.agents import load_agent

        return load_agent
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
