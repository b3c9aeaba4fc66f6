"""Opponent models that withhold what another one knows, and what the team earns with them."""

from dataclasses import replace

import pytest
import torch
from lightning import Trainer
from test_declared import A, G, P, declared, episodes_in_which, step, view
from toys import (
    TokenGame,
    attached,
    model_spec,
    plain_learner,
    same,
    snapshot,
    stag_hunt,
    tiny_agent,
    tiny_data,
)

from callbacks import GoalEffect
from omg_lightning.actors import arrange
from omg_lightning.envs import RulesEnv
from omg_lightning.metrics import ReturnMetrics
from omg_lightning.opponents import Direct, Oracle, ShuffledGoals, Subgoal, UninformedGoals
from omg_lightning.rollout import play
from omg_lightning.types import NO_GOAL, ConfigError, Estimate, take

ROWS = 6
NOBODY = torch.full((ROWS, P), NO_GOAL)


class Counting(Direct):
    """Memory counts the actions seen, from another start in each row; the goal is that count."""

    def __init__(self):
        super().__init__(model_spec(TokenGame(P, A)))
        self.size = 2

    def start(self, prior, true_goal):
        return 100.0 * torch.arange(len(prior))[:, None, None].expand(-1, P, 1)

    def infer(self, memory, view):
        point = memory.expand(-1, -1, 2)

        def draw(trees, generator):
            return point[:, None] + torch.randn(len(point), trees, P, 2, generator=generator)

        return Estimate(point, draw)

    def update(self, memory, view, actions, achieved):
        return memory + actions[..., None]


def played(model, rows=ROWS, steps=3):
    """Memory of `model` at the start, and after each row has seen actions of its own."""
    start = model.start(model.prior(rows), NOBODY[:rows])
    memory = start
    for t in range(steps):
        memory = step(model, memory, torch.randint(A, (rows, P), generator=torch.Generator().manual_seed(t)))
    return start, memory


def givers(found, own):
    """Which row's goals `own` `[L, P, D]` each row of `found` has got, int64 `[L]`; fails where it is none's."""
    equal = (found[:, None] == own[None]).flatten(2).all(-1)
    assert equal.any(1).all()
    return equal.int().argmax(1)


# Shuffled ----------------------------------------------------------------------------------------------------------


def test_shuffled_goals_are_those_of_another_row_each_given_once():
    inner, model = Counting(), ShuffledGoals(Counting())
    _, memory = played(model)
    _, own = played(inner)
    got = givers(model.infer(memory, view(rows=ROWS)).point, inner.infer(own, view(rows=ROWS)).point)
    assert sorted(got.tolist()) == list(range(ROWS))
    assert (got != torch.arange(ROWS)).all()
    draws = model.infer(memory, view(rows=ROWS)).draw(5, torch.Generator().manual_seed(0))
    expected = inner.infer(own, view(rows=ROWS)).draw(5, torch.Generator().manual_seed(0))[got]
    assert torch.equal(draws, expected), "what is drawn and what is recorded come from the same row"


def test_a_row_gets_goals_of_the_same_row_until_that_one_ends():
    inner, model = Counting(), ShuffledGoals(Counting())
    _, memory = played(model)
    own = inner.infer(played(inner)[1], view(rows=ROWS)).point
    before = givers(model.infer(memory, view(rows=ROWS)).point, own)
    gone = 2
    left = torch.tensor([row for row in range(ROWS) if row != gone])
    after = left[givers(model.infer(take(memory, left), view(rows=len(left))).point, own[left])]
    for row, now in zip(left.tolist(), after.tolist(), strict=True):
        assert now == (before[gone] if before[row] == gone else before[row])
        assert now != row
    alone = take(memory, torch.tensor([3]))
    assert torch.equal(model.infer(alone, view(rows=1)).point, own[3:4]), "the last one has nobody else's"


def test_shuffled_goals_leave_the_inference_of_the_source_unchanged():
    inner, model = declared(), ShuffledGoals(declared())
    start, memory = played(model)
    assert same(start.inner, played(inner)[0])
    assert same(memory.inner, played(inner)[1])
    before = snapshot(memory)
    one, two = (model.infer(memory, view(rows=ROWS)).point for _ in range(2))
    assert torch.equal(one, two)
    assert same(memory, before), "memory is never changed in place"
    assert torch.equal(model.prior(ROWS), inner.prior(ROWS))
    hares = episodes_in_which(torch.ones(ROWS, P, dtype=torch.int64))
    assert torch.equal(*(each.carry(each.prior(ROWS), hares) for each in (model, inner)))


def test_a_control_predicts_co_players_like_its_source():
    source = tiny_agent(stag_hunt(), "Declared").opponent
    for control in (ShuffledGoals(source), UninformedGoals(source)):
        assert (control.size, control.goals_change, control.goals_are_cells) == (2, False, False)
        goals, seat = torch.eye(2), torch.tensor([0, 1])
        views, time = torch.zeros(2, *stag_hunt().observation_shape), torch.zeros(2)
        condition = control.condition(goals, seat)
        assert torch.equal(condition, source.condition(goals, seat))
        assert torch.equal(control.predict(views, time, condition), source.predict(views, time, condition))


def test_a_shuffled_oracle_gets_the_new_goals_when_goals_change():
    game = stag_hunt()
    env = RulesEnv(game)
    seating = arrange([["learner", "switcher:1"]], 12, env, torch.Generator().device)
    learner = plain_learner(game, source=ShuffledGoals(Oracle(model_spec(game))))
    episodes = play(env, seating, {"learner": learner}, torch.Generator().manual_seed(0)).episodes
    there = episodes.active[:, :, 1].all(1)
    assert there[:2].all()
    first, second = (torch.eye(2)[episodes.true_goal[t, :, 1]] for t in (0, 1))
    got = [episodes.goal[t, :, 1] for t in (0, 1)]
    assert torch.equal(got[0].sum(0), first.sum(0)), "the same goals, in other places"
    assert torch.equal(got[1].sum(0), second.sum(0))
    assert not torch.equal(got[0], first)


# Uninformed --------------------------------------------------------------------------------------------------------


def test_an_uninformed_observer_ignores_all_evidence(generator):
    model = UninformedGoals(declared(alpha=0.5))
    start, memory = played(model)
    assert same(memory, start), "not what is done"
    prior = model.prior(ROWS)
    assert torch.equal(model.carry(prior, None), prior), "nor what was achieved"
    estimate = model.infer(memory, view(rows=ROWS))
    alike = torch.full((ROWS, P, G), 1 / G)
    torch.testing.assert_close(estimate.point, alike)
    draws = estimate.draw(2000, generator)
    assert torch.equal(draws.sum(-1), torch.ones(ROWS, 2000, P))
    torch.testing.assert_close(draws.mean(1), alike, atol=0.05, rtol=0)


def test_an_uninformed_oracle_does_not_know_the_true_goals(generator):
    model = UninformedGoals(Oracle(model_spec(TokenGame(P, A))))
    assert not model.needs_true_goal
    for goal in range(G):
        memory = model.start(model.prior(ROWS), torch.full((ROWS, P), goal))
        estimate = model.infer(memory, view(rows=ROWS))
        assert torch.equal(estimate.point, torch.full((ROWS, P, G), 1 / G))
        draws = estimate.draw(2000, generator)
        assert torch.equal(draws.sum(-1), torch.ones(ROWS, 2000, P))
        torch.testing.assert_close(draws.mean(1), estimate.point, atol=0.05, rtol=0)


def test_uninformed_subgoals_are_drawn_from_the_prior_of_their_codes(generator):
    model = UninformedGoals(Subgoal(model_spec(TokenGame(P, A)), goal_dim=2))
    with torch.no_grad():
        start, memory = played(model)
        assert torch.equal(memory, start)
        estimate = model.infer(memory, view(rows=ROWS))
    assert torch.equal(estimate.point, torch.zeros(ROWS, P, 2))
    draws = estimate.draw(4000, generator)
    torch.testing.assert_close(draws.mean(1), torch.zeros(ROWS, P, 2), atol=0.1, rtol=0)
    torch.testing.assert_close(draws.std(1), torch.ones(ROWS, P, 2), atol=0.1, rtol=0)


# What the team earns -----------------------------------------------------------------------------------------------


def evaluated(opponent, callback, seats=("learner", "switcher"), training=None):
    """Numbers of a `validate` of ten episodes with this callback; the agent, and the data module.

    `seats` are those of the evaluation; `training` those of training, by default the same.
    """
    data = tiny_data(seats=list(training or seats), evaluation={"episodes": 10, "seats": list(seats)})
    agent = tiny_agent(data.env, opponent)
    trainer = Trainer(
        accelerator="cpu", callbacks=[callback], logger=False, enable_progress_bar=False, enable_model_summary=False
    )
    (found,) = trainer.validate(agent, data, verbose=False)
    return found, agent, data


def test_every_way_to_play_starts_from_the_same_episodes():
    """Also in later chunks, whatever the randomness of the earlier ones."""
    data = attached(tiny_data(seats=["learner", "switcher"]))
    plain = list(data.evaluate(data.lineups, 10))
    changed = list(data.evaluate(data.lineups, 10, lambda learner: replace(learner, simulations=5, trees=2)))
    assert len(plain) == 3
    for one, two in zip(plain, changed, strict=True):
        assert torch.equal(one.observation[0], two.observation[0])
        assert torch.equal(one.true_goal[0], two.true_goal[0])
    assert any(not same(one.action[:1], two.action[:1]) for one, two in zip(plain, changed, strict=True))


@pytest.mark.parametrize("training", [None, ["learner", "random"], ["random", "random"]])
@pytest.mark.parametrize("opponent", ["Declared", "Subgoal", "Codebook", "Oracle"])
def test_the_return_with_meaningless_goals_is_that_of_the_same_evaluation_under_a_control(opponent, training):
    found, agent, data = evaluated(opponent, GoalEffect(), training=training)
    for end, name in (("", "mean"), ("_low", "low"), ("_high", "high"), ("_discounted", "discounted")):
        assert found[f"goal/return_inferred{end}"] == found[f"return/team_{name}"]
    data.attach(agent.actor, agent.load_actor)
    inferred = torch.cat([episodes.reward.sum((0, 2)) for episodes in data.evaluate(data.eval_lineups, 10)])  # [10]
    for name, control in (("shuffled", ShuffledGoals), ("none", UninformedGoals)):
        metric = ReturnMetrics()
        for episodes in data.evaluate(data.eval_lineups, 10, lambda x, c=control: replace(x, opponent=c(x.opponent))):
            metric.update(episodes)
        assert found[f"goal/return_{name}"] == pytest.approx(float(metric.compute()["return/team_mean"]))
    gains = (inferred - torch.cat(metric.returns).sum(-1)).double()  # of each start, to random goals
    half = 2.262157 * float(gains.std()) / 10**0.5  # Student's t with 9 degrees of freedom
    assert found["goal/return_gain"] == pytest.approx(float(gains.mean()))
    assert found["goal/return_gain_low"] == pytest.approx(float(gains.mean()) - half, abs=1e-5)
    assert found["goal/return_gain_high"] == pytest.approx(float(gains.mean()) + half, abs=1e-5)


def test_fewer_episodes_are_whole_chunks_of_the_evaluation():
    found, _, data = evaluated("Declared", GoalEffect(episodes=5))
    metric = ReturnMetrics()
    for _, episodes in zip(range(2), data.evaluate(data.eval_lineups, 10), strict=False):  # 8 of 10, in chunks of 4
        metric.update(episodes)
    assert found["goal/return_inferred"] == pytest.approx(float(metric.compute()["return/team_mean"]))


@pytest.mark.parametrize(
    ("opponent", "seats"), [("Direct", ["learner", "switcher"]), ("Declared", ["switcher", "random"])]
)
def test_without_goals_or_without_a_learner_nothing_is_played_again(opponent, seats):
    found, *_ = evaluated(opponent, GoalEffect(), seats)
    assert "return/team_mean" in found
    assert not [name for name in found if "goal/return" in name]


def test_a_comparison_of_no_episodes_is_refused():
    with pytest.raises(ConfigError, match=r"GoalEffect episodes is 0.*at least 1"):
        GoalEffect(episodes=0)
