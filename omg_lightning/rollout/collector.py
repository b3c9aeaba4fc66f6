"""Collect rounds of training episodes: line-ups persist, and beliefs carry over between episodes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from omg_lightning import ranks
from omg_lightning.actors import LEARNER, Actor, Seating, arrange, check_true_goals
from omg_lightning.envs.base import VectorEnv
from omg_lightning.rollout.play import Played, Prior, play
from omg_lightning.types import ConfigError


class Collector:
    """Plays one episode in every environment, round after round.

    Args:
        env: what is played.
        num_envs: environments played at once, on all ranks together; this rank plays its share of them.
        workers: processes that share them.
    """

    def __init__(self, env: VectorEnv, num_envs: int, workers: int) -> None:
        self.env, self.num_envs, self.workers = env, num_envs, workers
        self._lineups: list[list[str]] | None = None  # whom `_prior` is about
        self._seating: Seating | None = None
        self._prior: Prior | None = None

    def round(
        self,
        lineups: list[list[str]],
        learners: Callable[[Sequence[str]], Mapping[str, Actor]],
        generator: torch.Generator,
        scripted: bool = False,
    ) -> Played:
        """Play a round; beliefs are reset if the line-ups have changed since the previous round.

        Args:
            lineups: who sits where.
            learners: the actors with networks that sit in seats of these names, by name.
            generator: all randomness.
            scripted: the offline phase, in which a learner only watches.
        """
        if lineups != self._lineups:
            self._lineups, self._prior, self._seating = lineups, None, None
        if self._seating is None:
            whole = arrange(lineups, self.num_envs, self.env, generator.device)
            mine = ranks.rows(self.num_envs).to(generator.device)
            self._seating = whole if len(mine) == self.num_envs else whole.keep(mine)
        found = learners(self._seating.names)
        played = play(self.env, self._seating, found, generator, self._prior, workers=self.workers)
        if not scripted:
            check_true_goals(self._seating, found[LEARNER], played.episodes)
        self._prior = played.prior
        return played

    def state_dict(self) -> dict[str, Any]:
        """Return who sits where and what is carried over, for the checkpoint."""
        return {"prior": self._prior, "lineups": self._lineups}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave.

        Raises:
            ConfigError: another number of environments was played.
        """
        for rows in (state["prior"] or {}).values():
            if len(rows) != len(ranks.rows(self.num_envs)):
                raise ConfigError(
                    f"the checkpoint was trained with data.num_envs {len(rows) * ranks.size()}, but this run has "
                    f"{self.num_envs}: set data.num_envs to that of the checkpoint"
                )
        self._prior, self._lineups = state["prior"], state["lineups"]
