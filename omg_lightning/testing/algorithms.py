"""The contract of a learning algorithm, as a check for your own algorithm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor

from omg_lightning.actors import Actor, Choice, Scene
from omg_lightning.algorithms import Algorithm, OnPolicy
from omg_lightning.encoders import ModelSpec
from omg_lightning.envs.base import Step, VectorEnv
from omg_lightning.games import Game
from omg_lightning.games.checks import whole
from omg_lightning.opponents import Direct, OpponentModel, Targets
from omg_lightning.rewards import GameReward
from omg_lightning.samples import TrainingBatch
from omg_lightning.spec import GameSpec
from omg_lightning.testing.episodes import Lesson, lessons
from omg_lightning.testing.learning import Learning
from omg_lightning.testing.parts import (
    HIDDEN,
    Walk,
    check_finite,
    check_names,
    check_rows,
    check_weights,
    difference,
    environment_of,
    made,
    pure,
    report_of,
    seeded,
    tensors,
)
from omg_lightning.testing.report import Report, describe
from omg_lightning.training.checks import check_parts
from omg_lightning.types import Episodes, Record, View, take

_STEPS = 3  # steps at which the actor is checked
_CHOICE = "a Choice for any memory and step"
_TAKEN = (*Episodes._fields, "script_best")  # names that records must not have


def check_algorithm(
    algorithm: Callable[[ModelSpec, int], Algorithm],
    game: Game | VectorEnv,
    opponent: Callable[[ModelSpec], OpponentModel] | OpponentModel = Direct,
    batch_size: int = 6,
    seed: int = 0,
) -> None:
    """Check that `algorithm` keeps the contract of `omg_lightning.algorithms.Algorithm`.

    The check plays some episodes and takes a few training steps. Its time grows with `max_steps`, so use a small game;
    and with the search of an algorithm that searches, so give it few simulations by `functools.partial`. Torch's
    global random state is not changed.

    Args:
        algorithm: a class or a `functools.partial` of one, as `--model.algorithm` takes it.
        game: the game of the check.
        opponent: the opponent model; a class, a `functools.partial` of one, or an instance.
        batch_size: B, number of parallel environments, at least 2.
        seed: of all randomness.

    Raises:
        CheckError: the algorithm breaks the contract. One sentence says what was got, what was expected, and the cure.
        ConfigError: the algorithm or the opponent model rejects this game with its own message; or `batch_size` is
            less than 2.
    """
    batch_size = whole("batch_size", batch_size, 2)
    report, env = report_of("check_algorithm", algorithm, Algorithm), environment_of("check_algorithm", game)
    got, cure = "an instance", f"pass the class, {report.name}, or functools.partial of it"
    fits = not isinstance(algorithm, Algorithm)
    report.require(fits, "__init__", got, "a class or a functools.partial, for any opponent model", cure)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        spec = ModelSpec(GameSpec.of(env), hidden=HIDDEN)
        model = _model(opponent, spec)
        part, fresh = (made(report, algorithm, Algorithm, (spec, model.size), "spec, goal_size") for _ in range(2))
        _check_attributes(report, part, model, env)
        acting = _Acting(report, part, model, env, batch_size, seed)
        with torch.inference_mode():
            acting.all()
        check_names(report, part, fresh.state_dict())
        _check_learning(report, part, fresh, model, env, batch_size, seed)


def _model(opponent: Callable[[ModelSpec], OpponentModel] | OpponentModel, spec: ModelSpec) -> OpponentModel:
    """Return the opponent model."""
    report = report_of("check_algorithm", opponent, OpponentModel)
    if isinstance(opponent, OpponentModel):
        return deepcopy(opponent)
    found: OpponentModel = made(report, opponent, OpponentModel, (spec,), "spec")
    return found


def _check_attributes(report: Report, algorithm: Algorithm, model: OpponentModel, env: VectorEnv) -> None:
    """Check sizes, weights and flags, and that the game can be played."""
    size, cure = getattr(algorithm, "goal_size", None), "call super().__init__(spec, goal_size) first"
    report.require(size == model.size, "goal_size", size, f"the opponent model's, {model.size}", cure)
    report.require(
        isinstance(algorithm.searches, bool),
        "searches",
        algorithm.searches,
        "True or False",
        "set searches to one of them",
    )
    check_parts(algorithm.spec.game, algorithm, GameReward())
    check_weights(report, algorithm.loss_weights)
    double = [name for name in algorithm.loss_weights if name in model.loss_weights]
    expected, cure = f"names that {type(model).__name__} does not use", "give the loss another name"
    report.require(not double, "loss_weights", double, expected, cure)
    discount = algorithm.discount
    right = isinstance(discount, int | float) and 0 <= discount <= 1
    report.require(right, "discount", repr(discount), "a number from 0 to 1", "set discount to such a number")
    plan = algorithm.on_policy
    right = plan is None or (isinstance(plan, OnPolicy) and min(plan) >= 1)
    cure = "set it to omg_lightning.algorithms.OnPolicy(epochs, minibatches), or to None"
    report.require(right, "on_policy", repr(plan), "None, or two numbers of at least 1", cure)


class _Acting:
    """Checks the actor at the first steps of episodes.

    Args:
        report: raises the failures.
        algorithm: the algorithm to check.
        model: the opponent model.
        env: the environment.
        rows: B.
        seed: of the episodes.
    """

    def __init__(
        self, report: Report, algorithm: Algorithm, model: OpponentModel, env: VectorEnv, rows: int, seed: int
    ) -> None:
        self.report, self.algorithm, self.model, self.env = report, algorithm, model, env
        self.rows, self.seed = rows, seed
        self.filled: set[str] = set()

    def all(self) -> None:
        """Play, and check each step."""
        self.actor = self.make()
        walk, report, actor = Walk(self.env, self.rows, self.seed), self.report, self.actor
        seats = self.env.num_players
        row, seat = torch.arange(self.rows)[:, None] % (seats + 1), torch.arange(seats)
        mine = (row == seat) | (row == seats)  # one seat in each row, or all
        prior = report.call("actor.prior", actor.prior, self.rows, expected="a prior for any batch size")
        for held in (torch.zeros_like(mine), mine):
            memory = self.start(held, prior)
            self.choice(self.act(memory, walk.view), held, walk.view)
        for _ in range(min(_STEPS, self.env.max_steps)):
            view = walk.view
            memory = self.with_goals(memory, prior)
            self.look(memory, mine, view)
            before = walk.view
            actions, after = walk.step()
            self.cut(memory, before, actions, after)
            memory = self.observe(memory, before, actions, after)
            going = walk.drop()
            memory, mine, prior = actor.keep(memory, going), mine[going], take(prior, going)
            if len(going) == 0:
                break
        never = [name for name in actor.records if name not in self.filled]
        got, cure = f"no values but 0 for {never}", "return them in Decision.extras, or as extras of observe"
        report.require(not never, "actor.records", got, "values of every record", cure)

    def make(self) -> Actor:
        """Check `actor` and its attributes, and return the actor."""
        report, model = self.report, self.model
        expected = "an actor for any opponent model"
        actor: Actor = report.call("actor", self.algorithm.actor, model, expected=expected)
        cure = "return one of a subclass of omg_lightning.actors.Actor"
        report.require(isinstance(actor, Actor), "actor", type(actor).__name__, "an Actor", cure)
        cure = "derive it from omg_lightning.actors.ModelActor, or return the opponent model's value"
        for member, wanted in (("goal_size", model.size), ("needs_true_goal", model.needs_true_goal)):
            value, expected = getattr(actor, member), f"the opponent model's, {wanted}"
            report.require(value == wanted, f"actor.{member}", value, expected, cure)
        records = actor.records
        right = isinstance(records, Mapping) and all(isinstance(each, Record) for each in records.values())
        cure = "map names to omg_lightning.types.Record(shape, dtype)"
        report.require(right, "actor.records", repr(records), "records by name", cure)
        used = [name for name in records if name in _TAKEN]
        got, cure = f"the name {used}", "give the record another name"
        report.require(not used, "actor.records", got, "names that Episodes does not use", cure)
        for name, record in records.items():
            right = not record.per_action or record.shape[-1:] == (self.env.num_actions,)
            expected, cure = f"{self.env.num_actions}, the actions", "set per_action to False"
            report.require(right, f"actor.records[{name!r}]", f"shape {record.shape}", expected, cure)
        return actor

    def start(self, mine: Tensor, prior: Tensor | None) -> Any:
        """Check `start`, and return the memory."""

        def start(held: Tensor, before: Tensor | None) -> Any:
            return self.actor.start(self.env, held, before, seeded(0))

        return pure(self.report, "actor.start", start, mine, prior, expected="a memory for any seats and prior")

    def with_goals(self, memory: Any, prior: Tensor | None) -> Any:
        """Return the memory with true goals, if the opponent model needs them."""
        if not self.actor.needs_true_goal:
            return memory
        goal = torch.zeros(self.env_rows(memory), self.env.num_players, dtype=torch.int64)
        expected = "a memory with the scripts' goals"
        return self.report.call(
            "actor.with_true_goal", self.actor.with_true_goal, memory, prior, goal, expected=expected
        )

    def env_rows(self, memory: Any) -> int:
        """Return L."""
        return len(next(iter(tensors(memory).values())))

    def act(self, memory: Any, view: View, seed: int = 0, greedy: bool = True) -> Choice:
        """Act once, with a new generator."""
        scene = Scene(self.env, view, seeded(seed), greedy)
        found: Choice = self.report.call("actor.act", self.actor.act, memory, scene, expected=_CHOICE)
        return found

    def look(self, memory: Any, mine: Tensor, view: View) -> None:
        """Check `act` at one step, with sampled and with greedy actions."""
        report = self.report
        for greedy in (False, True):
            act = partial(self.act, greedy=greedy)
            found = pure(report, "actor.act", act, memory, view, expected=_CHOICE)
            self.choice(found, mine, view)
        if self.algorithm.searches:
            return  # a search samples co-players' actions, also in an evaluation
        other = self.act(memory, view, seed=1)
        same = torch.equal(other.action[found.mine], found.action[found.mine])
        got, cure = "another greedy action for another generator", "take the most probable action if scene.greedy"
        report.require(same, "actor.act", got, "the same action, as greedy play draws nothing", cure)

        def rows(index: Tensor, seen: View) -> list[Tensor]:
            choice = self.act(self.actor.keep(memory, index), seen)
            return [choice.mine, torch.where(choice.mine, choice.action, 0)]

        wanted = [found.mine, torch.where(found.mine, found.action, 0)]
        check_rows(report, "actor.act", rows, (torch.arange(len(mine)), view), wanted)

    def choice(self, found: Choice, mine: Tensor, view: View) -> None:
        """Check the result of `act`."""
        report, member, shape = self.report, "actor.act", view.active.shape
        cure = "return omg_lightning.actors.Choice"
        report.require(isinstance(found, Choice), member, type(found).__name__, "a Choice", cure)
        report.tensor(member, found.mine, shape, "[L, P]", (torch.bool,), "mine")
        report.tensor(member, found.action, shape, "[L, P]", (torch.int64,), "action")
        cure = "return `mine & view.active`, with the mine that start got"
        wrong = found.mine != (mine & view.active)
        report.nowhere(wrong, member, "for a seat mine", "True for own seats that still play", cure, found.mine)
        beyond = found.mine & ((found.action < 0) | (found.action >= self.env.num_actions))
        expected = f"0 to {self.env.num_actions - 1}"
        report.nowhere(beyond, member, "the action", expected, "return the index of an action", found.action)
        known = found.action.clamp(0, self.env.num_actions - 1)
        illegal = found.mine & ~view.legal.gather(-1, known[..., None])[..., 0]
        cure = "mask the logits by omg_lightning.losses.masked_logits(logits, legal)"
        report.nowhere(illegal, member, "the illegal action", "a legal one", cure, found.action)
        if self.actor.goal_size or found.goal is not None:
            size = self.actor.goal_size
            report.tensor(member, found.goal, (*shape, size), "[L, P, D]", (torch.float32,), "goal")
        self.extras(member, found.extras, found.mine)
        for name, value in found.notes.items():
            right = isinstance(value, int | float) and value == value and "/" in name
            got, cure = f"the note {name!r} as {value!r}", "return `{'policy/entropy': float(value)}`"
            report.require(right, member, got, "a finite number under a name such as policy/entropy", cure)

    def extras(self, member: str, extras: Mapping[str, Tensor], mine: Tensor) -> None:
        """Check the values to record."""
        report, records = self.report, self.actor.records
        for name, value in extras.items():
            cure = f"name {name} in the actor's records"
            report.require(name in records, member, f"extras {name!r}", f"names of {list(records)}", cure)
            record = records[name]
            shape = (*mine.shape, *record.shape)
            report.tensor(member, value, shape, "[L, P, ...]", (record.dtype,), f"extras {name!r}")
            check_finite(report, member, value[mine].float(), f"extras {name!r}")
            if bool(value[mine].any()) or not record.dtype.is_floating_point:  # an integer may be 0
                self.filled.add(name)

    def observe(self, memory: Any, view: View, actions: Tensor, after: Step) -> Any:
        """Check `observe`, and return the next memory."""
        report, member = self.report, "actor.observe"

        def observe(known: Any, seen: View, played: Tensor, came: Step) -> Any:
            return self.actor.observe(known, Scene(self.env, seen, seeded(0), False), played, came)

        expected = "a memory and extras for any step"
        found = pure(report, member, observe, memory, view, actions, after, expected=expected)
        pair = isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], Mapping)
        report.require(pair, member, describe(found), "the pair (memory, extras)", "return both; {} for no extras")
        kept = {name: value.shape for name, value in tensors(found[0]).items()}
        same = kept == {name: value.shape for name, value in tensors(memory).items()}
        got, cure = "a memory of other fields or shapes", "keep those of start"
        report.require(same, member, got, "the same fields and shapes as before", cure)
        self.extras(member, found[1], view.active)
        return found[0]

    def cut(self, memory: Any, view: View, actions: Tensor, after: Step) -> None:
        """Check `observe` with a time limit that cuts all seats off, which this game may never do."""
        none = torch.zeros_like(after.active)
        self.observe(memory, view, actions, after._replace(active=none, terminated=none, truncated=view.active))


def _check_learning(
    report: Report,
    algorithm: Algorithm,
    fresh: Algorithm,
    model: OpponentModel,
    env: VectorEnv,
    rows: int,
    seed: int,
) -> None:
    """Check the losses of the algorithm on whole episodes."""
    found = lessons(report, env, algorithm.actor(model), rows, seed)
    learner = found[1].episodes.learner
    for name, values in found[1].episodes.extras.items():
        check_finite(report, "actor.records", values[learner].float(), f"the record {name!r}")

    state = deepcopy(model.state_dict())

    def targets(given: TrainingBatch) -> Targets:
        found = model.targets(given)
        model.load_state_dict(state)  # the episodes may have changed it, such as its codes
        return found

    def batch(part: Algorithm, episodes: Episodes, offline: bool) -> TrainingBatch:
        given = (episodes, 100, offline, 0, env.max_steps, seeded(seed), part.prepare, targets)
        return TrainingBatch(*given, episodes.reward, None if offline else part.values(), model.as_seen)

    def acting(part: Algorithm) -> list[Any]:
        actor, walk = part.actor(model), Walk(env, rows, seed)
        everywhere = torch.ones(rows, env.num_players, dtype=torch.bool)
        memory = actor.start(env, everywhere, actor.prior(rows), seeded(0))
        choice = actor.act(memory, Scene(env, walk.view, seeded(0), True))
        return [choice.action, dict(choice.extras)]

    _check_reads(report, algorithm, batch(algorithm, found[1].episodes, False), model.size)
    learning = Learning(report, algorithm, fresh, algorithm.spec.game, found, batch, model.needs_true_goal)
    learning.all(acting, "the actor")
    _check_reward(report, algorithm, batch, found[1])


def _check_reads(report: Report, algorithm: Algorithm, batch: TrainingBatch, size: int) -> None:
    """Check `prepare` and `values`."""
    views = batch.samples.observation
    read = pure(report, "prepare", algorithm.prepare, views, expected="views [M, *shape]")
    leads = isinstance(read, Tensor) and read.dim() > 0 and len(read) == len(views)
    report.require(leads, "prepare", describe(read), "a tensor with leading rows", "keep one row for each view")
    values = algorithm.values()
    if values is None:
        return
    count, seats = len(read), batch.episodes.active.shape[-1]
    goals = torch.randn(count, 2, seats - 1, size, generator=seeded(0))
    seat = batch.episodes.active.nonzero()[:, 2]
    expected = "values [m, K] of views under goals [m, K, P-1, D]"
    found = pure(report, "values", values, read, batch.samples.time, goals, seat, expected=expected)
    report.tensor("values", found, (count, 2), "[m, K]", (torch.float32,))
    check_finite(report, "values", found.detach(), "a value")


def _check_reward(
    report: Report, algorithm: Algorithm, batch: Callable[[Any, Episodes, bool], TrainingBatch], lesson: Lesson
) -> None:
    """Check that the losses use `batch.reward`, which the user chooses, not the game's own reward."""
    episodes = lesson.episodes
    targets = batch(algorithm, episodes, False).targets  # those of an opponent model may depend on rewards
    game, other = (batch(algorithm, episodes._replace(reward=episodes.reward + change), False) for change in (0.0, 1.0))
    for each in (game, other):
        each.find_targets, each.reward = lambda _: targets, episodes.reward
    losses = (
        report.call("losses", deepcopy(algorithm).losses, each, expected="losses of an online batch")
        for each in (game, other)
    )
    got, cure = "other losses for another episodes.reward", "read batch.reward, so that --model.reward counts"
    report.require(difference(*losses) is None, "losses", got, "losses that use only batch.reward", cure)
