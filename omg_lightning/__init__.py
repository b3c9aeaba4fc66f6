"""Agents that infer what the others want, predict what they will do, and plan a best response."""

import os

# Search and rollouts run many small tensor operations: one thread does them faster than two that put each other to
# sleep and wake each other up between any two of them. Threads that spin instead are the fastest on an idle machine,
# and slow down many times over as soon as another process wants a core. Read when torch is first loaded; see
# docs/performance.md.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

__version__ = "0.2.0"
