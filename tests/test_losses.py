import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import discounted_returns

from omg_lightning.losses import (
    gaussian_kl,
    masked_logits,
    player_targets,
    reconstruction,
    soft_cross_entropy,
    squared_error,
    traced_returns,
)
from omg_lightning.types import PlaneLogits


def test_discounted_returns_by_hand():
    reward = torch.tensor([[1.0, 0.0], [0.0, 4.0], [2.0, 0.0]])
    expected = torch.tensor([[1.5, 2.0], [1.0, 4.0], [2.0, 0.0]])
    assert torch.equal(discounted_returns(reward, 0.5), expected)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=8), st.floats(0, 1))
def test_discounted_returns_are_the_sum_of_discounted_rewards(rewards, discount):
    found = discounted_returns(torch.tensor(rewards, dtype=torch.float64), discount)
    for t in range(len(rewards)):
        slow = sum(r * discount**k for k, r in enumerate(rewards[t:]))
        assert float(found[t]) == pytest.approx(slow, abs=1e-9)


def test_traced_returns_by_hand():
    reward, value = torch.tensor([1.0, 0.0, 2.0]), torch.tensor([9.0, 4.0, 3.0])
    known = torch.tensor([True, True, False])
    # The last step earns 2; before it nothing is estimated: 0 + 0.5 * 2; then half of 4 and half of 1
    assert traced_returns(reward, value, known, 0.5, 0.5).tolist() == [1 + 0.5 * 2.5, 1.0, 2.0]
    assert torch.equal(traced_returns(reward, value, known, 0.5, 1.0), discounted_returns(reward, 0.5))
    assert traced_returns(reward, value, known, 0.5, 0.0).tolist() == [1 + 0.5 * 4, 1.0, 2.0]


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


def test_player_targets_are_cells_or_absent():
    views = torch.zeros(2, 3, 2, 2)
    views[0, 0, 1, 0] = views[0, 1, 0, 1] = views[1, 1, 1, 1] = 1
    views[:, 2] = 1  # an object plane, none of its business
    assert player_targets(views, 2).tolist() == [[2, 1], [4, 3]]


def test_reconstruction_by_hand():
    view = torch.tensor([[[[0.0, 1.0]], [[1.0, 0.0]]]])  # one player on the second of two cells, an object on the first
    logits = PlaneLogits(torch.tensor([[[0.0, math.log(2), 0.0]]]), torch.tensor([[[[math.log(3), 0.0]]]]))
    # p(player there) = 2/4; the object's 1 has p = 3/4, the 0 has p = 1/2; ones and zeros weigh a half each
    expected = math.log(2) + 0.5 * (math.log(4 / 3) + math.log(2))
    assert reconstruction(logits, view).tolist() == [pytest.approx(expected)]


def test_reconstruction_of_an_absent_player():
    logits = PlaneLogits(torch.tensor([[[0.0, 0.0, math.log(2)]]]), torch.full((1, 1, 1, 2), -math.log(2)))
    # an empty plane counts as one 1 among its two cells: their log odds go up by log 2, so that p = 1/2
    assert float(reconstruction(logits, torch.zeros(1, 2, 1, 2))) == pytest.approx(math.log(2) + 0.5 * math.log(2))


def one_in(width, full, empty):
    """The error of a plane with a 1 on the first of `width` cells, given the log odds there and on the others."""
    view, players = torch.zeros(1, 2, 1, width), torch.zeros(1, 1, width + 1)
    view[0, :, 0, 0] = 1
    objects = torch.full((1, 1, 1, width), empty)
    objects[..., 0] = full
    return float(reconstruction(PlaneLogits(players, objects), view)) - math.log(width + 1)


def test_more_empty_cells_do_not_drown_the_one_that_is_full():
    few, many = (one_in(width, -2.0 - math.log(width - 1), -1.0 - math.log(width - 1)) for width in (2, 50))
    assert few == pytest.approx(many, rel=1e-5)


def test_what_is_decoded_are_the_odds_of_a_one_though_ones_and_zeros_weigh_the_same():
    """A decoder that knows nothing does best by the share of ones: 1 of 16, anywhere."""
    odds = torch.zeros(1, 1, 4, 4, requires_grad=True)
    logits = PlaneLogits(torch.zeros(16, 1, 17), odds.expand(16, 1, 4, 4))
    views = torch.zeros(16, 2, 16)
    views[:, 0, 0] = 1
    views[range(16), 1, range(16)] = 1
    optimiser = torch.optim.LBFGS([odds], max_iter=50)

    def error():
        optimiser.zero_grad()
        loss = reconstruction(logits._replace(objects=odds.expand(16, 1, 4, 4)), views.view(16, 2, 4, 4)).mean()
        loss.backward()
        return loss

    optimiser.step(error)
    torch.testing.assert_close(odds.detach().sigmoid(), torch.full((1, 1, 4, 4), 1 / 16), atol=1e-3, rtol=0)


def test_squared_error_by_hand_and_why_it_is_not_the_default():
    view = torch.zeros(1, 2, 8, 8)
    view[0, 0, 3, 3] = 1
    nowhere = torch.zeros(1, 1, 65)
    nowhere[..., -1] = 50  # surely absent: the player has vanished from the picture
    logits = PlaneLogits(nowhere, torch.full((1, 1, 8, 8), -50.0))
    assert float(squared_error(logits, view)) == pytest.approx(1 / 128)  # looks small
    assert float(reconstruction(logits, view)) == pytest.approx(50)  # is not


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
