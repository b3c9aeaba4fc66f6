import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import stag_hunt, tiny_agent

from omg_lightning.opponents import BeliefConfig, inter, intra
from omg_lightning.rollout import arrange, play
from omg_lightning.types import NO_GOAL

probability = st.floats(1e-6, 1)


def slow_intra(belief, likelihood, floor):
    """Bayes with numbers: the posterior, pulled towards the uniform so far that nothing is below the floor."""
    joint = [b * q for b, q in zip(belief, likelihood, strict=True)]
    return [floor + (1 - floor * len(belief)) * x / sum(joint) for x in joint]


def slow_inter(prior, realised, alpha):
    if realised == NO_GOAL:
        return prior
    return [alpha * p + (1 - alpha) * (g == realised) for g, p in enumerate(prior)]


def test_intra_by_hand():
    belief = torch.tensor([0.5, 0.25, 0.25]).log()
    found = intra(belief, torch.tensor([0.1, 0.2, 0.6]).log(), floor=0.0).exp()  # joint .05 .05 .15
    assert found.tolist() == pytest.approx([0.2, 0.2, 0.6])
    found = intra(belief, torch.tensor([0.1, 0.2, 0.6]).log(), floor=0.1).exp()
    assert found.tolist() == pytest.approx([0.1 + 0.7 * 0.2, 0.1 + 0.7 * 0.2, 0.1 + 0.7 * 0.6])


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 5).flatmap(lambda n: st.tuples(*[st.lists(probability, min_size=n, max_size=n) for _ in range(2)])),
    st.floats(0, 0.2),
)
def test_intra_against_numbers(belief_and_likelihood, floor):
    belief, likelihood = belief_and_likelihood
    belief = [b / sum(belief) for b in belief]
    found = intra(*(torch.tensor(x, dtype=torch.float64).log() for x in (belief, likelihood)), floor).exp()
    assert found.tolist() == pytest.approx(slow_intra(belief, likelihood, floor))
    assert float(found.sum()) == pytest.approx(1)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.floats(-60, 0), st.floats(-60, 0)), min_size=1, max_size=30), st.floats(1e-4, 0.4))
def test_the_floor_keeps_every_goal_alive_and_sums_to_one(evidence, floor):
    belief = torch.tensor([0.5, 0.5]).log()
    for likelihoods in evidence:
        belief = intra(belief, torch.tensor(likelihoods), floor)
        assert torch.isfinite(belief).all()
        assert float(belief.exp().sum()) == pytest.approx(1, abs=1e-5)
        assert float(belief.exp().min()) >= floor * (1 - 1e-4)


def test_a_goal_that_looked_dead_comes_back_on_a_few_steps_of_evidence():
    belief, pro, contra = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.9, 0.1]).log(), torch.tensor([0.1, 0.9]).log()
    for _ in range(1000):
        belief = intra(belief, pro, 1e-3)
    for _ in range(5):
        belief = intra(belief, contra, 1e-3)
    assert float(belief[1].exp()) > 0.9


def test_the_order_of_evidence_does_not_matter_without_a_floor():
    start = torch.tensor([0.3, 0.7], dtype=torch.float64).log()
    a, b = (torch.tensor(x, dtype=torch.float64).log() for x in ([0.2, 0.9], [0.8, 0.3]))
    torch.testing.assert_close(intra(intra(start, a, 0.0), b, 0.0), intra(intra(start, b, 0.0), a, 0.0))


def test_inter_by_hand():
    prior = torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.2, 0.8]])
    found = inter(prior, torch.tensor([0, NO_GOAL, 1]), alpha=0.9)
    torch.testing.assert_close(found, torch.tensor([[0.55, 0.45], [0.5, 0.5], [0.18, 0.82]]))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(NO_GOAL, 1), max_size=60), st.sampled_from([0.5, 0.9, 0.98, 0.995]))
def test_smoothing_equals_the_published_discounted_counts(realised, alpha):
    prior, numbers = torch.tensor([[0.5, 0.5]], dtype=torch.float64), [0.5, 0.5]
    counts = [0.5 / (1 - alpha)] * 2
    for goal in realised:
        prior, numbers = inter(prior, torch.tensor([goal]), alpha), slow_inter(numbers, goal, alpha)
        if goal != NO_GOAL:
            counts = [alpha * c + (g == goal) for g, c in enumerate(counts)]
        assert prior[0].tolist() == pytest.approx([c / sum(counts) for c in counts])
        assert prior[0].tolist() == pytest.approx(numbers)


def test_inter_leaves_its_inputs_alone_and_treats_rows_apart():
    prior = torch.rand(3, 4, 2).softmax(-1)
    realised = torch.tensor([[0, 1, NO_GOAL, 0]] * 3)
    before = prior.clone()
    found = inter(prior, realised, 0.9)
    assert torch.equal(prior, before)
    assert torch.equal(found[1:2], inter(prior[1:2], realised[1:2], 0.9))


def test_published_alpha_needs_hundreds_of_episodes_to_forget():
    prior = torch.tensor([0.5, 0.5], dtype=torch.float64)
    for _ in range(100):
        prior = inter(prior, torch.tensor(1), 0.995)
    assert float(prior[0]) == pytest.approx(0.5 * math.exp(100 * math.log(0.995)))


@pytest.mark.parametrize(("script", "goal"), [("nearest_stag", 0), ("nearest_hare", 1)])
def test_smoothed_for_few_shots_the_prior_knows_a_partner_after_five_episodes(script, goal):
    game = stag_hunt(2)
    learner = tiny_agent(game, "declared", belief=BeliefConfig(alpha=0.7)).learner()
    seats, random, prior = (
        arrange([[script] * 2], 32, game, torch.device("cpu")),
        torch.Generator().manual_seed(0),
        None,
    )
    for _ in range(5):
        played = play(game, seats, {"learner": learner}, random, prior)
        prior = played.prior
    got = (played.episodes.realised == goal).any(0)  # 8 steps are too few for the slowest pairs
    assert got.float().mean() > 0.9
    assert prior["learner"][got][:, goal].mean() > 0.8  # 1 - 0.5 * 0.7 ** 5 = 0.916 where it never failed
