"""Independent random streams from one seed."""

import numpy as np
import torch

# A role's index in this list determines its stream: append, never insert.
ROLES = ("rollout", "buffer", "losses", "evaluation", "adaptation", "practice", "match", "agent", "meetings")


_RANKS = 2**16  # streams of ranks start here, far above the indices of the roles


def seed_of(seed: int, role: str, *parts: int, rank: int | None = None) -> int:
    """Return the seed, 0 to 2**63 - 1, of the random stream of a role, or of a part of it such as a round.

    Streams are spawned from one `numpy.random.SeedSequence`, so streams of different seeds, roles and parts are
    independent.

    Args:
        seed: of the run, at least 0.
        role: one of `ROLES`.
        parts: numbers of at least 0.
        rank: of the process that draws from it; None for a single process.
    """
    process = () if rank is None else (_RANKS + rank,)
    sequence = np.random.SeedSequence(seed, spawn_key=(*process, ROLES.index(role), *parts))
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator_of(
    seed: int, role: str, device: torch.device | str = "cpu", *parts: int, rank: int | None = None
) -> torch.Generator:
    """Return a new generator of the stream `seed_of`."""
    return torch.Generator(device).manual_seed(seed_of(seed, role, *parts, rank=rank))
