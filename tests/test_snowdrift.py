import random
from itertools import product

import pytest
import torch

from omg_lightning.games import Snowdrift
from omg_lightning.games.grid.snowdrift import PRESETS
from omg_lightning.testing import check_game, random_actions
from omg_lightning.types import NO_GOAL, ConfigError

UP, DOWN, LEFT, RIGHT, STAY, SHOVEL = range(6)
DRIFTS = [(0, 1), (1, 0), (2, 3)]  # drift_0, drift_1, drift_2 on 3 x 4 cells
SMALL = {"num_players": 3, "num_drifts": 3, "height": 3, "width": 4}
SEEDS = 32


def placed(players, drifts=DRIFTS, **settings):
    game = Snowdrift(**{**SMALL, "num_players": len(players), "num_drifts": len(drifts), **settings})
    return game, game.place(players=players, drifts=drifts)


def play(game, state, *actions):
    return game.step(state, torch.tensor([actions]))


def drifts_left(game, state):
    return [tuple(cell) for cell in game.observe(state)[0, 0, -1].nonzero().tolist()]


def test_one_shovels_all_gain_and_the_one_pays():
    game, state = placed([(0, 1), (2, 2), (2, 2)])
    after, rewards = play(game, state, SHOVEL, STAY, UP)
    assert rewards.tolist() == [[2, 6, 6]]
    assert drifts_left(game, after) == [(1, 0), (2, 3)]
    assert game.active(after).all()
    assert not game.legal(after)[0, 0, SHOVEL]


def test_players_that_shovel_the_same_drift_share_its_cost():
    game, state = placed([(0, 1), (0, 1), (0, 1), (0, 0)])
    assert play(game, state, SHOVEL, SHOVEL, STAY, STAY)[1].tolist() == [[4, 4, 6, 6]]
    after, rewards = play(game, state, SHOVEL, SHOVEL, SHOVEL, STAY)
    torch.testing.assert_close(rewards, torch.tensor([[6 - 4 / 3] * 3 + [6]]))
    assert drifts_left(game, after) == [(1, 0), (2, 3)]


def test_drifts_shovelled_in_the_same_step_add_up_and_each_has_its_own_cost():
    game, state = placed([(0, 1), (1, 0), (1, 0), (2, 2)])
    after, rewards = play(game, state, SHOVEL, SHOVEL, SHOVEL, RIGHT)
    assert rewards.tolist() == [[12 - 4, 12 - 2, 12 - 2, 12]]
    assert drifts_left(game, after) == [(2, 3)]


def test_a_player_that_only_stands_on_a_drift_pays_nothing_and_may_move_off():
    game, state = placed([(0, 1), (0, 1)])
    after, rewards = play(game, state, SHOVEL, RIGHT)
    assert rewards.tolist() == [[2, 6]]
    assert after.players.tolist() == [[1, 2]]
    assert drifts_left(game, after) == [(1, 0), (2, 3)]


def test_shovelling_where_no_drift_is_or_no_more_counts_as_staying():
    game, state = placed([(0, 0), (0, 1)])
    after, rewards = play(game, state, SHOVEL, STAY)
    assert not rewards.any()
    assert drifts_left(game, after) == DRIFTS
    after, _ = play(game, state, STAY, SHOVEL)
    again, rewards = play(game, after, STAY, SHOVEL)
    assert not rewards.any()
    assert torch.equal(again.cells, after.cells)


@pytest.mark.parametrize("action", [-1, 6, 7, 13, -(2**40), 2**40])
def test_an_integer_that_is_no_action_counts_as_staying(action):
    game, state = placed([(0, 1), (1, 0)])
    after, rewards = play(game, state, action, action)
    assert torch.equal(after.players, state.players)
    assert not rewards.any()


def test_walls_stop_others_and_drifts_do_not():
    game = Snowdrift(num_players=5, num_drifts=1, height=3, width=3)
    state = game.place(players=[(0, 0), (1, 1), (2, 2), (0, 2), (2, 0)], drifts=[(0, 1)])
    legal = [{a for a in range(6) if row[a]} for row in game.legal(state)[0].tolist()]
    corners = [{DOWN, RIGHT}, {UP, DOWN, LEFT, RIGHT}, {UP, LEFT}, {DOWN, LEFT}, {UP, RIGHT}]
    assert legal == [moves | {STAY} for moves in corners]
    after, _ = play(game, state, RIGHT, UP, LEFT, UP, RIGHT)
    assert [divmod(cell, 3) for cell in after.players[0].tolist()] == [(0, 1), (0, 1), (2, 1), (0, 2), (2, 1)]


def test_there_is_no_step_from_one_row_s_end_to_the_next_row():
    game = Snowdrift(num_players=2, num_drifts=1, height=2, width=2)
    after, _ = play(game, game.place(players=[(0, 1), (1, 0)], drifts=[(0, 0)]), RIGHT, LEFT)
    assert after.players.tolist() == [[1, 2]]


def test_the_last_drift_ends_the_episode_for_all():
    game, state = placed([(0, 1), (2, 2)], drifts=[(0, 1)])
    after, rewards = play(game, state, SHOVEL, STAY)
    assert rewards.tolist() == [[2, 6]]
    assert not game.active(after).any()
    assert game.legal(after).nonzero()[:, 2].tolist() == [STAY, STAY]
    again, rewards = play(game, after, UP, UP)
    assert all(torch.equal(x, y) for x, y in zip(again, after, strict=True))
    assert not rewards.any()


def test_the_time_limit_ends_the_episode():
    game, state = placed([(0, 0), (0, 1)], max_steps=2)
    state, _ = play(game, state, STAY, STAY)
    assert game.active(state).all()
    state, rewards = play(game, state, STAY, SHOVEL)
    assert rewards.tolist() == [[6, 2]]
    assert not game.active(state).any()
    assert state.time.tolist() == [2]


def test_prosocial_pays_the_mean_to_all():
    game, state = placed([(0, 1), (1, 0), (1, 0), (2, 2)], prosocial=True)
    assert play(game, state, SHOVEL, SHOVEL, SHOVEL, STAY)[1].tolist() == [[10, 10, 10, 10]]


def test_a_drift_keeps_its_number_when_others_are_gone():
    game, state = placed([(0, 1), (1, 0), (2, 3)], drifts=[(2, 3), (0, 1), (1, 0)])  # numbered by place, not by order
    every = torch.tensor([[SHOVEL] * 3])
    assert game.goal_names == ("drift_0", "drift_1", "drift_2")
    assert game.realised(state, every).tolist() == [[0, 1, 2]]
    state, _ = play(game, state, SHOVEL, STAY, STAY)
    assert game.realised(state, every).tolist() == [[NO_GOAL, 1, 2]]
    state, _ = play(game, state, STAY, SHOVEL, STAY)
    assert game.realised(state, every).tolist() == [[NO_GOAL, NO_GOAL, 2]]


def test_exactly_the_shovelling_players_achieve_a_drift():
    game, state = placed([(2, 3), (2, 3), (2, 3), (0, 0)])
    actions = torch.tensor([[SHOVEL, STAY, SHOVEL, SHOVEL]])
    assert game.realised(state, actions).tolist() == [[2, NO_GOAL, 2, NO_GOAL]]


def test_drifts_are_numbered_row_by_row():
    game = Snowdrift(**{**SMALL, "num_drifts": 12})
    cells = game.reset(3, torch.Generator().manual_seed(0)).cells
    assert cells.tolist() == [list(range(1, 13))] * 3
    cells = Snowdrift.preset("msg").reset(50, torch.Generator().manual_seed(0)).cells
    assert [[x for x in row if x] for row in cells.tolist()] == [[1, 2, 3, 4, 5, 6]] * 50


@pytest.mark.parametrize("settings", [{}, {"prosocial": True}, {"num_players": 1}, {"num_drifts": 1}], ids=str)
def test_contract(settings):
    check_game(Snowdrift(**{**SMALL, "max_steps": 12, **settings}))


class SlowSnowdrift:
    """The rules once more, for one episode, in a table of positions and plain words."""

    def __init__(self, game, view):
        self.game, self.time = game, 0
        self.drifts = {tuple(cell): number for number, cell in enumerate(view[0, -1].nonzero().tolist())}
        self.players = [tuple(view[i, 0].nonzero()[0].tolist()) for i in range(game.num_players)]

    def over(self):
        return self.time >= self.game.max_steps or not self.drifts

    def target(self, i, action):
        down, right = {UP: (-1, 0), DOWN: (1, 0), LEFT: (0, -1), RIGHT: (0, 1)}[action]
        return self.players[i][0] + down, self.players[i][1] + right

    def legal(self, i, action):
        if action == STAY or self.over():
            return action == STAY
        if action == SHOVEL:
            return self.players[i] in self.drifts
        if action not in (UP, DOWN, LEFT, RIGHT):
            return False
        r, c = self.target(i, action)
        return 0 <= r < self.game.height and 0 <= c < self.game.width

    def step(self, actions):
        game, playing = self.game, not self.over()
        actions = [a if self.legal(i, a) else STAY for i, a in enumerate(actions)]
        rewards, realised = [0.0] * len(actions), [NO_GOAL] * len(actions)
        for cell, number in list(self.drifts.items()):
            group = [i for i, a in enumerate(actions) if a == SHOVEL and self.players[i] == cell]
            if group:
                del self.drifts[cell]
                rewards = [reward + game.drift_reward for reward in rewards]
            for i in group:
                rewards[i] -= game.shovel_cost / len(group)
                realised[i] = number
        for i, a in enumerate(actions):
            if a in (UP, DOWN, LEFT, RIGHT):
                self.players[i] = self.target(i, a)
        self.time += playing
        if game.prosocial:
            rewards = [sum(rewards) / len(rewards)] * len(rewards)
        return rewards, realised

    def view(self, seat):
        game, count = self.game, len(self.players)
        sets = [{self.players[(seat + k) % count]} for k in range(count)] + [set(self.drifts)]
        cells = list(product(range(game.height), range(game.width)))
        return [[float(cell in s) for cell in cells] for s in sets]


def random_game(chance):
    height, width = chance.randint(1, 4), chance.randint(2, 4)
    return Snowdrift(
        num_players=chance.choice([1, 2, 3, 5, 6, 6]),
        num_drifts=chance.randint(1, min(6, height * width)),
        height=height,
        width=width,
        drift_reward=chance.choice([6.0, 1.5]),
        shovel_cost=chance.choice([4.0, -1.0, 0.0]),
        max_steps=chance.choice([1, 15, 15, 15]),
        prosocial=chance.random() < 0.25,
    )


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_play_is_the_slow_game_step_by_step(seed):
    game, generator = random_game(random.Random(seed)), torch.Generator().manual_seed(seed)
    state, rows = game.reset(6, generator), range(6)
    slow = [SlowSnowdrift(game, view) for view in game.observe(state)]
    for _ in range(game.max_steps + 1):
        view = game.observe(state).flatten(3).tolist()
        assert view == [[s.view(i) for i in range(game.num_players)] for s in slow]
        assert game.active(state).tolist() == [[not s.over()] * game.num_players for s in slow]
        legal = [[[s.legal(i, a) for a in range(6)] for i in range(game.num_players)] for s in slow]
        assert game.legal(state).tolist() == legal
        actions = random_actions(game, state, generator)
        realised = game.realised(state, actions)
        state, rewards = game.step(state, actions)
        expected = [slow[b].step(actions[b].tolist()) for b in rows]
        torch.testing.assert_close(rewards, torch.tensor([r for r, _ in expected]))
        assert realised.tolist() == [g for _, g in expected]
        assert state.time.tolist() == [s.time for s in slow]
        assert state.left.tolist() == [len(s.drifts) for s in slow]


def test_the_random_games_contain_the_compared_events():
    """Without shared drifts, several in a step and both ends the comparison above would prove little."""
    seen = set()
    for seed in range(SEEDS):
        game, generator = random_game(random.Random(seed)), torch.Generator().manual_seed(seed)
        state = game.reset(6, generator)
        for _ in range(game.max_steps):
            actions = random_actions(game, state, generator)
            for row in game.realised(state, actions).tolist():
                taken = [goal for goal in row if goal != NO_GOAL]
                seen |= {("shared", game.prosocial)} if len(taken) > len(set(taken)) else set()
                seen |= {("several", game.prosocial)} if len(set(taken)) > 1 else set()
            state, _ = game.step(state, actions)
        seen |= {"cleared" if cleared else "out of time" for cleared in (state.cells == 0).all(1).tolist()}
    assert seen == {(what, p) for what in ("shared", "several") for p in (False, True)} | {"cleared", "out of time"}


def test_seats_are_symmetric():
    game = Snowdrift(**{**SMALL, "num_players": 4})
    generator, order = torch.Generator().manual_seed(0), torch.tensor([2, 0, 3, 1])
    state = game.reset(64, generator)
    for _ in range(10):
        actions = random_actions(game, state, generator)
        turned = state._replace(players=state.players[:, order])
        state, rewards = game.step(state, actions)
        after, turned_rewards = game.step(turned, actions[:, order])
        assert torch.equal(turned_rewards, rewards[:, order])
        assert torch.equal(after.cells, state.cells)
        assert torch.equal(game.legal(after), game.legal(state)[:, order])


def test_the_preset_holds_what_it_names_and_is_the_default():
    game = Snowdrift.preset("msg")
    assert repr(game) == repr(Snowdrift())
    assert list(PRESETS) == ["msg"]
    assert game.observation_shape == (5, 8, 8)
    assert (game.max_steps, game.drift_reward, game.shovel_cost, game.prosocial) == (50, 6, 4, False)
    state = game.reset(200, torch.Generator().manual_seed(0))
    counts = game.observe(state)[:, 0].sum((2, 3))  # [B, C]
    assert (counts == torch.tensor([1, 1, 1, 1, 6])).all()
    assert (state.players.unique().tolist(), state.cells.any(0).all().item()) == (list(range(64)), True), "anywhere"


def returns(lineup, batch_size=64):
    """Returns of whole episodes of msg `[B, P]` with these players, and how many drifts were left, `[B]`."""
    game, generator = Snowdrift.preset("msg"), torch.Generator().manual_seed(0)
    state, total = game.reset(batch_size, generator), torch.zeros(batch_size, 4)
    players = [game.players[name]() for name in lineup]
    for seat, player in enumerate(players):
        player.reset(batch_size, seat, game, generator)
    while game.active(state).any():
        views, legal = game.observe(state), game.legal(state)
        actions = torch.stack([player.act(views[:, i], legal[:, i]) for i, player in enumerate(players)], 1)
        assert legal.gather(2, actions[..., None]).all()
        state, rewards = game.step(state, actions)
        total += rewards
    return total, (state.cells != 0).sum(1)


def test_clearing_all_drifts_earns_the_documented_optimum_for_any_division_of_work():
    for cleaners in (2, 4):  # one alone does not always find the time
        total, left = returns(["cleaner"] * cleaners + ["defector"] * (4 - cleaners))
        assert (left == 0).all()
        torch.testing.assert_close(total.mean(1), torch.full((64,), 30.0))
        assert (total[:, cleaners:] == 36).all(), "who leaves the work to others gains most"
    assert "30.0 in `msg`" in Snowdrift.__doc__


def test_the_return_of_all_defectors_is_0():
    total, left = returns(["defector"] * 4)
    assert (left == 6).all()
    assert (total == 0).all()


def test_repr_builds_the_same_game_and_overrides_count():
    game = Snowdrift.preset("msg", max_steps=9, prosocial=True, drift_reward=1)
    again = eval(repr(game), {"Snowdrift": Snowdrift})
    assert repr(again) == repr(game)
    assert (again.max_steps, again.prosocial, again.drift_reward, again.num_drifts) == (9, True, 1.0, 6)
    with pytest.raises(ConfigError, match=r"preset='gsm'.*msg"):
        Snowdrift.preset("gsm")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"num_players": 0}, "num_players=0"),
        ({"num_players": 2.0}, "num_players=2.0"),
        ({"num_drifts": 0}, "num_drifts=0"),
        ({"num_drifts": True}, "num_drifts=True"),
        ({"height": 0}, "height=0"),
        ({"width": "4"}, "width='4'"),
        ({"drift_reward": float("inf")}, "drift_reward=inf"),
        ({"shovel_cost": float("nan")}, "shovel_cost=nan"),
        ({"shovel_cost": "4"}, "shovel_cost='4'"),
        ({"max_steps": 0}, "max_steps=0"),
        ({"prosocial": 1}, "prosocial=1"),
        ({"num_drifts": 13}, "num_drifts=13: height=3, width=4 has room for 12; use fewer drifts or a larger grid"),
        ({"num_drifts": 256, "height": 20, "width": 20}, "num_drifts=256.*room for 255"),
    ],
)
def test_mistakes_are_named_at_construction(settings, named):
    with pytest.raises(ConfigError, match=named):
        Snowdrift(**{**SMALL, **settings})


@pytest.mark.parametrize("batch_size", [0, -1, True, 2.0])
def test_reset_and_place_refuse_a_batch_size(batch_size):
    game, _ = placed([(0, 0)])
    with pytest.raises(ConfigError, match="batch_size="):
        game.reset(batch_size)
    with pytest.raises(ConfigError, match="batch_size="):
        game.place(batch_size, players=[(0, 0)], drifts=DRIFTS)


@pytest.mark.parametrize(
    ("layout", "named"),
    [
        ({"players": [(0, 0)]}, "players: got 1 positions; expected 2, this game's num_players"),
        ({"drifts": [(0, 0)]}, "drifts: got 1 positions; expected 3, this game's num_drifts"),
        ({"players": [(0, 0), (3, 0)]}, r"players: got \(3, 0\).*0 <= row < 3"),
        ({"drifts": [(0, 0), (0, 1), (0, 0)]}, "two drifts share a cell"),
        ({"players": 5}, "players=5"),
    ],
)
def test_place_refuses(layout, named):
    game, _ = placed([(0, 0), (2, 2)])
    with pytest.raises(ConfigError, match=named):
        game.place(**{"players": [(0, 0), (2, 2)], "drifts": DRIFTS, **layout})


def test_place_sets_the_given_layout_in_every_row():
    game, _ = placed([(0, 0), (0, 0)])
    view = game.observe(game.place(3, players=[(2, 2), (0, 1)], drifts=DRIFTS[::-1]))
    assert torch.equal(view, view[:1].expand_as(view))
    found = {name: p.nonzero().tolist() for name, p in zip(game.plane_names, view[0, 1], strict=True)}
    assert found == {"self": [[0, 1]], "other_1": [[2, 2]], "drifts": [list(cell) for cell in DRIFTS]}


def test_sparse_views_name_the_ones_of_the_planes():
    game, generator = Snowdrift.preset("msg"), torch.Generator().manual_seed(1)
    state = game.reset(16, generator)
    for _ in range(12):
        dense, places = game.observe(state).flatten(2), game.observe_sparse(state)
        none = dense.shape[-1]
        found = torch.zeros(*dense.shape[:2], none + 1).scatter_add_(2, places.long(), torch.ones(places.shape))
        assert torch.equal(found[..., :none], dense)
        legal = game.legal(state).float()
        actions = torch.multinomial(legal.flatten(0, 1), 1, generator=generator).view(16, 4)
        actions = torch.where(game.legal(state)[..., SHOVEL], SHOVEL, actions)
        state, _ = game.step(state, actions)
    assert (state.left < 6).any(), "drifts must have gone for this to be seen"
