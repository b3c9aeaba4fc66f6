"""The public checks of encoders, opponent models and algorithms: correct toys pass, each broken one is one sentence."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from line_game import LineGame
from torch import Tensor, nn
from torchmetrics import MeanMetric

from omg_lightning import encoders, opponents
from omg_lightning.actors import PolicyActor
from omg_lightning.actors.modelled import Decision
from omg_lightning.algorithms import PPO, Algorithm, BestResponseSearch, OnPolicy
from omg_lightning.algorithms.policy import PolicyModule
from omg_lightning.encoders import MLP, Encoder, ModelSpec
from omg_lightning.envs import RulesEnv
from omg_lightning.games import MatrixGame, StagHunt
from omg_lightning.losses import masked_logits, td_lambda
from omg_lightning.opponents import BeliefView, OpponentModel, Targets
from omg_lightning.spec import GameSpec
from omg_lightning.testing import CheckError, check_algorithm, check_encoder, check_opponent
from omg_lightning.types import ConfigError, Estimate, Record, ego_order

LINE, MATRIX = LineGame(max_steps=3), MatrixGame("prisoners_dilemma", max_steps=3)
GRID = StagHunt("2h1s_4x4", max_steps=3)


def changed(kind: type, **members: Any) -> type:
    """Return a subclass with other members."""
    return type("Broken", (kind,), members)


def fails(says: str, check: Any, *args: Any, **kwargs: Any) -> None:
    """Run a check that must fail with one sentence of the form `part.member: got ...; expected ...: cure`."""
    with pytest.raises(CheckError, match=says) as caught:
        check(*args, **kwargs)
    text = str(caught.value)
    assert "\n" not in text
    assert ": got " in text
    assert "; expected " in text
    assert ": " in text.partition("; expected ")[2]


# Encoders -----------------------------------------------------------------------------------------------------------


class Plain(Encoder):
    """A correct encoder of any space, in a few lines."""

    def __init__(self, observation_space, layout, hidden):
        super().__init__(observation_space, layout, hidden)
        self.dense = nn.Linear(int(np.prod(self.shape)) + 1, hidden)

    def forward(self, observation, time):
        return self.dense(torch.cat([observation.float().flatten(1), time[:, None]], 1)).tanh()


class Kept(Plain):
    """Keeps its weights in a cache for ever."""

    def forward(self, observation, time):
        if not hasattr(self, "known"):
            self.known = self.dense.weight.detach().clone()
        weight = self.dense.weight if torch.is_grad_enabled() and self.dense.weight.grad is None else self.known
        return F.linear(torch.cat([observation.float().flatten(1), time[:, None]], 1), weight, self.dense.bias * 0)


class Noisy(Plain):
    """Has random weights that no state holds."""

    def __init__(self, *args):
        super().__init__(*args)
        self.mix = torch.randn(self.hidden, self.hidden)

    def forward(self, observation, time):
        return super().forward(observation, time) @ self.mix


class Lazy(Plain):
    """Makes a layer when it is first called."""

    def forward(self, observation, time):
        if not hasattr(self, "late"):
            self.late = nn.Linear(self.hidden, self.hidden)
        return self.late(super().forward(observation, time))


class Bare(Encoder):
    """Skips the constructor of the base class."""

    def __init__(self, observation_space, layout, hidden):
        nn.Module.__init__(self)

    def forward(self, observation, time):
        return observation


class Normalised(Plain):
    def __init__(self, *args):
        super().__init__(*args)
        self.norm = nn.BatchNorm1d(self.hidden)

    def forward(self, observation, time):
        return self.norm(super().forward(observation, time))


class Refuses(Plain):
    def __init__(self, observation_space, layout, hidden):
        raise ConfigError("encoder Refuses reads nothing: use MLP")


class Planes(Plain):
    """Fails without the sentence of a ConfigError where it has no layout."""

    def __init__(self, observation_space, layout, hidden):
        super().__init__(observation_space, layout, hidden)
        self.cells = layout.cells


class Misread(MLP):
    """Reads sparse views one index too far."""

    def placed(self, indices):
        return (indices + 1).clamp(max=self.inputs) if self.shifted else indices

    def forward(self, observation, time):
        self.shifted = observation.dtype == torch.int32
        return super().forward(observation, time)

    def prepare(self, observation):
        return observation.float()


class Unused(Plain):
    def __init__(self, *args):
        super().__init__(*args)
        self.rest = nn.Linear(2, 2)


class Fixed(Plain):
    """Has always 16 features."""

    def __init__(self, observation_space, layout, hidden):
        super().__init__(observation_space, layout, 16)


def read(change):
    """Return a `forward` that changes the features of `Plain`."""
    return lambda self, observation, time: change(Plain.forward(self, observation, time), observation, time)


def in_place(self, observation, time):
    observation += 1
    return Plain.forward(self, observation, time)


def dropped(self, observation, time):
    return F.dropout(Plain.forward(self, observation, time), 0.5)


def ambiguous(self, observation, time):
    flat = observation.float().reshape(len(observation), -1)
    return self.dense(torch.cat([flat, time[:, None]], 1)).tanh()


def own_dtype(self, observation, time):
    return self.dense(torch.cat([observation.flatten(1), time[:, None].to(observation)], 1)).tanh()


BROKEN_ENCODERS = {
    "no encoder": (nn.Linear, "check_encoder.part: got the class Linear; .*a subclass of omg_lightning.encoders"),
    "an instance of something else": (3, "check_encoder.part: got an instance of int"),
    "abstract": (Encoder, r"Encoder.__init__: got no forward; expected all .*: write `def forward\(self"),
    "makes something else": (lambda *_: {}, "__init__: got dict; expected an instance of a subclass of Encoder"),
    "base class not made": (Bare, r"got no attribute observation_space.*: call super\(\).__init__\(observation_space"),
    "refuses everything": (
        Refuses,
        "Refuses.__init__: got a ConfigError for all views .*encoder Refuses reads nothing",
    ),
    "refuses without ConfigError": (
        Planes,
        "Planes.__init__: got AttributeError .*or ConfigError where.*: correct test_ch",
    ),
    "sparse no flag": (changed(Plain, sparse="yes"), "sparse: got 'yes'; expected True or False"),
    "sparse numbers": (changed(Plain, sparse=True), r"sparse: got True for Box.*expected True only for bits", LINE),
    "sparse unread": (changed(Plain, sparse=True), "expected sparse views, int32 .*, or set sparse to False"),
    "sparse misread": (Misread, "forward: got other features for sparse views"),
    "width ignored": (Fixed, r"forward: got float32 \[\d+, 16\]; expected float32 \[M, hidden\] = \[\d+, 32\]"),
    "dtype": (changed(Plain, forward=read(lambda x, *_: x.double())), r"forward: got float64"),
    "nan": (changed(Plain, forward=read(lambda x, *_: x / 0)), "a feature that is not finite"),
    "batch norm": (Normalised, "another result for a row among other rows.*LayerNorm instead of BatchNorm"),
    "in place": (changed(Plain, forward=in_place), "an argument that it changed in place"),
    "dropout": (changed(Plain, forward=dropped), "another result at a second call.*without dropout"),
    "one row": (changed(Plain, forward=read(lambda x, *_: x.squeeze(0))), r"forward: got float32 \[16\]"),
    "no rows": (changed(Plain, forward=ambiguous), "expected a batch of no rows.*use `flatten"),
    "own dtype": (changed(Plain, forward=own_dtype), "expected views of any dtype, here uint8"),
    "prepared otherwise": (changed(Plain, prepare=lambda self, x: x.float() / 2), "other features for what prepare"),
    "prepared rows": (
        changed(Plain, prepare=lambda self, x: x.flatten().float()),
        "prepare: got float32.*leading rows",
    ),
    "blind": (changed(Plain, forward=read(lambda x, y, z: x * 0 + z[:, None])), "the same features for all views"),
    "timeless": (
        changed(Plain, forward=lambda self, x, time: Plain.forward(self, x, time * 0)),
        "pass reads_time=False",
    ),
    "detached": (changed(Plain, forward=read(lambda x, *_: x.detach())), "got no gradient of the features; expected"),
    "unused weights": (Unused, "no gradient of the features for 'rest.weight'.*freeze it by requires_grad_"),
    "stale cache": (Kept, "got the same features after a training step"),
    "state elsewhere": (Noisy, "other results of forward after a checkpoint was loaded.*register_buffer"),
    "late layer": (Lazy, r"state_dict: got \['late.weight', 'late.bias'\], which a call made"),
    "state encoder": (changed(Plain, state_encoder="MLP"), "state_encoder: got 'MLP'; expected a class of encoders"),
}


@pytest.mark.parametrize("rule", BROKEN_ENCODERS)
def test_each_broken_rule_of_an_encoder_is_one_sentence(rule):
    encoder, says, *game = BROKEN_ENCODERS[rule]
    fails(says, check_encoder, encoder, *game)


@pytest.mark.parametrize("kind", [MLP, encoders.Conv, encoders.Centred, encoders.Paths, encoders.RecurrentConv, Plain])
def test_correct_encoders_pass_and_may_refuse_views(kind):
    instance, before = kind(GRID.observation_space, GRID.layout, 8), torch.get_rng_state()
    for call in ((kind,), (kind, GRID), (instance,)):
        check_encoder(*call)
    assert torch.equal(before, torch.get_rng_state())
    if kind not in (MLP, Plain):
        with pytest.raises(ConfigError, match=r"set --model\.encoder MLP"):
            check_encoder(kind, LINE)


def test_an_encoder_may_leave_out_the_time_on_purpose():
    timeless = changed(Plain, forward=lambda self, x, time: Plain.forward(self, x, time * 0))
    check_encoder(timeless, reads_time=False)


def test_an_error_names_the_encoder_whose_state_encoder_refuses_the_views():
    with pytest.raises(CheckError, match=r"Broken\.state_encoder: encoder Conv reads views"):
        check_encoder(changed(Plain, state_encoder=encoders.Conv))


def test_check_encoder_leaves_an_instance_unchanged_and_refuses_another_game():
    torch.manual_seed(0)  # with other weights all features may be saturated
    encoder = Plain(LINE.observation_space, None, 8)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    check_encoder(encoder)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    fails("observation_space: got Box.*expected the game's MultiBinary", check_encoder, encoder, MATRIX)
    fails("check_encoder.game: got the class LineGame; .*such as LineGame", check_encoder, encoder, LineGame)


# Opponent models ------------------------------------------------------------------------------------------------------


class Counts(NamedTuple):
    seen: Tensor  # float [L, P, A] how often each seat has taken each action
    more: None = None


class Tally(OpponentModel):
    """A correct opponent model: a goal is the shares of actions that its seat has taken."""

    def __init__(self, spec, online=True):
        super().__init__(spec, spec.game.num_actions, online)

    def start(self, prior, true_goal):
        return Counts(torch.ones(*prior.shape[:2], self.size))

    def infer(self, memory, view):
        point = memory.seen / memory.seen.sum(-1, keepdim=True)
        return Estimate(point, lambda trees, generator: point[:, None].expand(-1, trees, -1, -1))

    def update(self, memory, view, actions, achieved):
        return Counts(memory.seen + F.one_hot(actions, self.size) * view.active[..., None])

    def targets(self, batch):
        active = batch.episodes.active
        taken = F.one_hot(batch.episodes.action, self.size).float() * active[..., None]
        goal = torch.where(active[..., None], batch.episodes.goal, 0.0)
        return Targets(goal, taken, active, 0.5)


class Own(Tally):
    """Learns a constant of its own beside the co-player policies."""

    loss_weights = {**Tally.loss_weights, "own": 1.0}  # noqa: RUF012

    def __init__(self, spec):
        super().__init__(spec)
        self.constant = nn.Parameter(torch.zeros(self.size))

    def own(self, batch):
        return (self.constant - 1).square().mean()

    def losses(self, batch):
        return {**super().losses(batch), "own": self.own(batch)}


class Unmade(Tally):
    def __init__(self, spec):
        nn.Module.__init__(self)


class Sized(Tally):
    def __init__(self, spec):
        super().__init__(spec)
        self.size = 2.0


class Rest(Tally):
    def __init__(self, spec):
        super().__init__(spec)
        self.rest = nn.Linear(2, 2)


class Remembers(Tally):
    """Counts training batches outside of its state, and infers by the count."""

    batches = 0

    def after_step(self, offline):
        self.batches += 1

    def infer(self, memory, view):
        return point(lambda x: x + self.batches)(self, memory, view)


class Deep(Tally):
    """Keeps a tensor with its gradient."""

    def losses(self, batch):
        found = super().losses(batch)
        self.last = found["coplayer"] * 2
        return found


class Late(Tally):
    """Makes a buffer when it first acts."""

    def infer(self, memory, view):
        self.register_buffer("late", torch.zeros(2))
        return super().infer(memory, view)


class Drawn(Tally):
    """Infers by a network with dropout."""

    def infer(self, memory, view):
        return point(lambda x: F.dropout(x, 0.5))(self, memory, view)


class Adds(Tally):
    """Counts in place."""

    def update(self, memory, view, actions, achieved):
        memory.seen.add_(F.one_hot(actions, self.size) * view.active[..., None])
        return Counts(memory.seen.clone())


class Mixed(Tally):
    """Takes goals relative to what all seats see, those that have left among them."""

    def infer(self, memory, view):
        seen = view.observation.float().flatten(2)[..., 0].sum(1)
        return point(lambda x: x + seen[:, None, None])(self, memory, view)


class Gossip(Tally):
    """Adds up what all seats do, those that have left among them."""

    def update(self, memory, view, actions, achieved):
        return Counts(memory.seen + F.one_hot(actions, self.size).sum(1, keepdim=True))


class Unstable(Tally):
    """Learns from a logarithm that is infinite after some training steps."""

    loss_weights = {**Tally.loss_weights, "own": 1.0}  # noqa: RUF012

    def __init__(self, spec):
        super().__init__(spec)
        self.constant = nn.Parameter(torch.ones(1))

    def losses(self, batch):
        return {**super().losses(batch), "own": self.constant.sum()}

    def after_step(self, offline):
        with torch.no_grad():
            self.constant.fill_(torch.nan)


def point(change):
    """Return an `infer` that changes the goals of `Tally`."""

    def infer(self, memory, view):
        goal = change(Tally.infer(self, memory, view).point)
        return Estimate(goal, lambda trees, generator: goal[:, None].expand(-1, trees, -1, -1))

    return infer


def draws(draw):
    """Return an `infer` that draws goals by `draw(point, trees, generator)`."""

    def infer(self, memory, view):
        goal = Tally.infer(self, memory, view).point
        return Estimate(goal, lambda trees, generator: draw(goal, trees, generator))

    return infer


def loss(change):
    """Return a `losses` that changes those of `Tally`; `change(losses, batch)`."""
    return lambda self, batch: change(Tally.losses(self, batch), batch)


def target(**change):
    """Return `targets` that change those of `Tally`."""
    return lambda self, batch: Tally.targets(self, batch)._replace(**{k: f(batch) for k, f in change.items()})


def prior_of(change):
    """Return a `carry` that changes a prior of length 1."""
    return {"prior": lambda self, rows: torch.ones(rows, 2, 1), "carry": change}


def with_metric(metric):
    return changed(Tally, metrics=lambda self, names: {"mine": metric})


class Named(MeanMetric):
    def update(self, episodes, who, exact):
        super().update(episodes.reward[who])

    def compute(self):
        return {"reward": super().compute()}


class Listed(Named):
    def compute(self):
        return {"goal/reward": torch.zeros(3)}


def last_draw(batch):
    """Return the last one of as many random numbers as there are steps, padding among them."""
    return torch.rand(batch.episodes.active.numel(), generator=batch.noise)[-1]


def no_mean(losses, batch):
    quiet = bool((batch.reward == 0).all())
    return {**losses, "coplayer": losses["coplayer"] / 0 if quiet else losses["coplayer"]}


BROKEN_OPPONENTS = {
    "no opponent model": (nn.Linear, "check_opponent.part: got the class Linear; expected a subclass of omg_lightning"),
    "abstract": (changed(OpponentModel), "Broken.__init__: got no infer and no targets"),
    "base class not made": (Unmade, r"got no attribute spec; .*: call super\(\).__init__\(spec, size\) first"),
    "size": (Sized, "size: got 2.0; expected the length of a goal vector"),
    "flag": (changed(Tally, needs_true_goal=1), "needs_true_goal: got 1; expected True or False"),
    "weights": (changed(Tally, loss_weights=("coplayer",)), r"loss_weights: got \('coplayer',\); expected weights"),
    "negative weight": (changed(Tally, loss_weights={"coplayer": -1}), "loss_weights: got .*expected weights of at l"),
    "unused weight": (changed(Tally, loss_weights={"coplayer": 1, "x": 1}), r"loss_weights: got a weight of \['x'\]"),
    "next_goal never called": (changed(Tally, next_goal=lambda self, *x: x[0]), "goals_change: got False beside a n"),
    "cells off the grid": (changed(Tally, goals_are_cells=True), "goals_are_cells: got size 2; expected goals of a g"),
    "cells": (changed(Tally, goals_are_cells=True), "expected size 17, the cells and one for none", GRID),
    "prior shape": (
        changed(Tally, prior=lambda self, n: torch.zeros(n, 1)),
        r"prior: got float32 \[4, 1\]; expected float",
    ),
    "prior value": (changed(Tally, prior=lambda self, n: torch.ones(n, 2, 1) / 0), "prior: got a value that is not fi"),
    "prior drawn": (changed(Tally, prior=lambda self, n: torch.rand(n, 2, 1)), "prior: got another result at a secon"),
    "told a goal": (
        changed(Tally, start=lambda self, prior, goal: Counts(torch.ones(4, 2, 2) + (goal[..., None] == 1))),
        "start: got another memory for other true goals; .*needs_true_goal",
    ),
    "memory type": (changed(Tally, start=lambda *_: {"a": 1}), "start: got a memory of type dict; expected a record"),
    "memory rows": (changed(Tally, start=lambda *_: Counts(torch.ones(2, 4, 2))), r"got a memory.seen of shape \[2, 4"),
    "memory shape": (changed(Tally, update=lambda *_: Counts(torch.ones(4, 2, 3))), "update: got a memory of .*as bef"),
    "memory in place": (Adds, "update: got an argument that it changed in place"),
    "rows of update": (
        changed(
            Tally, update=lambda self, m, *_: Counts(m.seen + m.seen.sum() + torch.arange(len(m.seen))[:, None, None])
        ),
        "update: got another result for a row among other rows",
    ),
    "update fails": (changed(Tally, update=lambda *_: 1 / 0), "update: got ZeroDivisionError .*: correct test_checks"),
    "no estimate": (changed(Tally, infer=lambda self, m, v: m.seen), "infer: got Tensor; expected an Estimate"),
    "point shape": (changed(Tally, infer=point(lambda x: x[..., :1])), r"infer: got float32 \[4, 2, 1\]; expected poi"),
    "point dtype": (changed(Tally, infer=point(lambda x: x.double())), "infer: got float64 .*; expected point as floa"),
    "point value": (changed(Tally, infer=point(lambda x: x.log() / 0)), "infer: got a goal that is not finite"),
    "rows of infer": (
        changed(Tally, infer=point(lambda x: x + torch.arange(len(x))[:, None, None])),
        "infer: got anot",
    ),
    "dropout": (Drawn, "infer: got another result at a second call; .*without dropout"),
    "draw shape": (
        changed(Tally, infer=draws(lambda x, trees, _: x[:, None])),
        r"infer.draw: got float32 \[4, 1, 2, 2\]; expected float32 \[L, K, P, D\] = \[4, 3, 2, 2\]",
    ),
    "draws elsewhere": (
        changed(Tally, infer=draws(lambda x, trees, _: torch.rand(len(x), trees, *x.shape[1:]))),
        "infer.draw: got another result at a second call; .*: draw from the given generator",
    ),
    "draw value": (
        changed(Tally, infer=draws(lambda x, trees, _: x[:, None].repeat(1, trees, 1, 1) / 0)),
        "infer.draw: got a goal that is not finite",
    ),
    "uninformed": (changed(Tally, uninformed=lambda *_: None), "uninformed: got NoneType; expected an Estimate"),
    "condition": (
        changed(Tally, condition=lambda self, goal, seat: None),
        "condition: got NoneType; expected leading rows",
    ),
    "rows of condition": (
        changed(Tally, condition=lambda self, goal, seat: goal - goal.mean(0) * len(goal)),
        "condition: got another result for a row among other rows",
    ),
    "goal of a seat that left": (
        changed(Tally, condition=lambda self, goal, seat: Tally.condition(self, goal / goal.sum(-1, True), seat)),
        "condition: got for a goal of 0 a value that is not finite",
    ),
    "logits shape": (
        changed(Tally, predict=lambda self, x, *_: torch.zeros(len(x), 3)),
        r"predict: got float32 \[8, 3",
    ),
    "logit value": (
        changed(Tally, predict=lambda self, x, *_: torch.zeros(len(x), 2) / 0),
        "predict: got a logit that",
    ),
    "prepared views": (
        changed(Tally, predict=lambda self, x, *_: x.flatten(1)[:, :2].float()),
        "predict: got other logits for prepared views; .*: pass views to the encoder unchanged",
    ),
    "illegal forecast": (
        changed(Tally, forecast=lambda self, x, time, seat, legal, goal: legal * 0.0),
        "forecast: got another forecast than predict",
    ),
    "forecast of illegal actions": (
        changed(Tally, forecast=lambda self, x, t, seat, legal, g: self.predict(x, t, self.condition(g, seat))),
        r"forecast: got for an illegal action the probability 0\..*; expected 0: use omg_lightning.losses.masked",
        LineGame(max_steps=3),
    ),
    "forecast shape": (changed(Tally, forecast=lambda self, x, *_: x.flatten(1)[:, :1]), "forecast: got float32"),
    "departed view": (Mixed, "infer: got other goals of active seats for another view or action of a seat that"),
    "departed action": (Gossip, "update: got other goals of active seats"),
    "next_goal": (
        changed(Tally, goals_change=True, next_goal=lambda self, goal, *_: goal[:, :1]),
        r"next_goal: got float32 \[4, 1, 2\]; expected float32 \[L, P, D\] = \[4, 2, 2\]",
    ),
    "next_goal drawn": (
        changed(Tally, goals_change=True, next_goal=lambda self, goal, *_: torch.rand_like(goal)),
        "next_goal: got another result at a second call",
    ),
    "no targets": (
        changed(Tally, targets=lambda self, batch: batch.episodes.goal),
        "targets: got Tensor; expected Tar",
    ),
    "targets shape": (
        changed(Tally, targets=target(label=lambda batch: batch.episodes.goal[..., 0])),
        r"targets: got float32 .*; expected label as float32 \[T, B, P, D\]",
    ),
    "targets value": (
        changed(Tally, targets=target(inferred=lambda batch: batch.episodes.goal / 0)),
        "targets: got inferred that is not finite",
    ),
    "targets gradient": (
        changed(Tally, targets=target(label=lambda batch: (batch.episodes.goal * 0).requires_grad_())),
        "targets: got label with a gradient; .*torch.no_grad",
    ),
    "known": (
        changed(Tally, targets=target(known=lambda batch: batch.reward)),
        r"targets: got float32 .*; expected known as bool \[T, B, P\]",
    ),
    "share": (changed(Tally, targets=target(share=lambda batch: 2)), "targets: got share 2; expected a probability"),
    "carry shape": (
        changed(Tally, **prior_of(lambda self, prior, _: prior[:, :1])),
        r"carry: got float32 \[.*, 1, 1\]",
    ),
    "carry in place": (changed(Tally, **prior_of(lambda self, prior, _: prior.add_(1))), "carry: got an argument that"),
    "rows of carry": (
        changed(Tally, **prior_of(lambda self, prior, episodes: prior + episodes.reward.sum((0, 1))[:, None])),
        "carry: got another result for a row among other rows",
    ),
    "carry told a goal": (
        changed(Tally, **prior_of(lambda self, prior, episodes: prior + episodes.true_goal[0, ..., None])),
        "carry: got another prior for other true goals; .*: do not read episodes.true_goal",
    ),
    "carry padding": (
        changed(Tally, **prior_of(lambda self, prior, episodes: prior + episodes.action[-1, ..., None])),
        "carry: got another prior for other padding; .*: read only steps where active is True",
    ),
    "losses type": (changed(Tally, losses=loss(lambda x, _: list(x))), "losses: got list; expected a dict"),
    "loss shape": (
        changed(Tally, losses=loss(lambda x, _: {"coplayer": x["coplayer"].expand(3)})),
        r"losses: got 'coplayer' of shape \[3\] in an offline batch; expected a scalar tensor",
    ),
    "loss number": (
        changed(Tally, losses=loss(lambda x, _: {**x, "a": 1.0})),
        "losses: got 'a' as 1.0 in an offline b",
    ),
    "loss without a name": (
        changed(Tally, losses=loss(lambda x, _: {**x, "extra": x["coplayer"]})),
        "losses: got 'extra' with a gradient but without a weight; .*: add it to loss_weights, or detach it",
    ),
    "loss without gradient": (
        changed(Tally, losses=loss(lambda x, _: {"coplayer": x["coplayer"].detach()})),
        "losses: got 'coplayer' without a gradient in an offline batch",
    ),
    "mean of nothing": (
        changed(Tally, losses=loss(no_mean)),
        "losses: got 'coplayer' that is not finite in an online batch without .*: divide by max",
    ),
    "loss drawn elsewhere": (
        changed(Tally, losses=loss(lambda x, _: {"coplayer": x["coplayer"] * torch.rand(())})),
        "losses: got another 'coplayer' at a second call; .*: draw random numbers from batch.noise",
    ),
    "loss told a goal": (
        changed(Tally, losses=loss(lambda x, y: {"coplayer": x["coplayer"] * (3 + y.episodes.true_goal[0].sum())})),
        "losses: got another 'coplayer' for other true goals; .*needs_true_goal",
    ),
    "loss of padding": (
        changed(Tally, losses=loss(lambda x, y: {"coplayer": x["coplayer"] + y.episodes.goal.sum() * 0})),
        "losses: got 'coplayer' that is not finite in an offline batch with NaN in its padding",
    ),
    "loss of padded actions": (
        changed(Tally, losses=loss(lambda x, y: {"coplayer": x["coplayer"] + y.episodes.action.float().mean()})),
        "losses: got another 'coplayer' for other padding; .*: read only steps where active is True",
    ),
    "draws for padding": (
        changed(Tally, losses=loss(lambda x, y: {"coplayer": x["coplayer"] * last_draw(y)})),
        "losses: got another 'coplayer' for more padding; .*: draw and average only for active steps",
    ),
    "logs": (
        changed(Tally, losses=lambda self, batch: self.log("x", 1.0) or Tally.losses(self, batch)),
        "losses: got a call of self.log; expected metrics in the result",
    ),
    "unused weights of a network": (Rest, "parameters: got no gradient of the losses for 'rest.weight'"),
    "nothing learned": (
        changed(Tally, losses=lambda *_: {}, loss_weights={}),
        r"losses: got no loss for the parameters",
    ),
    "after_step fails": (changed(Tally, after_step=lambda *_: 1 / 0), "after_step: got ZeroDivisionError"),
    "weights that are not finite": (Unstable, "losses: got 'own' that is not finite in an online batch"),
    "state elsewhere": (Remembers, "state_dict: got other results of infer, predict and losses after a check"),
    "late buffer": (Late, r"state_dict: got \['late'\], which a call made"),
    "kept gradient": (Deep, "__deepcopy__: got RuntimeError .*: keep no tensors with gradients"),
    "metric type": (with_metric(3), "metrics: got {'mine': 3}; expected metrics by name"),
    "metric update": (with_metric(MeanMetric()), r"metrics\['mine'\].update: got TypeError"),
    "metric names": (with_metric(Named()), r"metrics\['mine'\].compute: got \['reward'\]; expected .*start with goal/"),
    "metric values": (with_metric(Listed()), r"metrics\['mine'\].compute: got values that are not numbers"),
    "codes": (changed(Tally, codes=lambda self, x: torch.zeros(len(x), 3)), r"codes: got float32 \[\d+, 3\]; expected"),
    "code vectors": (changed(Tally, code_vectors=lambda self: torch.zeros(3)), r"code_vectors: got float32 \[3\]"),
    "belief view": (changed(Tally, belief_view=lambda self, goal, names: goal), "belief_view: got float32 .*a BeliefV"),
    "names of a belief": (
        changed(Tally, belief_view=lambda self, goal, names: BeliefView(goal, ("a", "b", "c"))),
        r"belief_view: got float32 \[.*, 2\]; expected a tensor \[..., K\], one for each name",
    ),
}


@pytest.mark.parametrize("rule", BROKEN_OPPONENTS)
def test_each_broken_rule_of_an_opponent_model_is_one_sentence(rule):
    model, says, *game = BROKEN_OPPONENTS[rule]
    fails(says, check_opponent, model, *(game or [MATRIX]), batch_size=4)


@pytest.mark.parametrize("game", [LINE, MATRIX, GRID, LineGame(1, 3)], ids=["line", "matrix", "grid", "one seat"])
@pytest.mark.parametrize(
    "model", [Tally, Own, changed(Tally, goals_change=True, next_goal=lambda self, goal, *_: goal)]
)
def test_correct_opponent_models_pass(model, game):
    before = torch.get_rng_state()
    check_opponent(model, game)
    assert torch.equal(before, torch.get_rng_state())


def test_a_memory_may_be_none_or_a_tensor():
    class Blank(Tally):
        def start(self, prior, true_goal):
            return None

        def infer(self, memory, view):
            goal = torch.zeros(*view.active.shape, self.size)
            return Estimate(goal, lambda trees, generator: goal[:, None].expand(-1, trees, -1, -1))

        def update(self, memory, view, actions, achieved):
            return memory

    check_opponent(Blank, MATRIX)


def spec_of(game, **settings) -> ModelSpec:
    return ModelSpec(GameSpec.of(RulesEnv(game)), **{"hidden": 8, **settings})


@pytest.mark.parametrize("sharing", ["shared", "roles", "separate"])
def test_check_opponent_leaves_an_instance_unchanged_and_refuses_another_game(sharing):
    model = Own(spec_of(MATRIX, sharing=sharing))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    check_opponent(model, MATRIX)
    check_opponent(model, RulesEnv(MATRIX))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    fails("spec: got a model of MatrixGame; expected one of LineGame", check_opponent, model, LINE)
    fails("check_opponent.game: got the class LineGame", check_opponent, Own, LineGame)


def test_an_opponent_model_that_refuses_the_game_says_so_itself():
    with pytest.raises(ConfigError, match="opponent Declared needs declared goals, but LineGame declares none"):
        check_opponent(opponents.Declared, LINE)
    with pytest.raises(ConfigError, match="batch_size=1"):
        check_opponent(Tally, LINE, batch_size=1)


# Algorithms -----------------------------------------------------------------------------------------------------------


class Reinforce(Algorithm):
    """A correct algorithm: policy gradients with a baseline."""

    loss_weights = {"policy": 1.0, "value": 0.5}  # noqa: RUF012

    def __init__(self, spec, goal_size):
        super().__init__(spec, goal_size)
        self.on_policy, self.policy = OnPolicy(1, 1), PolicyModule(spec, goal_size)

    def actor(self, opponent):
        return PolicyActor(opponent, self.policy)

    def values(self):
        return self.policy.goal_values

    def losses(self, batch):
        episodes, samples = batch.episodes, batch.samples
        if batch.offline:
            return {}
        t, b, ego = where = episodes.learner.nonzero(as_tuple=True)
        rows = episodes.learner[samples.mask]
        condition = self.policy.condition(ego_order(batch.goals[t, b], ego)[:, 1:], ego)
        logits, value = self.policy(batch.view[rows], samples.time[rows], condition)
        chosen = masked_logits(logits, episodes.legal[where]).log_softmax(-1)
        chosen = chosen.gather(-1, episodes.action[where][:, None])[:, 0]
        reward = torch.where(episodes.active, batch.reward, 0.0)
        returns = td_lambda(reward, reward, torch.zeros_like(episodes.active), 0.9, 1.0)[where]
        count = max(len(ego), 1)
        policy = -(chosen * (returns - value.detach())).sum() / count
        return {"policy": policy, "value": ((value - returns) ** 2).sum() / count}


class NoGoals(Reinforce):
    """Forgets the length of goals."""

    def __init__(self, spec, goal_size):
        super().__init__(spec, 0)


class Hidden(Reinforce):
    """Keeps a weight of the policy outside of its state."""

    def __init__(self, spec, goal_size):
        super().__init__(spec, goal_size)
        self.mix = torch.randn(spec.game.num_actions)

    def actor(self, opponent):
        return changed(PolicyActor, decide=self.decide)(opponent, self.policy)

    def decide(self, memory, scene, estimate, rows, ego):
        legal = scene.view.legal[rows, ego]
        action = masked_logits(self.mix.expand(legal.shape), legal).argmax(-1)
        return Decision(action, {"log_probability": self.mix[0].expand(len(rows)), "value": torch.ones(len(rows))})


def acting(**members):
    """Return an algorithm whose actor has other members."""
    return changed(Reinforce, actor=lambda self, opponent: changed(PolicyActor, **members)(opponent, self.policy))


def act(change):
    """Return an algorithm whose actor changes its choices; `change(choice, scene)`."""
    return acting(act=lambda self, memory, scene: change(PolicyActor.act(self, memory, scene), scene))


def replaced(**change):
    """Return an algorithm whose actor replaces fields of its choices."""
    return act(lambda choice, scene: choice._replace(**{k: f(choice, scene) for k, f in change.items()}))


def learns(change):
    """Return an algorithm that changes its losses; `change(losses, batch)`."""
    return changed(Reinforce, losses=lambda self, batch: change(Reinforce.losses(self, batch), batch))


def more(**values):
    """Return extras that are added to those of a choice."""
    return replaced(extras=lambda choice, scene: {**choice.extras, **{k: f(choice) for k, f in values.items()}})


def recorded(name, *args, **kwargs):
    """Return an algorithm whose actor has one more record."""
    known = {"log_probability": Record(), "value": Record(), "bootstrap": Record()}
    return acting(records={**known, name: Record(*args, **kwargs)})


def greedy_draw(self, memory, scene):
    choice = PolicyActor.act(self, memory, scene)
    drawn = torch.multinomial(scene.view.legal.float().flatten(0, 1), 1, generator=scene.generator)
    return choice._replace(action=drawn.view(choice.action.shape))


def in_memory(self, memory, scene):
    memory.opponent.seen.add_(1)
    return PolicyActor.act(self, memory, scene)


def by_batch(choice, scene):
    legal = scene.view.legal
    order = torch.arange(len(legal))[:, None, None]
    return choice._replace(action=((torch.arange(legal.shape[-1]) + order) % 2 * legal + legal).argmax(-1))


def own_reward(losses, batch):
    reward = batch.episodes.reward[batch.episodes.active].mean()
    return {name: loss + reward for name, loss in losses.items()}


BROKEN_ALGORITHMS = {
    "no algorithm": (nn.Linear, "check_algorithm.part: got the class Linear; expected a subclass of omg_lightning.alg"),
    "abstract": (changed(Algorithm), "Broken.__init__: got no actor and no losses"),
    "an instance": (
        Reinforce(spec_of(MATRIX), 0),
        "Reinforce.__init__: got an instance; .*: pass the class, Reinforce",
    ),
    "goal size": (NoGoals, "goal_size: got 0; expected the opponent model's, 2"),
    "weights": (changed(Reinforce, loss_weights={"policy": "1"}), "loss_weights: got {'policy': '1'}"),
    "name of the opponent's": (
        changed(Reinforce, loss_weights={"coplayer": 1.0}),
        r"loss_weights: got \['coplayer'\]; expected names that Tally does not use: give the loss another name",
    ),
    "discount": (changed(Reinforce, discount=2), "discount: got 2; expected a number from 0 to 1"),
    "on policy": (
        changed(Reinforce, __init__=lambda self, *x: Reinforce.__init__(self, *x) or setattr(self, "on_policy", True)),
        "on_policy: got True; expected None, or two numbers",
    ),
    "searches": (changed(Reinforce, searches=1), "searches: got 1; expected True or False"),
    "no actor": (changed(Reinforce, actor=lambda *_: None), "actor: got NoneType; expected an Actor"),
    "goal size of the actor": (acting(goal_size=0), "actor.goal_size: got 0; expected the opponent model's, 2"),
    "true goals": (acting(needs_true_goal=True), "actor.needs_true_goal: got True; expected the opponent model's, Fal"),
    "records": (acting(records={"value": (3,)}), "actor.records: got {'value': .*}; expected records by name"),
    "name of a record": (recorded("reward"), r"actor.records: got the name \['reward'\]; expected names that Episodes"),
    "record per action": (
        recorded("root", (3,), per_action=True),
        r"actor.records\['root'\]: got shape \(3,\); expected 2, the actions: set per_action to False",
    ),
    "never filled": (
        recorded("root"),
        r"actor.records: got no values but 0 for \['root'\]; expected values of every record",
    ),
    "not named": (
        more(root=lambda choice: choice.mine),
        "actor.act: got extras 'root'; expected names of .*: name root",
    ),
    "shape of a record": (more(value=lambda choice: choice.action[0]), r"actor.act: got int64 \[2\]; .*extras 'value'"),
    "dtype of a record": (
        more(value=lambda choice: choice.action),
        "actor.act: got int64 .*; expected extras 'value' as f",
    ),
    "value of a record": (
        more(value=lambda choice: choice.action / 0.0),
        "actor.act: got extras 'value' that is not finite",
    ),
    "no choice": (act(lambda choice, scene: choice.action), "actor.act: got Tensor; expected a Choice"),
    "mine": (
        replaced(mine=lambda choice, scene: choice.mine[:, :1]),
        r"actor.act: got bool \[6, 1\]; expected mine as",
    ),
    "acts for others": (
        replaced(mine=lambda choice, scene: torch.ones_like(choice.mine)),
        r"actor.act: got for a seat mine 1 \(row 0, seat 0\); expected True for own seats that still play",
    ),
    "action dtype": (
        replaced(action=lambda choice, scene: choice.action.float()),
        "actor.act: got float32 .*action as in",
    ),
    "action": (
        replaced(action=lambda choice, scene: choice.action + 2),
        r"actor.act: got the action \d .*expected 0 to 1",
    ),
    "illegal action": (
        replaced(action=lambda choice, scene: choice.action * 0 + 2),
        r"actor.act: got the illegal action 2 \(row \d, seat \d\); expected a legal one: mask the logits",
        LineGame(max_steps=3),
    ),
    "no goal": (replaced(goal=lambda *_: None), r"actor.act: got NoneType; expected goal as float32 \[L, P, D\]"),
    "goal shape": (
        replaced(goal=lambda choice, _: choice.goal[..., 0]),
        r"actor.act: got float32 \[6, 2\]; expected goal",
    ),
    "note": (
        replaced(notes=lambda *_: {"entropy": 1.0}),
        "actor.act: got the note 'entropy' as 1.0; .*such as policy/en",
    ),
    "act in place": (acting(act=in_memory), "actor.act: got an argument that it changed in place"),
    "drawn elsewhere": (
        replaced(action=lambda choice, scene: torch.randint(2, choice.action.shape)),
        "actor.act: got another result at a second call; .*: draw from the given generator",
    ),
    "greedy draws": (
        acting(act=greedy_draw),
        "actor.act: got another greedy action for another generator; .*draws noth",
    ),
    "rows of act": (act(by_batch), "actor.act: got another result for a row among other rows"),
    "act fails": (act(lambda *_: 1 / 0), "actor.act: got ZeroDivisionError .*: correct test_checks.py"),
    "observe": (
        acting(observe=lambda self, memory, *_: memory),
        r"actor.observe: got .*; expected the pair \(memory, ext",
    ),
    "memory of observe": (
        acting(observe=lambda self, memory, *_: (memory._replace(mine=memory.mine[:1]), {})),
        "actor.observe: got a memory of other fields or shapes",
    ),
    "record of a step": (
        acting(observe=lambda self, memory, *_: (memory, {"steps": memory.mine})),
        "actor.observe: got extras 'steps'; expected names of",
    ),
    "prepare": (
        changed(Reinforce, prepare=lambda self, x: x[:1].float()),
        "prepare: got float32 .*a tensor with leading rows",
    ),
    "values": (
        changed(Reinforce, values=lambda self: lambda view, time, goals, seat: time),
        r"values: got float32 \[\d+\]; expected float32 \[m, K\]",
    ),
    "losses fail": (learns(lambda *_: 1 / 0), "losses: got ZeroDivisionError"),
    "loss shape": (
        learns(lambda x, _: {k: v[None] for k, v in x.items()}),
        r"losses: got 'policy' of shape \[1\] in an on",
    ),
    "loss without a name": (
        learns(lambda x, _: {**x, "a": x["value"]} if x else x),
        "losses: got 'a' with a gradient but",
    ),
    "loss without gradient": (
        learns(lambda x, _: {k: v.detach() for k, v in x.items()}),
        "'policy' without a gradient",
    ),
    "unused weight": (
        learns(lambda x, _: {k: v for k, v in x.items() if k != "value"}),
        r"loss_weights: got a weight of \['value'\], which losses never returns",
    ),
    "unused weights of a network": (
        changed(
            Reinforce, __init__=lambda self, *x: Reinforce.__init__(self, *x) or setattr(self, "head", nn.Linear(2, 1))
        ),
        "parameters: got no gradient of the losses for 'head.weight'",
    ),
    "game's reward": (
        learns(own_reward),
        "losses: got other losses for another episodes.reward; .*: read batch.reward",
    ),
    "told a goal": (
        learns(lambda x, y: {k: v * (3 + y.episodes.true_goal[0].sum()) for k, v in x.items()}),
        "losses: got another 'policy' for other true goals",
    ),
    "padding": (
        learns(lambda x, y: {k: v + y.episodes.action.float().mean() for k, v in x.items()}),
        "losses: got another 'policy' for other padding",
    ),
    "records of padding": (
        learns(lambda x, y: {k: v + y.episodes.extras["value"].mean() for k, v in x.items()}),
        "losses: got 'policy' that is not finite in an online batch with NaN in its padding",
    ),
    "mean over padding": (
        learns(lambda x, y: {k: v + y.reward.mean() for k, v in x.items()}),
        "losses: got another 'policy' for more padding",
    ),
    "mean of nothing": (
        learns(lambda x, y: {k: v + y.reward[y.episodes.learner].mean() for k, v in x.items()}),
        "losses: got 'policy' that is not finite in an online batch without learner",
    ),
    "dropout": (
        learns(lambda x, y: {k: v * torch.rand(()) for k, v in x.items()}),
        "losses: got another 'policy' at a sec",
    ),
    "logs": (
        changed(Reinforce, losses=lambda self, batch: self.log_dict({}) or Reinforce.losses(self, batch)),
        "losses: got a call of self.log; expected metrics in the result",
    ),
    "state elsewhere": (Hidden, "state_dict: got other results of the actor and losses after a checkpoint was loaded"),
}


@pytest.mark.parametrize("rule", BROKEN_ALGORITHMS)
def test_each_broken_rule_of_an_algorithm_is_one_sentence(rule):
    algorithm, says, *game = BROKEN_ALGORITHMS[rule]
    fails(says, check_algorithm, algorithm, *(game or [MATRIX]), Tally)


@pytest.mark.parametrize("game", [LINE, MATRIX, GRID, LineGame(1, 3)], ids=["line", "matrix", "grid", "one seat"])
@pytest.mark.parametrize("opponent", [Tally, opponents.Direct])
def test_a_correct_algorithm_passes(game, opponent):
    before = torch.get_rng_state()
    check_algorithm(Reinforce, game, opponent)
    assert torch.equal(before, torch.get_rng_state())


def test_an_algorithm_that_cannot_play_the_game_is_refused_in_one_sentence():
    env = RulesEnv(LINE)
    env.game = None
    with pytest.raises(
        ConfigError, match="BestResponseSearch searches, but LineGame cannot be stepped from a state: set"
    ):
        check_algorithm(BestResponseSearch, env)
    with pytest.raises(ConfigError, match="opponent Declared needs declared goals"):
        check_algorithm(PPO, LINE, opponents.Declared)
