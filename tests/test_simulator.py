import pytest
import torch
from number_games import VIEWS, NumberGame
from toys import TokenGame, always, plain_learner, repeat_last, same, snapshot, stag_hunt, tiny_agent

from omg_lightning import encoders
from omg_lightning.actors.simulator import Simulator
from omg_lightning.games.grid.stag_hunt import HUNT_HARE, HUNT_STAG, RIGHT, STAY
from omg_lightning.search import SearchConfig, search
from omg_lightning.types import ego_order, take


class Policy:
    """A policy network of a plain function."""

    def __init__(self, ask):
        self.ask = ask

    def condition(self, goals, seat):
        return goals.flatten(1)

    def __call__(self, view, time, condition):
        return self.ask(view, time, condition)


def networks(game, coplayer=None, policy=None):
    """What a search asks: plain functions, see `plain_learner`."""
    found = plain_learner(game, coplayer).networks
    return found if policy is None else found._replace(policy=Policy(policy))


def token_simulator(trees=6, seed=0, ragged=False, coplayer=repeat_last):
    game = TokenGame(3, ragged=ragged)
    generator = torch.Generator().manual_seed(seed)
    state = game.reset(trees, generator)
    ego = torch.arange(trees) % 3
    goals = torch.randint(3, (trees, 3, 1), generator=generator).float()
    return game, Simulator(game, networks(game, coplayer), ego, goals, generator), state, ego, goals


def test_each_co_player_acts_by_its_own_view_and_goal_in_its_own_seat():
    game, simulator, state, ego, goals = token_simulator()
    root = simulator.root(state)
    mine = torch.tensor([0, 1, 2, 3, 4, 0])
    output, node = simulator.step(root.state, mine)
    wanted = torch.zeros_like(state.last)
    for tree in range(6):
        for seat in range(3):  # what this toy's co-players surely say: what they said last, plus their goal
            said = (int(state.last[tree, seat]) + int(goals[tree, seat])) % game.num_actions
            wanted[tree, seat] = mine[tree] if seat == ego[tree] else said
    after, rewards = game.step(state, wanted)
    assert same(node.game, after)
    # the reward spells the joint action as the ego sees it: its own action last, then seat i + 1, ...
    digits = ego_order(wanted, ego) * torch.tensor([1, 10, 100])
    assert output.reward.tolist() == digits.sum(-1).tolist()
    assert output.reward.tolist() == [float(rewards[tree, ego[tree]]) for tree in range(6)]


def test_first_actions_of_co_players_are_stratified_by_their_probabilities():
    game = TokenGame(3, ragged=False)
    chance = torch.tensor([0.6, 0.3, 0.1, *[0.0] * (game.num_actions - 3)])

    def coplayer(view, time, condition):
        return chance.log().expand(len(view), -1)

    decisions, trees = 7, 10
    ego = (torch.arange(decisions) % 3).repeat_interleave(trees)
    state = game.reset(decisions * trees, torch.Generator().manual_seed(0))
    goals, random = torch.zeros(len(ego), 3, 1), torch.Generator().manual_seed(1)
    root = Simulator(game, networks(game, coplayer), ego, goals, random, trees).root(state)
    drawn = root.state.coplayers.view(decisions, trees, 2)
    count = torch.nn.functional.one_hot(drawn, game.num_actions).sum(1)  # [decisions, P-1, A]
    assert (count - 10 * chance).abs().max() <= 1
    assert len({tuple(row.tolist()) for row in drawn[..., 0]}) > 1, "the assignment to trees is random each time"


def test_a_goal_changes_only_its_own_players_actions():
    game, simulator, state, ego, goals = token_simulator()
    other = goals.clone()
    rows = torch.arange(6)
    first = (ego + 1) % 3
    other[rows, first] += 1
    changed = Simulator(game, simulator.networks, ego, other, torch.Generator().manual_seed(0))
    one, two = simulator.root(state).state.coplayers, changed.root(state).state.coplayers
    assert (one[:, 0] != two[:, 0]).all()
    assert torch.equal(one[:, 1], two[:, 1])
    other = goals.clone()
    other[rows, ego] += 1  # the ego's own goal is not used
    unchanged = Simulator(game, simulator.networks, ego, other, torch.Generator().manual_seed(0))
    assert torch.equal(one, unchanged.root(state).state.coplayers)


@pytest.mark.parametrize("make", [lambda: TokenGame(3), lambda: stag_hunt(3), lambda: NumberGame("reals", 3)])
def test_the_simulator_plays_the_games_rules(make):
    game, generator = make(), torch.Generator().manual_seed(1)
    state = game.reset(12, generator)
    ego = torch.arange(12) % 3
    flat = torch.zeros(12, game.num_actions)
    asked = networks(game, policy=lambda view, time, condition: (flat, torch.ones(12)))
    simulator = Simulator(game, asked, ego, torch.zeros(12, 3, 0), generator)
    root = simulator.root(state)
    node, legal = root.state, root.legal
    rows = torch.arange(12)
    assert torch.equal(legal, game.legal(state)[rows, ego])
    for _ in range(game.max_steps):
        others = game.legal(state)[rows[:, None], (ego[:, None] + torch.tensor([1, 2])) % 3]
        assert others.gather(-1, node.coplayers[..., None]).all(), (
            "co-players are never imagined to do what they cannot"
        )
        actions = torch.multinomial(legal.float(), 1, generator=generator)[:, 0]
        joint = torch.zeros(12, 3, dtype=torch.int64)
        for tree in range(12):
            for k, action in enumerate([actions[tree], *node.coplayers[tree]]):
                joint[tree, (ego[tree] + k) % 3] = action
        state, rewards = game.step(state, joint)
        before = snapshot(node)
        output, following = simulator.step(node, actions)
        assert same(node, before), "a node is never written to"
        assert same(following.game, state)
        assert torch.equal(output.reward, rewards[rows, ego])
        there = game.active(state)[rows, ego]
        assert (output.discount[there] == 1).all()
        assert not (output.discount * output.value)[~there].any(), "a seat that has left has no value"
        assert not output.discount[~game.active(state).any(-1)].any()
        assert torch.equal(output.legal, game.legal(state)[rows, ego])
        node, legal = following, output.legal


def test_networks_get_the_views_times_and_goals_of_the_roots():
    game, _, state, ego, goals = token_simulator(ragged=True)
    asked = {}

    def policy(view, time, condition):
        asked["policy"] = view, time, condition
        return torch.zeros(len(view), game.num_actions), torch.zeros(len(view))

    def coplayer(view, time, condition):
        asked["coplayer"] = view, time, condition
        return torch.zeros(len(view), game.num_actions)

    state = state._replace(time=torch.arange(6))
    Simulator(game, networks(game, coplayer, policy), ego, goals, torch.Generator().manual_seed(0)).root(state)
    views, active = game.observe(state), game.active(state)
    expected, row = torch.arange(6) / game.max_steps, 0
    torch.testing.assert_close(asked["policy"][1], expected)
    for tree in range(6):
        others = [(int(ego[tree]) + k) % 3 for k in (1, 2)]
        assert torch.equal(asked["policy"][0][tree], views[tree, ego[tree]])
        assert asked["policy"][2][tree].tolist() == [float(goals[tree, seat]) for seat in others]
        for seat in others:
            if active[tree, seat]:  # a seat that has left is not asked
                view, time, condition = (x[row] for x in asked["coplayer"])
                assert torch.equal(view, views[tree, seat])
                assert condition.tolist() == goals[tree, seat].tolist()
                assert time == expected[tree]
                row += 1
    assert 0 < row == len(asked["coplayer"][0]) < 12


def test_co_players_are_drawn_once_for_each_node_and_shared_by_all_actions_there():
    game, simulator, state, _, _ = token_simulator(coplayer=lambda view, time, condition: torch.zeros(len(view), 5))
    node = simulator.root(state).state
    said = [simulator.step(node, torch.full((6,), action))[0].reward // 10 for action in range(game.num_actions)]
    assert all(torch.equal(said[0], other) for other in said)


def test_co_players_are_drawn_from_their_policy():
    game = TokenGame(2, num_actions=3, ragged=False)
    state = game.reset(4000, torch.Generator().manual_seed(0))
    logits = torch.tensor([0.0, 1.0, 2.0])
    asked = networks(game, lambda view, time, condition: logits.repeat(len(view), 1))
    ego, goals = torch.zeros(4000, dtype=torch.int64), torch.zeros(4000, 2, 0)
    simulator = Simulator(game, asked, ego, goals, torch.Generator().manual_seed(1))
    shares = torch.bincount(simulator.root(state).state.coplayers[:, 0], minlength=3) / 4000
    torch.testing.assert_close(shares, logits.softmax(-1), atol=0.03, rtol=0)


def plan_stag_hunt(game, state, coplayer, simulations=200):
    ego, goals = torch.zeros(1, dtype=torch.int64), torch.zeros(1, 2, 0)
    simulator = Simulator(game, networks(game, coplayer), ego, goals, torch.Generator().manual_seed(0))
    root = simulator.root(state)
    before = snapshot((state, root))
    result = search(root, simulator.step, SearchConfig(simulations, discount=0.9, c_puct=2.0), torch.Generator())
    assert same((state, root), before), "search leaves the state of the game as it was"
    return result


def test_beside_an_idle_player_the_search_takes_the_hare():
    game = stag_hunt()  # ego stands on the stag, one step from a hare
    state = game.place(1, hunters=[(0, 0), (3, 3)], stags=[(0, 0)], hares=[(0, 1), (3, 0)])
    result = plan_stag_hunt(game, state, always(STAY, game.num_actions))
    assert int(result.action) == RIGHT
    assert float(result.q[0, RIGHT]) == pytest.approx(0.9, abs=0.15)  # hare in two steps, at discount 0.9
    assert float(result.q[0, HUNT_STAG]) < float(result.q[0, RIGHT])  # alone, the stag gives nothing


def test_beside_a_stag_hunter_the_search_takes_the_stag():
    game = stag_hunt()
    state = game.place(1, hunters=[(0, 0), (0, 0)], stags=[(0, 0)], hares=[(0, 1), (3, 0)])
    result = plan_stag_hunt(game, state, always(HUNT_STAG, game.num_actions))
    assert int(result.action) == HUNT_STAG
    assert float(result.q[0, HUNT_STAG]) == pytest.approx(5.0)


def test_beside_an_approaching_stag_hunter_the_search_waits():
    game = stag_hunt()  # the other takes one step to the left and then hunts the stag
    state = game.place(1, hunters=[(0, 0), (0, 1)], stags=[(0, 0)], hares=[(1, 0), (3, 0)])
    left = torch.full((1, game.num_actions), -1e4)
    left[:, [2, HUNT_STAG]] = torch.tensor([1e4, 3e4])  # left, and the stag as soon as it may
    result = plan_stag_hunt(game, state, lambda view, time, condition: left)
    assert int(result.action) in (STAY, HUNT_STAG)
    assert float(result.q[0].max()) == pytest.approx(4.5, abs=0.5)


def test_value_after_the_ego_has_left_is_zero():
    game = stag_hunt()
    state = game.place(1, hunters=[(0, 1), (3, 3)], stags=[(0, 0)], hares=[(0, 1), (3, 0)])
    asked = networks(game, policy=lambda *views: (torch.zeros(1, 7), torch.ones(1)))
    ego = torch.zeros(1, dtype=torch.int64)
    simulator = Simulator(game, asked, ego, torch.zeros(1, 2, 0), torch.Generator().manual_seed(0))
    output, node = simulator.step(simulator.root(state).state, torch.tensor([HUNT_HARE]))
    assert float(output.reward) == 1.0
    assert float(output.discount * output.value) == 0.0
    assert bool(game.active(node.game)[0, 1]), "the other plays on"


def test_a_prosocial_ego_earns_after_it_has_left():
    # A prosocial game pays everyone the mean, those who have left too; value targets count that, and so must a tree.
    game = stag_hunt(prosocial=True)
    state = game.place(1, hunters=[(0, 1), (3, 0)], stags=[(0, 0)], hares=[(0, 1), (3, 0)])
    ego = torch.zeros(1, dtype=torch.int64)
    asked = networks(game, always(STAY, game.num_actions))
    simulator = Simulator(game, asked, ego, torch.zeros(1, 2, 0), torch.Generator().manual_seed(0))
    output, node = simulator.step(simulator.root(state).state, torch.tensor([HUNT_HARE]))
    _, rewards = game.step(node.game, torch.tensor([[STAY, HUNT_HARE]]))
    assert float(rewards[0, 0]) == 0.5
    assert float(output.discount) == 1.0


def test_rows_do_not_influence_each_other():
    game, _, state, ego, goals = token_simulator(ragged=True)
    asked = networks(game, repeat_last)
    part = torch.tensor([4, 1])
    whole = Simulator(game, asked, ego, goals, torch.Generator().manual_seed(0))
    some = Simulator(game, asked, ego[part], goals[part], torch.Generator().manual_seed(9))
    one, two = whole.root(state), some.root(take(state, part))
    assert same(take(one.state, part), two.state)
    actions = torch.tensor([0, 1, 2, 3, 4, 0])
    one, two = whole.step(one.state, actions), some.step(two.state, actions[part])
    assert all(same(take(whole, part), some) for whole, some in zip(one, two, strict=True))


@pytest.mark.parametrize("encoder", ["MLP", "Centred", "Paths", "Conv", "RecurrentConv"])
def test_sparse_views_change_nothing(encoder):
    game, generator = stag_hunt(3, num_blocks=1, height=5), torch.Generator().manual_seed(1)
    asked = tiny_agent(game, "Declared", encoder=getattr(encoders, encoder)).actor().networks
    assert asked.sparse
    assert asked.distances == (encoder == "Paths")
    state = game.reset(40, generator)
    state = state._replace(present=torch.rand(40, 3, generator=generator) < 0.7)
    ego, goals = torch.arange(40) % 3, torch.rand(40, 3, 2, generator=generator)
    found = []
    for sparse in (True, False):
        random = torch.Generator().manual_seed(2)
        simulator = Simulator(game, asked._replace(sparse=sparse), ego, goals, random)
        assert simulator.sparse == sparse
        with torch.no_grad():
            root = simulator.root(state)
            found.append((root, search(root, simulator.step, SearchConfig(6), random)))
    (root, result), (dense_root, dense_result) = found
    torch.testing.assert_close(root[:3], dense_root[:3])
    assert torch.equal(root.state.coplayers, dense_root.state.coplayers)
    assert torch.equal(result.visits, dense_result.visits)


def test_conditions_are_computed_for_the_right_seats():
    game, generator = stag_hunt(3), torch.Generator().manual_seed(1)
    state, ego = game.reset(6, generator), torch.arange(6) % 3
    asked = {}

    def told(name):
        return lambda goals, seat: asked.update({name: seat.tolist()}) or goals.flatten(1)

    found = networks(game)
    found.policy.condition, found.opponent.condition = told("policy"), told("coplayer")
    Simulator(game, found, ego, torch.zeros(6, 3, 0), generator).root(state)
    assert asked["policy"] == [0, 1, 2] * 2
    assert asked["coplayer"] == [1, 2, 2, 0, 0, 1] * 2  # ego order: the seats after the ego's


@pytest.mark.parametrize(("sparse", "encoder"), [(True, "MLP"), (False, "MLP"), (True, "Paths")])
def test_all_tensors_are_made_on_the_device_of_the_inputs(sparse, encoder):
    # a tensor made without naming the inputs' device would land on "meta" and mix with them
    game, found = stag_hunt(3, num_blocks=1, height=5), []
    asked = tiny_agent(game, "Declared", encoder=getattr(encoders, encoder)).actor().networks._replace(sparse=sparse)
    state, goals = game.reset(8, torch.Generator().manual_seed(1)), torch.rand(8, 3, 2)
    for device in ("cpu", "meta"):
        random, ego = torch.Generator().manual_seed(2), torch.arange(8, device="cpu") % 3
        game = stag_hunt(3, num_blocks=1, height=5)  # makes its tables anew
        with torch.device(device), torch.no_grad():
            simulator = Simulator(game, asked, ego, goals, random)
            root = simulator.root(state)
            found.append((root, search(root, simulator.step, SearchConfig(6), random)))
    assert same(*found)


def test_dtypes_follow_the_networks():
    game = stag_hunt(3)
    asked = tiny_agent(game, "Declared").double().actor().networks
    state, goals = game.reset(8, torch.Generator().manual_seed(1)), torch.rand(8, 3, 2, dtype=torch.float64)
    simulator = Simulator(game, asked, torch.arange(8) % 3, goals, torch.Generator().manual_seed(2))
    with torch.no_grad():
        root = simulator.root(state)
        output, node = simulator.step(root.state, root.legal.long().argmax(-1))
        result = search(root, simulator.step, SearchConfig(6), torch.Generator())
    assert {x.dtype for x in (root.prior_logits, root.value, output.prior_logits, output.value)} == {torch.float64}
    assert node.coplayers.dtype == torch.int64
    assert result.q.dtype == result.policy.dtype == result.value.dtype == torch.float64


def test_goals_that_change_are_part_of_a_node():
    """The toy's goal grows by 1 with each step: what a co-player says grows with it."""
    game, simulator, state, ego, goals = token_simulator()
    asked, seen = networks(game, repeat_last), []
    asked.opponent.goals_change = True

    def next_goal(goal, view, achieved, generator):
        seen.append((view, achieved))
        return goal + 1

    asked.opponent.next_goal = next_goal
    simulator = Simulator(game, asked, ego, goals, torch.Generator().manual_seed(0))
    root = simulator.root(state)
    first = root.state
    assert torch.equal(first.goals, goals)
    _, second = simulator.step(first, torch.zeros_like(ego))
    _, third = simulator.step(second, torch.zeros_like(ego))
    _, again = simulator.step(first, torch.zeros_like(ego))
    assert torch.equal(second.goals, goals + 1)
    assert torch.equal(third.goals, goals + 2)
    assert torch.equal(again.goals, goals + 1), "goals belong to the node, not to the simulator"
    for node in (first, second, third, again):
        others = [(ego + k) % 3 for k in (1, 2)]
        rows = torch.arange(6)
        expected = torch.stack([(node.game.last[rows, k] + node.goals[rows, k, 0].long()) % 5 for k in others], 1)
        assert torch.equal(node.coplayers, expected)
    view, achieved = seen[0]
    assert torch.equal(view.observation, game.observe(second.game))
    joint = torch.cat([torch.zeros(6, 1, dtype=torch.int64), first.coplayers], 1)
    in_seats = torch.stack([joint[row].roll(int(ego[row])) for row in range(6)])
    assert torch.equal(achieved, game.realised(first.game, in_seats))


def test_one_player_is_simulated_without_co_players():
    game = NumberGame("counts", 1)
    state = game.reset(4, torch.Generator().manual_seed(0))
    random = torch.Generator().manual_seed(1)
    before = random.get_state()
    simulator = Simulator(game, networks(game), torch.zeros(4, dtype=torch.int64), torch.zeros(4, 1, 0), random)
    node = simulator.root(state).state
    assert node.coplayers.shape == (4, 0)
    output, node = simulator.step(node, torch.ones(4, dtype=torch.int64))
    after, reward = game.step(state, torch.ones(4, 1, dtype=torch.int64))
    assert same(node.game, after)
    assert torch.equal(output.reward, reward[:, 0])
    assert torch.equal(random.get_state(), before), "there is nothing to draw"


@pytest.mark.parametrize("kind", VIEWS)
def test_a_search_reads_the_views_of_the_game_as_they_are(kind):
    game, seen = NumberGame(kind), []

    def policy(view, time, condition):
        seen.append(view)
        return torch.zeros(len(view), game.num_actions), torch.zeros(len(view))

    state = game.reset(8, torch.Generator().manual_seed(0))
    ego = torch.arange(8) % 2
    simulator = Simulator(game, networks(game, policy=policy), ego, torch.zeros(8, 2, 0), torch.Generator())
    root = simulator.root(state)
    _, node = simulator.step(root.state, torch.ones_like(ego))
    rows = torch.arange(8)
    assert torch.equal(seen[0].double(), game.observe(state)[rows, ego].double())
    assert torch.equal(seen[1].double(), game.observe(node.game)[rows, ego].double())
