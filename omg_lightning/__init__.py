"""Agents that infer what the others want, predict what they will do, and plan a best response."""

import os

# Search and rollouts run many small tensor operations: one thread does them faster than two that put each other to
# sleep and wake each other up between any two of them. Threads that spin instead are the fastest on an idle machine,
# and slow down many times over as soon as another process wants a core. Read when torch is first loaded; see
# docs/performance.md.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# A search reads its trees and states here and there in large blocks of memory: with pages of 2 MiB, where the system
# has them, it finds its way faster. Read at the first allocation.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

__version__ = "0.1.0"
