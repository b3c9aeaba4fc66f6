"""Which future state was the subgoal: candidates, rules, and the scores that the learners' value head gives."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import TokenGame, play_with, tiny_agent, training_batch

from omg_lightning.opponents import SelectorConfig
from omg_lightning.opponents.selector import candidates, seat_scores, select, select_subgoals, shift
from omg_lightning.types import ConfigError

RULES = ("optimistic", "conservative", "random", "offset")


def masks(steps, rows, seats, seed):
    """Active masks: every seat is active from the start until it leaves; some are never active."""
    generator = torch.Generator().manual_seed(seed)
    leaves = torch.randint(0, steps + 1, (rows, seats), generator=generator)
    return torch.arange(steps)[:, None, None] < leaves


def slow_candidates(active, t, b, p, horizon):
    """Steps ahead of the states of seat p that may be a subgoal at step t."""
    if not active[t, b, p]:
        return []
    return [k for k in range(1, horizon + 1) if t + k < len(active) and active[t + k, b, p]]


shapes = st.tuples(st.integers(1, 6), st.integers(1, 3), st.integers(1, 3), st.integers(0, 99))


@settings(max_examples=30, deadline=None)
@given(shapes, st.integers(1, 8))
def test_candidates_are_inside_the_episode_and_before_the_seat_leaves(shape, horizon):
    active = masks(*shape)
    valid = candidates(active, horizon)
    assert valid.shape == (horizon, *active.shape)
    for t, b, p in torch.ones_like(active).nonzero().tolist():
        found = [k + 1 for k in range(horizon) if valid[k, t, b, p]]
        assert found == slow_candidates(active, t, b, p, horizon)


@settings(max_examples=40, deadline=None)
@given(shapes, st.integers(1, 5), st.sampled_from(RULES), st.data())
def test_each_rule_selects_what_a_loop_over_candidates_selects(shape, horizon, rule, data):
    active, offset = masks(*shape), data.draw(st.integers(1, horizon))
    score = torch.randn(horizon, *active.shape, generator=torch.Generator().manual_seed(shape[-1]))
    ahead = select(score, candidates(active, horizon), rule, torch.Generator().manual_seed(0), offset)
    assert ahead.shape == active.shape
    for t, b, p in torch.ones_like(active).nonzero().tolist():
        found, options = int(ahead[t, b, p]), slow_candidates(active, t, b, p, horizon)
        if not options:
            assert found == 0  # its last step: the state itself
        elif rule == "optimistic":
            assert found == max(options, key=lambda k: score[k - 1, t, b, p])
        elif rule == "conservative":
            assert found == min(options, key=lambda k: score[k - 1, t, b, p])
        elif rule == "offset":
            assert found == min(offset, options[-1])
        else:
            assert found in options


def test_the_random_rule_takes_every_candidate_with_equal_probability():
    valid = torch.ones(3, 3000, dtype=torch.bool)
    valid[1] = False
    ahead = select(torch.randn(3, 3000), valid, "random", torch.Generator().manual_seed(0))
    shares = torch.bincount(ahead, minlength=4) / 3000
    torch.testing.assert_close(shares, torch.tensor([0, 0.5, 0, 0.5]), atol=0.04, rtol=0)


@pytest.mark.parametrize(("rule", "sign"), [("optimistic", 1), ("conservative", -1)])
def test_gumbel_noise_turns_scores_into_a_softmax(rule, sign):
    score = torch.tensor([0.0, 1.0, 2.0])[:, None].expand(3, 6000)
    valid = torch.ones(3, 6000, dtype=torch.bool)
    ahead = select(score, valid, rule, torch.Generator().manual_seed(0), temperature=2.0)
    shares = torch.bincount(ahead - 1, minlength=3) / 6000
    torch.testing.assert_close(shares, torch.softmax(sign * score[:, 0] / 2, 0), atol=0.03, rtol=0)


@pytest.mark.parametrize("rule", RULES)
def test_selection_depends_on_its_generator_alone_and_leaves_its_inputs_alone(rule):
    score = torch.randn(4, 9, 4, 2, generator=torch.Generator().manual_seed(1))
    valid = candidates(masks(9, 4, 2, seed=3), 4)
    before = score.clone(), valid.clone()
    found = [select(score, valid, rule, torch.Generator().manual_seed(s), 1, 1.0) for s in (7, 7, 8)]
    assert torch.equal(found[0], found[1])
    assert rule == "offset" or not torch.equal(found[0], found[2])
    assert torch.equal(score, before[0])
    assert torch.equal(valid, before[1])


@settings(max_examples=20, deadline=None)
@given(shapes)
def test_shift_reads_each_entry_so_many_steps_later(shape):
    steps, rows, seats, seed = shape
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(steps, rows, seats, 2, generator=generator)
    room = (steps - torch.arange(steps))[:, None, None].expand(steps, rows, seats)
    ahead = (torch.rand(steps, rows, seats, generator=generator) * room).long()
    found = shift(x, ahead)
    for t, b, p in ahead.new_ones(ahead.shape).nonzero().tolist():
        assert torch.equal(found[t, b, p], x[t + ahead[t, b, p], b, p])


# Scores of learners ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ragged():
    """An agent with subgoals, and episodes with two learners in which seats leave at different times."""
    game = TokenGame(3)
    agent = tiny_agent(game)
    episodes = play_with(agent, game, ["learner", "random", "learner"])
    assert (episodes.active[-1].any(-1) != episodes.active[-1].all(-1)).any()
    return game, agent, episodes


def draws(episodes, seed=0):
    """Codes and inferred goals `[T, B, P, 3]` at random."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(*episodes.active.shape, 3, generator=generator) for _ in range(2))


@torch.no_grad()
def test_a_candidates_score_is_the_mean_value_over_the_observing_learners(ragged, monkeypatch):
    monkeypatch.setattr("omg_lightning.opponents.selector.ROWS", 7)  # so that there are several blocks
    game, agent, episodes = ragged
    seats, policy = episodes.active.shape[2], agent.algorithm.policy
    codes, inferred = draws(episodes)
    valid = candidates(episodes.active, 4)
    found = seat_scores(training_batch(agent, episodes), codes, inferred, valid, agent.algorithm.values())
    pairs = 0
    for k, t, b, j in valid.nonzero().tolist():
        values = []
        for ego in range(seats):
            if ego == j or not episodes.learner[t, b, ego]:
                continue
            others = [(ego + m) % seats for m in range(1, seats)]
            goals = torch.stack([codes[t + 1 + k, b, j] if seat == j else inferred[t, b, seat] for seat in others])
            view = episodes.observation[t, b, ego].float()[None]
            condition = policy.condition(goals[None], torch.tensor([ego]))
            values.append(float(policy(view, torch.tensor([t / game.max_steps]), condition)[1]))
        pairs += len(values) == 2
        expected = sum(values) / len(values) if values else 0.0
        assert float(found[k, t, b, j]) == pytest.approx(expected, abs=1e-5)
    assert pairs, "or no seat here is watched by two learners"


@pytest.mark.parametrize("rule", ["optimistic", "conservative"])
def test_the_selected_subgoal_has_the_largest_or_the_smallest_score(ragged, rule):
    _, agent, episodes = ragged
    batch, (codes, inferred) = training_batch(agent, episodes), draws(episodes)
    ahead = select_subgoals(batch, codes, inferred, SelectorConfig(rule, horizon=4), torch.Generator())
    score = seat_scores(batch, codes, inferred, candidates(episodes.active, 4), agent.algorithm.values()).detach()
    best = max if rule == "optimistic" else min
    for t, b, j in episodes.active.nonzero().tolist():
        options = slow_candidates(episodes.active, t, b, j, 4)
        if options:
            assert float(score[ahead[t, b, j] - 1, t, b, j]) == best(float(score[k - 1, t, b, j]) for k in options)
        else:
            assert ahead[t, b, j] == 0


@pytest.mark.parametrize("offline", [True, False])
def test_seats_that_no_learner_watched_get_a_random_subgoal_not_always_the_next_state(offline):
    # In an online batch that still holds offline episodes, and where the learner has left, nobody gives a score.
    game = TokenGame(3, ragged=False)
    agent = tiny_agent(game)
    episodes = play_with(agent, game, ["random"] * 3, 32)
    codes, inferred = draws(episodes)
    batch = training_batch(agent, episodes, offline)
    assert (batch.values is None) == offline
    ahead = select_subgoals(batch, codes, inferred, SelectorConfig(horizon=4), torch.Generator().manual_seed(0))
    assert len(ahead[0].unique()) == 4


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"horizon": 0}, "selector.horizon is 0"),
        ({"offset": 9}, "offset 9"),
        ({"offset": 0}, "offset 0"),
        ({"alpha": -1.0}, "selector.alpha is -1"),
        ({"temperature": -1.0}, "temperature -1"),
    ],
)
def test_a_selector_setting_out_of_range_is_refused_by_name(config, message):
    with pytest.raises(ConfigError, match=message) as caught:
        SelectorConfig(**config)
    assert "\n" not in str(caught.value)
