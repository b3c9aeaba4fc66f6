"""Losses as pure functions, by hand and against slow loops."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from omg_lightning.losses import (
    discounted_return,
    draw_gaussian,
    gaussian_kl,
    masked_logits,
    soft_cross_entropy,
    td_lambda,
)


def test_td_lambda_by_hand():
    reward, value = torch.tensor([1.0, 0.0, 2.0]), torch.tensor([9.0, 4.0, 3.0])
    known = torch.tensor([True, True, False])
    # The last step earns 2; before it nothing is estimated: 0 + 0.5 * 2; then half of 4 and half of 1
    assert td_lambda(reward, value, known, 0.5, 0.5).tolist() == [1 + 0.5 * 2.5, 1.0, 2.0]
    assert td_lambda(reward, value, known, 0.5, 0.0).tolist() == [1 + 0.5 * 4, 1.0, 2.0]


def test_td_lambda_of_1_is_the_discounted_return_from_each_step_on():
    reward = torch.tensor([[1.0, 0.0], [0.0, 4.0], [2.0, 0.0]])
    expected = torch.tensor([[1.5, 2.0], [1.0, 4.0], [2.0, 0.0]])
    for known in (True, False):
        mask = torch.full_like(reward, known, dtype=torch.bool)
        assert torch.equal(td_lambda(reward, reward + 7, mask, 0.5, 1.0), expected)


numbers = st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5), st.booleans()), min_size=1, max_size=8)


@settings(max_examples=40, deadline=None)
@given(numbers, st.floats(0, 1), st.floats(0, 1))
def test_td_lambda_equals_a_slow_recursion(steps, discount, lam):
    reward, value = (torch.tensor([step[k] for step in steps], dtype=torch.float64) for k in range(2))
    known = torch.tensor([step[2] for step in steps])

    def slow(t):
        if t == len(steps):
            return 0.0
        if t + 1 == len(steps) or not steps[t + 1][2]:
            return steps[t][0] + discount * slow(t + 1)
        return steps[t][0] + discount * ((1 - lam) * steps[t + 1][1] + lam * slow(t + 1))

    found = td_lambda(reward, value, known, discount, lam)
    assert found.tolist() == pytest.approx([slow(t) for t in range(len(steps))], abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=8), st.floats(0, 1))
def test_the_discounted_return_is_the_sum_of_discounted_rewards(rewards, discount):
    reward = torch.tensor(rewards, dtype=torch.float64)
    slow = sum(r * discount**k for k, r in enumerate(rewards))
    assert float(discounted_return(reward, discount)) == pytest.approx(slow, abs=1e-9)
    both = discounted_return(torch.stack([reward, 2 * reward], 1), discount)
    assert both.tolist() == pytest.approx([slow, 2 * slow], abs=1e-9)


@pytest.mark.parametrize(
    ("mean", "variance", "other_mean", "other_variance", "expected"),
    [
        (0, 1, 0, 1, 0.0),
        (1, 1, 0, 1, 0.5),  # half the squared distance
        (0, 4, 0, 1, 0.5 * (4 - 1 - math.log(4))),
        (0, 1, 0, 4, 0.5 * (1 / 4 - 1 + math.log(4))),  # not symmetric
        (3, 4, 1, 2, 0.5 * (math.log(2 / 4) + (4 + 4) / 2 - 1)),
    ],
)
def test_gaussian_kl_by_hand(mean, variance, other_mean, other_variance, expected):
    numbers = torch.tensor([mean, math.log(variance), other_mean, math.log(other_variance)], dtype=torch.float64)
    assert float(gaussian_kl(*numbers)) == pytest.approx(expected, abs=1e-12)


def test_gaussian_kl_equals_torch_for_every_dimension():
    generator = torch.Generator().manual_seed(0)
    mean, log_var, other, other_log_var = (torch.randn(5, 3, generator=generator) for _ in range(4))
    one = torch.distributions.Normal(mean, (0.5 * log_var).exp())
    two = torch.distributions.Normal(other, (0.5 * other_log_var).exp())
    torch.testing.assert_close(
        gaussian_kl(mean, log_var, other, other_log_var), torch.distributions.kl_divergence(one, two)
    )


def test_gaussian_draws_have_their_mean_and_variance_and_pass_a_gradient():
    mean = torch.tensor([1.0, -2.0], requires_grad=True)
    log_var = torch.tensor([0.0, math.log(4)], requires_grad=True)
    generator = torch.Generator().manual_seed(0)
    drawn = draw_gaussian(mean.expand(20_000, 2), log_var.expand(20_000, 2), generator)
    torch.testing.assert_close(drawn.mean(0), mean, atol=0.06, rtol=0)
    torch.testing.assert_close(drawn.std(0), torch.tensor([1.0, 2.0]), atol=0.06, rtol=0)
    drawn.sum().backward()
    assert mean.grad.tolist() == [20_000, 20_000]
    assert log_var.grad.abs().min() > 0
    again = draw_gaussian(mean.expand(20_000, 2), log_var.expand(20_000, 2), torch.Generator().manual_seed(0))
    assert torch.equal(drawn, again)


def test_soft_cross_entropy_by_hand():
    logits = torch.tensor([[0.0, math.log(3), 5.0]])
    legal = torch.tensor([[True, True, False]])
    target = torch.tensor([[0.5, 0.5, 0.0]])
    found = soft_cross_entropy(masked_logits(logits, legal), target)
    assert found.tolist() == [pytest.approx(0.5 * math.log(4) + 0.5 * math.log(4 / 3))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_masked_logits_give_no_probability_and_no_nan(dtype):
    logits = torch.zeros(2, 4, dtype=dtype, requires_grad=True)
    legal = torch.tensor([[True, False, True, False], [False, False, False, True]])
    masked = masked_logits(logits, legal)
    assert torch.equal(masked.softmax(-1).float(), torch.tensor([[0.5, 0, 0.5, 0], [0, 0, 0, 1.0]]))
    target = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 1]], dtype=dtype)
    soft_cross_entropy(masked, target).sum().backward()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[~legal] == 0).all()
    assert torch.isfinite(masked_logits(logits, torch.zeros_like(legal)).softmax(-1)).all()  # nothing legal at all
