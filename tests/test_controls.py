"""Goal sources that withhold what another one knows, and what the team earns with them."""

import pytest
import torch
from test_goal_quality import evaluated
from test_sources import A, G, P, declared, subgoals, view
from toys import attached, plain_learner, same, snapshot, stag_hunt, tiny_data

from callbacks import GoalEffect
from omg_lightning.opponents import OracleGoals, ShuffledGoals, UninformedGoals
from omg_lightning.metrics import ReturnMetrics
from omg_lightning.rollout import arrange, play
from omg_lightning.types import NO_GOAL, ConfigError, take

ROWS = 6
CPU = torch.device("cpu")


def played(source, rows=ROWS, steps=3):
    """Memory of `source` after each row has seen actions of its own; and before them."""
    start = source.start(source.prior(rows, P, CPU), torch.full((rows, P), NO_GOAL))
    memory = start
    for step in range(steps):
        actions = torch.randint(A, (rows, P), generator=torch.Generator().manual_seed(step))
        memory = source.update(memory, view(rows=rows), actions)
    return start, memory


def givers(found, own):
    """Which row's goals `own` `[L, P, D]` each row of `found` has got: int64 `[L]`; fails where it is none's."""
    equal = (found[:, None] == own[None]).flatten(2).all(-1)
    assert equal.any(1).all()
    return equal.int().argmax(1)


def latent_by_row():
    """A source whose memory tells the rows apart: a count of all that was seen, from another start in each row."""
    source = subgoals()
    source._context = lambda batch, seats, device: 100.0 * torch.arange(batch)[:, None, None].expand(-1, seats, 1)
    return source


def test_shuffled_goals_are_those_of_another_row_each_given_once():
    inner, source = latent_by_row(), ShuffledGoals(latent_by_row())
    _, memory = played(source)
    _, own = played(inner)
    got = givers(source.infer(memory, view(rows=ROWS)).point, inner.infer(own, view(rows=ROWS)).point)
    assert sorted(got.tolist()) == list(range(ROWS))
    assert (got != torch.arange(ROWS)).all()
    draws = source.infer(memory, view(rows=ROWS)).draw(5, torch.Generator().manual_seed(0))
    expected = inner.infer(own, view(rows=ROWS)).draw(5, torch.Generator().manual_seed(0))[got]
    assert torch.equal(draws, expected), "what is drawn and what is recorded come from the same row"


def test_a_row_keeps_its_giver_until_that_one_is_over():
    inner, source = latent_by_row(), ShuffledGoals(latent_by_row())
    _, memory = played(source)
    own = inner.infer(played(inner)[1], view(rows=ROWS)).point
    before = givers(source.infer(memory, view(rows=ROWS)).point, own)
    gone = 2
    left = torch.tensor([row for row in range(ROWS) if row != gone])
    after = left[givers(source.infer(take(memory, left), view(rows=len(left))).point, own[left])]
    for row, now in zip(left.tolist(), after.tolist(), strict=True):
        assert now == (before[gone] if before[row] == gone else before[row])
        assert now != row
    alone = take(memory, torch.tensor([3]))
    assert torch.equal(source.infer(alone, view(rows=1)).point, own[3:4]), "the last one has nobody else's"


def test_shuffled_beliefs_are_what_the_source_believes_and_nothing_is_changed_in_place():
    inner, source = declared(), ShuffledGoals(declared())
    start, memory = played(source)
    assert same(start.inner, played(inner)[0])
    assert same(memory.inner, played(inner)[1])
    before = snapshot(memory)
    one, two = (source.infer(memory, view(rows=ROWS)).point for _ in range(2))
    assert torch.equal(one, two)
    assert same(memory, before)
    assert torch.equal(source.prior(ROWS, P, CPU), inner.prior(ROWS, P, CPU))
    realised = torch.ones(ROWS, P, dtype=torch.int64)
    carried = [each.carry(each.prior(ROWS, P, CPU), realised) for each in (source, inner)]
    assert torch.equal(*carried)


def test_the_uninformed_ignore_all_evidence(generator):
    source = UninformedGoals(declared(alpha=0.5))
    start, memory = played(source)
    assert torch.equal(memory, start), "not what is done"
    prior = source.prior(ROWS, P, CPU)
    assert torch.equal(source.carry(prior, torch.ones(ROWS, P, dtype=torch.int64)), prior), "nor what came of it"
    estimate = source.infer(memory, view(rows=ROWS))
    alike = torch.full((ROWS, P, G), 1 / G)
    torch.testing.assert_close(estimate.point, alike)
    draws = estimate.draw(2000, generator)
    assert torch.equal(draws.sum(-1), torch.ones(ROWS, 2000, P))
    torch.testing.assert_close(draws.mean(1), alike, atol=0.05, rtol=0)


def test_an_uninformed_oracle_is_not_told():
    source = UninformedGoals(OracleGoals(G))
    told = [source.start(source.prior(2, P, CPU), torch.full((2, P), goal)) for goal in range(G)]
    assert torch.equal(*told)
    assert torch.equal(told[0], torch.full((2, P, G), 1 / G))


def test_uninformed_subgoals_are_drawn_from_the_prior_of_their_codes(generator):
    source = UninformedGoals(subgoals())
    _, memory = played(source)
    estimate = source.infer(memory, view(rows=ROWS))
    assert torch.equal(estimate.point, torch.zeros(ROWS, P, 2))
    draws = estimate.draw(4000, generator)
    torch.testing.assert_close(draws.mean(1), torch.zeros(ROWS, P, 2), atol=0.1, rtol=0)
    torch.testing.assert_close(draws.std(1), torch.ones(ROWS, P, 2), atol=0.1, rtol=0)


def test_a_shuffled_oracle_is_told_anew_when_goals_change():
    game = stag_hunt()
    seats = arrange([["learner", "switcher:1"]], 12, game, CPU)
    learner = plain_learner(game, source=ShuffledGoals(OracleGoals(2)))
    episodes = play(game, seats, {"learner": learner}, torch.Generator().manual_seed(0)).episodes
    there = episodes.active[:, :, 1].all(1)
    assert there[:2].all()
    first, second = (torch.eye(2)[episodes.truth[t, :, 1]] for t in (0, 1))
    got = [episodes.goal[t, :, 1] for t in (0, 1)]
    assert torch.equal(got[0].sum(0), first.sum(0)), "the same goals, in other places"
    assert torch.equal(got[1].sum(0), second.sum(0))
    assert not torch.equal(got[0], first)


def test_every_way_to_play_starts_from_the_same_episodes():
    """Also in later chunks, whatever chance the earlier ones took."""
    data = attached(tiny_data(seats=["learner", "switcher"]))
    plain = list(data.evaluate(data.lineups, 10))
    changed = list(data.evaluate(data.lineups, 10, lambda learner: learner._replace(simulations=5, trees=2)))
    assert len(plain) == 3
    for one, two in zip(plain, changed, strict=True):
        assert torch.equal(one.observation[0], two.observation[0])
        assert torch.equal(one.truth[0], two.truth[0])
    assert any(not same(one.action[:1], two.action[:1]) for one, two in zip(plain, changed, strict=True))


@pytest.mark.parametrize("goals", ["declared", "subgoal", "codebook", "oracle"])
def test_what_the_team_earns_with_goals_that_mean_nothing(goals):
    found, agent, data = evaluated(goals, [GoalEffect()])
    for end, name in (("", "mean"), ("_low", "low"), ("_high", "high"), ("_discounted", "discounted")):
        assert found[f"goal/return_inferred{end}"] == found[f"return/team_{name}"]
    data.attach(agent.learner, agent.load_learner)
    for name, control in (("shuffled", ShuffledGoals), ("none", UninformedGoals)):
        metric = ReturnMetrics()
        for episodes in data.evaluate(data.lineups, 10, lambda x, c=control: x._replace(source=c(x.source))):
            metric.update(episodes)
        assert found[f"goal/return_{name}"] == pytest.approx(float(metric.compute()["return/team_mean"]))


def test_fewer_episodes_are_whole_chunks_of_the_evaluation():
    found, _, data = evaluated("declared", [GoalEffect(episodes=5)])
    metric = ReturnMetrics()
    for _, episodes in zip(range(2), data.evaluate(data.lineups, 10), strict=False):  # 8 of 10, in chunks of 4
        metric.update(episodes)
    assert found["goal/return_inferred"] == pytest.approx(float(metric.compute()["return/team_mean"]))


@pytest.mark.parametrize(("goals", "seats"), [("none", ["learner", "switcher"]), ("declared", ["switcher", "random"])])
def test_without_goals_or_a_learner_nothing_is_played_again(goals, seats):
    found, *_ = evaluated(goals, [GoalEffect()], seats=seats)
    assert "return/team_mean" in found
    assert not [name for name in found if "goal/return" in name]


def test_no_episodes_are_refused():
    with pytest.raises(ConfigError, match="at least 1"):
        GoalEffect(episodes=0)
