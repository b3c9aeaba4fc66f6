"""Goals that are cells: the belief over which one, and over how many, by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import model_spec, play_with, tiny_agent, training_batch

from omg_lightning.games import Snowdrift
from omg_lightning.opponents import (
    BeliefConfig,
    Locations,
    MixtureConfig,
    ShuffledGoals,
    TransitionConfig,
    UninformedGoals,
)
from omg_lightning.opponents.locations import HEADINGS, location_labels, one_more
from omg_lightning.types import NO_GOAL, ConfigError, View

LEFT, STAY, SHOVEL = 2, 4, 5
GAME = Snowdrift(num_players=2, num_drifts=2, height=1, width=4, max_steps=20)


def locations(likelihood=None, floor=0.0, game=GAME, **config):
    """An opponent model for `game`; with `likelihood`, co-player policies that are known."""
    model = Locations(model_spec(game), BeliefConfig(floor=floor, **config))
    if likelihood is not None:
        model.predictor.likelihood = likelihood
    return model


def view_of(state):
    active = GAME.active(state)
    return View(GAME.observe(state), GAME.legal(state), state.time / GAME.max_steps, active, active * 0.0)


def start(model, prior=None):
    """Memory at the start of an episode, for one environment."""
    prior = model.prior(1) if prior is None else torch.tensor(prior).expand(1, 2, 3)
    return model.start(prior, torch.full((1, 2), NO_GOAL))


def step(model, memory, state, actions):
    """Memory and state after `actions`, one for each seat."""
    actions = torch.tensor([actions])
    memory = model.update(memory, view_of(state), actions, GAME.realised(state, actions))
    return memory, GAME.step(state, actions)[0]


def test_goals_in_a_search_change_where_they_are_achieved_or_gone():
    """Drifts on cells 0 and 3; cell 2 is empty. Another cell follows with probability (0.5 / 2.5) / (1.5 / 2.5)."""
    model = Locations(model_spec(GAME), transition=TransitionConfig(at_events=True))
    assert model.goals_change
    assert not locations().goals_change
    view = view_of(GAME.place(1, players=[(0, 1), (0, 2)], drifts=[(0, 0), (0, 3)]))
    view = View(*(each.expand(6000, *each.shape[1:]) for each in view))

    def drawn(goals, achieved):
        before = torch.nn.functional.one_hot(torch.tensor(goals), 5).float().expand(6000, 2, 5)
        random = torch.Generator().manual_seed(0)
        return model.next_goal(before, view, torch.tensor(achieved).expand(6000, 2), random).mean(0)

    kept = drawn([3, 4], [NO_GOAL, NO_GOAL])
    assert kept[0].tolist() == [0, 0, 0, 1, 0]
    assert kept[1].tolist() == [0, 0, 0, 0, 1], "nowhere stays"
    changed = drawn([2, 3], [NO_GOAL, 0])
    assert changed[0].tolist() == pytest.approx([0.5, 0, 0, 0.5, 0], abs=0.03), "it was cleared by the other player"
    assert changed[1].tolist() == pytest.approx([1 / 6, 0, 0, 1 / 6, 2 / 3], abs=0.03)


def test_without_an_object_players_that_cleared_one_head_nowhere():
    model = Locations(model_spec(GAME), transition=TransitionConfig(at_events=True))
    view = view_of(GAME.place(1, players=[(0, 1), (0, 2)], drifts=[(0, 0), (0, 3)]))
    bare = view.observation.clone()
    bare[:, :, model.layout.things] = 0
    goal = torch.nn.functional.one_hot(torch.tensor([[0, 3]]), 5).float()
    found = model.next_goal(goal, view._replace(observation=bare), torch.tensor([[0, NO_GOAL]]), seeded())
    assert found.argmax(-1).tolist() == [[4, 4]]


def seeded():
    return torch.Generator().manual_seed(0)


def test_goals_that_leak_are_refused():
    with pytest.raises(ConfigError, match=r"transition\.leak is 0\.1"):
        Locations(model_spec(GAME), transition=TransitionConfig(leak=0.1))


def test_the_number_of_cells_a_player_clears_is_poisson_at_first():
    prior = locations().prior(1)
    assert prior.shape == (1, 2, 3)
    assert prior[0, 0].tolist() == pytest.approx([1 / 2.5, 1 / 2.5, 0.5 / 2.5])  # 1/0!, 1/1!, 1/2!


def test_the_probability_of_one_more_by_hand():
    number = torch.tensor([0.5, 0.3, 0.2])
    chances = [float(one_more(number, torch.tensor(c))) for c in (0, 1, 2, 7)]
    assert chances == pytest.approx([0.5, 0.2 / 0.5, 0.0, 0.0])


def test_a_belief_over_cells_by_hand():
    """Drifts on cells 0 and 3. A player goes left, which is likely for cell 0 and not for 3 or for nowhere."""

    def likelihood(view, actions):
        chance = torch.tensor([0.8, 0.5, 0.5, 0.1, 0.2]).log()  # under each of the four cells, and nowhere
        return chance.expand(*actions.shape, 5)

    model, state = locations(likelihood), GAME.place(players=[(0, 1), (0, 2)], drifts=[(0, 0), (0, 3)])
    memory = start(model, [0.5, 0.3, 0.2])
    assert model.infer(memory, view_of(state)).point[0, 0].tolist() == pytest.approx([0.25, 0, 0, 0.25, 0.5])
    memory, state = step(model, memory, state, [LEFT, STAY])
    total = 0.25 * 0.8 + 0.25 * 0.1 + 0.5 * 0.2
    second = model.infer(memory, view_of(state)).point[0, 0]
    assert second.tolist() == pytest.approx([0.2 / total, 0, 0, 0.025 / total, 0.1 / total])
    memory, state = step(model, memory, state, [SHOVEL, STAY])
    third = model.infer(memory, view_of(state)).point[0]
    assert third[0].tolist() == pytest.approx([0, 0, 0, 0.4, 0.6])  # P(n > 1 | n >= 1) = 0.2 / 0.5, and one drift left
    assert third[1, :3].tolist() == [0, 0, 0]  # the mass of the cell that is bare now moves to the drift that is left
    assert float(third[1].sum()) == pytest.approx(1)
    assert memory.cleared.tolist() == [[1, 0]]


def test_without_updates_within_an_episode_only_cleared_cells_count():
    model, state = locations(intra=False), GAME.place(players=[(0, 0), (0, 2)], drifts=[(0, 0), (0, 3)])
    memory, state = step(model, start(model), state, [SHOVEL, STAY])
    found = model.infer(memory, view_of(state)).point[0]
    assert found[0].tolist() == pytest.approx([0, 0, 0, 1 / 3, 2 / 3])  # P(n > 1 | n >= 1) = 0.2 / 0.6
    assert found[1].tolist() == pytest.approx([0, 0, 0, 0.6, 0.4])


def test_cleared_cells_are_counted_and_smoothed_into_the_prior():
    model = locations(alpha=0.9)
    episodes = play_with(tiny_agent(GAME, "Locations"), GAME, ["cleaner", "defector"], 16)
    found = model.achieved(episodes)
    assert found[:, 0].tolist() == [2] * 16
    assert found[:, 1].tolist() == [0] * 16
    prior = model.carry(model.prior(16), episodes)
    assert prior[0, 0].tolist() == pytest.approx([0.9 * 0.4, 0.9 * 0.4, 0.9 * 0.2 + 0.1])
    assert torch.equal(locations(inter=False).carry(prior, episodes), prior)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.floats(0, 0.1))
def test_a_belief_over_remaining_drifts_and_nowhere_sums_to_one(seed, floor):
    game = Snowdrift(num_players=3, num_drifts=4, height=3, width=4, max_steps=12)
    agent = tiny_agent(game, "Locations", seed, opponent_args={"belief": BeliefConfig(floor=floor)})
    episodes = play_with(agent, game, ["learner", "cleaner", "defector"], batch=4, seed=seed)
    belief = episodes.goal[episodes.active]
    there = (episodes.observation[episodes.active][:, 3:] > 0).any(1).flatten(1)
    torch.testing.assert_close(belief.sum(-1), torch.ones(len(belief)))
    assert (belief[:, :-1][~there] == 0).all()
    assert (belief[:, :-1][there] >= floor * 0.999).all()
    assert (belief[:, -1] >= floor * 0.999).all()


def test_labels_are_the_next_cleared_cell_nowhere_or_an_empty_cell():
    game = Snowdrift(num_players=2, num_drifts=2, height=3, width=3, max_steps=12)
    episodes = play_with(tiny_agent(game, "Locations"), game, ["cleaner", "defector"], 32, seed=1)
    label = location_labels(episodes, torch.Generator().manual_seed(0), game.layout)
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
    cells = idle[idle < 9]
    assert 0.3 < len(cells) / len(idle) < 0.7  # half of those who head nowhere, see `location_labels`
    assert not there[..., 1, :][episodes.active[..., 1]][idle < 9].gather(1, cells[:, None]).any()


def test_an_agent_is_trained_on_these_labels():
    agent = tiny_agent(GAME, "Locations", opponent_args={"mixture": MixtureConfig(start=0.25)})
    assert agent.opponent.size == 5
    assert agent.opponent.goals_are_cells
    assert agent.actor().goals_are_cells, "so that goals turn as a board turns"
    episodes = play_with(agent, GAME, ["learner", "cleaner"])
    targets = training_batch(agent, episodes).targets
    label = location_labels(episodes, training_batch(agent, episodes).noise, GAME.layout)
    assert torch.equal(targets.label.argmax(-1)[episodes.active], label[episodes.active])
    assert targets.known[episodes.active].all()
    assert targets.share == 0.25


def test_the_controls_withhold_cells_too():
    model, state = locations(), GAME.place(players=[(0, 1), (0, 2)], drifts=[(0, 0), (0, 3)])
    blind = UninformedGoals(model)
    memory, _ = step(blind, start(blind), state, [LEFT, STAY])
    point = blind.infer(memory, view_of(state)).point
    assert point[0].tolist() == [pytest.approx([0.3, 0, 0, 0.3, 0.4])] * 2  # P(n > 0) = 0.6, over two drifts
    state = GAME.place(3, players=[(0, 1), (0, 2)], drifts=[(0, 0), (0, 3)])
    shuffled = ShuffledGoals(model)
    memory = shuffled.start(shuffled.prior(3), torch.full((3, 2), NO_GOAL))
    assert shuffled.infer(memory, view_of(state)).draw(4, torch.Generator().manual_seed(0)).shape == (3, 4, 2, 5)


def test_the_view_of_a_belief_over_cells_is_the_probability_of_any_target():
    shown = locations().belief_view(torch.tensor([[0.25, 0, 0, 0.25, 0.5]]), GAME.goal_names)
    assert shown.names == HEADINGS
    assert shown.values.tolist() == [[0.5, 0.5]]
    assert locations().metrics(GAME.goal_names) == {}, "scripts declare drifts by their number, not by their cell"


def test_a_floor_that_leaves_no_room_is_refused():
    with pytest.raises(ConfigError, match=r"belief.floor is 0.4.*less than 1/3"):
        locations(floor=0.4)
