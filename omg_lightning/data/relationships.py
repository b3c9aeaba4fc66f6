"""Relationships: the same players meet in episode after episode, and take along what they believe of each other."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from omg_lightning.actors import LEARNER, Actor, Seating, arrange, beside_learner, check_true_goals
from omg_lightning.data.settings import AdaptationConfig
from omg_lightning.envs.base import VectorEnv
from omg_lightning.rollout import Played, Prior, play
from omg_lightning.types import AdaptationSegment


class Relationships:
    """Plays relationships side by side, each an environment of its own with its own beliefs.

    Args:
        env: what is played.
        partners: names of all kinds that may sit beside the learner.
        meetings: which of them does, int64 `[B, E]`: in episode e of each relationship; the last one stays.
        config: the protocol.
        learners: the actors with networks that sit in seats of these names, by name; asked anew before each episode.
        generator: all randomness; its device is where everything runs.
        workers: processes that share the relationships.
        number: int64 `[B]` by which each relationship is reported; by default 0 .. B-1.
    """

    def __init__(
        self,
        env: VectorEnv,
        partners: Sequence[str],
        meetings: Tensor,
        config: AdaptationConfig,
        learners: Callable[[Sequence[str]], Mapping[str, Actor]],
        generator: torch.Generator,
        workers: int = 1,
        number: Tensor | None = None,
    ) -> None:
        self.env, self.config, self.generator, self.workers = env, config, generator, workers
        self.device = generator.device
        self.meetings = meetings.to(self.device)
        batch, self.kinds = len(meetings), len(partners)
        # Environment b * kinds + k is relationship b beside kind k: one of them is seated in each episode.
        lineups = [beside_learner(name, env.num_players) for name in partners]
        self.seating: Seating = arrange(lineups, batch * self.kinds, env, self.device)
        self._learners = lambda: learners(self.seating.names)
        self.number = torch.arange(batch, device=self.device) if number is None else number.to(self.device)
        self.steps = torch.zeros(batch, dtype=torch.int64, device=self.device)  # environment steps played
        self.episodes = torch.zeros_like(self.steps)  # int64 [B] episodes played
        self.prior: Prior = {}  # what each learner carries to the next episode

    @property
    def partner(self) -> Tensor:
        """Return who sits beside the learner in the next episode of each relationship, int64 `[B]`."""
        episode = self.episodes.clamp(max=self.meetings.shape[1] - 1)
        return self.meetings.gather(1, episode[:, None])[:, 0]

    def play_until(self, steps: int, total: int | None = None) -> Iterator[tuple[AdaptationSegment, Played]]:
        """Plays in rounds until every relationship has been going on for `steps`.

        A batch costs little more than a single environment. So no relationship waits for the others before it has
        reached `total`.

        Args:
            steps: environment steps that each has to reach.
            total: environment steps at which each is over; by default `steps`.

        Yields:
            One episode of each relationship that plays on: as rows, and as it was played.
        """
        while int(self.steps.min()) < steps:
            index = (self.steps < (total or steps)).nonzero()[:, 0]
            learners = self._learners()
            if not self.prior:
                self.prior = self._fresh(learners)
            prior = {name: rows[index] for name, rows in self.prior.items()}
            partner = self.partner[index]
            seating, workers = self.seating.keep(index * self.kinds + partner), self.workers
            played = play(self.env, seating, learners, self.generator, prior, greedy=True, workers=workers)
            for name, rows in played.prior.items():
                self.prior[name][index] = rows
            if not self.config.belief:
                self.prior |= self._fresh({LEARNER: learners[LEARNER]})
            if len(index) == len(self.steps):
                check_true_goals(seating, learners[LEARNER], played.episodes)
            length = played.episodes.active.any(-1).sum(0)
            self.steps[index] += length
            self.episodes[index] += 1
            returns = played.episodes.reward.sum(0)
            yield AdaptationSegment(partner, self.number[index], returns, length), played

    def _fresh(self, learners: Mapping[str, Actor]) -> Prior:
        """Return what learners know before they meet anybody, leading B; an actor without a prior is left out."""
        priors = {name: learner.prior(len(self.steps)) for name, learner in learners.items()}
        return {name: prior for name, prior in priors.items() if prior is not None}


def join(segments: Sequence[AdaptationSegment]) -> AdaptationSegment:
    """The rows of all `segments`, at least one, in turn."""
    return AdaptationSegment(
        torch.cat([segment.partner for segment in segments]),
        torch.cat([segment.relationship for segment in segments]),
        torch.cat([segment.returns for segment in segments]),
        torch.cat([segment.length for segment in segments]),
    )
