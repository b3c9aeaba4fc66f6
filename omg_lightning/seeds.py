"""Random streams: one seed for everything, and no two streams alike."""

import numpy as np
import torch

# A role's place in this list is a part of its stream: append, never insert.
ROLES = ("rollout", "buffer", "losses", "evaluation", "adaptation", "practice", "match", "agent")


def seed_of(seed: int, role: str, *parts: int) -> int:
    """Return the seed, 0 to 2**63 - 1, of the stream of a role, and of a part of it such as a round or a rank.

    Streams are spawned from one `numpy.random.SeedSequence`, so that those of other seeds, roles and parts are
    independent.

    Args:
        seed: of the run, at least 0.
        role: one of `ROLES`.
        parts: numbers of at least 0.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(ROLES.index(role), *parts))
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator_of(seed: int, role: str, device: torch.device | str = "cpu", *parts: int) -> torch.Generator:
    """Return a new generator of the stream `seed_of`."""
    return torch.Generator(device).manual_seed(seed_of(seed, role, *parts))
