"""Third-party PettingZoo environments, B copies at once."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from omg_lightning.envs.adapter import Adapter, Row, load, short_name
from omg_lightning.envs.base import Step, VectorEnv
from omg_lightning.games.base import replace_illegal
from omg_lightning.types import NO_GOAL


class PettingZooEnv(VectorEnv):
    """Any third-party PettingZoo environment with discrete actions, without search; for search see `CopyableGame`.

    - Seats are the agents in the order of `possible_agents`. A seat is active while its agent is in `env.agents`. An
      agent may join late, but must not return: that raises an error at that step. Rewards and
      ends are those of the environment, also at `max_steps`, when all remaining agents are truncated.
    - Observations keep their values. A Dict loses its `action_mask`. Observations of equal shapes keep the shape;
      others are flattened by gymnasium's `flatten` and padded with zeros to the longest.
    - Actions are padded to the largest `Discrete`. The mask of an agent is the `action_mask` of its observation or its
      info; without a mask all its actions are legal. An inactive seat can only `noop`, and the environment gets no
      action for it. No action of a third-party game is always legal, so `noop` (action 0) replaces an illegal one if
      `noop` is legal, and the first legal action otherwise.
    - PettingZoo converts an AEC environment: `aec_to_parallel` if it is parallelizable. Otherwise, as in board games,
      one step is the turn of one agent; the others can only `wait`, an added action (`noop`).
    - Copies are made on demand and reused after each `reset`. The generator seeds each episode.

    Args:
        make: dotted path of a function that returns a `ParallelEnv` or an `AECEnv`, such as
            `mpe2.simple_tag_v3.parallel_env`.
        kwargs: its arguments, such as `{max_cycles: 25}`.
        max_steps: number of steps after which an episode is truncated. By default the environment's own `max_cycles` or
            `max_steps`, or else 1000.

    Raises:
        ConfigError: the environment cannot be made, or does not fit: its actions are not discrete, for example.
    """

    def __init__(self, make: str, kwargs: dict[str, Any] | None = None, max_steps: int | None = None) -> None:
        self.make, self.kwargs = make, dict(kwargs or {})
        self._copies = [load(make, self.kwargs)]
        self.name = short_name(make)
        self._adapter = Adapter(self.name, self._copies[0], self.kwargs, max_steps)
        adapter = self._adapter
        self.num_players, self.num_actions, self.max_steps = adapter.num_players, adapter.num_actions, adapter.max_steps
        self.observation_space, self.noop = adapter.observation_space, adapter.noop
        self.action_names, self.agent_names = adapter.action_names, adapter.agent_names
        self._playing: list[int] = []  # L copies, in the order of the rows
        self._rows: list[Row] = []  # [L] the last row of each copy
        self._times: list[int] = []  # [L] steps of each episode so far
        self._device = torch.device("cpu")

    def reset(self, batch_size: int, generator: torch.Generator) -> Step:
        """Start an episode in each of `batch_size` copies, each with a seed drawn from `generator`."""
        self._device = generator.device
        while len(self._copies) < batch_size:
            self._copies.append(load(self.make, self.kwargs))
        self._playing = list(range(batch_size))
        self._rows = self._fresh(self._playing, generator)
        self._times = [0] * batch_size
        return self._step(self._rows)

    def step(self, actions: Tensor) -> Step:
        """Play joint actions, int64 `[L, P]` in seat order."""
        expected = (len(self._rows), self.num_players)
        if tuple(actions.shape) != expected or not self._rows:
            raise ValueError(
                f"step of {self.name} got actions of shape {tuple(actions.shape)}; expected {expected}: call reset "
                "first, then give one action for each environment in play and each seat"
            )
        legal = torch.from_numpy(np.stack([row.legal for row in self._rows]))
        joint = replace_illegal(actions.cpu(), legal, self.noop).tolist()
        self._rows = [
            self._adapter.step(self._copies[copy], row, time, chosen) if row.active.any() else _quiet(row)
            for copy, row, time, chosen in zip(self._playing, self._rows, self._times, joint, strict=True)
        ]
        self._times = [time + 1 for time in self._times]
        return self._step(self._rows)

    def keep(self, index: Tensor) -> None:
        """Keep only the environments `index`, int64 `[R]`; each at most once, because they are not copied."""
        kept = index.tolist()
        if len(set(kept)) < len(kept):
            raise ValueError(
                f"keep of {self.name} got {kept}; expected each environment at most once: use CopyableGame"
            )
        self._playing = [self._playing[row] for row in kept]
        self._rows, self._times = [self._rows[row] for row in kept], [self._times[row] for row in kept]

    def restart(self, index: Tensor, generator: torch.Generator) -> Step:
        """Start new episodes in the environments `index`, int64 `[R]`, each with a seed drawn from `generator`."""
        places = index.tolist()
        fresh = self._fresh([self._playing[place] for place in places], generator)
        for place, row in zip(places, fresh, strict=True):
            self._rows[place], self._times[place] = row, 0
        return self._step(fresh)

    def _fresh(self, copies: list[int], generator: torch.Generator) -> list[Row]:
        """Start episodes in these copies."""
        seeds = torch.randint(2**31 - 1, (len(copies),), generator=generator, device=generator.device).tolist()
        return [self._adapter.reset(self._copies[copy], seed) for copy, seed in zip(copies, seeds, strict=True)]

    def _step(self, rows: list[Row]) -> Step:
        def batch(field: str) -> Tensor:
            return torch.from_numpy(np.stack([getattr(row, field) for row in rows])).to(self._device)

        return Step(
            observation=batch("observation"),
            legal=batch("legal"),
            active=batch("active"),
            reward=batch("reward"),
            terminated=batch("terminated"),
            truncated=batch("truncated"),
            achieved=torch.full((len(rows), self.num_players), NO_GOAL, device=self._device),
        )


def _quiet(row: Row) -> Row:
    """Return the row of a finished environment after another step."""
    no_seat = np.zeros_like(row.active)
    return row._replace(reward=np.zeros_like(row.reward), terminated=no_seat, truncated=no_seat)
