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
    """Settings of the training in each round.

    Args:
        batch_size: episodes in a batch.
        steps_per_epoch: batches sampled in each round.
        symmetries: rotate and reflect the board of each batch at random; only for games on a grid.
        capacity: episodes in the buffer.
        past_every: online rounds between two stored past selves, for seats called `past`.
        past_keep: number of stored past selves, the newest ones; each round samples one, evaluations use the newest.
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
    """Settings of the offline phase, in which scripted players play and no learner acts.

    Args:
        rounds: number of rounds before the online phase.
        lineups: the player of each seat; by default k seats of the game's first script and P-k of the second, for
            k = 0..P (nearest_stag and nearest_hare, cleaner and defector), and all random.
        recorded: folder of games that `python -m omg_lightning play` saved; each offline round adds them.
    """

    rounds: int = 10
    lineups: list[list[str]] | None = None
    recorded: str | None = None

    def __post_init__(self) -> None:
        check_at_least("offline.rounds", self.rounds, 0)
        if self.recorded is not None and self.rounds == 0:
            raise ConfigError(
                "data.offline.recorded sets games for the offline phase, but data.offline.rounds is 0: set it to at "
                "least 1"
            )


@dataclass(frozen=True)
class EvaluationConfig:
    """Settings of evaluations, in which every learner plays greedily.

    Args:
        seats: the player of each seat, also in replays; by default `data.seats`.
        episodes: episodes of `validate` and of the evaluation at the end of `fit`.
        val_episodes: episodes of an evaluation during `fit`.
        predict_episodes: episodes of `predict`.
    """

    seats: Lineups | None = None
    episodes: int = 500
    val_episodes: int = 64
    predict_episodes: int = 4

    def __post_init__(self) -> None:
        for name in ("episodes", "val_episodes", "predict_episodes"):
            check_at_least(f"evaluation.{name}", getattr(self, name), 1)

    def check_shares(self, ranks: int, num_envs: int) -> None:
        """Raise ConfigError if the ranks cannot divide each chunk of `num_envs` episodes."""
        if num_envs < ranks:
            raise ConfigError(f"data.num_envs is {num_envs}: it must be at least 1 for each of {ranks} processes")
        for name in ("episodes", "val_episodes"):
            count = getattr(self, name)
            if 0 < (rest := count % num_envs) < ranks:
                raise ConfigError(
                    f"data.evaluation.{name} is {count}: the last chunk of {rest}, after chunks of data.num_envs "
                    f"{num_envs}, is too small for {ranks} processes: set it to {count + ranks - rest}"
                )


def check_shares(ranks: int, num_envs: int, training: TrainingConfig, minibatches: int | None = None) -> None:
    """Raise ConfigError if the ranks cannot divide environments and batches evenly.

    Args:
        ranks: number of processes that train together.
        num_envs: total number of environments.
        training: its `batch_size` is the total over ranks.
        minibatches: minibatches of a pass over the newest round; None if batches are sampled from the buffer.
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
    """Raise ConfigError if a round, the buffer and a batch need more memory than this machine has.

    The estimate is a lower bound: it counts views, legal actions and rewards.
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
        relationships: independent relationships with each partner, played in parallel: in each, the learner meets the
            same co-players again and again.
        steps: environment steps of each relationship; 2,400 as published.
        score_steps: the score is the mean return of the episodes that end within the last steps; 600 as published.
        belief: carry the learner's belief about co-players to the next episode; else reset it at each episode.
        networks: train all networks on the episodes played with a partner, `steps_per_epoch` batches after each
            segment, and reset them before the next partner. All relationships with a partner train the same networks,
            so set `relationships` to 1 to measure the adaptation of a single learner.
        references: file of `python -m omg_lightning references` with the returns that normalise the scores;
            by default `references.json`, if it exists.
        unseen: more partners, which training must not have met; they are also reported separately.
        ratio: seen to unseen partners, such as `10:5`: the protocol divides relationships in this ratio between
            `data.partners` and `unseen`. By default each kind has equally many. After each change, the next partner is
            drawn in the same ratio.
        change_episodes: episodes of a relationship after which the partner changes, or `random`: 2, 5, 10 or 20,
            drawn anew each time. By default partners never change. Each kind is the first partner of `relationships`
            relationships, and each relationship meets all kinds.
        change_within: change each partner's kind within each episode, at a step drawn uniformly from 1 to this one: the
            next kind is another one of the partners, see `omg_lightning.games.Handover`.
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
                "partners change between episodes or within them; remove one of the two settings"
            )
        changing = self.change_episodes is not None or self.ratio is not None
        if self.networks and changing:
            raise ConfigError(
                "data.adaptation.networks is true, which trains with one partner at a time: remove change_episodes "
                "and ratio"
            )
        if self.shares[1] and not self.unseen:
            raise ConfigError(
                f"data.adaptation.ratio is {self.ratio}, but there are no unseen partners: add some to "
                "data.adaptation.unseen"
            )
        if self.references is not None and not Path(self.references).is_file():
            raise ConfigError(
                f"data.adaptation.references is {self.references}, which does not exist: make it with python -m "
                "omg_lightning references"
            )

    @property
    def shares(self) -> tuple[int, int]:
        """Return both numbers of `ratio`; 1 and 0 without a ratio.

        Raises:
            ConfigError: the value is not a ratio.
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
        """Raise ConfigError if `score_steps` may contain no end of an episode of at most `max_steps` steps.

        Also if `ranks` processes cannot divide the relationships, or the `partners` if networks learn.
        """
        name, count = ("partners", partners) if self.networks else ("adaptation.relationships", self.relationships)
        if count < ranks:
            raise ConfigError(
                f"`test` divides data.{name} among processes, but there are {count} for {ranks} processes: set "
                "--trainer.devices 1"
            )
        if not max_steps <= self.score_steps <= self.steps:
            raise ConfigError(
                f"data.adaptation.score_steps is {self.score_steps}: it must be at least the longest episode, "
                f"{max_steps} steps, and at most data.adaptation.steps, {self.steps}"
            )

    def segments(self, max_steps: int) -> list[int]:
        """Return the environment steps at which each segment ends; no segment is shorter than `max_steps`."""
        count = max(1, min(_MOST_SEGMENTS, self.steps // max_steps))
        return [round(self.steps * (segment + 1) / count) for segment in range(count)]
