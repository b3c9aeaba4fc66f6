"""Relationships: the same players meet in episode after episode, and take along what they believe of each other."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from functools import partial

import torch
from torch import Tensor

from omg_lightning.actors import LEARNER, Actor, Seating, beside_learner, check_true_goals, seat
from omg_lightning.data.settings import AdaptationConfig
from omg_lightning.envs.base import VectorEnv
from omg_lightning.rollout import Played, Prior, RolloutState, at_once, generators
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
        batch = len(meetings)
        lineups = [beside_learner(name, env.num_players) for name in partners]
        possible = torch.zeros(batch, len(partners), dtype=torch.bool, device=self.device)
        possible.scatter_(1, self.meetings, True)
        self.seating: Seating = seat(lineups, self.meetings[:, 0], possible, env, apart=True)
        places = [[self.seating.names.index(name) for name in lineup] for lineup in lineups]
        self._who = torch.tensor(places, device=self.device)  # [K, P] of the line-up with each kind
        self._learners = lambda: learners(self.seating.names)
        self.number = torch.arange(batch, device=self.device) if number is None else number.to(self.device)
        self.steps = torch.zeros(batch, dtype=torch.int64, device=self.device)  # environment steps played
        self.episodes = torch.zeros_like(self.steps)  # int64 [B] episodes played
        self.prior: Prior = {}  # what each learner carries to the next episode
        self._rollout: RolloutState | None = None  # the episodes in progress
        self._rows = torch.arange(batch, device=self.device)  # the relationship of each of its environments

    @property
    def partner(self) -> Tensor:
        """Return who sits beside the learner in the next episode of each relationship, int64 `[B]`."""
        episode = self.episodes.clamp(max=self.meetings.shape[1] - 1)
        return self.meetings.gather(1, episode[:, None])[:, 0]

    def play_until(self, steps: int, total: int | None = None) -> Iterator[tuple[AdaptationSegment, Played]]:
        """Play until every relationship has been going on for `steps`.

        Each starts its next episode when the last one is over, and no relationship waits for the others before it has
        reached `total`. So a step is one search for all of them.

        Args:
            steps: environment steps that each has to reach.
            total: environment steps at which each is over; by default `steps`, and always with several workers.

        Yields:
            Episodes that ended with the same step: as rows, and as they were played.
        """
        total = total or steps
        if self.workers > 1:
            yield from self._apart(steps)
            return
        while int(self.steps.min()) < steps:
            now, over = self._until_one_is_over(total)
            played = now.finish(over)
            rows = self._rows[now.live[over]]
            partner, ended = self.partner[rows], now.seating.who[now.live[over]]
            check_true_goals(now.seating._replace(who=ended), now.learners[LEARNER], played.episodes)
            for name, carried in played.prior.items():
                self.prior[name][rows] = carried
            if not self.config.belief and LEARNER in self.prior:
                self.prior[LEARNER][rows] = self._fresh({LEARNER: now.learners[LEARNER]})[LEARNER][rows]
            length = played.episodes.active.any(-1).sum(0)
            self.steps[rows] += length
            self.episodes[rows] += 1
            self._go_on(now, over, total)
            yield AdaptationSegment(partner, self.number[rows], played.episodes.reward.sum(0), length), played

    @torch.no_grad()
    def _until_one_is_over(self, total: int) -> tuple[RolloutState, Tensor]:
        """Play until an episode ends; return the rollout, and the places of the ended ones in its `live`."""
        index = (self.steps < total).nonzero()[:, 0]
        learners = self._learners() if self._rollout is None else {}
        if not self.prior:
            self.prior = self._fresh(learners)
        with torch.inference_mode():  # as in `play`
            if self._rollout is None:
                prior = {name: rows[index] for name, rows in self.prior.items()}
                seating = self.seating._replace(who=self._who[self.partner]).keep(index)
                self._rows = index
                self._rollout = RolloutState(self.env, seating, learners, self.generator, prior, True, False)
            now = self._rollout
            while not len(over := now.over()):
                now.step()
        return now, over

    @torch.no_grad()
    def _go_on(self, now: RolloutState, over: Tensor, total: int) -> None:
        """Start the next episodes of the relationships that are not over, if this is possible now."""
        rows = self._rows[now.live[over]]
        again = (self.steps[rows] < total) if now.restarts else torch.zeros_like(over, dtype=torch.bool)
        with torch.inference_mode():
            some = rows[again]
            prior = {name: each[some] for name, each in self.prior.items()}
            now.restart(over[again], self._who[self.partner[some]], prior)
            now.drop(over[~again])
        if not len(now.live):
            self._rollout = None

    def _apart(self, steps: int) -> Iterator[tuple[AdaptationSegment, Played]]:
        """Play until every relationship has been going on for `steps`, in processes that share them."""
        count = len(self.steps)
        shares = torch.arange(count, device=self.device).tensor_split(min(self.workers, count))
        draws = generators(len(shares), self.generator)
        jobs = [partial(self._among(rows, random)._played, steps) for rows, random in zip(shares, draws, strict=True)]
        for rows, (played, prior, taken, episodes) in zip(shares, at_once(jobs), strict=True):
            self.steps[rows], self.episodes[rows] = taken, episodes
            for name, each in prior.items():
                self.prior.setdefault(name, each.new_empty(count, *each.shape[1:]))[rows] = each
            yield from played

    def _among(self, rows: Tensor, random: torch.Generator) -> "Relationships":
        """Return some of the relationships, with a generator of their own."""
        some = copy(self)
        some.workers, some.generator = 1, random
        some.meetings, some.seating, some.number = self.meetings[rows], self.seating.keep(rows), self.number[rows]
        some.steps, some.episodes = self.steps[rows], self.episodes[rows]
        some.prior = {name: each[rows] for name, each in self.prior.items()}
        return some

    def _played(self, steps: int) -> tuple[list[tuple[AdaptationSegment, Played]], Prior, Tensor, Tensor]:
        """Play until every relationship has been going on for `steps`; return what this changes, too."""
        played = list(self.play_until(steps))
        return played, self.prior, self.steps, self.episodes

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
