"""Learned kinds of outcomes in games without a grid: changes that only events bring, or else the next view."""

import torch

from omg_lightning.opponents.outcomes import Outcomes

SIZE = 3


def one_hot(index):
    return torch.nn.functional.one_hot(index, SIZE).float()


def chain(count, stays, random):
    """Views of actions: the next action is the last one with probability `stays`, else any of the three."""
    last, other = torch.randint(SIZE, (2, count), generator=random)
    following = torch.where(torch.rand(count, generator=random) < stays, last, other)
    return one_hot(last), one_hot(following), torch.ones(count, dtype=torch.bool)


def taken(count, random, event):
    """Views of three objects, of which the event takes one; other steps change nothing."""
    which = torch.randint(SIZE, (count,), generator=random)
    there = torch.ones(count, SIZE)
    return there, there - event * one_hot(which), torch.ones(count, dtype=torch.bool)


def in_use(model):
    return int((model.count > 0).sum())


def test_actions_that_change_a_little_more_often_at_events_are_told_apart_by_the_next_view():
    model, random = Outcomes(8, (SIZE,)), torch.Generator().manual_seed(0)
    for _ in range(10):
        model.learn(chain(500, 0.6, random), lambda: chain(500, 0.8, random), random)
    share = model.changes / model.steps[:, None]
    assert (share[1] - share[0] > 0.06).all()  # far more than the standard error of 0.007, yet no event is explained
    assert not model.telling().any()
    before, after, known = chain(200, 0.7, random)
    pairs = {(int(a), int(k)) for a, k in zip(after.argmax(-1), model.kind(before, after, known), strict=True)}
    assert len(pairs) == SIZE
    assert in_use(model) == SIZE


def test_objects_that_events_take_are_the_kinds():
    model, random = Outcomes(8, (SIZE,)), torch.Generator().manual_seed(0)
    for _ in range(10):
        model.learn(taken(300, random, 1), lambda: taken(300, random, 0), random)
    assert model.telling().all()
    assert in_use(model) == SIZE


def test_codes_start_anew_once_changes_explain_the_events():
    model, random = Outcomes(8, (SIZE,)), torch.Generator().manual_seed(0)
    nothing = tuple(part[:0] for part in taken(1, random, 0))
    model.learn(taken(300, random, 1), lambda: nothing, random)  # without other steps: coded by the next view
    assert not model.telling().any()
    assert in_use(model) == SIZE
    model.learn(taken(300, random, 1), lambda: taken(300, random, 0), random)
    assert model.telling().all()
    assert in_use(model) == SIZE
    assert model.codes[model.count > 0][:, SIZE:].abs().max() == 0  # none is left of the other representation
