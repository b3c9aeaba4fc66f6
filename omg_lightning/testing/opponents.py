"""The contract of an opponent model, as a check for your own model."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from omg_lightning.actors import Scene
from omg_lightning.actors.modelled import Decision, Memory, ModelActor
from omg_lightning.algorithms.policy import PolicyModule
from omg_lightning.encoders import ModelSpec
from omg_lightning.envs.base import VectorEnv
from omg_lightning.events import watched
from omg_lightning.games import Game
from omg_lightning.games.checks import whole
from omg_lightning.losses import masked_logits
from omg_lightning.opponents import BeliefView, OpponentModel, Targets
from omg_lightning.samples import TrainingBatch
from omg_lightning.spec import GameSpec
from omg_lightning.testing.episodes import Lesson, lessons, other_true_goals, spoiled
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
from omg_lightning.types import NO_GOAL, Episodes, Estimate, View, take

_STEPS = 3  # steps at which acting is checked
_TREES = 3  # goals that are sampled at once
_ESTIMATE = "an Estimate for any memory and view"
_FLOAT = (torch.float32,)


def check_opponent(
    model: Callable[[ModelSpec], OpponentModel] | OpponentModel,
    game: Game | VectorEnv,
    batch_size: int = 6,
    seed: int = 0,
) -> None:
    """Check that `model` keeps the contract of `omg_lightning.opponents.OpponentModel`.

    The check plays some episodes with random actions and scripted players, and takes a few training steps. Its time
    grows with `max_steps`, so use a small game. Torch's global random state is not changed.

    Args:
        model: a class or a `functools.partial` of one, as `--model.opponent` takes it; or an instance, which is not
            changed.
        game: the game of the check; for an instance it must be its own game.
        batch_size: B, number of parallel environments, at least 2.
        seed: of all randomness.

    Raises:
        CheckError: the model breaks the contract. One sentence says what was got, what was expected, and the cure.
        ConfigError: the model rejects this game with its own message; or `batch_size` is less than 2.
    """
    batch_size = whole("batch_size", batch_size, 2)
    report, env = report_of("check_opponent", model, OpponentModel), environment_of("check_opponent", game)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(model, OpponentModel):
            part, fresh = deepcopy(model), deepcopy(model)
        else:
            spec = ModelSpec(GameSpec.of(env), hidden=HIDDEN)
            part, fresh = (made(report, model, OpponentModel, (spec,), "spec") for _ in range(2))
        _check_attributes(report, part, env)
        with torch.inference_mode():
            _Acting(report, part, env, batch_size, seed).all()
        check_names(report, part, fresh.state_dict())
        _check_learning(report, part, fresh, env, batch_size, seed)


def _check_attributes(report: Report, model: OpponentModel, env: VectorEnv) -> None:
    """Check sizes and flags."""
    spec, size = getattr(model, "spec", None), getattr(model, "size", None)
    cure = "call super().__init__(spec, size) first"
    report.require(
        isinstance(spec, ModelSpec), "__init__", "no attribute spec", "the attributes of the base class", cure
    )
    assert spec is not None
    own, shape = spec.game, env.observation_space.shape
    sizes = (own.num_players, own.num_actions, own.observation_space.shape)
    same, cure = sizes == (env.num_players, env.num_actions, shape), "pass the game of this model"
    report.require(same, "spec", f"a model of {own.name}", f"one of {env.name}", cure)
    whole_size = isinstance(size, int) and not isinstance(size, bool) and size >= 0
    report.require(whole_size, "size", repr(size), "the length of a goal vector", "pass it to super().__init__")
    for member in ("needs_true_goal", "goals_change", "goals_are_cells"):
        value = getattr(model, member)
        report.require(isinstance(value, bool), member, repr(value), "True or False", f"set {member} to one of them")
    check_weights(report, model.loss_weights)
    moves = type(model).next_goal is not OpponentModel.next_goal
    got, cure = (
        "False beside a next_goal of its own",
        "set goals_change to True, since a search calls next_goal only then",
    )
    decided = "goals_change" in vars(model)  # by the constructor
    report.require(model.goals_change or not moves or decided, "goals_change", got, "True", cure)
    if model.goals_are_cells:
        cells = None if env.layout is None else env.layout.cells
        expected = "goals of a game on a grid" if cells is None else f"size {cells + 1}, the cells and one for none"
        cure = "set goals_are_cells to False, or size to that"
        report.require(cells is not None and size == cells + 1, "goals_are_cells", f"size {size}", expected, cure)


class _Acting:
    """Checks the methods for acting at the first steps of episodes.

    Args:
        report: raises the failures.
        model: the model to check.
        env: the environment.
        rows: B.
        seed: of the episodes.
    """

    def __init__(self, report: Report, model: OpponentModel, env: VectorEnv, rows: int, seed: int) -> None:
        self.report, self.model, self.env, self.rows, self.seed = report, model, env, rows, seed
        self.prepare = PolicyModule(model.spec, model.size).prepare

    def all(self) -> None:
        """Play, and check each step."""
        walk, model = Walk(self.env, self.rows, self.seed), self.model
        memory = self.start(self.prior())
        for time in range(min(_STEPS, self.env.max_steps)):
            view = walk.view
            estimate = self.estimate("infer", memory, view)
            self.estimate("uninformed", memory, view)
            self.seen(estimate)
            self.predict(view, estimate)
            actions, after = walk.step()
            before, memory = memory, self.update(memory, view, actions, after.achieved)
            if time < 2 and self.env.num_players > 1:
                self.departed(before, view)
            if model.goals_change:
                self.next_goal(estimate, walk.view, after.achieved)
            going = walk.drop()
            if len(going) == 0:
                return
            memory = take(memory, going)

    def prior(self) -> Tensor:
        """Check `prior`, and return it."""
        report, seats = self.report, self.env.num_players
        found = pure(report, "prior", lambda: self.model.prior(self.rows), expected="a prior for any batch size")
        leads = isinstance(found, Tensor) and found.is_floating_point() and found.shape[:2] == (self.rows, seats)
        report.require(
            leads, "prior", describe(found), f"float [B, P, ...] = {[self.rows, seats, '...']}", "return such a tensor"
        )
        check_finite(report, "prior", found)
        return found

    def start(self, prior: Tensor) -> Any:
        """Check `start`, and return the memory; true goals may change it only if `needs_true_goal`."""
        report, model = self.report, self.model
        no_goals = torch.full(prior.shape[:2], NO_GOAL)
        expected = "a memory for any prior, [B, P, ...]"
        memory = pure(report, "start", model.start, prior, no_goals, expected=expected)
        self.memory("start", memory)
        declared = max(len(self.env.goal_names), 1)
        other = torch.arange(no_goals.numel()).view_as(no_goals) % declared
        knows = pure(report, "start", model.start, prior, other, expected="a memory for any true goals")
        cure = "do not read true_goal; only an upper bound may, with needs_true_goal set"
        blind = model.needs_true_goal or difference(memory, knows) is None
        report.require(blind, "start", "another memory for other true goals", "the same memory", cure)
        check_rows(report, "start", model.start, (prior, other), knows)
        return knows

    def memory(self, member: str, memory: Any, like: Any = None) -> None:
        """Check that a memory is a value with the environments as its leading dimension."""
        report = self.report
        cure = "return a tensor, or a typing.NamedTuple of tensors, None, or such NamedTuples"
        report.require(_is_record(memory), member, f"a memory of type {describe(memory)}", "a record of tensors", cure)
        found, old = tensors(memory), tensors(like)
        rows = self.rows if like is None else len(next(iter(old.values()), torch.zeros(self.rows)))
        for name, field in found.items():
            leads = field.dim() > 0 and len(field) == rows
            got, cure = f"a memory{name} of shape {list(field.shape)}", "make the environments the leading dimension"
            report.require(leads, member, got, f"{rows} rows, the environments", cure)
        if like is not None:
            kept = {name: (x.shape, x.dtype) for name, x in found.items()}
            before = {name: (x.shape, x.dtype) for name, x in old.items()}
            got, expected = f"a memory of {_shapes(found)}", f"{_shapes(old)}, as before"
            report.require(kept == before, member, got, expected, "keep names, shapes and dtypes")

    def estimate(self, member: str, memory: Any, view: View) -> Estimate:
        """Check `infer` or `uninformed`, and return the result."""
        report, ask = self.report, getattr(self.model, member)
        shape = (*view.active.shape, self.model.size)
        found: Estimate = pure(report, member, ask, memory, view, expected=_ESTIMATE)
        cure = "return omg_lightning.types.Estimate(point, draw)"
        report.require(isinstance(found, Estimate), member, type(found).__name__, "an Estimate", cure)
        report.tensor(member, found.point, shape, "[L, P, D]", _FLOAT, "point")
        check_finite(report, member, found.point, "a goal")
        check_rows(report, member, lambda *args: ask(*args).point, (memory, view), found.point)
        for trees in (1, _TREES):
            expected = "goals [L, K, P, D] for any K and generator"
            draws = pure(report, f"{member}.draw", lambda k=trees: found.draw(k, seeded(0)), expected=expected)
            report.tensor(f"{member}.draw", draws, (shape[0], trees, *shape[1:]), "[L, K, P, D]", _FLOAT)
            check_finite(report, f"{member}.draw", draws, "a goal")
        return found

    def predict(self, view: View, estimate: Estimate) -> None:
        """Check `condition`, `predict` and `forecast`, for sampled goals and for goals of seats that have left."""
        report, model = self.report, self.model
        rows, seats = view.active.shape
        observation, legal = view.observation.flatten(0, 1), view.legal.flatten(0, 1)
        time, seat = view.time.repeat_interleave(seats), torch.arange(seats).repeat(rows)
        drawn = estimate.draw(1, seeded(0))[:, 0].flatten(0, 1)
        for goal in (drawn, torch.zeros_like(drawn)):
            expected = "a tensor [M, ...] for any goals, also 0 for seats that have left"
            condition = pure(report, "condition", model.condition, goal, seat, expected=expected)
            leads = isinstance(condition, Tensor) and condition.dim() > 0 and len(condition) == len(goal)
            report.require(leads, "condition", describe(condition), "leading rows", "keep one row for each goal")
            check_finite(report, "condition", condition, f"for a goal{' of 0' * (goal is not drawn)} a value")
            check_rows(report, "condition", model.condition, (goal, seat), condition)
            args, expected = (observation, time, condition), "logits [M, A] for any views, times and conditions"
            logits = pure(report, "predict", model.predict, *args, expected=expected)
            report.tensor("predict", logits, legal.shape, "[M, A]", _FLOAT)
            check_finite(report, "predict", logits, "a logit")
            check_rows(report, "predict", model.predict, args, logits)
            read = self.prepare(observation.float())
            again = report.call("predict", model.predict, read, time, condition, expected="views as prepared")
            cure = "pass views to the encoder unchanged, since it reads all forms"
            same = difference(again, logits, exact=False) is None
            report.require(same, "predict", "other logits for prepared views", "those of the views", cure)
        condition = model.condition(drawn, seat)
        own = masked_logits(model.predict(observation, time, condition), legal).log_softmax(-1)
        found = self.forecast(observation, time, seat, legal, drawn)
        name = difference(found.log_softmax(-1), own, exact=False)
        got, cure = "another forecast than predict for a sampled goal", "use the same policies in both"
        report.require(name is None, "forecast", got, "the policy under that goal", cure)
        self.forecast(observation, time, seat, legal, estimate.point.flatten(0, 1))

    def forecast(self, observation: Tensor, time: Tensor, seat: Tensor, legal: Tensor, goal: Tensor) -> Tensor:
        """Check `forecast`, and return it."""
        report, args = self.report, (observation, time, seat, legal, goal)
        expected = "log probabilities [m, A] for a recorded Estimate.point"
        found: Tensor = pure(report, "forecast", self.model.forecast, *args, expected=expected)
        report.tensor("forecast", found, legal.shape, "[m, A]", _FLOAT)
        chance = found.softmax(-1)
        check_finite(report, "forecast", chance, "a probability")
        got, cure = "for an illegal action the probability", "use omg_lightning.losses.masked_logits"
        illegal = (chance > 1e-6) & ~legal
        report.nowhere(illegal, "forecast", got, "0", cure, chance, ["row", "action"])
        check_rows(report, "forecast", self.model.forecast, args, found)
        return found

    def departed(self, memory: Any, view: View) -> None:
        """Check that a seat's views and actions after it has left do not change the goals of other seats."""
        report, model, noop = self.report, self.model, self.env.noop
        active = view.active.clone()
        active[::2, -1] = False
        gone = view.active & ~active
        alone = torch.zeros_like(view.legal[:1, :1])
        alone[..., noop] = True
        left = view._replace(active=active, legal=torch.where(gone[..., None], alone, view.legal))
        shown = gone.view(*gone.shape, *[1] * (view.observation.dim() - 2))
        strange = view.observation.roll((1, 1), (0, 1))  # the view of another seat in another row
        other = left._replace(observation=torch.where(shown, strange, view.observation))
        chosen = torch.multinomial(view.legal.float().flatten(0, 1), 1, generator=seeded(0)).view(gone.shape)
        actions = torch.where(gone, noop, chosen)
        wild = torch.where(gone, (noop + 1) % self.env.num_actions, chosen)
        nothing = torch.full_like(actions, NO_GOAL)
        expected = "steps at which some seats have left"
        update = partial(report.call, "update", model.update, expected=expected)
        after = update(memory, left, actions, nothing), update(memory, other, wild, nothing)
        for member, (one, two) in {"infer": (memory, memory), "update": after}.items():
            points = [
                report.call("infer", model.infer, each, seen, expected=expected).point
                for each, seen in ((one, left), (two, other))
            ]
            check_finite(report, member, points[0], "after a seat has left a goal")
            same = difference(points[0][active], points[1][active], exact=False) is None
            got = "other goals of active seats for another view or action of a seat that has left"
            cure = "use torch.where(view.active[..., None], x, 0.0) before you combine seats"
            report.require(same, member, got, "the same goals", cure)

    def update(self, memory: Any, view: View, actions: Tensor, achieved: Tensor) -> Any:
        """Check `update`, and return the next memory."""
        report, args = self.report, (memory, view, actions, achieved)
        found = pure(report, "update", self.model.update, *args, expected="a memory for any view and actions")
        self.memory("update", found, like=memory)
        check_rows(report, "update", self.model.update, args, found)
        return found

    def seen(self, estimate: Estimate) -> None:
        """Check `as_seen`."""
        report, goal = self.report, estimate.point
        for seat in range(goal.shape[1]):
            args, expected = (goal, torch.full((len(goal),), seat)), "goals [M, P, D] for any egos"
            found = pure(report, "as_seen", self.model.as_seen, *args, expected=expected)
            report.tensor("as_seen", found, goal.shape, "[M, P, D]", _FLOAT)
            check_rows(report, "as_seen", self.model.as_seen, args, found)

    def next_goal(self, estimate: Estimate, view: View, achieved: Tensor) -> None:
        """Check that `next_goal` keeps the shape of the goals."""
        report, goal = self.report, estimate.draw(1, seeded(0))[:, 0]

        def ask(before: Tensor, seen: View, realised: Tensor) -> Tensor:
            return self.model.next_goal(before, seen, realised, seeded(0))

        expected = "goals [L, P, D] for any goals, view and generator"
        found = pure(report, "next_goal", ask, goal, view, achieved, expected=expected)
        report.tensor("next_goal", found, goal.shape, "[L, P, D]", _FLOAT)
        check_finite(report, "next_goal", found, "a goal")


@dataclass(frozen=True)
class _Watcher(ModelActor):
    """Plays random legal actions, and calls an opponent model to infer goals."""

    def decide(self, memory: Memory, scene: Scene, estimate: Estimate, rows: Tensor, ego: Tensor) -> Decision:
        """Sample the actions of M egos."""
        legal = scene.view.legal[rows, ego].float()
        return Decision(torch.multinomial(legal, 1, generator=scene.generator)[:, 0], {})


def _check_learning(
    report: Report, model: OpponentModel, fresh: OpponentModel, env: VectorEnv, rows: int, seed: int
) -> None:
    """Check the model on whole episodes."""
    policy = PolicyModule(model.spec, model.size)
    found = lessons(report, env, _Watcher(model), rows, seed)
    view = Walk(env, rows, seed).view

    def batch(part: OpponentModel, episodes: Episodes, offline: bool) -> TrainingBatch:
        values = None if offline else policy.goal_values
        given = (episodes, 100, offline, 0, env.max_steps, seeded(seed), policy.prepare, part.targets)
        return TrainingBatch(*given, episodes.reward, values, part.as_seen)

    def acting(part: OpponentModel) -> list[Tensor]:
        goal = part.infer(part.start(part.prior(rows), torch.zeros(rows, env.num_players).long()), view).point
        seat = torch.arange(env.num_players).repeat(rows)
        condition = part.condition(goal.flatten(0, 1), seat)
        time = view.time.repeat_interleave(env.num_players)
        return [goal, part.predict(view.observation.flatten(0, 1), time, condition)]

    for lesson in found:
        _check_targets(report, batch(deepcopy(model), lesson.episodes, lesson.offline), lesson)
    for lesson in found[:2]:
        _check_carry(report, model, lesson.episodes)
    sees = model.needs_true_goal
    learning = Learning(report, model, fresh, model.spec.game, found, batch, sees)
    learning.all(acting, "infer, predict")
    _check_measures(report, model, found[1].episodes)


def _check_targets(report: Report, batch: TrainingBatch, lesson: Lesson) -> None:
    """Check shapes and values of `targets`."""
    episodes = lesson.episodes
    found: Targets = report.call("targets", lambda: batch.targets, expected=f"targets of {lesson.name}")
    cure = "return omg_lightning.opponents.Targets(inferred, label, known)"
    report.require(isinstance(found, Targets), "targets", type(found).__name__, "Targets", cure)
    shape = (*episodes.active.shape, episodes.goal.shape[-1])
    report.tensor("targets", found.known, shape[:-1], "[T, B, P]", (torch.bool,), "known")
    for member in ("inferred", "label"):
        value = getattr(found, member)
        report.tensor("targets", value, shape, "[T, B, P, D]", _FLOAT, member)
        here = episodes.active & found.known if member == "label" else episodes.active
        check_finite(report, "targets", value[here], member)
        got, cure = f"{member} with a gradient", "compute it in torch.no_grad()"
        report.require(not value.requires_grad, "targets", got, "targets without a gradient", cure)
    right = isinstance(found.share, int | float) and 0 <= found.share <= 1
    report.require(right, "targets", f"share {found.share!r}", "a probability", "use self.mixture.share(env_steps)")


def _check_carry(report: Report, model: OpponentModel, episodes: Episodes) -> None:
    """Check `carry`: shape, rows, and changes that must not matter."""
    game, rows = model.spec.game, episodes.active.shape[1]
    prior = report.call("prior", model.prior, rows, expected="a prior for any batch size")
    expected = "the prior of the next episode for any whole episodes"
    found = pure(report, "carry", model.carry, prior, episodes, expected=expected)
    report.tensor("carry", found, prior.shape, "[B, P, ...]", (prior.dtype,))
    check_finite(report, "carry", found)

    def by_rows(before: Tensor, rows: Tensor) -> Tensor:
        return model.carry(before, episodes.map(lambda field: field[:, rows]))

    check_rows(report, "carry", by_rows, (prior, torch.arange(len(prior))), found)
    goals = len(game.goal_names)
    trials = {"padding": spoiled(episodes, game.num_actions, goals)}
    if not model.needs_true_goal:
        trials["true goals"] = other_true_goals(episodes, goals)
    cures = {"padding": "read only steps where active is True", "true goals": "do not read episodes.true_goal"}
    for what, other in trials.items():
        again = report.call("carry", model.carry, prior, other, expected=expected)
        same = difference(again, found, exact=False) is None
        report.require(same, "carry", f"another prior for other {what}", "the same prior", cures[what])


def _check_measures(report: Report, model: OpponentModel, episodes: Episodes) -> None:
    """Check the methods for metrics and figures."""
    names = model.spec.game.goal_names
    found = report.call("metrics", model.metrics, names, expected="metrics by name")
    right = isinstance(found, dict) and all(isinstance(metric, Metric) for metric in found.values())
    cure = "return a dict of torchmetrics.Metric, or {}"
    report.require(right, "metrics", repr(found), "metrics by name", cure)
    for name, metric in found.items():
        member, expected = f"metrics[{name!r}]", "update(episodes, who, exact) for whole episodes"
        report.call(f"{member}.update", metric.update, episodes, watched(episodes), None, expected=expected)
        values = report.call(f"{member}.compute", metric.compute, expected="numbers by name")
        right = isinstance(values, dict) and all(key.startswith("goal/") for key in values)
        got = sorted(values) if isinstance(values, dict) else type(values).__name__
        cure = "return a dict, such as {'goal/hits': value}"
        report.require(right, f"{member}.compute", got, "a dict of names that start with goal/", cure)
        numbers = all(torch.as_tensor(value).numel() == 1 for value in values.values())
        report.require(numbers, f"{member}.compute", "values that are not numbers", "scalars", "take a mean")
    coded = report.call("coded", model.coded, episodes, expected="the input of codes, [M, *shape]").float()
    codes = report.call("codes", model.codes, coded, expected="codes of the result of coded, [M, *shape], or None")
    known = codes is None or _is_codes(codes, len(coded), model.size)
    expected = f"None, float [M, D] = {[len(coded), model.size]}, or int64 [M]"
    report.require(known, "codes", describe(codes), expected, "return one of these")
    vectors = report.call("code_vectors", model.code_vectors, expected="float [G, size], or None")
    known = vectors is None or (isinstance(vectors, Tensor) and vectors.dim() == 2)
    report.require(known, "code_vectors", describe(vectors), "float [G, size], or None", "return one of these")
    shown = report.call("belief_view", model.belief_view, episodes.goal, names, expected="a BeliefView, or None")
    if shown is not None:
        cure = "return omg_lightning.opponents.BeliefView(values, names), or None"
        report.require(isinstance(shown, BeliefView), "belief_view", describe(shown), "a BeliefView, or None", cure)
        count = shown.values.shape[-1] if shown.names is None else len(shown.names)
        report.tensor("belief_view", shown.values, (*episodes.active.shape, count), "[..., K], one for each name")


def _is_record(memory: Any) -> bool:
    """Return whether `omg_lightning.types.take` can index a memory."""
    if isinstance(memory, tuple) and hasattr(memory, "_fields"):
        return all(_is_record(field) for field in memory)
    return memory is None or isinstance(memory, Tensor)


def _is_codes(codes: object, rows: int, size: int) -> bool:
    if not isinstance(codes, Tensor):
        return False
    return codes.shape == ((rows, size) if codes.is_floating_point() else (rows,))


def _shapes(fields: dict[str, Tensor]) -> str:
    return ", ".join(f"{describe(field)}{f' ({name[1:]})' * bool(name)}" for name, field in fields.items()) or "nothing"
