"""Draws that are spread over the trees of a decision: each alone as it should be, together as evenly as can be."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from omg_lightning.draws import pick, spread


@given(st.integers(1, 4), st.integers(1, 40), st.integers(1, 3), st.integers(0, 2**31))
def test_one_number_lies_in_each_part_of_the_range(rows, trees, columns, seed):
    drawn = spread(rows, trees, columns, torch.Generator().manual_seed(seed))
    assert drawn.shape == (rows, trees, columns)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    part = (drawn.double() * trees + 1e-5).floor().sort(1).values  # a number may be rounded at the border of its part
    assert torch.equal(part, torch.arange(trees)[None, :, None].expand_as(part).double())


def test_each_number_is_uniform_and_columns_do_not_depend_on_each_other():
    drawn = spread(20_000, 4, 2, torch.Generator().manual_seed(0))
    first = drawn[:, 0, 0]  # of one tree
    assert abs(float(first.mean()) - 0.5) < 0.01
    assert abs(float(first.var()) - 1 / 12) < 0.003
    assert abs(float(torch.corrcoef(drawn[:, 0].t())[0, 1])) < 0.03


def test_pick_by_hand():
    probability = torch.tensor([0.0, 0.25, 0.0, 0.75, 0.0])
    uniform = torch.tensor([0.0, 0.2, 0.25, 0.5, 1 - 2**-24])
    assert pick(probability, uniform).tolist() == [1, 1, 3, 3, 3]


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=6), st.floats(0, 1, exclude_max=True, width=32))
def test_pick_never_returns_an_index_of_probability_0(weights, uniform):
    probability = torch.tensor(weights)
    if probability.sum() < 1e-3:
        probability[0] = 1
    assert probability[pick(probability, torch.tensor(uniform))] > 0


def test_stratified_samples_of_many_trees_have_the_right_frequencies():
    probability = torch.tensor([0.5, 0.3, 0.2])
    uniform = spread(50, 10, 1, torch.Generator().manual_seed(0))[..., 0]
    picked = pick(probability.expand(50, 10, 3), uniform)
    count = torch.nn.functional.one_hot(picked, 3).sum(1)
    assert (count - torch.tensor([5, 3, 2])).abs().max() <= 1
