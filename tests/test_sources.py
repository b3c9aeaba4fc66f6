import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_belief import slow_inter, slow_intra
from toys import same, snapshot

from omg_lightning.games import Snowdrift
from omg_lightning.opponents import (
    BeliefConfig,
    DeclaredGoals,
    NoGoals,
    OracleGoals,
    Subgoals,
    hindsight_goals,
    one_hot_goals,
    rewarded,
)
from omg_lightning.types import NO_GOAL, ConfigError, Episodes, View

L, P, G, A = 4, 3, 2, 5
CPU = torch.device("cpu")
# Likelihoods of action a under goals 0 and 1, the same in every state.
TABLE = torch.tensor([[0.6, 0.1, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.1, 0.6]]).T.log()  # [A, G]


def view(active=None, rows=L):
    active = torch.ones(rows, P, dtype=torch.bool) if active is None else active
    legal = torch.ones(rows, P, A, dtype=torch.bool)
    return View(torch.zeros(rows, P, 2, 2, 2), legal, torch.zeros(rows), active)


def declared(**config):
    return DeclaredGoals(G, lambda view, actions: TABLE[actions], BeliefConfig(**config))


def subgoals():
    """Memory counts actions; the mean is that count, the spread that of a standard normal."""
    return Subgoals(
        2,
        lambda batch, seats, device: torch.zeros(batch, seats, 1),
        lambda memory, view: (memory.expand(-1, -1, 2), torch.zeros(len(memory), P, 2)),
        lambda memory, view, actions: memory + actions[..., None],
    )


SOURCES = {"none": NoGoals, "declared": declared, "oracle": lambda: OracleGoals(G), "subgoal": subgoals}


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_keeps_the_contract(name, generator):
    source = SOURCES[name]()
    prior = source.prior(L, P, CPU)
    truth = torch.tensor([[0, 1, NO_GOAL]] * L)
    memory = source.start(prior, truth)
    assert len(memory) == L
    before = snapshot((prior, truth, memory))
    estimate = source.infer(memory, view())
    assert estimate.point.shape == (L, P, source.size)
    assert estimate.draw(7, generator).shape == (L, 7, P, source.size)
    following = source.update(memory, view(), torch.ones(L, P, dtype=torch.int64))
    carried = source.carry(prior, truth)
    assert carried.shape == prior.shape
    assert same((prior, truth, memory), before), "inputs are values: never changed in place"
    assert following.shape == memory.shape
    twice = [source.infer(memory, view()).draw(3, torch.Generator().manual_seed(5)) for _ in range(2)]
    assert torch.equal(*twice)


def test_none_and_oracle():
    assert NoGoals().infer(torch.zeros(L, P, 0), view()).point.shape == (L, P, 0)
    source = OracleGoals(G)
    memory = source.start(source.prior(1, P, CPU), torch.tensor([[1, NO_GOAL, 0]]))
    assert memory.tolist() == [[[0, 1], [0, 0], [1, 0]]]
    memory = source.update(memory, view(rows=1), torch.zeros(1, P, dtype=torch.int64))
    estimate = source.infer(memory, view(rows=1))
    assert estimate.point.tolist() == [[[0, 1], [0, 0], [1, 0]]]
    assert torch.equal(estimate.draw(3, torch.Generator()), memory[:, None].expand(1, 3, P, G))


def test_declared_belief_against_numbers_over_two_episodes():
    config = {"alpha": 0.7, "floor": 0.05}
    source = declared(**config)
    prior, numbers = source.prior(L, P, CPU), [[[1 / G] * G for _ in range(P)] for _ in range(L)]
    for episode in range(2):
        memory = source.start(prior, torch.full((L, P), NO_GOAL))
        belief = [[slow_intra(goals, [1.0] * G, config["floor"]) for goals in row] for row in numbers]
        for step in range(4):
            actions = torch.randint(A, (L, P), generator=torch.Generator().manual_seed(10 * episode + step))
            memory = source.update(memory, view(), actions)
            for row in range(L):
                for seat in range(P):
                    likelihood = TABLE[actions[row, seat]].exp().tolist()
                    belief[row][seat] = slow_intra(belief[row][seat], likelihood, config["floor"])
            torch.testing.assert_close(source.infer(memory, view()).point, torch.tensor(belief))
        realised = torch.randint(NO_GOAL, G, (L, P), generator=torch.Generator().manual_seed(episode))
        prior = source.carry(prior, realised)
        numbers = [
            [slow_inter(numbers[row][seat], realised[row, seat], config["alpha"]) for seat in range(P)]
            for row in range(L)
        ]
        torch.testing.assert_close(prior, torch.tensor(numbers))  # it smooths the prior, not the posterior


def test_declared_learns_nothing_from_who_has_left():
    source, active = declared(), torch.ones(L, P, dtype=torch.bool)
    active[:, 1] = False
    start = source.start(source.prior(L, P, CPU), torch.full((L, P), NO_GOAL))
    memory = source.update(start, view(active), torch.zeros(L, P, dtype=torch.int64))
    assert torch.equal(memory[:, 1], start[:, 1])
    assert (memory[:, 0, 0] > start[:, 0, 0]).all()


def test_what_one_player_does_tells_of_its_own_goal_only():
    for source in (declared(), subgoals()):
        start = source.start(source.prior(L, P, CPU), torch.full((L, P), NO_GOAL))
        actions = torch.zeros(L, P, dtype=torch.int64)
        other = actions.clone()
        other[:, 1] = A - 1
        one, two = (source.infer(source.update(start, view(), a), view()).point for a in (actions, other))
        assert torch.equal(one[:, [0, 2]], two[:, [0, 2]])
        assert (one[:, 1] != two[:, 1]).any(-1).all()


def test_switches_of_the_belief():
    actions = torch.zeros(L, P, dtype=torch.int64)
    still = declared(intra=False)
    start = still.start(still.prior(L, P, CPU), actions)
    assert torch.equal(still.update(start, view(), actions), start)
    fixed = declared(inter=False)
    assert torch.equal(fixed.carry(fixed.prior(L, P, CPU), actions), fixed.prior(L, P, CPU))


def test_draws_follow_the_belief_and_each_tree_and_player_gets_its_own(generator):
    source = declared()
    belief = torch.tensor([[[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]]])
    draws = source.infer(belief.log(), view(rows=1)).draw(4000, generator)  # [1, K, P, G]
    assert torch.equal(draws.sum(-1), torch.ones(1, 4000, P))
    torch.testing.assert_close(draws.mean(1), belief, atol=0.03, rtol=0)
    together = draws[0, :, 1, 0] * draws[0, :, 2, 0]
    assert float(together.mean()) == pytest.approx(0.2 * 0.5, abs=0.03)  # independent of each other


def test_subgoals_are_drawn_around_their_mean(generator):
    source = subgoals()
    memory = torch.tensor([[[-3.0], [0.0], [5.0]]])
    estimate = source.infer(memory, view(rows=1))
    draws = estimate.draw(4000, generator)
    torch.testing.assert_close(draws.mean(1), memory.expand(1, P, 2), atol=0.1, rtol=0)
    torch.testing.assert_close(draws.std(1), torch.ones(1, P, 2), atol=0.1, rtol=0)
    assert torch.equal(estimate.point, memory.expand(1, P, 2))


def test_an_episode_starts_with_an_empty_context_whatever_was_before():
    source = subgoals()
    assert torch.equal(source.start(torch.rand(L, P, 0), torch.ones(L, P)), torch.zeros(L, P, 1))


def test_the_floor_holds_at_the_first_step_too():
    """After 2,000 episodes of hares at the published alpha the prior of the stag is 2e-5."""
    source = declared(alpha=0.995, floor=1e-3)
    prior = source.prior(1, P, CPU)
    for _ in range(2000):
        prior = source.carry(prior, torch.ones(1, P, dtype=torch.int64))
    belief = source.infer(source.start(prior, torch.full((1, P), NO_GOAL)), view(rows=1)).point
    assert float(belief.min()) >= 1e-3 * 0.999


@pytest.mark.parametrize("config", [{"alpha": -0.1}, {"alpha": 1.1}, {"floor": -0.1}, {"floor": 0.5}])
def test_settings_out_of_range(config):
    with pytest.raises(ConfigError, match=next(iter(config))):
        BeliefConfig(**config)


def test_a_floor_too_high_for_the_number_of_goals_is_refused():
    """It would make negative probabilities, and NaN."""
    with pytest.raises(ConfigError, match="floor"):
        DeclaredGoals(3, lambda view, actions: TABLE[actions], BeliefConfig(floor=0.4))


def test_one_hot_goals():
    assert one_hot_goals(torch.tensor([1, NO_GOAL]), 2).tolist() == [[0, 1], [0, 0]]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(0, 999))
def test_hindsight_goals_against_a_loop(steps, seed):
    generator = torch.Generator().manual_seed(seed)
    active = torch.arange(steps)[:, None, None] < torch.randint(0, steps + 1, (2, 3), generator=generator)
    realised = torch.randint(NO_GOAL, 2, (steps, 2, 3), generator=generator)
    realised[~active] = NO_GOAL
    label = hindsight_goals(realised, active)
    for t, b, p in torch.ones_like(active).nonzero().tolist():
        later = [int(realised[k, b, p]) for k in range(t, steps) if realised[k, b, p] != NO_GOAL]
        assert int(label[t, b, p]) == (later[0] if later and active[t, b, p] else NO_GOAL)


def test_only_those_are_rewarded_for_their_doing_who_stand_on_something_if_any_do():
    game = Snowdrift(num_players=3, num_drifts=2, height=2, width=3, max_steps=4)
    state = game.place(players=[(0, 0), (0, 1), (1, 1)], drifts=[(0, 0), (1, 2)])
    observation = game.observe(state).to(torch.uint8)[None]  # seat 0 on a drift, seats 1 and 2 on bare ground
    like = torch.zeros(1, 1, 3)
    episodes = Episodes(*([None] * len(Episodes._fields)))._replace(
        observation=observation, reward=torch.tensor([[[2.0, 6.0, 6.0]]]), active=like == 0
    )
    assert rewarded(episodes).tolist() == [[[True, False, False]]]
    # Nobody stands on anything: then all who are rewarded count, and those who are not, or have left, never do.
    bare = game.observe(game.place(players=[(0, 1)] * 3, drifts=[(0, 0), (1, 2)])).to(torch.uint8)[None]
    episodes = episodes._replace(observation=bare, reward=torch.tensor([[[2.0, 0.0, 6.0]]]))
    assert rewarded(episodes).tolist() == [[[True, False, True]]]
    gone = torch.tensor([[[True, True, False]]])
    assert rewarded(episodes._replace(active=gone)).tolist() == [[[True, False, False]]]
