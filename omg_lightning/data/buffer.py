"""One buffer of whole episodes that feeds every loss."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from omg_lightning.types import NO_GOAL, ConfigError, Episodes


class EpisodeBuffer:
    """Preallocated, time-major storage of the latest episodes, each with the round in which it was played.

    Args:
        capacity: number of episodes; a full buffer replaces the oldest.
        max_steps: length of the longest episode.
    """

    def __init__(self, capacity: int, max_steps: int) -> None:
        self.capacity, self.max_steps = capacity, max_steps
        self._store: Episodes | None = None
        self._born = torch.full((capacity,), _FREE)

    def __len__(self) -> int:
        """Return the number of stored episodes."""
        return int((self._born != _FREE).sum())

    def add(self, episodes: Episodes, born: int) -> None:
        """Store episodes `[T, B, ...]` of round `born`; replace the oldest ones if the buffer is full."""
        count = episodes.active.shape[1]
        if count > self.capacity:
            raise ConfigError(
                f"got {count} episodes for a buffer of {self.capacity}: raise data.training.capacity to {count} or more"
            )
        if self._store is None:
            self._store = self._allocate(episodes)
        slots = self._born.argsort(stable=True)[:count]
        fields = episodes.tensors()
        for name, stored in self._store.tensors().items():
            new = fields[name]
            stored[len(new) :, slots] = 0  # padding: the new episodes may be shorter
            stored[: len(new), slots] = new
        for goals in (self._store.achieved_goal, self._store.true_goal):
            goals[episodes.active.shape[0] :, slots] = NO_GOAL
        self._born[slots] = born

    def drop(self, before: int) -> int:
        """Drop the episodes of rounds before `before`; return how many."""
        old = (self._born != _FREE) & (self._born < before)
        self._born[old] = _FREE
        return int(old.sum())

    def oldest(self) -> int:
        """Return the round of the oldest stored episode."""
        held = self._born[self._born != _FREE]
        return int(held.min()) if len(held) else 0

    def sample(self, count: int, generator: torch.Generator) -> Episodes:
        """Sample `count` episodes, without replacement if enough are stored, cut to the longest of them.

        Raises:
            ConfigError: the buffer is empty.
        """
        held = (self._born != _FREE).nonzero()[:, 0]
        if self._store is None or len(held) == 0:
            raise ConfigError("the episode buffer is empty: add callbacks.BufferRefresh to the trainer's callbacks")
        order = torch.randperm(len(held), generator=generator).to(held.device)
        chosen = held[order[torch.arange(count) % len(held)]]
        return self._take(chosen)

    def passes(self, epochs: int, minibatches: int, generator: torch.Generator) -> Iterator[Episodes]:
        """Yield all stored episodes, in `epochs` passes, each in a new order and split into `minibatches` minibatches.

        Raises:
            ConfigError: the buffer holds fewer episodes than minibatches.
        """
        held = (self._born != _FREE).nonzero()[:, 0]
        if len(held) < minibatches:
            raise ConfigError(
                f"the buffer holds {len(held)} episodes, too few for {minibatches} minibatches: raise data.num_envs or "
                "lower model.algorithm.minibatches"
            )
        for _ in range(epochs):
            order = held[torch.randperm(len(held), generator=generator).to(held.device)]
            for chosen in order.tensor_split(minibatches):
                yield self._take(chosen)

    def _take(self, chosen: Tensor) -> Episodes:
        """Return the episodes in the slots `chosen`, cut to the longest of them."""
        assert self._store is not None
        chosen = chosen.to(self._store.active.device)
        length = int(self._store.active.index_select(1, chosen).any(-1).any(-1).sum())
        return self._store.map(lambda field: field[:length].index_select(1, chosen))

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state, for the checkpoint."""
        store = None if self._store is None else dict(self._store._asdict())
        return {"store": store, "born": self._born}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict`.

        Raises:
            ConfigError: the checkpoint's buffer has another capacity.
        """
        if len(state["born"]) != self.capacity:
            raise ConfigError(
                f"the checkpoint's buffer has a capacity of {len(state['born'])} episodes, this run's {self.capacity}: "
                "set data.training.capacity to that of the checkpoint"
            )
        self._born = state["born"]
        self._store = None if state["store"] is None else Episodes(**state["store"])

    def _allocate(self, like: Episodes) -> Episodes:
        def empty(field: Tensor) -> Tensor:
            return field.new_zeros(self.max_steps, self.capacity, *field.shape[2:])

        return like.map(empty)


_FREE = -1  # an empty slot
