"""Goals that are places: the belief over which one, and over how many, by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import play_with, tiny_agent

from omg_lightning.games import Snowdrift
from omg_lightning.opponents import BeliefConfig, PlaceGoals, ShuffledGoals, UninformedGoals, place_labels
from omg_lightning.opponents.places import one_more
from omg_lightning.opponents.labels import Labels
from omg_lightning.rollout import arrange, play
from omg_lightning.types import ConfigError, View

CPU = torch.device("cpu")
STAY, SHOVEL = 4, 5
GAME = Snowdrift(num_players=2, num_drifts=2, height=1, width=4, max_steps=20)


def source(likelihood=None, floor=0.0, **config):
    return PlaceGoals(4, 2, SHOVEL, likelihood, BeliefConfig(floor=floor, **config))


def view_of(state):
    return View(GAME.observe(state), GAME.legal(state), state.time / GAME.max_steps, GAME.active(state))


def test_how_many_a_player_clears_is_poisson_at_first():
    prior = source().prior(1, 1, CPU)[0, 0]
    assert prior.tolist() == pytest.approx([1 / 2.5, 1 / 2.5, 0.5 / 2.5])  # 1/0!, 1/1!, 1/2!


def test_one_more_by_hand():
    number = torch.tensor([0.5, 0.3, 0.2])
    chances = [float(one_more(number, torch.tensor(c))) for c in (0, 1, 2, 7)]
    assert chances == pytest.approx([0.5, 0.2 / 0.5, 0.0, 0.0])


def test_a_belief_by_hand():
    """Drifts on cells 0 and 3. A player goes left, which is likely for cell 0 and not for 3 or for nowhere."""

    def likelihood(view, actions):
        chance = torch.tensor([0.8, 0.5, 0.5, 0.1, 0.2]).log()  # under each of the four cells, and nowhere
        return chance.expand(*actions.shape, 5)

    goals, state = source(likelihood), GAME.place(players=[(0, 1), (0, 2)], drifts=[(0, 0), (0, 3)])
    memory = goals.start(torch.tensor([0.5, 0.3, 0.2]).expand(1, 2, 3), None)
    first = goals.infer(memory, view_of(state)).point
    assert first[0, 0].tolist() == pytest.approx([0.25, 0, 0, 0.25, 0.5])
    left = torch.tensor([[2, STAY]])
    memory = goals.update(memory, view_of(state), left)
    state, _ = GAME.step(state, left)
    total = 0.25 * 0.8 + 0.25 * 0.1 + 0.5 * 0.2
    second = goals.infer(memory, view_of(state)).point[0, 0]
    assert second.tolist() == pytest.approx([0.2 / total, 0, 0, 0.025 / total, 0.1 / total])
    shovel = torch.tensor([[SHOVEL, STAY]])
    memory = goals.update(memory, view_of(state), shovel)
    state, _ = GAME.step(state, shovel)
    third = goals.infer(memory, view_of(state)).point[0]
    assert third[0].tolist() == pytest.approx([0, 0, 0, 0.4, 0.6])  # P(n > 1 | n >= 1) = 0.2 / 0.5, and one drift left
    assert third[1, :3].tolist() == [0, 0, 0]  # what the other one was after and is gone is the one that is left
    assert float(third[1].sum()) == pytest.approx(1)
    assert memory.cleared.tolist() == [[1, 0]]


def test_without_intra_only_what_was_cleared_counts():
    goals, state = source(intra=False), GAME.place(players=[(0, 0), (0, 2)], drifts=[(0, 0), (0, 3)])
    memory = goals.start(goals.prior(1, 2, CPU), None)
    actions = torch.tensor([[SHOVEL, STAY]])
    memory = goals.update(memory, view_of(state), actions)
    state, _ = GAME.step(state, actions)
    found = goals.infer(memory, view_of(state)).point[0]
    assert found[0].tolist() == pytest.approx([0, 0, 0, 1 / 3, 2 / 3])  # P(n > 1 | n >= 1) = 0.2 / 0.6
    assert found[1].tolist() == pytest.approx([0, 0, 0, 0.6, 0.4])


def test_numbers_cleared_are_counted_and_smoothed_into_the_prior():
    seats = arrange([["cleaner", "defector"]], 16, GAME, CPU)
    episodes = play(GAME, seats, {}, torch.Generator().manual_seed(0)).episodes
    goals = source(alpha=0.9)
    found = goals.realised(episodes)
    assert found[:, 0].tolist() == [2] * 16
    assert found[:, 1].tolist() == [0] * 16
    prior = goals.carry(goals.prior(16, 2, CPU), found)
    assert prior[0, 0].tolist() == pytest.approx([0.9 * 0.4, 0.9 * 0.4, 0.9 * 0.2 + 0.1])
    assert torch.equal(source(inter=False).carry(prior, found), prior)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.floats(0, 0.1))
def test_a_belief_sums_to_one_over_drifts_that_are_there_and_nowhere(seed, floor):
    game = Snowdrift(num_players=3, num_drifts=4, height=3, width=4, max_steps=12)
    agent = tiny_agent(game, "declared", seed, goal_action=game.goal_action, belief=BeliefConfig(floor=floor))
    episodes = play_with(agent, game, ["learner", "cleaner", "defector"], batch=4, seed=seed)
    belief = episodes.goal[episodes.active]
    there = (episodes.observation[episodes.active][:, 3:] > 0).any(1).flatten(1)
    torch.testing.assert_close(belief.sum(-1), torch.ones(len(belief)))
    assert (belief[:, :-1][~there] == 0).all()
    assert (belief[:, :-1][there] >= floor * 0.999).all()
    assert (belief[:, -1] >= floor * 0.999).all()


def test_labels_are_where_a_seat_clears_next_or_nowhere_or_a_bare_cell():
    game = Snowdrift(num_players=2, num_drifts=2, height=3, width=3, max_steps=12)
    seats = arrange([["cleaner", "defector"]], 32, game, CPU)
    episodes = play(game, seats, {}, torch.Generator().manual_seed(1)).episodes
    label = place_labels(episodes, torch.Generator().manual_seed(0))
    there = (episodes.observation[..., 2:, :, :] > 0).any(3).flatten(3)
    for b in range(32):
        steps = episodes.active[:, b, 0].nonzero()[:, 0].tolist()
        shovels = [t for t in steps if episodes.action[t, b, 0] == SHOVEL]
        for t in steps:
            due = next((s for s in shovels if s >= t), None)
            if due is not None:
                cell = int(episodes.observation[due, b, 0, 0].flatten().argmax())
                assert label[t, b, 0] == cell
                assert there[t, b, 0, cell]
    idle = label[..., 1][episodes.active[..., 1]]
    places = idle[idle < 9]
    assert 0.3 < len(places) / len(idle) < 0.7  # half of those who head nowhere, see `place_labels`
    assert not there[..., 1, :][episodes.active[..., 1]][idle < 9].gather(1, places[:, None]).any()


def test_an_agent_believes_in_places_where_the_game_says_so():
    agent = tiny_agent(GAME, "declared", goal_action=GAME.goal_action)
    assert isinstance(agent.source(), PlaceGoals)
    assert agent.source().size == 5
    assert isinstance(agent.objective.label, Labels)
    assert agent.objective.label.places
    assert math.isclose(float(agent.source().prior(1, 1, CPU).sum()), 1, rel_tol=1e-6)


def test_the_controls_withhold_places_too():
    goals, state = source(None), GAME.place(players=[(0, 1), (0, 2)], drifts=[(0, 0), (0, 3)])
    blind = UninformedGoals(goals)
    memory = blind.start(blind.prior(1, 2, CPU), None)
    again = blind.update(memory, view_of(state), torch.tensor([[2, STAY]]))
    point = blind.infer(again, view_of(state)).point
    assert point[0].tolist() == [pytest.approx([0.3, 0, 0, 0.3, 0.4])] * 2  # P(n > 0) = 0.6, over two drifts
    state = GAME.place(3, players=[(0, 1), (0, 2)], drifts=[(0, 0), (0, 3)])
    shuffled = ShuffledGoals(goals)
    memory = shuffled.start(shuffled.prior(3, 2, CPU), None)
    assert shuffled.infer(memory, view_of(state)).draw(4, torch.Generator().manual_seed(0)).shape == (3, 4, 2, 5)


def test_a_floor_that_leaves_no_room_is_refused():
    with pytest.raises(ConfigError, match=r"belief.floor is 0.4.*less than 1/3"):
        source(floor=0.4)
