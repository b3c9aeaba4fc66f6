"""One buffer of whole episodes that feeds every loss."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from omg_lightning.types import NO_GOAL, ConfigError, Episodes


class EpisodeBuffer:
    """Preallocated, time-major storage of the latest episodes, each with the round it was played in.

    Args:
        capacity: number of episodes; when full, the oldest make room.
        max_steps: length of the longest episode.
    """

    def __init__(self, capacity: int, max_steps: int) -> None:
        self.capacity, self.max_steps = capacity, max_steps
        self._store: Episodes | None = None
        self._born = torch.full((capacity,), _FREE)

    def __len__(self) -> int:
        """Return the number of episodes held."""
        return int((self._born != _FREE).sum())

    def add(self, episodes: Episodes, born: int) -> None:
        """Store episodes `[T, B, ...]` of round `born`, over the oldest where there is no room."""
        count = episodes.active.shape[1]
        if count > self.capacity:
            raise ConfigError(
                f"{count} episodes do not fit into a buffer of {self.capacity}: raise data.training.capacity"
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
        """Return the round of the oldest episode held."""
        held = self._born[self._born != _FREE]
        return int(held.min()) if len(held) else 0

    def sample(self, count: int, generator: torch.Generator) -> Episodes:
        """Draw `count` episodes, without replacement as far as they go, cut to the longest of them.

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
        """Yield all episodes held, in `epochs` passes, each in a new order and split into `minibatches` parts.

        Raises:
            ConfigError: the buffer holds fewer episodes than parts.
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
        """Return everything, for the checkpoint."""
        store = None if self._store is None else dict(self._store._asdict())
        return {"store": store, "born": self._born}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave.

        Raises:
            ConfigError: the checkpoint's buffer has another capacity.
        """
        if len(state["born"]) != self.capacity:
            raise ConfigError(
                f"the checkpoint's buffer holds {len(state['born'])} episodes, this run's {self.capacity}: "
                "set data.training.capacity as it was"
            )
        self._born = state["born"]
        self._store = None if state["store"] is None else Episodes(**state["store"])

    def _allocate(self, like: Episodes) -> Episodes:
        def empty(field: Tensor) -> Tensor:
            return field.new_zeros(self.max_steps, self.capacity, *field.shape[2:])

        return like.map(empty)


_FREE = -1  # a slot that holds no episode
