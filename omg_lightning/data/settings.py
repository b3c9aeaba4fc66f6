"""Groups of settings of the data module; each is a key of the command line, such as `--data.training.batch_size`."""

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from omg_lightning.envs.base import VectorEnv
from omg_lightning.types import ConfigError

Lineups = list[str] | list[list[str]]


def check_at_least(name: str, value: int, least: int) -> None:
    """Raise ConfigError unless `value` is at least `least`."""
    if value < least:
        raise ConfigError(f"data.{name} is {value}: it must be at least {least}")


@dataclass(frozen=True)
class TrainingConfig:
    """What a round is trained on.

    Args:
        batch_size: episodes in a batch.
        steps_per_epoch: batches drawn in each round.
        symmetries: train on each batch as it would be on the board turned and mirrored at random; grids only.
        capacity: episodes that the buffer holds.
        past_every: online rounds between two past selves that are kept, for seats called `past`.
        past_keep: how many of them are kept, the newest; one is drawn for each round, evaluations take the newest.
    """

    batch_size: int = 64
    steps_per_epoch: int = 16
    symmetries: bool = False
    capacity: int = 512
    past_every: int = 10
    past_keep: int = 5

    def __post_init__(self) -> None:
        for name in ("batch_size", "steps_per_epoch", "capacity", "past_every", "past_keep"):
            check_at_least(f"training.{name}", getattr(self, name), 1)


@dataclass(frozen=True)
class OfflineConfig:
    """The offline phase, in which scripted players play and no learner acts.

    Args:
        rounds: played before the online phase.
        lineups: who sits in each seat; by default k of the first of the game's scripts beside P-k of the second for
            k = 0..P (nearest_stag and nearest_hare, cleaner and defector), and all random.
        recorded: folder of games that `python -m omg_lightning play` saved; each round of the phase has them, too.
    """

    rounds: int = 10
    lineups: list[list[str]] | None = None
    recorded: str | None = None

    def __post_init__(self) -> None:
        check_at_least("offline.rounds", self.rounds, 0)
        if self.recorded is not None and self.rounds == 0:
            raise ConfigError(
                "data.offline.recorded names games for the offline phase, but data.offline.rounds is 0: set it to at "
                "least 1"
            )


@dataclass(frozen=True)
class EvaluationConfig:
    """Evaluations, in which every learner plays greedily.

    Args:
        seats: who sits in each seat, also in replays; by default `data.seats`.
        episodes: of `validate` and of the evaluation that ends `fit`.
        val_episodes: of an evaluation during `fit`.
        predict_episodes: that `predict` plays.
    """

    seats: Lineups | None = None
    episodes: int = 500
    val_episodes: int = 64
    predict_episodes: int = 4

    def __post_init__(self) -> None:
        for name in ("episodes", "val_episodes", "predict_episodes"):
            check_at_least(f"evaluation.{name}", getattr(self, name), 1)

    def check_shares(self, ranks: int, num_envs: int) -> None:
        """Raise ConfigError where so many ranks cannot share out each chunk of `num_envs` episodes."""
        if num_envs < ranks:
            raise ConfigError(f"data.num_envs is {num_envs}: it must be at least 1 for each of {ranks} processes")
        for name in ("episodes", "val_episodes"):
            count = getattr(self, name)
            if 0 < (rest := count % num_envs) < ranks:
                raise ConfigError(
                    f"data.evaluation.{name} is {count}: the last {rest} of them, after chunks of data.num_envs "
                    f"{num_envs}, are too few for {ranks} processes: set it to {count + ranks - rest}"
                )


def check_shares(ranks: int, num_envs: int, training: TrainingConfig, minibatches: int | None = None) -> None:
    """Raise ConfigError where so many ranks cannot share out environments and batches evenly.

    Args:
        ranks: processes that train together.
        num_envs: environments of all ranks together.
        training: its `batch_size` is that of all ranks together.
        minibatches: parts of a pass over the newest round; None where batches are drawn from the buffer.
    """
    sizes = {"num_envs": num_envs}
    sizes |= {"training.batch_size": training.batch_size} if minibatches is None else {}
    for name, size in sizes.items():
        if size % ranks:
            raise ConfigError(
                f"data.{name} is {size}, which {ranks} processes cannot share evenly: set it to a multiple of {ranks}, "
                f"such as {-(-size // ranks) * ranks}"
            )
    if minibatches is not None and num_envs // ranks < minibatches:
        raise ConfigError(
            f"data.num_envs is {num_envs}, {num_envs // ranks} for each of {ranks} processes, too few for "
            f"{minibatches} minibatches: raise data.num_envs or lower model.algorithm.minibatches"
        )


def check_memory(env: VectorEnv, num_envs: int, training: TrainingConfig) -> None:
    """Raise ConfigError where a round, the buffer and a batch need more memory than this machine has.

    What is counted is the least that is needed: views, legal actions and rewards.
    """
    if not hasattr(os, "sysconf"):  # Windows
        return
    view = math.prod(env.observation_space.shape or ()) * env.observation_space.dtype.itemsize
    episode = env.max_steps * env.num_players * (view + env.num_actions + 4)
    sizes = {
        "data.num_envs": num_envs,
        "data.training.capacity": training.capacity,
        "data.training.batch_size": training.batch_size,
    }
    needed, there = sum(sizes.values()) * episode, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise ConfigError(
            f"{', '.join(f'{name} {size}' for name, size in sizes.items())} and episodes of {env.max_steps} steps need "
            f"{needed / 2**30:.3g} GiB of memory, but this machine has {there / 2**30:.3g}: lower the largest of them"
        )


_MOST_SEGMENTS = 40


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
            segment, and forget it before the next partner. All relationships with it train the same networks, so set
            `relationships` to 1 to see what a single learner makes of its `steps`.
        references: file in which `python -m omg_lightning references` keeps the returns that scores are normalised by;
            by default `references.json`, if there is one.
        unseen: more partners, which training must not have met; they are reported apart from the others, too.
        ratio: seen to unseen partners, such as `10:5`: relationships are shared out in this ratio between
            `data.partners` and `unseen`. By default each kind has as many. What is left of a relationship after each
            change is drawn in the same ratio.
        change_episodes: change the partner after so many episodes of a relationship, or `random`: after 2, 5, 10 or 20,
            drawn anew each time. By default partners stay. There are `relationships` for each kind, as ever, but each
            meets all kinds.
        change_within: change each partner's kind within each episode, at a step drawn evenly from 1 to this one: the
            seat is handed over to another of the partners, see `omg_lightning.games.Handover`.
    """

    relationships: int = 16
    steps: int = 2400
    score_steps: int = 600
    belief: bool = True
    networks: bool = False
    references: str | None = None
    unseen: list[str] = field(default_factory=list)
    ratio: str | None = None
    change_episodes: int | Literal["random"] | None = None
    change_within: int | None = None

    def __post_init__(self) -> None:
        for name in ("relationships", "steps", "score_steps"):
            check_at_least(f"adaptation.{name}", getattr(self, name), 1)
        for name in ("change_episodes", "change_within"):
            if isinstance(value := getattr(self, name), int):
                check_at_least(f"adaptation.{name}", value, 1)
        if self.change_episodes is not None and self.change_within is not None:
            raise ConfigError(
                f"data.adaptation.change_episodes is {self.change_episodes} and change_within {self.change_within}: "
                "partners change between episodes or within them, so leave one out"
            )
        changing = self.change_episodes is not None or self.ratio is not None
        if self.networks and changing:
            raise ConfigError(
                "data.adaptation.networks is true, and then there is one partner at a time: leave out change_episodes "
                "and ratio"
            )
        if self.shares[1] and not self.unseen:
            raise ConfigError(
                f"data.adaptation.ratio is {self.ratio}, but there are no unseen partners: name some in "
                "data.adaptation.unseen"
            )
        if self.references is not None and not Path(self.references).is_file():
            raise ConfigError(
                f"data.adaptation.references: no file {self.references}; make it with python -m omg_lightning "
                "references"
            )

    @property
    def shares(self) -> tuple[int, int]:
        """Return both numbers of `ratio`; 1 and 0 where there is none.

        Raises:
            ConfigError: it is no ratio.
        """
        if self.ratio is None:
            return 1, 0
        parts = str(self.ratio).split(":")
        if len(parts) != 2 or not all(part.isdecimal() for part in parts) or not any(map(int, parts)):
            raise ConfigError(
                f"data.adaptation.ratio is {self.ratio!r}: expected seen to unseen partners in quotes, such as '10:5'"
            )
        return int(parts[0]), int(parts[1])

    def check(self, max_steps: int, partners: int = 1, ranks: int = 1) -> None:
        """Raise ConfigError where no episode of at most `max_steps` steps needs to end within the last steps.

        Or where so many `ranks` cannot share out the relationships, or the `partners` where networks learn.
        """
        name, count = ("partners", partners) if self.networks else ("adaptation.relationships", self.relationships)
        if count < ranks:
            raise ConfigError(
                f"`test` shares out data.{name} over processes, but there are {count} for {ranks} processes: set "
                "--trainer.devices 1"
            )
        if not max_steps <= self.score_steps <= self.steps:
            raise ConfigError(
                f"data.adaptation.score_steps is {self.score_steps}: it must be at least the longest episode, "
                f"{max_steps} steps, and at most data.adaptation.steps, {self.steps}"
            )

    def segments(self, max_steps: int) -> list[int]:
        """Return the environment steps after which each segment is over; none is shorter than `max_steps`."""
        count = max(1, min(_MOST_SEGMENTS, self.steps // max_steps))
        return [round(self.steps * (segment + 1) / count) for segment in range(count)]
