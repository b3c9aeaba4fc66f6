"""Which things events are about, how things are sorted into kinds, and what changes with events in other views."""

import pytest
import torch

from omg_lightning.games.grid.layout import GridLayout
from omg_lightning.opponents.outcomes import Outcomes
from omg_lightning.opponents.things import Things
from omg_lightning.types import NO_GOAL

LAYOUT = GridLayout(("self", "other_1", "food", "big", "coin"), 3, 3, 2)
FOOD, BIG, COIN = 2, 3, 4


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def no_steps():
    raise AssertionError("ordinary steps are not asked for")


def boards(*rows, own=4):
    """Views of a player on cell `own` and of things `(plane, cell)`."""
    views = torch.zeros(len(rows), 5, 9)
    views[:, 0, own] = 1
    for view, things in zip(views, rows, strict=True):
        for plane, cell in things:
            view[plane, cell] = 1
    return views.view(-1, 5, 3, 3)


def learned(before, after, times=5, codes=4):
    things = Things(codes, LAYOUT)
    known = torch.ones(len(before), dtype=torch.bool)
    for _ in range(times):
        things.learn((before, after, known), no_steps, rng())
    return things, things.kind(before, after, known)


def test_the_cause_of_an_event_is_a_vanished_object_at_a_typical_offset():
    """Each time the food above the player is gone, and at the same time one of the others anywhere."""
    before = boards(*[[(FOOD, 1), (COIN, cell)] for cell in (0, 2, 3, 5, 6, 7, 8)])
    things, kinds = learned(before, boards(*[[]] * 7))
    assert things.codes[things.count > 0].tolist() == [[1, 0, 0]]
    assert set(kinds.tolist()) == {0}
    lift = things.lift().view(5, 5)
    assert (lift > 1).nonzero().tolist() == [[1, 2]], "one row up"


def test_objects_that_stay_do_not_cause_events():
    before = boards(*[[(FOOD, 1), (COIN, 7)]] * 4)
    things, _ = learned(before, boards(*[[(COIN, 7)]] * 4))
    assert things.codes[things.count > 0].tolist() == [[1, 0, 0]]


def test_the_cause_of_a_final_event_is_at_a_typical_offset():
    before = boards(*[[(FOOD, 1), (COIN, cell)] for cell in (0, 2, 3, 5)])
    things, _ = learned(before, boards(*[[(COIN, cell)] for cell in (0, 2, 3, 5)]))
    last = boards([(COIN, 1), (FOOD, 7)])
    no = torch.zeros(1, dtype=torch.bool)
    things.learn((last, last, no), no_steps, rng())
    assert things.codes[things.kind(last, last, no)].tolist() == [[0, 0, 1]], "a new kind, at the old place"


def test_an_event_of_another_player_has_no_kind():
    """The food is gone from above the player, or from wherever it lies when another one takes it."""
    mine = boards(*[[(FOOD, 1)]] * 12)
    theirs = boards([(FOOD, 0)], [(FOOD, 2)], [(FOOD, 6)], [(FOOD, 8)])
    before = torch.cat([mine, theirs])
    before[:, COIN].view(-1, 9)[:, [0, 2, 3, 5, 6, 7, 8]] = 1  # chance: a thing is as likely to lie anywhere else
    after = before.clone()
    after[:, FOOD] = 0
    _, kinds = learned(before, after)
    assert kinds[:12].tolist() == [0] * 12
    assert kinds[12:].tolist() == [NO_GOAL] * 4


def test_levels_define_no_kinds_if_no_view_has_two_objects_in_a_plane():
    rows = [[(FOOD, 1)], [(FOOD, 1), (BIG, 1)], [(COIN, 1)]]
    things, kinds = learned(boards(*rows), boards(*[[]] * 3))
    assert sorted(things.codes[things.count > 0].tolist()) == [[0, 0, 1], [1, 0, 0]]
    assert kinds[0] == kinds[1] != kinds[2]
    beside = [[(FOOD, 1), (FOOD, 8), (BIG, 8)], [(FOOD, 1), (BIG, 1), (FOOD, 8)], [(COIN, 1)]]
    after = [[(FOOD, 8), (BIG, 8)], [(FOOD, 8)], []]
    things, kinds = learned(boards(*beside), boards(*after))
    assert sorted(things.codes[things.count > 0].tolist()) == [[0, 0, 1], [1, 0, 0], [1, 1, 0]]
    assert len(set(kinds.tolist())) == 3


def test_a_kind_is_present_if_a_cell_shows_all_its_planes():
    things = Things(3, LAYOUT)
    things.codes[0, 0] = things.codes[1, 0] = things.codes[1, 1] = 1.0
    views = boards([(FOOD, 1), (BIG, 2)], [(FOOD, 1), (BIG, 1)], [(COIN, 4)])
    assert things.there(views).tolist() == [[True, False, False], [True, True, False], [False, False, False]]
    assert things.there(views[:, None]).shape == (3, 1, 3)


def test_a_kind_that_no_longer_occurs_is_dropped():
    before, other = boards(*[[(FOOD, 1)]] * 20), boards(*[[(COIN, 1)]] * 20)
    things, _ = learned(before, boards(*[[]] * 20), times=1, codes=1)
    for _ in range(2):
        things.learn((other, boards(*[[]] * 20), torch.ones(20).bool()), no_steps, rng())
    assert things.codes.tolist() == [[1, 0, 0]], "there is no room yet"
    things = Things(2, LAYOUT, decay=0.8)
    things.learn((before, boards(*[[]] * 20), torch.ones(20).bool()), no_steps, rng())
    for _ in range(30):
        things.learn((other, boards(*[[]] * 20), torch.ones(20).bool()), no_steps, rng())
    assert things.codes[things.count > 0].tolist() == [[0, 0, 1]]


def test_without_events_no_code_is_learned():
    things = Things(2, LAYOUT)
    none = torch.zeros(0, 5, 3, 3)
    things.learn((none, none, torch.zeros(0, dtype=torch.bool)), no_steps, rng())
    assert not things.places.any()
    assert things.kind(none, none, torch.zeros(0, dtype=torch.bool)).shape == (0,)


# Other views --------------------------------------------------------------------------------------------------------


def steps(before, after):
    return torch.tensor(before).float(), torch.tensor(after).float(), torch.ones(len(before), dtype=torch.bool)


def test_an_event_is_coded_by_the_entries_that_otherwise_stay():
    """Entry 0 changes at each step, entry 1 at half of the events, entry 2 at the others."""
    outcomes = Outcomes(8, (3,))
    before = [[k, k, k % 7] for k in range(60)]
    after = [[k + 1, k + (k % 2), k % 7 + (k + 1) % 2 * 9] for k in range(60)]
    ordinary = steps(before, [[k + 1, k, k % 7] for k in range(60)])
    for _ in range(4):
        outcomes.learn(steps(before, after), lambda: ordinary, rng())
    assert outcomes.telling().tolist() == [False, True, True]
    kinds = outcomes.kind(*steps(before, after))
    assert len(set(kinds.tolist())) == 2
    assert len(set(kinds[::2].tolist())) == len(set(kinds[1::2].tolist())) == 1
    unknown = outcomes.kind(*steps(before, after)[:2], torch.zeros(60, dtype=torch.bool))
    assert set(unknown.tolist()) == {NO_GOAL}


def test_if_each_step_is_an_event_codes_are_of_the_standardised_next_view():
    outcomes = Outcomes(4, (2,))
    before, after, known = steps([[1, 0]] * 3, [[0, 7], [10, 7], [20, 7]])
    none = before[:0], after[:0], known[:0]
    outcomes.learn((before, after, known), lambda: none, rng())
    scale = after[:, 0].std()
    expected = torch.stack([after[:, 0] / scale, after[:, 1]], 1)
    torch.testing.assert_close(outcomes.vectors(before, after), torch.cat([torch.zeros(3, 2), expected], 1))
    assert len(set(outcomes.kind(before, after, known).tolist())) == 3
    outcomes.learn((before, 3 * after, known), lambda: none, rng())
    torch.testing.assert_close(outcomes.scale[0], scale, msg="the first batch decides")
    again = Outcomes(4, (2,))
    again.load_state_dict(outcomes.state_dict())
    assert torch.equal(again.vectors(before, after), outcomes.vectors(before, after)), "the scale is in the checkpoint"


@pytest.mark.parametrize("factor", [0.01, 100.0])
def test_the_unit_of_vectors_does_not_matter(factor):
    from test_codebook import clusters

    from omg_lightning.opponents.quantiser import VectorQuantiser

    vectors, which = clusters(40)
    book, random = VectorQuantiser(8, 2), rng()
    for _ in range(20):
        book.update(factor * vectors, random)
    pairs = set(zip(book(factor * vectors).tolist(), which.tolist(), strict=True))
    assert len(pairs) == 3
