"""Agents that infer what the others want, predict what they will do, and plan a best response."""

import os

# Search and rollouts run many small tensor operations. By default OpenMP's threads spin while they wait for each other;
# as soon as another process wants a core, such a program slows down many times over. Read when torch is first loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

__version__ = "0.1.0"
