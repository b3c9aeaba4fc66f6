"""Rollouts that judge learners, drawn piece by piece: evaluations, and segments of the adaptation protocol."""

from collections.abc import Callable, Mapping, Sequence

import torch

from omg_lightning import ranks
from omg_lightning.actors import LEARNER, Actor, arrange, check_true_goals
from omg_lightning.data.buffer import EpisodeBuffer
from omg_lightning.data.dataset import LazyDataset
from omg_lightning.data.relationships import Relationships, join
from omg_lightning.envs.base import VectorEnv
from omg_lightning.rollout import Prior, play
from omg_lightning.seeds import generator_of
from omg_lightning.types import AdaptationSegment, Batch, Episodes


def evaluation(
    env: VectorEnv,
    lineups: list[list[str]],
    episodes: int,
    num_envs: int,
    learners: Callable[[Sequence[str]], Mapping[str, Actor]],
    seed: int,
    device: torch.device,
    workers: int = 1,
) -> LazyDataset[Episodes]:
    """Return greedy episodes in chunks of `num_envs`: the same starts each time, whatever the learner does.

    Each chunk has a random stream of its own, so that one chunk's randomness never moves the next one's starts. Several
    ranks share out each chunk: all have the same number of items.

    Args:
        env: what is played.
        lineups: who sits where.
        episodes: how many.
        num_envs: environments played at once.
        learners: the actors with networks that sit in seats of these names, by name; asked anew before each chunk.
        seed: of all randomness.
        device: where everything runs.
        workers: processes that share the environments.
    """
    carried: Prior | None = None

    def draw(index: int) -> Episodes:
        nonlocal carried
        total = min(num_envs, episodes - index * num_envs)
        mine = ranks.rows(total).to(device)
        count, seating = len(mine), arrange(lineups, total, env, device)
        seating = seating if count == total else seating.keep(mine)
        prior = {name: rows[:count] for name, rows in carried.items()} if carried is not None and index else None
        found = learners(seating.names)
        random = generator_of(seed, "evaluation", device, index, rank=ranks.stream())
        with ranks.together():
            played = play(env, seating, found, random, prior, greedy=True, measure=True, workers=workers)
        check_true_goals(seating, found[LEARNER], played.episodes)
        carried = played.prior
        return played.episodes

    return LazyDataset(draw, -(-episodes // num_envs))


class Practice:
    """What networks are trained on within the adaptation protocol: the episodes that it has played so far.

    Args:
        capacity: episodes kept.
        max_steps: of the longest episode.
        batch_size: episodes in a batch.
        steps: batches after each segment.
        random: draws the batches; on the CPU.
        env_steps: that the networks were trained for before.
    """

    def __init__(
        self, capacity: int, max_steps: int, batch_size: int, steps: int, random: torch.Generator, env_steps: int
    ) -> None:
        self.buffer, self.random = EpisodeBuffer(capacity, max_steps), random
        self.batch_size, self.steps, self.env_steps = batch_size, steps, env_steps

    def batches(self) -> tuple[Batch, ...]:
        """Return what to learn from after a segment."""
        samples = [self.buffer.sample(self.batch_size, self.random) for _ in range(self.steps)]
        return tuple(Batch(episodes, self.env_steps, False) for episodes in samples)


def adaptation(
    begin: Callable[[], tuple[Relationships, Practice | None]], ends: Sequence[int]
) -> LazyDataset[AdaptationSegment]:
    """Return the adaptation protocol; an item is a segment.

    Args:
        begin: makes relationships that are to start, and what networks learn from; None where they do not.
        ends: environment steps after which each segment is over. Where networks learn, relationships wait there for
            each other; else a segment is what is played until the last one is there.
    """
    now: Relationships
    practice: Practice | None

    def draw(index: int) -> AdaptationSegment:
        nonlocal now, practice
        if index == 0:
            now, practice = begin()
        segments, last = [], index == len(ends) - 1
        for segment, played in now.play_until(ends[index], ends[index] if practice else ends[-1]):
            segments.append(segment)
            if practice is not None:
                practice.buffer.add(played.episodes, index)
        batches = () if practice is None or last else practice.batches()
        return join(segments)._replace(batches=batches, last=last)

    return LazyDataset(draw, len(ends))
