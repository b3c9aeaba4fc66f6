"""CUDA graphs: many small kernels that are launched as one, because launching them one by one takes a CPU longer."""

from collections.abc import Callable

import torch
from torch import Tensor

from omg_lightning.types import ConfigError


def can_replay(like: Tensor) -> bool:
    """Return whether this tensor is on a device that has CUDA graphs."""
    return like.is_cuda


class Replay:
    """Records what `run` launches on a GPU, without executing it; each call executes it again, on the same memory.

    `run` must not read values on the CPU, and must write its results in place. Its random numbers are new ones in each
    call. Memory that it allocates is shared with all later recordings, so nothing of it may be kept.

    Args:
        run: what to record; its libraries must be initialised, so something like it must have run before.
        generator: all randomness of `run`, if it has any.

    Raises:
        ConfigError: `run` reads values on the CPU.
    """

    _latest: "Replay | None" = None  # keeps the shared memory allocated between recordings

    def __init__(self, run: Callable[[], None], generator: torch.Generator | None) -> None:
        self.graph = torch.cuda.CUDAGraph()
        if generator is not None:
            self.graph.register_generator_state(generator)
        now, aside = torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(now)
        pool = None if Replay._latest is None else Replay._latest.graph.pool()
        try:
            with torch.cuda.stream(aside):
                self.graph.capture_begin(pool=pool, capture_error_mode="thread_local")
                try:
                    run()
                finally:
                    self.graph.capture_end()
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise ConfigError(
                "cuda_graph is True, but a simulation cannot be recorded as a CUDA graph, probably because rules or "
                "networks read a value on the CPU (.item(), nonzero, a mask as an index): set cuda_graph False"
            ) from error
        now.wait_stream(aside)
        Replay._latest = self

    def __call__(self) -> None:
        """Execute what was recorded."""
        self.graph.replay()
