"""Goals that change: the filter against a sum over all paths of goals, and draws in a search against the filter."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import TokenGame, model_spec

from omg_lightning.games import MatrixGame, StagHunt
from omg_lightning.games.grid.layout import GridLayout
from omg_lightning.opponents import BeliefConfig, Codebook, Declared, Oracle, TransitionConfig
from omg_lightning.opponents.transition import goals_there, shared_out
from omg_lightning.types import NO_GOAL, ConfigError, View

G, A = 2, 5
GAME = TokenGame(2, A, ragged=False)  # declares two goals
TABLE = torch.tensor([[0.6, 0.1, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.1, 0.6]]).T.log()  # [A, G]


def view(reward=0.0, rows=1, time=0):
    legal = torch.ones(rows, 2, A, dtype=torch.bool)
    planes = torch.full((rows, 2, *GAME.observation_shape), float(time))  # so that a test knows the step
    there = torch.ones(rows, 2, dtype=torch.bool)
    return View(planes, legal, torch.full((rows,), float(time)), there, reward * there)


def declared(possible=((1, 1),) * 9, floor=0.0, **transition):
    """Declared goals whose policies are those of `TABLE`; `possible` lists the goals that are there, by step."""
    model = Declared(model_spec(GAME), BeliefConfig(floor=floor), transition=TransitionConfig(**transition))
    model.predictor.likelihood = lambda view, actions: TABLE[actions]
    model.possible = lambda seen, active: torch.tensor(possible[int(seen.flatten()[0])]).bool().expand(1, 2, G)
    return model


def followed(model, prior, actions, achieved):
    """The belief about seat 0 at each view: before the first action, and after each one."""
    memory, found = model.start(torch.tensor(prior).expand(1, 2, G), torch.full((1, 2), NO_GOAL)), []
    for t, (action, goal) in enumerate(zip(actions, achieved, strict=True)):
        found.append(model.infer(memory, view(time=t)).point[0, 0].tolist())
        memory = model.update(memory, view(time=t), torch.full((1, 2), action), torch.full((1, 2), goal))
    return [*found, model.infer(memory, view(time=len(actions))).point[0, 0].tolist()]


def by_paths(prior, actions, achieved, leak):
    """The belief at the last view as a sum over all paths of goals: slow, and nothing but the definition."""
    weight = [0.0] * G
    for path in itertools.product(range(G), repeat=len(actions) + 1):
        p = prior[path[0]]
        for t, action in enumerate(actions):
            p *= TABLE[action, path[t]].exp().item()
            stays = 0 if achieved[t] != NO_GOAL else 1 - leak
            p *= stays * (path[t + 1] == path[t]) + (1 - stays) * prior[path[t + 1]]
        weight[path[-1]] += p
    return [w / sum(weight) for w in weight]


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, A - 1), st.sampled_from([NO_GOAL, NO_GOAL, 0, 1])), min_size=1, max_size=4),
    st.sampled_from([0.0, 0.1, 0.5]),
    st.sampled_from([[0.5, 0.5], [0.8, 0.2]]),
)
def test_the_filter_is_the_sum_over_all_paths_of_goals(steps, leak, prior):
    actions, achieved = zip(*steps, strict=True)
    found = followed(declared(at_events=True, leak=leak), prior, actions, achieved)[-1]
    assert found == pytest.approx(by_paths(prior, actions, achieved, leak), rel=1e-4)


def test_without_a_transition_the_belief_is_hops_whatever_was_achieved():
    for transition in ({}, {"leak": 0.0, "at_events": False}):
        found = followed(declared(**transition), [0.5, 0.5], [0, 0], [0, NO_GOAL])
        assert found[1] == pytest.approx([6 / 7, 1 / 7])
        assert found[2] == pytest.approx([36 / 37, 1 / 37])


def test_the_probability_of_a_goal_that_is_gone_moves_to_the_remaining_goals():
    possible = [[1, 1], [1, 1], [0, 1], [0, 1]]
    found = followed(declared(possible, at_events=True), [0.5, 0.5], [0, 0, 0], [NO_GOAL] * 3)
    assert found[1] == pytest.approx([6 / 7, 1 / 7])
    assert found[2] == found[3] == pytest.approx([0, 1])


def test_the_floor_holds_after_a_transition_too():
    found = followed(declared([[1, 0]] * 3, at_events=True, floor=0.1), [0.5, 0.5], [0, 0], [NO_GOAL] * 2)
    assert found[-1] == pytest.approx([0.9, 0.1])


def test_draws_in_a_search_have_the_probabilities_of_the_filter():
    config = TransitionConfig(at_events=True, leak=0.3)
    n, random = 20_000, torch.Generator().manual_seed(0)
    fresh = torch.tensor([0.5, 0.3, 0.2, 0.0])
    possible = torch.tensor([True, True, True, False])
    for goal, event in ((0, False), (1, False), (2, True), (3, False)):
        before = torch.nn.functional.one_hot(torch.tensor(goal), 4).float()
        args = (fresh.expand(n, 4), possible.expand(n, 4), torch.full((n,), event))
        drawn = config.draw(before.expand(n, 4), *args, random)
        assert (drawn.sum(-1) == 1).all()
        wanted = fresh if event or goal == 3 else 0.7 * before + 0.3 * fresh
        torch.testing.assert_close(drawn.mean(0), wanted, atol=0.015, rtol=0)
        assert not drawn[:, 3].any(), "a goal that is gone is never drawn"
    nobody, args = torch.zeros(5, 4), (fresh.expand(5, 4), possible.expand(5, 4), torch.ones(5).bool())
    assert torch.equal(config.draw(nobody, *args, random), nobody)


@pytest.mark.parametrize("kind", [Declared, Oracle])
def test_goals_in_a_search_change_where_they_are_achieved(kind):
    model = kind(model_spec(GAME), transition=TransitionConfig(at_events=True))
    assert model.goals_change
    assert not kind(model_spec(GAME)).goals_change
    goal = torch.tensor([1.0, 0.0]).expand(4000, 2, 2)
    achieved = torch.tensor([NO_GOAL, 0]).expand(4000, 2)
    found = model.next_goal(goal, view(rows=4000), achieved, torch.Generator().manual_seed(0))
    assert (found[:, 0, 0] == 1).all()
    assert found[:, 1, 0].mean() == pytest.approx(0.5, abs=0.03)


def test_learned_goals_change_at_rewards_and_new_ones_follow_their_frequencies():
    spec = model_spec(MatrixGame("prisoners_dilemma"))
    model = Codebook(spec, 4, belief=BeliefConfig(floor=0.0), transition=TransitionConfig(at_events=True))
    model.quantiser.count.copy_(torch.tensor([3.0, 1.0, 0.0, 0.0]))
    goal = torch.tensor([0.0, 1.0, 0.0, 0.0]).expand(4000, 2, 4)
    nothing, random = torch.full((4000, 2), NO_GOAL), torch.Generator().manual_seed(0)
    assert torch.equal(model.next_goal(goal, view(rows=4000), nothing, random), goal)
    found = model.next_goal(goal, view(reward=1.0, rows=4000), nothing, random).mean((0, 1))
    assert found.tolist() == pytest.approx([0.75, 0.25, 0, 0], abs=0.03)
    model.predictor.likelihood = lambda view, actions: torch.tensor([0.1, 0.6, 0.9, 0.9]).log()
    memory = model.start(model.prior(1), nothing[:1])
    memory = model.update(memory, view(), torch.zeros(1, 2).long(), nothing[:1])
    assert model.infer(memory, view()).point[0, 0].tolist() == pytest.approx([1 / 7, 6 / 7, 0, 0])
    assert model.infer(memory, view(reward=1.0)).point[0, 0].tolist() == pytest.approx([0.5, 0.5, 0, 0])


def test_on_a_grid_learned_goals_last_while_an_object_of_their_kind_is_in_view():
    game = StagHunt("2h1s_4x4")
    model = Codebook(model_spec(game), 4, belief=BeliefConfig(floor=0.0), transition=TransitionConfig(at_events=True))
    stags, hares = (game.layout.plane_names.index(name) - 2 for name in ("stags", "hares"))
    model.quantiser.codes[0, stags] = model.quantiser.codes[1, hares] = 1.0
    model.quantiser.count.copy_(torch.tensor([3.0, 1.0, 0.0, 0.0]))
    seen = torch.zeros(3, 2, *game.observation_shape)  # the stag and a hare, a hare, nothing
    seen[0, :, 2 + stags, 1, 1] = seen[:2, :, 2 + hares, 2, 2] = 1
    there = torch.ones(3, 2, dtype=torch.bool)
    assert model.possible(seen, there)[:, 0].tolist() == [
        [True, True, False, False],
        [False, True, False, False],
        [True, True, False, False],  # if no goal is left, no player acts on it
    ]
    rewarded = View(seen, None, torch.zeros(3), there, torch.ones(3, 2))
    stag, first = torch.eye(4)[0].expand(3, 2, 4), torch.zeros(3, 2, dtype=torch.int64)
    found = model.next_goal(stag, rewarded, first, torch.Generator().manual_seed(0))
    assert found[:, 0].argmax(-1).tolist()[:2] == [0, 1], "neither the reward nor a declared goal is an event"
    model.predictor.likelihood = lambda view, actions: torch.tensor([0.9, 0.1, 0.5, 0.5]).log()
    memory = model.update(model.start(model.prior(3), first), rewarded, first, first)
    belief = model.infer(memory, rewarded).point[:2, 0].flatten().tolist()
    assert belief == pytest.approx([0.9, 0.1, 0, 0, 0, 1, 0, 0])
    ends = Codebook(model_spec(game), 4, ending_codes=True)
    ends.quantiser.codes.copy_(model.quantiser.codes[:3])
    ends.quantiser.count.copy_(model.quantiser.count[:3])
    ends.nothing.fill_(1.0)
    assert ends.possible(seen, there)[1, 0].tolist() == [False, True, False, True], "nothing can be pursued anywhere"


def test_planes_show_the_remaining_goals():
    layout = GridLayout(("self", "other", "food_0", "food_1"), 2, 2, 2, goal_planes=(2, 3))
    planes = torch.zeros(3, 2, 4, 2, 2)
    planes[0, :, 2, 1, 1] = planes[0, :, 3, 0, 0] = planes[1, :, 3, 0, 1] = 1
    found = goals_there(planes, torch.ones(3, 2), layout, 2)
    assert found[:, 0].tolist() == [[True, True], [False, True], [True, True]], "without a goal no player acts on it"
    assert goals_there(torch.zeros(3, 2, 7), torch.ones(3, 2), None, 2).all()


def test_shares_are_in_proportion_among_what_is_possible():
    weight, possible = torch.tensor([3.0, 1.0, 0.0]), torch.tensor([[1, 1, 1], [0, 1, 1], [0, 0, 1]]).bool()
    found = shared_out(weight, possible)
    assert found.tolist() == [[0.75, 0.25, 0], [0, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize("leak", [-0.1, 1.0, float("nan")])
def test_a_leak_is_a_probability_below_one(leak):
    with pytest.raises(ConfigError, match=r"transition.leak is .*: it must be at least 0 and less than 1"):
        TransitionConfig(leak=leak)
