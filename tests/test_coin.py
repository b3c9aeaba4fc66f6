"""The coin game: rules by hand, a slow game beside the fast one, what scripts earn, and what a search may know."""

from itertools import product

import pettingzoo
import pytest
import torch
from env_contract import check_contract
from pettingzoo.test import parallel_api_test
from toys import plain_learner, tiny_agent

from omg_lightning.actors import arrange
from omg_lightning.actors.simulator import Networks, Simulator
from omg_lightning.envs import RulesEnv, coin_v0
from omg_lightning.games import CoinGame
from omg_lightning.games.grid.icons import SEAT_COLOURS
from omg_lightning.rollout import play
from omg_lightning.testing import check_device, check_game
from omg_lightning.training.checks import check_match
from omg_lightning.types import NO_GOAL, ConfigError

UP, DOWN, LEFT, RIGHT, STAY = range(5)
CORNERS = [(0, 0), (2, 2)]


def played(actions, batch=1, **start):
    """The state after one step, the rewards and the goals achieved."""
    game = CoinGame()
    state, joint = game.place(batch, **{"players": CORNERS, **start}), torch.tensor([actions] * batch)
    after, rewards = game.step(state, joint)
    return after, rewards[0].tolist(), game.realised(state, joint)[0].tolist()


@pytest.mark.parametrize(
    ("start", "actions", "rewards", "goals"),
    [
        ({"my_coin": [(0, 1)]}, [RIGHT, STAY], [1, 0], [0, NO_GOAL]),
        ({"their_coin": [(0, 1)]}, [RIGHT, STAY], [1, -2], [1, NO_GOAL]),
        ({"their_coin": [(2, 1)]}, [STAY, LEFT], [0, 1], [NO_GOAL, 0]),
        ({"my_coin": [(2, 1)]}, [STAY, LEFT], [-2, 1], [NO_GOAL, 1]),
        ({"my_coin": [(1, 1)]}, [RIGHT, LEFT], [0, 0], [NO_GOAL, NO_GOAL]),
        ({"my_coin": [(2, 0)]}, [UP, STAY], [1, 0], [0, NO_GOAL]),  # over the upper edge
        ({"their_coin": [(2, 0)]}, [STAY, RIGHT], [0, 1], [NO_GOAL, 0]),  # over the right edge
    ],
)
def test_a_coin_pays_one_to_its_taker_and_costs_another_owner_two(start, actions, rewards, goals):
    assert played(actions, **start)[1:] == (rewards, goals)


@pytest.mark.parametrize(("coin", "rewards"), [("my_coin", [-0.5, 0.5]), ("their_coin", [0.5, -0.5])])
def test_a_coin_that_both_reach_at_once_is_shared_and_favours_no_seat(coin, rewards):
    """The mean of a fair toss: 1 and 0 for the owner's win, -2 and 1 for the other's."""
    _, found, goals = played([RIGHT, LEFT], players=[(0, 0), (0, 2)], **{coin: [(0, 1)]})
    assert found == rewards
    assert sorted(goals) == [0, 1]


def test_a_new_coin_is_drawn_evenly_among_cells_without_a_player_and_colours():
    game = CoinGame()
    start = game.reshuffle(game.place(9_000, players=CORNERS, my_coin=[(0, 1)]), torch.Generator().manual_seed(0))
    for actions, free in (([RIGHT, STAY], 7), ([RIGHT, RIGHT], 7)):
        after, _ = game.step(start, torch.tensor([actions] * 9_000))
        assert (after.coin[:, None] != after.players).all()
        pairs = (after.coin * 2 + after.owner).bincount(minlength=18).float() / 9_000
        assert (pairs > 0).sum() == 2 * free
        torch.testing.assert_close(pairs[pairs > 0], torch.full((2 * free,), 1 / (2 * free)), atol=0.012, rtol=0)


def test_an_untaken_coin_stays_and_players_may_share_a_cell():
    after, rewards, _ = played([RIGHT, LEFT], players=[(0, 0), (0, 2)], my_coin=[(2, 2)])
    assert (after.coin.tolist(), after.owner.tolist(), rewards) == ([8], [0], [0, 0])
    assert after.players.tolist() == [[1, 1]]
    game = CoinGame()
    alone = game.reshuffle(after, torch.Generator().manual_seed(1))  # on one cell: eight are free
    many = type(alone)(*(field.expand(4000, *field.shape[1:]) for field in alone))
    many = game.reshuffle(many, torch.Generator().manual_seed(2))._replace(coin=torch.full((4000,), 4))
    coin = game.step(many, torch.tensor([[DOWN, DOWN]]).expand(4000, -1))[0].coin
    assert set(coin.tolist()) == set(range(9)) - {4}


def test_a_view_shows_own_things_first():
    game = CoinGame()
    state = game.place(players=[(0, 0), (1, 2)], their_coin=[(2, 1)])
    places = [[tuple(cell) for cell in plane.nonzero().tolist()] for plane in game.observe(state)[0].flatten(0, 1)]
    assert places == [[(0, 0)], [(1, 2)], [], [(2, 1)], [(1, 2)], [(0, 0)], [(2, 1)], []]


@pytest.mark.parametrize("options", [{}, {"height": 1, "width": 3}, {"height": 2, "width": 4}], ids=str)
def test_contract(options):
    check_game(CoinGame(**options, max_steps=4), batch_size=6)


def test_all_rules_run_where_values_are_not_known():
    check_device(CoinGame(), "meta")


class SlowCoin:
    """One game in plain Python; the coins to come are taken from the fast game."""

    def __init__(self, height, width, players, coin, owner):
        self.size, self.players, self.coin, self.owner = (height, width), list(players), coin, owner

    def step(self, actions):
        moves = {UP: (-1, 0), DOWN: (1, 0), LEFT: (0, -1), RIGHT: (0, 1), STAY: (0, 0)}
        for seat, action in enumerate(actions):
            place = zip(self.players[seat], moves[action], self.size, strict=True)
            self.players[seat] = tuple((x + step) % length for x, step, length in place)
        takers, rewards = [seat for seat in range(2) if self.players[seat] == self.coin], [0.0, 0.0]
        for seat in takers:
            rewards[seat] += 1 / len(takers)
            if seat != self.owner:
                rewards[self.owner] -= 2 / len(takers)
        return rewards, bool(takers)


@pytest.mark.parametrize("size", [(3, 3), (2, 4)])
def test_random_play_is_the_slow_game_step_by_step(size):
    generator, game = torch.Generator().manual_seed(0), CoinGame(*size, max_steps=30)
    state, ties, taken = game.reset(40, generator), 0, 0

    def cells(index):
        return [divmod(cell, size[1]) for cell in index]

    while game.active(state).any():
        before = zip(*(field.tolist() for field in (state.players, state.coin, state.owner)), strict=True)
        slow = [SlowCoin(*size, cells(places), divmod(coin, size[1]), owner) for places, coin, owner in before]
        actions = torch.randint(5, (40, 2), generator=generator)
        state, rewards = game.step(state, actions)
        for row, one in enumerate(slow):
            expected, gone = one.step(actions[row].tolist())
            assert rewards[row].tolist() == expected
            assert cells(state.players[row].tolist()) == one.players
            assert gone or divmod(int(state.coin[row]), size[1]) == one.coin
            ties, taken = ties + (0.5 in expected), taken + gone
    assert ties > 2
    assert taken > 100


def test_scripts_take_shortest_paths_over_the_edges_and_a_cooperator_leaves_the_others_coin():
    game = CoinGame(4, 5)
    for place, coin in product(range(20), repeat=2):
        wanted = {a for a in range(5) if game.ways(torch.Generator().device)[place, coin, a]}
        (r, c), (y, x) = divmod(place, 5), divmod(coin, 5)
        up, left = (r - y) % 4, (c - x) % 5  # steps that way round
        expected = ({UP} if 0 < up <= 2 else set()) | ({DOWN} if up >= 2 else set())
        expected |= ({LEFT} if 0 < left < 2.5 else set()) | ({RIGHT} if left > 2.5 else set())
        assert wanted == expected
    env = RulesEnv(CoinGame())
    state = env.game.place(players=CORNERS, their_coin=[(0, 2)])
    view, legal = env.game.observe(state)[:, 0], env.game.legal(state)[:, 0]
    chances = {}
    for name in ("selfish", "cooperative"):
        player = env.players[name]()
        player.reset(1, 0, env.game, torch.Generator())
        chances[name] = player.action_probabilities(view, legal)[0].tolist()
    assert chances == {"selfish": [0, 0, 1, 0, 0], "cooperative": [0, 0, 0, 0, 1]}


def episodes_of(seats, batch=250):
    env = RulesEnv(CoinGame(max_steps=40))
    return play(
        env, arrange([seats], batch, env, torch.Generator().device), {}, torch.Generator().manual_seed(0)
    ).episodes


def test_selfish_players_take_own_coins_half_of_the_time_and_earn_nothing_together():
    episodes = episodes_of(["selfish", "selfish"])
    taken = episodes.achieved_goal[episodes.achieved_goal != NO_GOAL]
    assert len(taken) > 5_000
    assert (taken == 0).float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert episodes.reward.sum(0).mean().item() == pytest.approx(0, abs=0.6)
    seats = [(episodes.achieved_goal[..., seat] != NO_GOAL).float().mean().item() for seat in (0, 1)]
    assert seats[0] == pytest.approx(seats[1], rel=0.05)


def test_cooperators_take_only_their_own_coins_and_a_selfish_player_exploits_them():
    both = episodes_of(["cooperative", "cooperative"], 60)
    assert set(both.achieved_goal.unique().tolist()) == {NO_GOAL, 0}
    mixed = episodes_of(["selfish", "cooperative"], 60).reward.sum(0).mean(0)
    assert mixed[0] > both.reward.sum(0).mean() > 5
    assert mixed[1] < 0
    assert (both.true_goal == 0).all()


def test_a_search_does_not_foresee_where_coins_will_lie():
    game = CoinGame()
    learner = plain_learner(game)
    state = game.place(64, players=CORNERS, my_coin=[(0, 1)])
    goals, ego = torch.zeros(64, 2, 0), torch.zeros(64, dtype=torch.int64)
    networks = Networks(learner.opponent, learner.policy, False, False)
    roots = [Simulator(game, networks, ego, goals, torch.Generator().manual_seed(s)).root(state) for s in (0, 1)]
    assert all(len(root.state.game.luck.unique()) == 64 for root in roots)
    assert not torch.equal(roots[0].state.game.luck, roots[1].state.game.luck)
    assert torch.equal(roots[0].state.game.coin, state.coin)


def test_the_environment_keeps_the_contract_and_can_be_made_by_name():
    check_contract(lambda **kwargs: coin_v0.parallel_env(**{"max_steps": 3, **kwargs}))
    parallel_api_test(coin_v0.parallel_env(max_steps=5), num_cycles=12)
    env = pettingzoo.make("parallel", "omg_lightning/coin_v0", max_cycles=9)
    assert env.unwrapped.game.max_steps == 9
    env.reset(options={"players": CORNERS, "my_coin": [], "their_coin": [(0, 1)]})
    assert env.step({"player_0": RIGHT, "player_1": STAY})[1] == {"player_0": 1, "player_1": -2}


def test_a_picture_shows_a_coin_in_its_owner_s_colour():
    def drawn(**coin):
        env = coin_v0.parallel_env(render_mode="rgb_array")
        env.reset(options={"players": CORNERS, "my_coin": [], "their_coin": [], **coin})
        middle = env.render()[38 + 64 + 32, 16 + 64 + 32]  # of the central cell
        return "#" + "".join(f"{x:02X}" for x in middle)

    assert [drawn(my_coin=[(1, 1)]), drawn(their_coin=[(1, 1)])] == list(SEAT_COLOURS[:2])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CoinGame(height=0), "height=0: expected a whole number >= 1"),
        (lambda: CoinGame(1, 2), "need at least 3 cells; enlarge the grid"),
        (lambda: CoinGame().place(players=CORNERS), "expected one coin in all"),
        (lambda: CoinGame().place(players=CORNERS, my_coin=[(0, 0)]), "on a cell without a player"),
        (lambda: CoinGame().place(players=CORNERS, my_coin=[(0, 1)], their_coin=[(1, 1)]), "expected one coin in all"),
        (lambda: CoinGame().place(players=[(0, 0)], my_coin=[(0, 1)]), "players: got 1 positions; expected 2"),
        (lambda: CoinGame().place(players=CORNERS, my_coin=[(3, 1)]), "my_coin: got .* move it onto the grid"),
    ],
)
def test_mistakes_are_named_in_one_line(make, message):
    with pytest.raises(ConfigError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_a_layout_without_owners_still_loads():
    settings = tiny_agent(CoinGame(), "Direct").hparams
    earlier = {
        name: value for name, value in settings["spec"]["layout"].items() if value is not None or name == "walls"
    }
    check_match({**settings, "spec": {**settings["spec"], "layout": earlier}}, settings)
    assert earlier["owned"] == 2
