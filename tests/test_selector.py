import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from omg_lightning.opponents import candidates, select, shift

RULES = ("optimistic", "conservative", "random", "offset")


def ragged(steps, rows, seats, seed):
    """Active masks: every seat is there from the start until it leaves, some from the start not at all."""
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
    active = ragged(*shape)
    valid = candidates(active, horizon)
    assert valid.shape == (horizon, *active.shape)
    for t, b, p in torch.ones_like(active).nonzero().tolist():
        found = [k + 1 for k in range(horizon) if valid[k, t, b, p]]
        assert found == slow_candidates(active, t, b, p, horizon)


@settings(max_examples=40, deadline=None)
@given(shapes, st.integers(1, 5), st.sampled_from(RULES), st.data())
def test_select_against_a_slow_reference(shape, horizon, rule, data):
    active, offset = ragged(*shape), data.draw(st.integers(1, horizon))
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


def test_random_takes_every_candidate_alike():
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
def test_select_depends_on_its_generator_alone_and_keeps_its_inputs(rule):
    score = torch.randn(4, 9, 4, 2, generator=torch.Generator().manual_seed(1))
    valid = candidates(ragged(9, 4, 2, seed=3), 4)
    before = score.clone(), valid.clone()
    found = [select(score, valid, rule, torch.Generator().manual_seed(s), 1, 1.0) for s in (7, 7, 8)]
    assert torch.equal(found[0], found[1])
    assert rule == "offset" or not torch.equal(found[0], found[2])
    assert torch.equal(score, before[0])
    assert torch.equal(valid, before[1])


@settings(max_examples=20, deadline=None)
@given(shapes)
def test_shift_against_a_loop(shape):
    steps, rows, seats, seed = shape
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(steps, rows, seats, 2, generator=generator)
    room = (steps - torch.arange(steps))[:, None, None].expand(steps, rows, seats)
    ahead = (torch.rand(steps, rows, seats, generator=generator) * room).long()
    found = shift(x, ahead)
    for t, b, p in ahead.new_ones(ahead.shape).nonzero().tolist():
        assert torch.equal(found[t, b, p], x[t + ahead[t, b, p], b, p])
