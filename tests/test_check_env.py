import numpy as np
import pytest
import torch
from gymnasium import spaces
from line_game import LineGame

from omg_lightning.envs import RulesEnv
from omg_lightning.games import MatrixGame, Snowdrift, StagHunt
from omg_lightning.testing import CheckError, check_env
from omg_lightning.types import ConfigError


class Changed(RulesEnv):
    """An environment that keeps the contract, except for what a test changes.

    `at` says after which steps: 0 is the reset.
    """

    def __init__(self, change=None, at=(1,), **attributes):
        super().__init__(LineGame())
        self.game, self._rules = None, self.game
        self.change, self.at, self.count = change, at, 0
        vars(self).update(attributes)

    def reset(self, batch_size, generator):
        self.game, self.count = self._rules, 0
        return self.changed(super().reset(batch_size, generator))

    def step(self, actions):
        self.game, self.count = self._rules, self.count + 1
        return self.changed(super().step(actions))

    def changed(self, step):
        self.game = None
        return self.change(step) if self.change is not None and self.count in self.at else step


def fails(says, env, **kwargs):
    with pytest.raises(CheckError, match=says) as caught:
        check_env(env, **kwargs)
    assert "\n" not in str(caught.value)
    assert "; expected " in str(caught.value)


@pytest.mark.parametrize(
    "game",
    [
        LineGame(),
        LineGame(3, dtype=np.int32),
        LineGame(1),
        MatrixGame("prisoners_dilemma", max_steps=3),
        StagHunt.preset("2h1s_4x4", max_steps=8),
        Snowdrift(height=4, width=4, num_players=2, num_drifts=3, max_steps=6),
    ],
    ids=["line", "whole numbers", "one seat", "matrix", "stag hunt", "snowdrift"],
)
def test_games_in_a_rules_env_keep_the_contract(game):
    state = torch.get_rng_state()
    check_env(RulesEnv(game))
    assert torch.equal(state, torch.get_rng_state())


def test_an_environment_without_rules_keeps_the_contract():
    check_env(Changed())
    check_env(Changed(), batch_size=2, seed=3)


@pytest.mark.parametrize(
    ("attributes", "says"),
    [
        ({"num_players": 0}, "num_players: got 0; expected a whole number"),
        ({"max_steps": 2.5}, "max_steps: got 2.5"),
        ({"noop": 3}, "noop: got 3; expected the index of an action, 0 to 2"),
        ({"action_names": ("a", "a", "b")}, "action_names.*3 different names"),
        ({"agent_names": ["x", "y"]}, "agent_names.*2 different names"),
        ({"goal_names": None}, "goal_names: got None; expected a tuple"),
        ({"name": 3}, "name: got 3; expected a string"),
        ({"observation_space": spaces.Discrete(3)}, "observation_space is Discrete.*expected gymnasium.spaces.Box"),
        ({"observation_space": spaces.Box(0, 50, (2,))}, "step: got the value .*expected values of observation_space"),
    ],
)
def test_wrong_attributes_are_named(attributes, says):
    fails(says, Changed(**attributes))


def test_missing_attributes_are_named():
    env = Changed()
    del env.num_actions
    fails("num_actions: got AttributeError.*set num_actions in __init__", env)


def first(field, value):
    """Return a change: the first entry of a field."""

    def change(step):
        found = getattr(step, field).clone()
        found[0, 0] = value
        return step._replace(**{field: found})

    return change


def leave(step):
    """Let the last on the line leave, which the next step knows nothing of."""
    active, legal, terminated = step.active.clone(), step.legal.clone(), step.terminated.clone()
    row, seat = divmod(int(step.observation[..., 0].argmin()), 2)
    active[row, seat], legal[row, seat], terminated[row, seat] = False, LEFT[0, 0], True
    return step._replace(active=active, legal=legal, terminated=terminated)


ALL = tuple(range(9))
LEFT = torch.tensor([True, False, False]).expand(4, 2, 3)
NOBODY = {"terminated": torch.zeros(4, 2, dtype=torch.bool), "truncated": torch.zeros(4, 2, dtype=torch.bool)}


@pytest.mark.parametrize(
    ("change", "at", "says"),
    [
        (lambda step: tuple(step), (0,), "reset: got tuple; expected a Step"),
        (
            lambda step: step._replace(reward=step.reward.double()),
            ALL,
            r"reset: got float64 \[4, 2\]; .*reward as float32",
        ),
        (
            lambda step: step._replace(active=step.active[:, :1]),
            ALL,
            r"reset: got bool \[4, 1\]; expected active as bool",
        ),
        (lambda step: step._replace(legal=step.legal.int()), (1,), r"step: got int32 .*; expected legal as bool"),
        (lambda step: step._replace(observation=step.observation + 101), (1,), "expected values of observation_space"),
        (lambda step: step._replace(legal=step.legal & False), (2,), "no legal action"),
        (lambda step: step._replace(legal=step.legal | True), ALL, "for an inactive seat other legal actions"),
        (first("reward", 1.0), (0,), "reset: got the reward 1 .*expected 0 before the first step"),
        (first("reward", torch.inf), (1,), "the reward inf .*expected a finite one"),
        (lambda step: step._replace(reward=step.reward + 1), (6,), "for a seat that was not active the reward"),
        (first("terminated", True), (0,), "reset: got a seat that ended"),
        (first("truncated", True), (2,), "truncated for a seat that did not leave"),
        (lambda step: step._replace(terminated=step.terminated & False), ALL, "neither terminated nor truncated"),
        (lambda step: step._replace(truncated=step.truncated | step.terminated), ALL, "both terminated and truncated"),
        (first("achieved", 0), (1,), r"the achieved goal 0 .*expected NO_GOAL \(-1\), or the index of a goal"),
        (lambda step: step._replace(active=step.active & False, legal=LEFT), (0,), "without active seats"),
        (lambda step: step._replace(active=step.active | True), (4,), "a seat that had left and is back"),
        (leave, (1,), "a seat that had left and is back"),
        (lambda step: step._replace(active=step.active | True, **NOBODY), ALL, "an active seat after max_steps=6"),
        (lambda step: step._replace(observation=step.observation * 0), (7,), "another observation of an env.* is over"),
    ],
)
def test_each_broken_rule_is_one_sentence(change, at, says):
    fails(says, Changed(change, at))


class Unseeded(Changed):
    def reset(self, batch_size, generator):
        self.draw = getattr(self, "draw", 0) + 1  # lives on
        return super().reset(batch_size, torch.Generator().manual_seed(self.draw))


class Raw(Changed):
    """Plays action 1 for every illegal action."""

    def step(self, actions):
        legal = self._rules.legal(self._state).gather(-1, actions.clamp(0, 2)[..., None])[..., 0]
        return super().step(torch.where(legal & (actions >= 0) & (actions < 3), actions, 1))


class Mixed(Changed):
    def keep(self, index):
        super().keep(index.flip(0))


class Sorted(Changed):
    def keep(self, index):
        super().keep(index.sort().values)


class Shared(Changed):
    """Returns the same tensor each time."""

    def reset(self, batch_size, generator):
        self.buffer = torch.zeros(batch_size, 2, 2)
        return super().reset(batch_size, generator)

    def changed(self, step):
        self.buffer = self.buffer[: len(step.observation)]
        self.buffer.copy_(step.observation)
        return super().changed(step)._replace(observation=self.buffer)


class Writes(Changed):
    def step(self, actions):
        actions.clamp_(0, 2)
        return super().step(actions)


class Fails(Changed):
    def step(self, actions):
        raise RuntimeError("first line\nsecond line")


class Wrong(RulesEnv):
    """Has a state with other views than it returns."""

    def __init__(self):
        super().__init__(LineGame())

    @property
    def state(self):
        return self._state._replace(place=self._state.place + 1)


@pytest.mark.parametrize(
    ("env", "says"),
    [
        (Unseeded(), "reset: got another `observation` at a second time; expected equal values for the same seed"),
        (Raw(), "step: got another `.*` for illegal actions; expected the result of noop"),
        (Mixed(), "keep: got another `.*` after rows were dropped"),
        (Sorted(), "keep: got another `.*` after rows were dropped"),
        (Shared(), "step: got a changed `observation` in an earlier Step or argument"),
        (Writes(), "step: got a changed `actions` in an earlier Step or argument"),
        (Fails(), r"step: got RuntimeError \(first line second line\).*correct test_check_env.py, line"),
        (Wrong(), "state: got a state with other views"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, RulesEnv) else "",
)
def test_each_broken_method_is_one_sentence(env, says):
    fails(says, env)


class Restarts(RulesEnv):
    """Restarts a row wrongly, as `change` says: a function of the environment, called after a right restart."""

    def __init__(self, change):
        super().__init__(LineGame())
        self.change = change

    def restart(self, index, generator):
        before, step = self._state, super().restart(index, generator)
        self._state = self.change(before, self._state)
        return step._replace(observation=self.game.observe(self._state)[index], reward=step.reward + self.extra)

    extra = 0.0


class Paid(Restarts):
    extra = 1.0


@pytest.mark.parametrize(
    ("env", "says"),
    [
        (Paid(lambda before, after: after), "restart: got the reward 1"),
        (Restarts(lambda before, after: before._replace(time=after.time + 1)), "after a row was restarted"),
        (
            Restarts(lambda before, after: after._replace(time=after.time.index_fill(0, torch.tensor([0]), -1))),
            "after max_steps",
        ),
    ],
)
def test_a_wrong_restart_is_one_sentence(env, says):
    check_env(RulesEnv(LineGame()))
    fails(says, env)


def test_a_class_that_is_no_environment_is_refused_with_the_cure():
    fails("RulesEnv.*expected an environment: call it", RulesEnv)
    fails("an instance of LineGame; .*RulesEnv a Game", LineGame())
    with pytest.raises(ConfigError, match="batch_size=1"):
        check_env(Changed(), batch_size=1)
