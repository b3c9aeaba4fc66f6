"""Events in whole episodes: who was rewarded for what it did, which goal each step led to, who is to be predicted."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import TokenGame, play_with, tiny_agent

from omg_lightning.events import around, endings, last_achieved, next_achieved, one_hot_goals, rewarded, watched
from omg_lightning.games import Snowdrift
from omg_lightning.types import NO_GOAL


def bits(*rows):
    """Bool `[T, 1, P]` of rows of 0 and 1, one for each step."""
    return torch.tensor(rows).bool()[:, None]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(0, 999))
def test_a_step_is_labelled_with_the_next_goal_that_its_seat_achieves(steps, seed):
    generator = torch.Generator().manual_seed(seed)
    active = torch.arange(steps)[:, None, None] < torch.randint(0, steps + 1, (2, 3), generator=generator)
    achieved = torch.randint(NO_GOAL, 2, (steps, 2, 3), generator=generator)
    label = next_achieved(achieved, active)  # also where padding holds a goal
    for t, b, p in torch.ones_like(active).nonzero().tolist():
        there = [k for k in range(t, steps) if achieved[k, b, p] != NO_GOAL and active[k, b, p]]
        assert int(label[t, b, p]) == (int(achieved[there[0], b, p]) if there and active[t, b, p] else NO_GOAL)


def test_the_last_achieved_goal_of_an_episode_by_hand():
    goal = torch.tensor([[0, NO_GOAL, 1], [NO_GOAL, NO_GOAL, 0], [NO_GOAL, NO_GOAL, NO_GOAL]])[:, None]
    assert last_achieved(goal).tolist() == [[0, NO_GOAL, 0]]


def test_no_goal_is_a_vector_of_zeros():
    assert one_hot_goals(torch.tensor([1, NO_GOAL]), 2).tolist() == [[0, 1], [0, 0]]


def test_on_a_grid_only_rewards_of_seats_on_an_object_count_if_there_are_any():
    game = Snowdrift(num_players=3, num_drifts=2, height=2, width=3, max_steps=4)
    made = play_with(tiny_agent(game, "Direct"), game, ["random"] * 3, 1).map(lambda field: field[:1])
    state = game.place(players=[(0, 0), (0, 1), (1, 1)], drifts=[(0, 0), (1, 2)])  # seat 0 on a drift, others on snow
    seen = game.observe(state).to(torch.uint8)[None]
    episodes = made._replace(observation=seen, reward=torch.tensor([[[2.0, 6.0, 6.0]]]), active=bits([1, 1, 1]))
    assert rewarded(episodes, game.layout).tolist() == [[[True, False, False]]]
    assert rewarded(episodes, None).all(), "without a grid every reward counts"
    # Nobody stands on anything: all seats that are rewarded count. Seats without reward, or that have left, never do.
    bare = game.observe(game.place(players=[(0, 1)] * 3, drifts=[(0, 0), (1, 2)])).to(torch.uint8)[None]
    episodes = episodes._replace(observation=bare, reward=torch.tensor([[[2.0, 0.0, 6.0]]]))
    for layout in (game.layout, None):
        assert rewarded(episodes, layout).tolist() == [[[True, False, True]]]
        gone = episodes._replace(active=bits([1, 1, 0]))
        assert rewarded(gone, layout).tolist() == [[[True, False, False]]]


def test_endings_are_events_and_the_last_step_of_each_seat():
    event = bits([0, 0], [1, 0], [0, 0], [0, 0])
    active = bits([1, 1], [1, 1], [1, 0], [0, 0])
    # Seat 0: its event, and its last step after it; seat 1: its last step alone.
    assert endings(event, active)[:, 0].tolist() == [[False, False], [True, True], [True, False], [False, False]]
    leaves = endings(event, active & bits([1, 1], [1, 1], [0, 0], [0, 0]))
    assert leaves[:, 0, 0].tolist() == [False, True, False, False], "a seat that leaves with its event ends there"


@pytest.mark.parametrize(
    ("lineup", "expected"),
    [
        (["random"] * 3, [True, True, True]),  # offline: everyone
        (["learner", "random", "random"], [False, True, True]),
        (["random", "learner", "learner"], [True, True, True]),  # learners predict each other
    ],
)
def test_seats_that_a_learner_has_to_predict_are_watched(lineup, expected):
    game = TokenGame(3)
    episodes = play_with(tiny_agent(game, "Direct"), game, lineup)
    assert torch.equal(watched(episodes), episodes.active & torch.tensor(expected))


def test_observed_seats_are_decided_per_episode():
    # Scripted episodes stay in the buffer for a while after the online phase starts.
    game = TokenGame(3, ragged=False)
    agent = tiny_agent(game, "Direct")
    one = play_with(agent, game, ["random"] * 3, 2)
    two = play_with(agent, game, ["learner", "random", "random"], 2)
    fields = [torch.cat(pair, 1) for pair in zip(one[:-1], two[:-1], strict=True)]
    both = type(one)(*fields, {})
    assert torch.equal(watched(both), torch.cat([watched(one), watched(two)], 1))


def test_views_around_steps_are_those_of_the_seat_or_of_one_that_still_plays():
    game = TokenGame(3)  # seats leave at different times
    episodes = play_with(tiny_agent(game, "Direct"), game, ["random"] * 3, 6)
    active, where = episodes.active, episodes.active.clone()
    for borrow in (False, True):
        before, after, known = around(episodes, where, borrow)
        for m, (t, b, p) in enumerate(where.nonzero().tolist()):
            assert torch.equal(before[m], episodes.observation[t, b, p])
            there = active[t + 1, b].nonzero()[:, 0].tolist() if t + 1 < len(active) else []
            seat = p if p in there else there[0] if there and borrow else None
            assert bool(known[m]) == (seat is not None)
            if seat is not None:
                assert torch.equal(after[m], episodes.observation[t + 1, b, seat])
