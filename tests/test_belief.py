"""The mathematics of an explicit belief, against plain numbers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import stag_hunt, tiny_agent

from omg_lightning.actors import arrange
from omg_lightning.envs import RulesEnv
from omg_lightning.opponents import BeliefConfig
from omg_lightning.opponents.belief import bayes_update, draw_one_hot, floored, smooth_prior
from omg_lightning.rollout import play
from omg_lightning.types import NO_GOAL

probability = st.floats(1e-6, 1)


def slow_bayes_update(belief, likelihood, floor):
    """Bayes with numbers: the posterior, mixed with the uniform belief so that nothing is below the floor."""
    joint = [b * q for b, q in zip(belief, likelihood, strict=True)]
    return [floor + (1 - floor * len(belief)) * x / sum(joint) for x in joint]


def slow_smooth_prior(prior, achieved, alpha):
    if achieved == NO_GOAL:
        return prior
    return [alpha * p + (1 - alpha) * (g == achieved) for g, p in enumerate(prior)]


def test_bayes_update_by_hand():
    belief = torch.tensor([0.5, 0.25, 0.25]).log()
    found = bayes_update(belief, torch.tensor([0.1, 0.2, 0.6]).log(), floor=0.0).exp()  # joint .05 .05 .15
    assert found.tolist() == pytest.approx([0.2, 0.2, 0.6])
    found = bayes_update(belief, torch.tensor([0.1, 0.2, 0.6]).log(), floor=0.1).exp()
    assert found.tolist() == pytest.approx([0.1 + 0.7 * 0.2, 0.1 + 0.7 * 0.2, 0.1 + 0.7 * 0.6])


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 5).flatmap(lambda n: st.tuples(*[st.lists(probability, min_size=n, max_size=n) for _ in range(2)])),
    st.floats(0, 0.2),
)
def test_bayes_update_equals_bayes_with_numbers(belief_and_likelihood, floor):
    belief, likelihood = belief_and_likelihood
    belief = [b / sum(belief) for b in belief]
    found = bayes_update(*(torch.tensor(x, dtype=torch.float64).log() for x in (belief, likelihood)), floor).exp()
    assert found.tolist() == pytest.approx(slow_bayes_update(belief, likelihood, floor))
    assert float(found.sum()) == pytest.approx(1)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.floats(-60, 0), st.floats(-60, 0)), min_size=1, max_size=30), st.floats(1e-4, 0.4))
def test_no_goal_falls_below_the_floor_and_the_belief_sums_to_one(evidence, floor):
    belief = torch.tensor([0.5, 0.5]).log()
    for likelihoods in evidence:
        belief = bayes_update(belief, torch.tensor(likelihoods), floor)
        assert torch.isfinite(belief).all()
        assert float(belief.exp().sum()) == pytest.approx(1, abs=1e-5)
        assert float(belief.exp().min()) >= floor * (1 - 1e-4)


def test_floored_mixes_with_the_uniform_belief_by_hand():
    found = floored(torch.tensor([[1.0, 0.0], [0.5, 0.5]]), 0.1)
    torch.testing.assert_close(found, torch.tensor([[0.9, 0.1], [0.5, 0.5]]))


def test_a_goal_at_the_floor_recovers_after_a_few_steps_of_evidence():
    belief, pro, contra = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.9, 0.1]).log(), torch.tensor([0.1, 0.9]).log()
    for _ in range(1000):
        belief = bayes_update(belief, pro, 1e-3)
    for _ in range(5):
        belief = bayes_update(belief, contra, 1e-3)
    assert float(belief[1].exp()) > 0.9


def test_the_order_of_evidence_does_not_matter_without_a_floor():
    start = torch.tensor([0.3, 0.7], dtype=torch.float64).log()
    a, b = (torch.tensor(x, dtype=torch.float64).log() for x in ([0.2, 0.9], [0.8, 0.3]))
    one, two = (bayes_update(bayes_update(start, x, 0.0), y, 0.0) for x, y in ((a, b), (b, a)))
    torch.testing.assert_close(one, two)


def test_smooth_prior_by_hand():
    prior = torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.2, 0.8]])
    found = smooth_prior(prior, torch.tensor([0, NO_GOAL, 1]), alpha=0.9)
    torch.testing.assert_close(found, torch.tensor([[0.55, 0.45], [0.5, 0.5], [0.18, 0.82]]))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(NO_GOAL, 1), max_size=60), st.sampled_from([0.5, 0.9, 0.98, 0.995]))
def test_smoothing_equals_the_published_discounted_counts(achieved, alpha):
    prior, numbers = torch.tensor([[0.5, 0.5]], dtype=torch.float64), [0.5, 0.5]
    counts = [0.5 / (1 - alpha)] * 2
    for goal in achieved:
        prior, numbers = smooth_prior(prior, torch.tensor([goal]), alpha), slow_smooth_prior(numbers, goal, alpha)
        if goal != NO_GOAL:
            counts = [alpha * c + (g == goal) for g, c in enumerate(counts)]
        assert prior[0].tolist() == pytest.approx([c / sum(counts) for c in counts])
        assert prior[0].tolist() == pytest.approx(numbers)


def test_smooth_prior_leaves_its_inputs_alone_and_treats_rows_independently():
    prior = torch.rand(3, 4, 2, generator=torch.Generator().manual_seed(0)).softmax(-1)
    achieved = torch.tensor([[0, 1, NO_GOAL, 0]] * 3)
    before = prior.clone()
    found = smooth_prior(prior, achieved, 0.9)
    assert torch.equal(prior, before)
    assert torch.equal(found[1:2], smooth_prior(prior[1:2], achieved[1:2], 0.9))


def test_the_published_alpha_needs_hundreds_of_episodes_to_forget():
    prior = torch.tensor([0.5, 0.5], dtype=torch.float64)
    for _ in range(100):
        prior = smooth_prior(prior, torch.tensor(1), 0.995)
    assert float(prior[0]) == pytest.approx(0.5 * math.exp(100 * math.log(0.995)))


def test_goals_are_drawn_from_the_belief_for_each_tree_and_seat_on_its_own(generator):
    belief = torch.tensor([[[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]], [[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]]])
    draws = draw_one_hot(belief, 4000, generator)  # [L, K, P, G]
    assert torch.equal(draws.sum(-1), torch.ones(2, 4000, 3))
    assert torch.equal(draws, draws.round())
    torch.testing.assert_close(draws.mean(1), belief, atol=0.03, rtol=0)
    together = draws[0, :, 1, 0] * draws[0, :, 2, 0]
    assert float(together.mean()) == pytest.approx(0.2 * 0.5, abs=0.03), "seats are independent of each other"


def test_goals_of_few_trees_are_stratified_by_the_belief(generator):
    belief = torch.tensor([[[0.5, 0.3, 0.2], [0.05, 0.0, 0.95]]]).expand(20, -1, -1)
    count = draw_one_hot(belief, 10, generator).sum(1)  # [L, P, G]
    assert (count - 10 * belief).abs().max() < 1
    assert (count[:, 1, 1] == 0).all()


@pytest.mark.parametrize(("script", "goal"), [("nearest_stag", 0), ("nearest_hare", 1)])
def test_with_a_low_alpha_the_prior_knows_a_partner_after_five_episodes(script, goal):
    env = RulesEnv(stag_hunt(2))
    learner = tiny_agent(env, "Declared", opponent_args={"belief": BeliefConfig(alpha=0.7)}).actor()
    seating = arrange([[script] * 2], 32, env, torch.Generator().device)
    random, prior = torch.Generator().manual_seed(0), None
    for _ in range(5):
        played = play(env, seating, {"learner": learner}, random, prior)
        prior = played.prior
    got = (played.episodes.achieved_goal == goal).any(0)  # 8 steps are too few for the slowest pairs
    assert got.float().mean() > 0.9
    assert prior["learner"][got][:, goal].mean() > 0.8  # 1 - 0.5 * 0.7 ** 5 = 0.916 where it never failed
