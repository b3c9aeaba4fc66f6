"""Independent random streams from one seed."""

import numpy as np
import torch

# A role's place in this list is a part of its stream: append, never insert.
ROLES = ("rollout", "buffer", "losses", "evaluation", "adaptation", "practice", "match", "agent", "meetings")


_RANKS = 2**16  # a rank's streams start here, far behind the roles


def seed_of(seed: int, role: str, *parts: int, rank: int | None = None) -> int:
    """Return the seed, 0 to 2**63 - 1, of the stream of a role, and of a part of it such as a round.

    Streams are spawned from one `numpy.random.SeedSequence`, so that those of other seeds, roles and parts are
    independent.

    Args:
        seed: of the run, at least 0.
        role: one of `ROLES`.
        parts: numbers of at least 0.
        rank: which one of several processes draws from it; None where there is one process.
    """
    process = () if rank is None else (_RANKS + rank,)
    sequence = np.random.SeedSequence(seed, spawn_key=(*process, ROLES.index(role), *parts))
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator_of(
    seed: int, role: str, device: torch.device | str = "cpu", *parts: int, rank: int | None = None
) -> torch.Generator:
    """Return a new generator of the stream `seed_of`."""
    return torch.Generator(device).manual_seed(seed_of(seed, role, *parts, rank=rank))
