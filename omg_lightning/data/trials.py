"""What is played to judge learners, drawn piece by piece: evaluations, and laps of the adaptation protocol."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from omg_lightning.data.buffer import EpisodeBuffer
from omg_lightning.data.dataset import Draws
from omg_lightning.actors.lineups import check_told
from omg_lightning.data.relationships import Relationships, join
from omg_lightning.games import Game
from omg_lightning.rollout import LEARNER, arrange, play
from omg_lightning.types import Batch, Episodes, Lap, Learner

_SEED = 7919  # evaluation plays the same starts at every epoch, apart from all training randomness
_CHUNK = 1_000_003  # between the seeds of an evaluation's chunks


def trial_generator(seed: int, device: torch.device, chunk: int = 0) -> torch.Generator:
    """All randomness of a chunk: how much chance one took must not change the next one's starts."""
    return torch.Generator(device).manual_seed(_SEED + seed + _CHUNK * chunk)


def evaluation(
    game: Game,
    lineups: list[list[str]],
    episodes: int,
    num_envs: int,
    learners: Callable[[Sequence[str]], dict[str, Learner]],
    seed: int,
    device: torch.device,
    workers: int = 1,
) -> Draws[Episodes]:
    """Greedy episodes in chunks of `num_envs`: the same starts each time, whoever plays.

    Args:
        game: the rules.
        lineups: who sits where.
        episodes: how many.
        num_envs: environments played at once.
        learners: the planners that sit in seats of these names, by name; asked anew before each chunk.
        seed: of all randomness.
        device: where everything runs.
        workers: processes that share the environments.
    """
    carried: dict[str, Tensor] | None = None

    def draw(index: int) -> Episodes:
        nonlocal carried
        count = min(num_envs, episodes - index * num_envs)
        table = arrange(lineups, count, game, device)
        prior = {name: rows[:count] for name, rows in carried.items()} if carried is not None and index else None
        found = learners(table.names)
        random = trial_generator(seed, device, index)
        played = play(game, table, found, random, prior, greedy=True, measure=True, workers=workers)
        check_told(table, found[LEARNER], played.episodes)
        carried = played.prior
        return played.episodes

    return Draws(draw, -(-episodes // num_envs))


class Practice:
    """What networks are trained on within the adaptation protocol: the episodes that it has played so far.

    Args:
        capacity: episodes kept.
        max_steps: of the longest episode.
        batch_size: episodes in a batch.
        steps: batches after each lap.
        seed: of the draws.
        env_steps: that the networks were trained for before.
    """

    def __init__(self, capacity: int, max_steps: int, batch_size: int, steps: int, seed: int, env_steps: int) -> None:
        self.buffer, self.random = EpisodeBuffer(capacity, max_steps), torch.Generator().manual_seed(seed)
        self.batch_size, self.steps, self.env_steps = batch_size, steps, env_steps

    def batches(self) -> tuple[Batch, ...]:
        """What to learn from after a lap."""
        samples = [self.buffer.sample(self.batch_size, self.random) for _ in range(self.steps)]
        return tuple(Batch(episodes, self.env_steps, False) for episodes in samples)


def adaptation(begin: Callable[[], tuple[Relationships, Practice | None]], ends: Sequence[int]) -> Draws[Lap]:
    """The adaptation protocol; an item is a lap.

    Args:
        begin: makes relationships that are to start, and what networks learn from; None where they do not.
        ends: environment steps after which each lap is over.
    """
    now: Relationships
    practice: Practice | None

    def draw(index: int) -> Lap:
        nonlocal now, practice
        if index == 0:
            now, practice = begin()
        laps, last = [], index == len(ends) - 1
        for lap, played in now.play_until(ends[index]):
            laps.append(lap)
            if practice is not None:
                practice.buffer.add(played.episodes, index)
        batches = () if practice is None or last else practice.batches()
        return join(laps)._replace(batches=batches, last=last)

    return Draws(draw, len(ends))
