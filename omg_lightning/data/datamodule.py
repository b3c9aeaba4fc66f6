"""The data module: plays episodes with given actors, stores them, and serves batches."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule
from lightning.pytorch.utilities import move_data_to_device
from torch.utils.data import DataLoader

from omg_lightning import interrupts, ranks
from omg_lightning.actors import (
    LEARNER,
    PAST,
    Actor,
    Population,
    agents_of,
    as_lineups,
    beside_learner,
    check_lineups,
    default_partners,
    names_of_seats,
    scripted_lineups,
)
from omg_lightning.actors.population import Weights
from omg_lightning.data.batches import Batches
from omg_lightning.data.buffer import EpisodeBuffer
from omg_lightning.data.dataset import LazyDataset
from omg_lightning.data.evaluation import Practice, adaptation, evaluation
from omg_lightning.data.meetings import kinds_met, meetings
from omg_lightning.data.recorded import beside, read_recorded
from omg_lightning.data.relationships import Relationships
from omg_lightning.data.settings import (
    AdaptationConfig,
    EvaluationConfig,
    Lineups,
    OfflineConfig,
    TrainingConfig,
    check_at_least,
    check_memory,
    check_shares,
)
from omg_lightning.envs.base import VectorEnv, as_env
from omg_lightning.games import Game
from omg_lightning.games.grid.symmetry import Symmetries
from omg_lightning.rollout import Collector, Played
from omg_lightning.seeds import generator_of
from omg_lightning.spaces import check_space
from omg_lightning.spec import GameSpec
from omg_lightning.types import AdaptationSegment, Batch, ConfigError, Episodes, OnPolicy


class EpisodeDataModule(LightningDataModule):
    """Online rollouts behind Lightning's data interface.

    A run consists of rounds. In each, `refresh` plays one episode in every environment and adds them to the buffer that
    feeds all losses; then batches are sampled from it. Scripted line-ups play the first `offline.rounds` rounds,
    `seats` the rest.

    Args:
        game: the game: `StagHunt`, `Snowdrift`, `LevelBasedForaging`, `Overcooked`, `MatrixGame`, `CoinGame`,
            `PettingZooEnv`, `CopyableGame`, or your own `Game` or `VectorEnv` by its dotted path; its own arguments
            are set below this key.
        seats: the player in each seat: `learner`, `random`, a scripted player of the game (such as `nearest_stag`),
            `switcher` (one of the game's two scripts, drawn for each episode; `switcher:5` also changes at step 5),
            `past` (a past self of the learner), `checkpoint:PATH`, or the dotted path of a class that follows
            `omg_lightning.games.Player`. The environments take the line-ups of a list in turn, and the agents of
            `checkpoint:FOLDER/*` likewise; `callbacks.SeatSchedule` changes them during training.
        num_envs: B, number of parallel environments. Several `--trainer.devices` divide them, as they divide batches,
            the buffer and evaluations: all sizes here are totals.
        workers: processes that divide the environments, at most one per core. They need a CPU and an operating system
            that can fork, such as Linux. Results depend on this number, as on the seed.
        partners: co-players of the learner in `test`, each in all seats but seat 0; by default `random` and, if the
            game has scripts, these and `switcher`.
        training: settings of training.
        offline: the offline phase.
        evaluation: evaluations and replays.
        adaptation: settings of `test`, the adaptation protocol.
        seed: of games, search and sampling; `--seed_everything` on the command line.

    Raises:
        ConfigError: a number is out of range, or a seat's name is unknown.
    """

    def __init__(
        self,
        game: Game | VectorEnv,
        seats: Lineups,
        num_envs: int = 64,
        workers: int = 1,
        partners: Sequence[str] | None = None,
        training: TrainingConfig = TrainingConfig(),
        offline: OfflineConfig = OfflineConfig(),
        evaluation: EvaluationConfig = EvaluationConfig(),
        adaptation: AdaptationConfig = AdaptationConfig(),
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_at_least("num_envs", num_envs, 1)
        check_at_least("workers", workers, 1)
        if workers > (most := max(8, os.cpu_count() or 1)):
            raise ConfigError(f"data.workers is {workers}: it must be at most {most}, the number of cores")
        check_at_least("seed", seed, 0)
        if training.capacity < (least := max(num_envs, adaptation.relationships if adaptation.networks else 0)):
            raise ConfigError(f"data.training.capacity is {training.capacity}: it must be at least {least}")
        self.env = as_env(game)
        check_space(self.env.observation_space, self.env.name)
        self.game = self.env if self.env.game is None else self.env.game
        check_memory(self.env, num_envs, training)
        self.spec = GameSpec.of(self.env).plain()
        self.num_envs, self.workers, self.seed = num_envs, workers, seed
        self.training, self.offline_phase, self.evaluation, self.adaptation = training, offline, evaluation, adaptation
        self.lineups = as_lineups(seats)
        self.eval_lineups = self.lineups if evaluation.seats is None else as_lineups(evaluation.seats)
        self.offline_lineups = offline.lineups or scripted_lineups(self.env)
        named = default_partners(self.env) if partners is None else partners
        self.partners = list(dict.fromkeys(agent for name in named for agent in agents_of(name)))
        if not self.partners:
            raise ConfigError("data.partners is empty: give at least one name, such as random")
        if len(self.lineups) > max(num_envs, len(seats)):  # patterns expand to several line-ups
            raise ConfigError(
                f"data.seats expand to {len(self.lineups)} line-ups, but data.num_envs is {num_envs}, so some would "
                f"never play: set it to {len(self.lineups)} or a multiple of it"
            )
        met = {"data.partners": [self.partners], "data.seats": self.lineups}
        met |= {"data.offline.lineups": self.offline_lineups} if offline.rounds else {}
        self.strangers = kinds_met(adaptation, self.partners, met)  # all partners of `test`, the unseen ones last
        tests = [beside_learner(partner, self.env.num_players) for partner in self.strangers]
        for lineups in (self.lineups, self.eval_lineups, tests, self.offline_lineups):
            self.check(lineups)  # raises now, not before their first episode
        self.recorded = None if offline.recorded is None else read_recorded(Path(offline.recorded), self.env)
        if self.recorded is not None and (count := num_envs + self.recorded.active.shape[1]) > training.capacity:
            raise ConfigError(
                f"data.training.capacity is {training.capacity}, too few for the {count} episodes of a round and those "
                f"of data.offline.recorded: set it to at least {count}"
            )
        self.batches = Batches(training, Symmetries(self.env) if training.symmetries else None)
        self.population = Population(training.past_every, training.past_keep)
        self.collector = Collector(self.env, num_envs, workers)
        self.buffer = EpisodeBuffer(training.capacity, self.env.max_steps)
        self.rounds, self.env_steps = 0, 0
        self.latest: Played | None = None  # the last round, for callbacks that show it
        self.on_policy: OnPolicy | None = None
        self._random: dict[str, torch.Generator] = {}

    def attach(
        self,
        learner: Callable[[], Actor],
        load: Callable[[str | Weights], Actor],
        weights: Callable[[], Weights] | None = None,
        on_policy: OnPolicy | None = None,
    ) -> None:
        """Set the learner's callables.

        Args:
            learner: returns the learner in training, with its current weights.
            load: returns the learner of a checkpoint's path, or the one in training with other weights.
            weights: returns a copy of the weights in training; needed for a seat `past`.
            on_policy: passes and minibatches of a round's episodes, for algorithms that need current data.
        """
        self.population.attach(learner, load, weights)
        self.on_policy = on_policy

    @property
    def seats(self) -> list[str]:
        """The names of each seat's players in training, for figures: at most three names."""
        return names_of_seats(self.lineups)

    def check(self, lineups: list[list[str]]) -> None:
        """Raise ConfigError unless every name in these line-ups is known and can play this game."""
        check_lineups(as_lineups(lineups), self.env)

    def check_rounds(self, rounds: float, scheduled: bool = False) -> None:
        """Raise ConfigError if `seats` and `offline` do not fit the number of rounds of a `fit`.

        Args:
            rounds: of the whole run; infinity for no limit.
            scheduled: whether a schedule replaces `seats`.
        """
        offline = self.offline_phase.rounds
        if offline > rounds:
            raise ConfigError(
                f"data.offline.rounds is {offline}, but --trainer.max_epochs is {rounds}, so the run would end within "
                "the offline phase: lower data.offline.rounds, or raise --trainer.max_epochs"
            )
        if offline < rounds and not scheduled and not any(LEARNER in lineup for lineup in self.lineups):
            raise ConfigError(
                f"data.seats {self.lineups[0]} have no learner, so no network would train after the offline phase: "
                f"give a seat to one, as in {beside_learner('random', self.env.num_players)}, or set "
                "data.offline.rounds to --trainer.max_epochs"
            )

    def check_ranks(self, count: int, on_policy: OnPolicy | None, fits: bool = True) -> None:
        """Raise ConfigError if `count` ranks cannot share a `fit`, or an evaluation, evenly.

        Args:
            count: number of ranks.
            on_policy: how the algorithm uses a round's episodes, see `attach`.
            fits: whether the ranks also train.
        """
        if fits:
            minibatches = None if on_policy is None else on_policy.minibatches
            check_shares(count, self.num_envs, self.training, minibatches)
        self.evaluation.check_shares(count, self.num_envs)

    def setup(self, stage: str) -> None:
        """Keep this rank's share of the buffer; the number of ranks is known now."""
        if self.rounds == 0:
            self.buffer = EpisodeBuffer(self.training.capacity // ranks.size(), self.env.max_steps)

    def seat(self, lineups: list[list[str]]) -> None:
        """Use other line-ups from the next round on; beliefs are reset, because the players change."""
        lineups = as_lineups(lineups)
        if lineups != self.lineups:
            self.check(lineups)
            self.lineups = lineups

    # Playing --------------------------------------------------------------------------------------------------------

    @property
    def offline(self) -> bool:
        """Whether the next round belongs to the offline phase."""
        return self.rounds < self.offline_phase.rounds

    @property
    def latest_offline(self) -> bool:
        """Whether the last round belonged to the offline phase."""
        return self.rounds <= self.offline_phase.rounds

    @property
    def device(self) -> torch.device:
        """The trainer's device."""
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    def refresh(self, max_age: int | None = None) -> tuple[Played, int]:
        """Play one round into the buffer and drop episodes older than `max_age` rounds.

        Returns:
            The played episodes, with the environment steps of all ranks, and the number of dropped episodes.
        """
        random, carried = self.random("rollout"), self.collector.state_dict()
        before, past = random.get_state(), self.population.past

        def learners(names: Sequence[str]) -> dict[str, Actor]:
            found = self.population.learners(names)
            if PAST in names:
                found[PAST] = self.population.past_self(self.rounds - self.offline_phase.rounds, random)
            return found

        due = self.offline_lineups if self.offline else self.lineups
        try:
            with ranks.together():
                played = self.collector.round(due, learners, random, self.offline)
        except interrupts.Interrupted:
            random.set_state(before)  # a checkpoint at this point must not include a part of the round
            self.collector.load_state_dict(carried)
            self.population.past = past
            raise
        played = played._replace(env_steps=sum(ranks.gather(played.env_steps)))
        self.latest = played
        self.batches.begin()
        self.buffer.add(played.episodes, self.rounds)
        if self.recorded is not None and self.offline:
            mine = self.recorded.map(lambda field: field[:, ranks.rank() :: ranks.size()])
            self.buffer.add(beside(mine, played.episodes), self.rounds)
        dropped = 0 if max_age is None else self.buffer.drop(self.rounds - max_age + 1)
        self.rounds += 1
        self.env_steps += played.env_steps
        return played, dropped

    def evaluate(
        self, lineups: list[list[str]], episodes: int, change: Callable[[Actor], Actor] | None = None
    ) -> LazyDataset[Episodes]:
        """Return greedy episodes of `lineups`, in chunks of `num_envs`: the same initial states each time.

        Args:
            lineups: the players of each seat.
            episodes: number of episodes.
            change: returns a changed copy of the learner, to measure the effect of one part.
        """

        def learners(names: Sequence[str]) -> dict[str, Actor]:
            found = self._judged(names)
            if change is not None:
                found[LEARNER] = change(found[LEARNER])
            return found

        return evaluation(self.env, lineups, episodes, self.num_envs, learners, self.seed, self.device, self.workers)

    def _judged(self, names: Sequence[str]) -> dict[str, Actor]:
        """Return the actors with networks for these seats' names, for evaluations; `past` is the newest past self."""
        found = self.population.learners(names)
        if PAST in names:
            found[PAST] = self.population.newest_past_self()
        return found

    def adapt(self, indices: list[int]) -> LazyDataset[AdaptationSegment]:
        """Return the adaptation protocol with the partners at these `indices` of `strangers`."""
        settings, seen = self.adaptation, len(self.partners)
        table = meetings(settings, seen, len(self.strangers) - seen, generator_of(self.seed, "meetings", "cpu"))
        number, rank = torch.arange(len(table)), None
        if settings.networks:
            number = number[torch.isin(table[:, 0], torch.tensor(indices))]
        else:  # networks that learn run on a single rank
            mine, rank = ranks.rows(settings.relationships), ranks.stream()
            number = number.view(settings.relationships, -1)[mine].flatten()

        def begin() -> tuple[Relationships, Practice | None]:
            random = generator_of(self.seed, "adaptation", self.device, *indices, rank=rank)
            given = (self.env, self.strangers, table[number], settings, self._judged, random, self.workers, number)
            sizes = (
                self.training.capacity,
                self.env.max_steps,
                self.training.batch_size,
                self.training.steps_per_epoch,
            )
            draws = generator_of(self.seed, "practice", "cpu", *indices)
            practice = Practice(*sizes, draws, self.env_steps) if settings.networks else None
            return Relationships(*given), practice

        return adaptation(begin, settings.segments(self.env.max_steps))

    def random(self, role: str) -> torch.Generator:
        """Return the generator of a role, seeded from `seed`; its state is in the checkpoint."""
        if role not in self._random:
            device = torch.device("cpu") if role == "buffer" else self.device
            self._random[role] = generator_of(self.seed, role, device, rank=ranks.stream())
        return self._random[role]

    # Lightning ------------------------------------------------------------------------------------------------------

    def train_dataloader(self) -> DataLoader:
        """Return the loader of batches. It has no workers, because these would hold stale copies of the buffer."""

        def draw(index: int) -> Batch:
            with ranks.together():
                interrupts.check()
            episodes = self.batches.draw(self.buffer, self.on_policy, self._learner, self.random("buffer"))
            return Batch(episodes, self.env_steps, self.latest_offline)

        return _loader(LazyDataset(draw, self.batches.count(self.on_policy)))

    def _learner(self) -> Actor:
        """Return the learner in training."""
        return self.population.learners(())[LEARNER]

    def val_dataloader(self) -> DataLoader:
        """Return an evaluation with the training partners; fewer episodes during `fit`."""
        fitting = self.trainer is not None and self.trainer.state.fn == "fit"
        episodes = self.evaluation.val_episodes if fitting else self.evaluation.episodes
        return _loader(self.evaluate(self.eval_lineups, episodes))

    def test_dataloader(self) -> DataLoader:
        """Return the adaptation protocol: all partners at once or, if networks learn, one after the other.

        Ranks divide the relationships, or the partners if networks learn.
        """
        self.adaptation.check(self.env.max_steps, len(self.strangers), ranks.size())
        indices = range(len(self.strangers))
        if self.adaptation.networks:
            indices = indices[ranks.rank() :: ranks.size()]
        parts = [self.adapt([k]) for k in indices] if self.adaptation.networks else [self.adapt(list(indices))]
        each = len(parts[0])
        return _loader(LazyDataset(lambda index: parts[index // each].draw(index % each), each * len(parts)))

    def predict_dataloader(self) -> DataLoader:
        """Return episodes for replays."""
        return _loader(self.evaluate(self.eval_lineups, self.evaluation.predict_episodes))

    def state_dict(self) -> dict[str, Any]:
        """Return buffer, counters, carried beliefs and generators, so that a resumed run is bit-identical.

        With several ranks it is the state of rank 0, with the states of the others under `others`.
        """
        state = {
            "buffer": self.buffer.state_dict(),
            "rounds": self.rounds,
            "env_steps": self.env_steps,
            "collector": self.collector.state_dict(),
            "past": self.population.past,
            **self.batches.state_dict(),
            "generators": {name: generator.get_state() for name, generator in self._random.items()},
        }
        return ranks.merge(state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict` to resume a `fit`; an evaluation does not need it.

        Raises:
            ConfigError: the sizes of buffer or batch, or the number of ranks, differ from the checkpoint.
        """
        count, state = 1 + len(state.get("others", [])), ranks.own(state)
        self.env_steps, self.population.past = state["env_steps"], state["past"]
        if self.trainer is not None and self.trainer.state.fn != "fit":
            return
        if count != ranks.size():
            raise ConfigError(
                f"the checkpoint was trained with {count} process{'es' * (count > 1)}, this run has {ranks.size()}: "
                f"set --trainer.devices {count} (times --trainer.num_nodes), or train anew"
            )
        collector, store = (move_data_to_device(x, self.device) for x in (state["collector"], state["buffer"]["store"]))
        self.collector.load_state_dict(collector)
        self.buffer.load_state_dict({**state["buffer"], "store": store})
        self.batches.load_state_dict(state)
        self.rounds = state["rounds"]
        for name, saved in state["generators"].items():
            self.random(name).set_state(saved.cpu())


def _loader(dataset: LazyDataset) -> DataLoader:
    return DataLoader(dataset, batch_size=None, num_workers=0)
