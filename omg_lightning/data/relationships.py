"""Relationships: the same players meet in episode after episode, and take along what they believe of each other."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from omg_lightning.actors.lineups import beside_learner, check_told
from omg_lightning.games import Game
from omg_lightning.rollout import LEARNER, Played, Seats, arrange, play
from omg_lightning.types import ConfigError, Lap, Learner

_MOST_LAPS = 40


@dataclass(frozen=True)
class AdaptationConfig:
    """The adaptation protocol of `test`: a learner in seat 0, in all other seats the same partner.

    Args:
        relationships: played at once with each partner, independently: the learner meets the same co-players again and
            again, and starts anew with the next ones.
        steps: environment steps of each relationship; 2,400 as published.
        score_steps: the score is the mean return of the episodes that end within so many last steps; 600 as published.
        belief: carry the learner's belief of its co-players from episode to episode; without, each one starts afresh.
        networks: train all networks on the episodes played with a partner, `steps_per_epoch` batches after each
            lap, and forget it before the next partner. All relationships with it train the same networks, so set
            `relationships` to 1 to see what a single learner makes of its `steps`.
    """

    relationships: int = 16
    steps: int = 2400
    score_steps: int = 600
    belief: bool = True
    networks: bool = False

    def __post_init__(self) -> None:
        for name in ("relationships", "steps", "score_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"data.adaptation.{name} is {getattr(self, name)}: it must be at least 1")

    def check(self, max_steps: int) -> None:
        """Raises ConfigError where no episode of at most `max_steps` steps needs to end within the last steps."""
        if not max_steps <= self.score_steps <= self.steps:
            raise ConfigError(
                f"data.adaptation.score_steps is {self.score_steps}: it must be at least the longest episode, "
                f"{max_steps} steps, and at most data.adaptation.steps, {self.steps}"
            )

    def laps(self, max_steps: int) -> list[int]:
        """Environment steps after which each lap is over; no lap is shorter than the longest episode, `max_steps`."""
        count = max(1, min(_MOST_LAPS, self.steps // max_steps))
        return [round(self.steps * (lap + 1) / count) for lap in range(count)]


class Relationships:
    """Plays relationships side by side, each an environment of its own with its own beliefs.

    Args:
        game: the rules.
        partners: names of who sits beside the learner; each has `config.relationships` relationships.
        places: the number by which each partner is reported.
        config: the protocol.
        learners: the planners that sit in seats of these names, by name; asked anew before each episode.
        generator: all randomness; its device is where everything runs.
        workers: processes that share the relationships.
    """

    def __init__(
        self,
        game: Game,
        partners: Sequence[str],
        places: Sequence[int],
        config: AdaptationConfig,
        learners: Callable[[Sequence[str]], dict[str, Learner]],
        generator: torch.Generator,
        workers: int = 1,
    ) -> None:
        self.game, self.config, self.generator, self.workers = game, config, generator, workers
        self.device = generator.device
        lineups = [beside_learner(name, game.num_players) for name in partners]
        batch = config.relationships * len(partners)
        self.seats: Seats = arrange(lineups, batch, game, self.device)
        self._learners = lambda: learners(self.seats.names)
        rows = torch.arange(batch, device=self.device)
        self.partner = torch.tensor(places, device=self.device)[rows % len(partners)]  # int64 [B]
        self.number = rows // len(partners)  # int64 [B] of the relationship, among those with this partner
        self.steps = torch.zeros_like(rows)  # int64 [B] environment steps played
        self.prior: dict[str, Tensor] = {}  # for each learner, float [B, P, G]: its belief before the next episode

    def play_until(self, steps: int) -> Iterator[tuple[Lap, Played]]:
        """Plays in rounds until every relationship has been going on for `steps`; those that have, wait.

        Yields:
            One episode of each relationship that plays on: as rows, and as it was played.
        """
        while len(index := (self.steps < steps).nonzero()[:, 0]):
            learners = self._learners()
            if not self.prior:
                self.prior = {name: self._fresh(learner) for name, learner in learners.items()}
            prior = {name: rows[index] for name, rows in self.prior.items()}
            seats, workers = self.seats.keep(index), self.workers
            played = play(self.game, seats, learners, self.generator, prior, greedy=True, workers=workers)
            for name, rows in played.prior.items():
                self.prior[name][index] = rows
            if not self.config.belief:
                self.prior[LEARNER] = self._fresh(learners[LEARNER])
            if len(index) == len(self.steps):
                check_told(self.seats, learners[LEARNER], played.episodes)
            length = played.episodes.active.any(-1).sum(0)
            self.steps[index] += length
            yield Lap(self.partner[index], self.number[index], played.episodes.reward.sum(0), length), played

    def _fresh(self, learner: Learner) -> Tensor:
        return learner.source.prior(len(self.steps), self.game.num_players, self.device)


def join(laps: Sequence[Lap]) -> Lap:
    """The rows of all `laps`, at least one, in turn."""
    return Lap(
        torch.cat([lap.partner for lap in laps]),
        torch.cat([lap.relationship for lap in laps]),
        torch.cat([lap.returns for lap in laps]),
        torch.cat([lap.length for lap in laps]),
    )
