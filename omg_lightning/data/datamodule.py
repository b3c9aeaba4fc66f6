"""The data module: plays episodes with whatever networks it was handed, keeps them, and serves them as batches."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from omg_lightning.data.buffer import EpisodeBuffer
from omg_lightning.data.dataset import Draws
from omg_lightning.data.game import GameConfig
from omg_lightning.actors.lineups import as_lineups, beside_learner, check_lineups, check_told, default_partners
from omg_lightning.actors.population import Population, Weights
from omg_lightning.data.relationships import AdaptationConfig, Relationships
from omg_lightning.games.grid.symmetry import Symmetries
from omg_lightning.data.trials import Practice, adaptation, evaluation, trial_generator
from omg_lightning.rollout import LEARNER, PAST, Played, Seats, arrange, play, scripted_lineups
from omg_lightning.types import Batch, ConfigError, Episodes, Lap, Learner


class EpisodeDataModule(LightningDataModule):
    """Online rollouts behind Lightning's data interface.

    A run has rounds. In each, `refresh` plays one episode in every environment and adds them to the one buffer that
    feeds all losses; then `steps_per_epoch` batches are drawn from it. The first `offline_rounds` rounds are played
    by scripted line-ups without search, the rest by `seats`.

    Args:
        game: which game.
        seats: who sits in each seat: `learner`, `random`, `nearest_stag` or `nearest_hare` (of stag_hunt), `cleaner` or
            `defector` (of snowdrift), `switcher` (one of the two, drawn for each episode; `switcher:5` also changes at
            step 5 of each), `past` (the learner as it was at an earlier round), `checkpoint:PATH`, or the dotted path
            of a class that follows `omg_lightning.actors.Player`. A list of such line-ups spreads them over the
            environments in turn; `callbacks.SeatSchedule` changes them while training.
        eval_seats: who sits in each seat in evaluations and replays; by default `seats`.
        num_envs: B, environments played at once.
        workers: processes that share them, at most one for each core; each takes B / workers. Where they can be
            forked, as on Linux, and on the CPU only. The run depends on this number, as on the seed.
        batch_size: episodes in a batch.
        steps_per_epoch: batches drawn in each round.
        symmetries: train on each batch as it would be on the board turned and mirrored at random.
        capacity: episodes that the buffer holds.
        offline_rounds: rounds played by `offline_lineups` before the online phase.
        offline_lineups: line-ups of the offline phase; by default k of the first of the game's scripts beside P-k of
            the second for k = 0..P (nearest_stag and nearest_hare, cleaner and defector), and all random.
        val_episodes: episodes of an evaluation during `fit`.
        eval_episodes: episodes of `validate` and of the evaluation that ends `fit`.
        partners: who sits beside the learner in `test`, each in all seats but seat 0, the learner's; by default
            `random` and, where the game has scripts, these and `switcher`.
        adaptation: settings of `test`, the adaptation protocol.
        references: file in which `python -m omg_lightning.commands.references` keeps the returns that scores of `test` are
            normalised by; by default `references.json`, if there is one.
        predict_episodes: episodes that `predict` plays.
        past_every: online rounds between two past selves that are kept, for seats called `past`.
        past_keep: how many of them are kept, the newest; one is drawn for each round, evaluations take the newest.
        seed: of games, search and sampling; `--seed_everything` on the command line.

    Raises:
        ConfigError: a number is out of range, or nobody can be found for a seat.
    """

    def __init__(
        self,
        game: GameConfig = GameConfig(preset="2h1s_4x4"),
        seats: list[str] | list[list[str]] = ["learner", "nearest_stag"],  # noqa: B006  read, never written to
        eval_seats: list[str] | list[list[str]] | None = None,
        num_envs: int = 64,
        workers: int = 1,
        batch_size: int = 64,
        steps_per_epoch: int = 16,
        symmetries: bool = False,
        capacity: int = 512,
        offline_rounds: int = 10,
        offline_lineups: list[list[str]] | None = None,
        val_episodes: int = 64,
        eval_episodes: int = 500,
        partners: Sequence[str] | None = None,
        adaptation: AdaptationConfig = AdaptationConfig(),
        references: str | None = None,
        predict_episodes: int = 4,
        past_every: int = 10,
        past_keep: int = 5,
        seed: int = 0,
    ) -> None:
        super().__init__()
        positive = ("num_envs", "batch_size", "steps_per_epoch", "val_episodes", "eval_episodes", "predict_episodes")
        for name in (*positive, "workers", "past_every", "past_keep"):
            _check(name, locals()[name], 1)
        _check("offline_rounds", offline_rounds, 0)
        _check("capacity", capacity, max(num_envs, adaptation.relationships if adaptation.networks else 0))
        if references is not None and not Path(references).is_file():
            raise ConfigError(f"data.references: no file {references}; make it with python -m omg_lightning.commands.references")
        self.game = game.build()
        self.game_options = game.describe(self.game)
        self.game_name = type(self.game).__name__
        self.observation_shape, self.max_steps = self.game.observation_shape, self.game.max_steps
        self.num_players, self.num_actions = self.game.num_players, self.game.num_actions
        self.num_goals = len(self.game.goal_names)
        self.goal_action = getattr(self.game, "goal_action", None)
        names = list(self.game.plane_names)
        self.walls = names.index("blocks") if "blocks" in names else None
        self.lineups = as_lineups(seats)
        self.eval_lineups = self.lineups if eval_seats is None else as_lineups(eval_seats)
        self.partners = default_partners(self.game) if partners is None else list(dict.fromkeys(partners))
        self.adaptation, self.references = adaptation, references
        self.num_envs, self.batch_size, self.steps_per_epoch = num_envs, batch_size, steps_per_epoch
        self.workers = workers
        self.offline_rounds = offline_rounds
        self.offline_lineups = offline_lineups or scripted_lineups(self.game)
        self.val_episodes, self.eval_episodes, self.predict_episodes = val_episodes, eval_episodes, predict_episodes
        self.seed = seed
        self.symmetries = Symmetries(self.game) if symmetries else None
        self.population = Population(past_every, past_keep)
        self.buffer = EpisodeBuffer(capacity, self.max_steps)
        self.rounds, self.env_steps = 0, 0
        if not self.partners:
            raise ConfigError("data.partners is empty: name at least one, such as random")
        beside = [beside_learner(partner, self.num_players) for partner in self.partners]
        for lineups in (self.lineups, self.eval_lineups, beside, self.offline_lineups):
            self.check(lineups)  # fails now, not when they are to play
        self._seated: list[list[str]] | None = None  # the line-ups that `_prior` is about
        self._table: Seats | None = None
        self.latest: Played | None = None  # what the last refresh played, for callbacks that show it
        self._prior: dict[str, Tensor] | None = None
        self._random: dict[str, torch.Generator] = {}

    def attach(
        self,
        learner: Callable[[], Learner],
        load: Callable[[str | Weights], Learner],
        weights: Callable[[], Weights] | None = None,
    ) -> None:
        """Takes the learner's callables: `learner` itself, with the weights that it has whenever it is called.

        Args:
            learner: gives the learner in training.
            load: gives the learner of a checkpoint's path, or the one in training with other weights.
            weights: gives a copy of the weights in training; needed where a seat is called `past`.
        """
        self.population.attach(learner, load, weights)

    @property
    def seats(self) -> list[str]:
        """Who may sit in each seat in training, for pictures."""
        return [" or ".join(dict.fromkeys(names)) for names in zip(*self.lineups, strict=True)]

    def check(self, lineups: list[list[str]]) -> None:
        """Raises ConfigError unless everybody in these line-ups can be found and can play this game."""
        check_lineups(lineups, self.game)

    def seat(self, lineups: list[list[str]]) -> None:
        """Seats other line-ups from the next round on; beliefs start anew, for others sit there."""
        if lineups != self.lineups:
            self.check(lineups)
            self.lineups = lineups

    # Playing --------------------------------------------------------------------------------------------------------

    @property
    def offline(self) -> bool:
        """Whether the next round belongs to the offline phase."""
        return self.rounds < self.offline_rounds

    @property
    def device(self) -> torch.device:
        """Where everything runs: the trainer's device."""
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    def refresh(self, max_age: int | None = None) -> tuple[Played, int]:
        """Plays one round into the buffer and drops episodes older than `max_age` rounds.

        Returns:
            What was played, and how many episodes were dropped.
        """
        offline = self.offline
        due = self.offline_lineups if offline else self.lineups
        if due != self._seated:
            self._seated, self._prior, self._table = due, None, None
        if self._table is None:
            self._table = arrange(due, self.num_envs, self.game, self.device)
        table = self._table
        learners, random = self.population.learners(table.names), self.random("rollout")
        if PAST in table.names:
            learners[PAST] = self.population.past_self(self.rounds - self.offline_rounds, random)
        played = play(self.game, table, learners, random, self._prior, workers=self.workers)
        if not offline:
            check_told(table, learners[LEARNER], played.episodes)
        self._prior, self.latest = played.prior, played
        self.buffer.add(played.episodes, self.rounds)
        dropped = 0 if max_age is None else self.buffer.drop(self.rounds - max_age + 1)
        self.rounds += 1
        self.env_steps += played.env_steps
        return played, dropped

    def evaluate(
        self, lineups: list[list[str]], episodes: int, change: Callable[[Learner], Learner] | None = None
    ) -> Draws[Episodes]:
        """Greedy episodes of `lineups`, in chunks of `num_envs`: the same starts each time, whoever plays.

        Args:
            lineups: who sits where.
            episodes: how many.
            change: makes another learner of the one in training, to see what a part of it is good for.
        """

        def learners(names: Sequence[str]) -> dict[str, Learner]:
            found = self.population.learners(names)
            if PAST in names:
                found[PAST] = self.population.newest_past_self()
            if change is not None:
                found[LEARNER] = change(found[LEARNER])
            return found

        return evaluation(self.game, lineups, episodes, self.num_envs, learners, self.seed, self.device, self.workers)

    def adapt(self, places: list[int]) -> Draws[Lap]:
        """The adaptation protocol beside the partners at these `places` of `partners`; an item is a lap."""
        names, settings = [self.partners[place] for place in places], self.adaptation

        def begin() -> tuple[Relationships, Practice | None]:
            random, learners = trial_generator(self.seed, self.device), self.population.learners
            sizes = (self.buffer.capacity, self.max_steps, self.batch_size, self.steps_per_epoch)
            practice = Practice(*sizes, self.seed, self.env_steps) if settings.networks else None
            return Relationships(self.game, names, places, settings, learners, random, self.workers), practice

        return adaptation(begin, settings.laps(self.max_steps))

    def random(self, name: str) -> torch.Generator:
        """The generator called `name`, seeded from `seed`; its state is in the checkpoint."""
        if name not in self._random:
            device = torch.device("cpu") if name == "buffer" else self.device
            offset = {"rollout": 0, "buffer": 1}[name]
            self._random[name] = torch.Generator(device).manual_seed(2 * self.seed + offset)
        return self._random[name]

    # Lightning ------------------------------------------------------------------------------------------------------

    def train_dataloader(self) -> DataLoader:
        """Batches from the buffer. The loader has no workers: they would hold stale copies of it."""

        def draw(index: int) -> Batch:
            random = self.random("buffer")
            episodes = self.buffer.sample(self.batch_size, random)
            if self.symmetries is not None:
                index = int(torch.randint(len(self.symmetries), (1,), generator=random))
                episodes = self.symmetries.apply(episodes, index, self.population.goals_are_places)
            return Batch(episodes, self.env_steps, self.rounds <= self.offline_rounds)

        return _loader(Draws(draw, self.steps_per_epoch))

    def val_dataloader(self) -> DataLoader:
        """Evaluation beside the training partners; fewer episodes while fitting."""
        fitting = self.trainer is not None and self.trainer.state.fn == "fit"
        return _loader(self.evaluate(self.eval_lineups, self.val_episodes if fitting else self.eval_episodes))

    def test_dataloader(self) -> DataLoader:
        """The adaptation protocol: all partners at once or, where networks learn, one after the other."""
        self.adaptation.check(self.max_steps)
        places = range(len(self.partners))
        parts = [self.adapt([k]) for k in places] if self.adaptation.networks else [self.adapt(list(places))]
        each = len(parts[0])
        return _loader(Draws(lambda index: parts[index // each].draw(index % each), each * len(parts)))

    def predict_dataloader(self) -> DataLoader:
        """Episodes for replays."""
        return _loader(self.evaluate(self.eval_lineups, self.predict_episodes))

    def state_dict(self) -> dict[str, Any]:
        """Buffer, counters, beliefs carried over and generators: with them a resumed run goes on bit by bit."""
        return {
            "buffer": self.buffer.state_dict(),
            "rounds": self.rounds,
            "env_steps": self.env_steps,
            "prior": self._prior,
            "past": self.population.past,
            "seated": self._seated,
            "generators": {name: generator.get_state() for name, generator in self._random.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave, to go on with a `fit`; an evaluation does not need it.

        Raises:
            ConfigError: the sizes of buffer or batch are others than in the checkpoint.
        """
        self.env_steps, self.population.past = state["env_steps"], state["past"]
        if self.trainer is not None and self.trainer.state.fn != "fit":
            return
        for rows in (state["prior"] or {}).values():
            if len(rows) != self.num_envs:
                raise ConfigError(
                    f"the checkpoint was trained with data.num_envs {len(rows)}, this run has {self.num_envs}: "
                    "set it as it was"
                )
        self.buffer.load_state_dict(state["buffer"])
        self.rounds = state["rounds"]
        for name, saved in state["generators"].items():
            self.random(name).set_state(saved.cpu())
        self._prior, self._seated = state["prior"], state["seated"]  # who goes on playing keeps the beliefs about it


def _loader(dataset: Draws) -> DataLoader:
    return DataLoader(dataset, batch_size=None, num_workers=0)


def _check(name: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"data.{name} is {value}: it must be at least {least}")
