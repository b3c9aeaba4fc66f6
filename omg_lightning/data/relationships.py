"""Relationships: the same players meet in episode after episode, and take along what they believe of each other."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch

from omg_lightning.actors import LEARNER, Actor, Seating, arrange, beside_learner, check_true_goals
from omg_lightning.data.settings import AdaptationConfig
from omg_lightning.envs.base import VectorEnv
from omg_lightning.rollout import Played, Prior, play
from omg_lightning.types import AdaptationSegment


class Relationships:
    """Plays relationships side by side, each an environment of its own with its own beliefs.

    Args:
        env: what is played.
        partners: names of who sits beside the learner; each has `config.relationships` relationships.
        indices: the number by which each partner is reported.
        config: the protocol.
        learners: the actors with networks that sit in seats of these names, by name; asked anew before each episode.
        generator: all randomness; its device is where everything runs.
        workers: processes that share the relationships.
        first: the number of the first relationship with each partner.
    """

    def __init__(
        self,
        env: VectorEnv,
        partners: Sequence[str],
        indices: Sequence[int],
        config: AdaptationConfig,
        learners: Callable[[Sequence[str]], Mapping[str, Actor]],
        generator: torch.Generator,
        workers: int = 1,
        first: int = 0,
    ) -> None:
        self.env, self.config, self.generator, self.workers = env, config, generator, workers
        self.device = generator.device
        lineups = [beside_learner(name, env.num_players) for name in partners]
        batch = config.relationships * len(partners)
        self.seating: Seating = arrange(lineups, batch, env, self.device)
        self._learners = lambda: learners(self.seating.names)
        rows = torch.arange(batch, device=self.device)
        self.partner = torch.tensor(indices, device=self.device)[rows % len(partners)]  # int64 [B]
        self.number = first + rows // len(partners)  # int64 [B] of the relationship, among those with this partner
        self.steps = torch.zeros_like(rows)  # int64 [B] environment steps played
        self.prior: Prior = {}  # what each learner carries to the next episode

    def play_until(self, steps: int) -> Iterator[tuple[AdaptationSegment, Played]]:
        """Plays in rounds until every relationship has been going on for `steps`; those that have, wait.

        Yields:
            One episode of each relationship that plays on: as rows, and as it was played.
        """
        while len(index := (self.steps < steps).nonzero()[:, 0]):
            learners = self._learners()
            if not self.prior:
                self.prior = self._fresh(learners)
            prior = {name: rows[index] for name, rows in self.prior.items()}
            seating, workers = self.seating.keep(index), self.workers
            played = play(self.env, seating, learners, self.generator, prior, greedy=True, workers=workers)
            for name, rows in played.prior.items():
                self.prior[name][index] = rows
            if not self.config.belief:
                self.prior |= self._fresh({LEARNER: learners[LEARNER]})
            if len(index) == len(self.steps):
                check_true_goals(self.seating, learners[LEARNER], played.episodes)
            length = played.episodes.active.any(-1).sum(0)
            self.steps[index] += length
            yield (
                AdaptationSegment(self.partner[index], self.number[index], played.episodes.reward.sum(0), length),
                played,
            )

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
