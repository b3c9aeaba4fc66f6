import random
from itertools import product

import pytest
import torch

from omg_lightning.games import StagHunt
from omg_lightning.games.grid.stag_hunt import PRESETS
from omg_lightning.testing import check_game, random_actions
from omg_lightning.types import ConfigError

UP, DOWN, LEFT, RIGHT, STAY, HUNT_STAG, HUNT_HARE = range(7)
SMALL = {"num_players": 3, "num_stags": 1, "num_hares": 1, "height": 3, "width": 4}
STAG_CELL, HARE_CELL = (1, 1), (2, 3)
SEEDS = 32


def placed(hunters, **settings):
    game = StagHunt(**{**SMALL, "num_players": len(hunters), **settings})
    return game, game.place(hunters=hunters, stags=[STAG_CELL], hares=[HARE_CELL])


def play(game, state, *actions):
    return game.step(state, torch.tensor([actions]))


def plane(game, state, name, seat=0):
    return game.observe(state)[0, seat, game.plane_names.index(name)]


def test_one_hunter_alone_achieves_nothing_on_a_stag():
    game, state = placed([STAG_CELL, (0, 0)])
    after, rewards = play(game, state, HUNT_STAG, STAY)
    assert rewards.tolist() == [[0, 0]]
    assert game.active(after).tolist() == [[True, True]]
    assert plane(game, after, "stags").sum() == 1
    assert game.realised(state, torch.tensor([[HUNT_STAG, STAY]])).tolist() == [[-1, -1]]


def test_a_hunter_that_only_stands_on_the_stag_does_not_help():
    game, state = placed([STAG_CELL, STAG_CELL])
    after, rewards = play(game, state, HUNT_STAG, STAY)
    assert rewards.tolist() == [[0, 0]]
    assert game.active(after).all()


def test_two_share_the_stag_and_leave_with_it():
    game, state = placed([STAG_CELL, STAG_CELL, STAG_CELL])
    actions = torch.tensor([[HUNT_STAG, STAY, HUNT_STAG]])
    after, rewards = game.step(state, actions)
    assert rewards.tolist() == [[5, 0, 5]]
    assert game.active(after).tolist() == [[False, True, False]]
    assert game.realised(state, actions).tolist() == [[0, -1, 0]]
    assert plane(game, after, "stags").sum() == 0
    assert not game.legal(after)[0, 1, HUNT_STAG]
    assert [plane(game, after, name, seat=1).sum().item() for name in ("self", "other_1", "other_2")] == [1, 0, 0]


def test_hunters_share_a_stag_by_their_strength():
    game, state = placed([STAG_CELL, STAG_CELL, STAG_CELL], strength=(1, 3, 4))
    assert play(game, state, HUNT_STAG, HUNT_STAG, STAY)[1].tolist() == [[2.5, 7.5, 0]]
    assert play(game, state, HUNT_STAG, HUNT_STAG, HUNT_STAG)[1].tolist() == [[1.25, 3.75, 5]]
    assert play(game, state, HUNT_STAG, STAY, HUNT_STAG)[1].tolist() == [[2, 0, 8]]


def test_three_of_equal_strength_share_in_thirds():
    game, state = placed([STAG_CELL, STAG_CELL, STAG_CELL], stag_reward=9.0)
    assert play(game, state, HUNT_STAG, HUNT_STAG, HUNT_STAG)[1].tolist() == [[3, 3, 3]]


def test_a_hare_needs_one_and_is_shared_equally_whatever_the_strength():
    game, state = placed([HARE_CELL, HARE_CELL, (0, 0)], strength=(1, 3, 4))
    assert play(game, state, STAY, HUNT_HARE, STAY)[1].tolist() == [[0, 1, 0]]
    actions = torch.tensor([[HUNT_HARE, HUNT_HARE, STAY]])
    after, rewards = game.step(state, actions)
    assert rewards.tolist() == [[0.5, 0.5, 0]]
    assert game.realised(state, actions).tolist() == [[1, 1, -1]]
    assert game.active(after).tolist() == [[False, False, True]]
    assert plane(game, after, "hares").sum() == 0


def test_stag_and_hare_fall_in_the_same_step():
    game, state = placed([STAG_CELL, HARE_CELL, STAG_CELL, HARE_CELL])
    after, rewards = play(game, state, HUNT_STAG, HUNT_HARE, HUNT_STAG, STAY)
    assert rewards.tolist() == [[5, 1, 5, 0]]
    assert game.active(after).tolist() == [[False, False, False, True]]


def test_two_stags_make_two_groups_and_the_other_prey_remains():
    game = StagHunt(num_players=4, num_stags=2, num_hares=0, height=2, width=2)
    state = game.place(hunters=[(0, 0), (1, 1), (0, 0), (1, 1)], stags=[(0, 0), (1, 1)], hares=[])
    assert play(game, state, HUNT_STAG, HUNT_STAG, STAY, STAY)[1].tolist() == [[0, 0, 0, 0]]  # not the same stag
    assert play(game, state, HUNT_STAG, HUNT_STAG, HUNT_STAG, HUNT_STAG)[1].tolist() == [[5, 5, 5, 5]]
    after, _ = play(game, state, HUNT_STAG, HUNT_STAG, HUNT_STAG, STAY)
    assert plane(game, after, "stags", seat=1).tolist() == [[0, 0], [0, 1]]
    after, rewards = play(game, after, HUNT_STAG, HUNT_STAG, HUNT_STAG, HUNT_STAG)
    assert rewards.tolist() == [[0, 5, 0, 5]]
    assert not game.active(after).any()


def test_walls_and_blocks_stop_and_others_do_not():
    game = StagHunt(num_players=2, num_stags=0, num_hares=0, height=2, width=3)
    state = game.place(hunters=[(0, 0), (1, 0)], stags=[], hares=[], blocks=[(0, 1)])
    assert game.legal(state)[0].tolist() == [
        [False, True, False, False, True, False, False],  # up wall, down free though occupied, left wall, right block
        [True, False, False, True, True, False, False],
    ]
    after, _ = play(game, state, RIGHT, LEFT)
    assert after.hunters.tolist() == [[0, 3]]
    after, _ = play(game, state, DOWN, UP)
    assert after.hunters.tolist() == [[3, 0]]


def test_moves_go_where_their_names_say():
    game = StagHunt(num_players=5, num_stags=0, num_hares=0, height=3, width=3)
    state = game.place(hunters=[(1, 1)] * 5, stags=[], hares=[])
    after, _ = play(game, state, UP, DOWN, LEFT, RIGHT, STAY)
    assert [divmod(cell, 3) for cell in after.hunters[0].tolist()] == [(0, 1), (2, 1), (1, 0), (1, 2), (1, 1)]


def test_there_is_no_step_from_one_row_s_end_to_the_next_row():
    game = StagHunt(num_players=2, num_stags=0, num_hares=0, height=2, width=2)
    after, _ = play(game, game.place(hunters=[(0, 1), (1, 0)], stags=[], hares=[]), RIGHT, LEFT)
    assert after.hunters.tolist() == [[1, 2]]


def test_hunting_the_wrong_prey_or_none_counts_as_staying():
    game, state = placed([STAG_CELL, STAG_CELL, HARE_CELL, (0, 0)])
    after, rewards = play(game, state, HUNT_HARE, HUNT_HARE, HUNT_STAG, HUNT_HARE)
    assert not rewards.any()
    assert game.active(after).all()


@pytest.mark.parametrize("action", [-1, 7, 8, 13, -(2**40), 2**40])
def test_an_integer_that_is_no_action_counts_as_staying(action):
    game, state = placed([STAG_CELL, HARE_CELL])
    after, rewards = play(game, state, action, action)
    assert torch.equal(after.hunters, state.hunters)
    assert not rewards.any()


def test_the_time_limit_ends_the_episode():
    game, state = placed([(0, 0), HARE_CELL], max_steps=2)
    state, _ = play(game, state, STAY, STAY)
    assert game.active(state).all()
    state, rewards = play(game, state, STAY, HUNT_HARE)
    assert rewards.tolist() == [[0, 1]]
    assert not game.active(state).any()
    assert state.time.tolist() == [2]


@pytest.mark.parametrize(("steps", "left"), [(0, 0), (5, 5), (None, 8), (100, 8)])
def test_steps_after_the_first_hunt(steps, left):
    game = StagHunt(
        num_players=3, num_stags=0, num_hares=2, height=1, width=3, max_steps=11, steps_after_first_hunt=steps
    )
    state = game.place(hunters=[(0, 0), (0, 1), (0, 2)], stags=[], hares=[(0, 0), (0, 1)])
    for _ in range(2):
        state, _ = play(game, state, STAY, STAY, STAY)
    state, _ = play(game, state, HUNT_HARE, STAY, STAY)
    for played in range(left):
        assert game.active(state)[0, 2], played
        state, _ = play(game, state, STAY, HUNT_HARE if played == 2 else STAY, STAY)  # a second catch changes nothing
    assert not game.active(state).any()


def test_prosocial_pays_the_mean_to_all_seats_those_that_left_included():
    game, state = placed([STAG_CELL, STAG_CELL, HARE_CELL, (0, 0)], prosocial=True)
    after, rewards = play(game, state, HUNT_STAG, HUNT_STAG, STAY, STAY)
    assert rewards.tolist() == [[2.5, 2.5, 2.5, 2.5]]
    after, rewards = play(game, after, STAY, STAY, HUNT_HARE, STAY)
    assert rewards.tolist() == [[0.25, 0.25, 0.25, 0.25]]
    assert game.active(after).tolist() == [[False, False, False, True]]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"strength": (1.0, 2.5, 0.5)},
        {"prosocial": True},
        {"steps_after_first_hunt": 2},
        {"num_blocks": 2, "height": 5, "width": 4},
        {"num_players": 1},
    ],
)
def test_contract(settings):
    check_game(StagHunt(**{**SMALL, "max_steps": 12, **settings}))


class SlowStagHunt:
    """The rules once more, for one episode, in sets of positions and plain words."""

    def __init__(self, game, view):
        self.game, self.time, self.first_hunt = game, 0, None
        found = {
            name: {tuple(x) for x in p.nonzero().tolist()} for name, p in zip(game.plane_names, view[0], strict=True)
        }
        self.blocks, self.stags, self.hares = found["blocks"], found["stags"], found["hares"]
        self.hunters = [tuple(view[i, 0].nonzero()[0].tolist()) for i in range(game.num_players)]
        self.left = set()

    def over(self):
        closed = self.first_hunt is not None and self.game.steps_after_first_hunt is not None
        closed = closed and self.time > self.first_hunt + self.game.steps_after_first_hunt
        return closed or self.time >= self.game.max_steps or len(self.left) == len(self.hunters)

    def active(self):
        return [not self.over() and i not in self.left for i in range(len(self.hunters))]

    def target(self, i, action):
        down, right = {UP: (-1, 0), DOWN: (1, 0), LEFT: (0, -1), RIGHT: (0, 1)}[action]
        return self.hunters[i][0] + down, self.hunters[i][1] + right

    def legal(self, i, action):
        if action == STAY or not self.active()[i]:
            return action == STAY
        if action in (HUNT_STAG, HUNT_HARE):
            return self.hunters[i] in (self.stags if action == HUNT_STAG else self.hares)
        if action not in (UP, DOWN, LEFT, RIGHT):
            return False
        r, c = self.target(i, action)
        return 0 <= r < self.game.height and 0 <= c < self.game.width and (r, c) not in self.blocks

    def step(self, actions):
        game, playing = self.game, not self.over()
        actions = [a if self.legal(i, a) else STAY for i, a in enumerate(actions)]
        rewards, realised = [0.0] * len(actions), [-1] * len(actions)
        strength = game.strength or [1] * len(actions)
        for stag in sorted(self.stags):
            group = [i for i, a in enumerate(actions) if a == HUNT_STAG and self.hunters[i] == stag]
            if len(group) >= 2:
                for i in group:
                    rewards[i], realised[i] = game.stag_reward * strength[i] / sum(strength[j] for j in group), 0
                self.stags = self.stags - {stag}
        for hare in sorted(self.hares):
            group = [i for i, a in enumerate(actions) if a == HUNT_HARE and self.hunters[i] == hare]
            for i in group:
                rewards[i], realised[i] = game.hare_reward / len(group), 1
            if group:
                self.hares = self.hares - {hare}
        for i, a in enumerate(actions):
            if a in (UP, DOWN, LEFT, RIGHT):
                self.hunters[i] = self.target(i, a)
        caught = {i for i, goal in enumerate(realised) if goal >= 0}
        self.left |= caught
        if caught and self.first_hunt is None:
            self.first_hunt = self.time
        self.time += playing
        if game.prosocial:
            rewards = [sum(rewards) / len(rewards)] * len(rewards)
        return rewards, realised

    def view(self, seat):
        game, count = self.game, len(self.hunters)
        order = [(seat + k) % count for k in range(count)]
        sets = [set() if i in self.left else {self.hunters[i]} for i in order] + [self.blocks, self.stags, self.hares]
        cells = list(product(range(game.height), range(game.width)))
        return [[float(cell in s) for cell in cells] for s in sets]


def random_game(chance):
    players, height, width = chance.choice([1, 2, 3, 5, 6, 6]), chance.randint(2, 4), chance.randint(2, 4)
    blocks = chance.randint(0, 1) if height * width >= 12 else 0
    stags, hares = chance.choice([0, 1, 1, 2]), chance.choice([0, 1, 1, 2])
    return StagHunt(
        num_players=players,
        num_stags=stags,
        num_hares=hares,
        height=height,
        width=width,
        num_blocks=blocks,
        stag_reward=chance.choice([10.0, 7.0]),
        hare_reward=chance.choice([1.0, -0.5]),
        max_steps=chance.choice([1, 15, 15, 15]),
        steps_after_first_hunt=chance.choice([None, None, 0, 3]),
        strength=chance.choice([None, [chance.uniform(0.5, 3) for _ in range(players)]]),
        prosocial=chance.random() < 0.25,
    )


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_play_is_the_slow_game_step_by_step(seed):
    game, generator = random_game(random.Random(seed)), torch.Generator().manual_seed(seed)
    state, rows = game.reset(6, generator), range(6)
    slow = [SlowStagHunt(game, view) for view in game.observe(state)]
    for _ in range(game.max_steps + 1):
        view = game.observe(state).flatten(3).tolist()
        assert view == [[s.view(i) for i in range(game.num_players)] for s in slow]
        assert game.active(state).tolist() == [s.active() for s in slow]
        legal = [[[s.legal(i, a) for a in range(7)] for i in range(game.num_players)] for s in slow]
        assert game.legal(state).tolist() == legal
        actions = random_actions(game, state, generator)
        realised = game.realised(state, actions)
        state, rewards = game.step(state, actions)
        expected = [slow[b].step(actions[b].tolist()) for b in rows]
        torch.testing.assert_close(rewards, torch.tensor([r for r, _ in expected]))
        assert realised.tolist() == [g for _, g in expected]
        assert state.time.tolist() == [s.time for s in slow]


def test_the_random_games_contain_the_compared_events():
    """Without captures, groups and late ends the comparison above would prove little."""
    seen = set()
    for seed in range(SEEDS):
        game, generator = random_game(random.Random(seed)), torch.Generator().manual_seed(seed)
        state = game.reset(6, generator)
        for _ in range(game.max_steps):
            actions = random_actions(game, state, generator)
            realised = game.realised(state, actions)
            seen |= {("caught", goal, game.prosocial, game.strength is None) for goal in realised.unique().tolist()}
            if game.steps_after_first_hunt == 3:
                running = game.active(state).any(1)
                seen |= {"closing"} if (running & (state.closes < game.max_steps)).any() else set()
            state, _ = game.step(state, actions)
    wanted = {("caught", g, p, s) for g in (-1, 0, 1) for p in (False, True) for s in (False, True)} | {"closing"}
    assert not wanted - seen


def test_seats_are_symmetric():
    game = StagHunt(**{**SMALL, "height": 2, "num_players": 4, "num_hares": 2})
    generator, order = torch.Generator().manual_seed(0), torch.tensor([2, 0, 3, 1])
    state = game.reset(64, generator)
    for _ in range(10):
        actions = random_actions(game, state, generator)
        turned = state._replace(hunters=state.hunters[:, order], present=state.present[:, order])
        state, rewards = game.step(state, actions)
        after, turned_rewards = game.step(turned, actions[:, order])
        assert torch.equal(turned_rewards, rewards[:, order])
        assert torch.equal(after.cells, state.cells)
        assert torch.equal(game.legal(after), game.legal(state)[:, order])


@pytest.mark.parametrize("name", PRESETS)
def test_presets_hold_what_they_name(name):
    game = StagHunt.preset(name)
    state = game.reset(200, torch.Generator().manual_seed(0))
    players, stags = int(name[0]), int(name[2])
    hares, size, pieces = {"2h1s_4x4": (2, 4, 0), "4h1s_4x4": (4, 4, 0), "4h1s_6x6": (4, 6, 4)}.get(name, (4, 8, 5))
    assert game.observation_shape == (players + 3, size, size)
    assert (game.max_steps, game.stag_reward, game.hare_reward, game.steps_after_first_hunt) == (35, 10, 1, None)
    counts = game.observe(state)[:, 0].sum((2, 3))  # [B, C]
    assert (counts[:, :players] == 1).all()
    assert (counts[:, -2] == stags).all()
    assert (counts[:, -1] == hares).all()
    assert ((counts[:, -3] >= 3 * pieces) & (counts[:, -3] <= 4 * pieces)).all()
    assert state.cells.gather(1, state.hunters).bool().all(), "no hunter on a block"


@pytest.mark.parametrize(
    ("name", "best"), [("4h1s", 3.0), ("4h1s_6x6", 3.0), ("4h1s_4x4", 3.0), ("4h2s", 5.0), ("2h1s_4x4", 5.0)]
)
def test_the_documented_optimum_is_the_best_way_to_share_out_the_prey(name, best):
    """Every hunter takes one prey at most, so an episode is worth what the best assignment of hunters to prey is."""
    game = StagHunt.preset(name)
    worth = 0.0
    for chosen in product(range(game.num_stags + game.num_hares), repeat=game.num_players):
        on_stag = sum(10 for stag in range(game.num_stags) if chosen.count(stag) >= 2)
        on_hare = len({prey for prey in chosen if prey >= game.num_stags})
        worth = max(worth, (on_stag + on_hare) / game.num_players)
    assert worth == best
    assert str(best) in StagHunt.__doc__


def test_preset_overrides_and_repr_builds_the_same_game():
    game = StagHunt.preset("4h1s_4x4", strength=[1, 2, 3, 4], max_steps=9, prosocial=True, steps_after_first_hunt=5)
    again = eval(repr(game), {"StagHunt": StagHunt})
    assert repr(again) == repr(game)
    assert (again.max_steps, again.strength, again.prosocial, again.width) == (9, (1.0, 2.0, 3.0, 4.0), True, 4)
    with pytest.raises(ConfigError, match=r"4h3s.*4h1s, 4h2s, 4h1s_6x6"):
        StagHunt.preset("4h3s")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"num_players": 0}, "num_players=0"),
        ({"num_players": 2.0}, "num_players=2.0"),
        ({"num_players": True}, "num_players=True"),
        ({"num_stags": -1}, "num_stags=-1"),
        ({"num_hares": 1.5}, "num_hares=1.5"),
        ({"height": 0}, "height=0"),
        ({"width": -3}, "width=-3"),
        ({"width": "4"}, "width='4'"),
        ({"num_blocks": False}, "num_blocks=False"),
        ({"stag_reward": float("inf")}, "stag_reward=inf"),
        ({"hare_reward": float("nan")}, "hare_reward=nan"),
        ({"hare_reward": "1"}, "hare_reward='1'"),
        ({"max_steps": 0}, "max_steps=0"),
        ({"steps_after_first_hunt": -1}, "steps_after_first_hunt=-1"),
        ({"steps_after_first_hunt": 0.5}, "steps_after_first_hunt=0.5"),
        ({"strength": [1, 2]}, "strength=.*3 positive"),
        ({"strength": [1, 2, 0]}, "strength=.*3 positive"),
        ({"strength": [1, 2, float("nan")]}, "strength=nan"),
        ({"strength": "123"}, "strength='123'"),
        ({"strength": 2.0}, "strength=2.0"),
        ({"prosocial": 1}, "prosocial=1"),
        ({"num_hares": 12}, "num_hares=12.*13 preys.*has 12"),
        ({"num_hares": 8, "num_blocks": 1}, "num_blocks=1.*4 may be blocks"),
        ({"num_stags": 0, "num_hares": 0, "height": 2, "width": 2, "num_blocks": 1}, "num_blocks=1"),
        ({"height": 1, "width": 9, "num_blocks": 2, "num_hares": 0, "max_steps": 0}, "max_steps=0"),
        ({"height": 1, "width": 2, "num_stags": 0, "num_hares": 3}, "num_hares=3"),
        ({"height": 4, "width": 4, "num_blocks": 3, "num_hares": 2, "num_players": 1, "num_stags": 1}, None),
        ({"height": 8, "width": 8, "num_blocks": 15, "num_hares": 1}, "num_blocks=15.*lower num_blocks"),
    ],
)
def test_mistakes_are_named_at_construction(settings, named):
    if named is None:  # dense, but it fits
        StagHunt(**{**SMALL, **settings}).reset(300, torch.Generator().manual_seed(0))
        return
    with pytest.raises(ConfigError, match=named):
        StagHunt(**{**SMALL, **settings})


@pytest.mark.parametrize("batch_size", [0, -1, True, 2.0])
def test_reset_and_place_refuse_a_batch_size(batch_size):
    game, _ = placed([(0, 0)])
    with pytest.raises(ConfigError, match="batch_size="):
        game.reset(batch_size)
    with pytest.raises(ConfigError, match="batch_size="):
        game.place(batch_size, hunters=[(0, 0)], stags=[STAG_CELL], hares=[HARE_CELL])


@pytest.mark.parametrize(
    ("layout", "named"),
    [
        ({"hunters": [(0, 0)]}, "hunters: got 1 positions; expected 2"),
        ({"stags": []}, "stags: got 0 positions; expected 1"),
        ({"hares": [(0, 1), (0, 2)]}, "hares: got 2 positions; expected 1"),
        ({"hunters": [(0, 0), (3, 0)]}, "hunters: got \\(3, 0\\).*0 <= row < 3"),
        ({"hares": [(0, 4)]}, "hares: got \\(0, 4\\).*0 <= column < 4"),
        ({"blocks": [(-1, 0)]}, "blocks: got \\(-1, 0\\)"),
        ({"hares": [STAG_CELL]}, "share a cell"),
        ({"blocks": [STAG_CELL]}, "stags: \\(1, 1\\) is on a block"),
        ({"blocks": [(2, 2), (0, 0)]}, "hunters: \\(0, 0\\) is on a block"),
        ({"hunters": 5}, "hunters=5"),
    ],
)
def test_place_refuses(layout, named):
    game, _ = placed([(0, 0), (2, 2)])
    with pytest.raises(ConfigError, match=named):
        game.place(**{"hunters": [(0, 0), (2, 2)], "stags": [STAG_CELL], "hares": [HARE_CELL], **layout})


def test_place_sets_the_given_layout_in_every_row():
    game, _ = placed([(0, 0), (0, 0)])
    state = game.place(3, hunters=[(2, 2), (1, 1)], stags=[(1, 1)], hares=[(0, 3)], blocks=[(1, 0), (2, 0)])
    view = game.observe(state)
    assert torch.equal(view, view[:1].expand_as(view))
    found = {name: p.nonzero().tolist() for name, p in zip(game.plane_names, view[0, 1], strict=True)}
    expected = {"self": [[1, 1]], "other_1": [[2, 2]], "blocks": [[1, 0], [2, 0]], "stags": [[1, 1]], "hares": [[0, 3]]}
    assert found == expected


@pytest.mark.parametrize("preset", ["4h1s_6x6", "2h1s_4x4"])
def test_sparse_views_name_the_ones_of_the_planes(preset):
    game, generator = StagHunt.preset(preset), torch.Generator().manual_seed(3)
    state = game.reset(30, generator)
    for _ in range(12):
        dense, places = game.observe(state).flatten(2), game.observe_sparse(state)
        assert places.dtype == torch.int32
        told = torch.zeros(*dense.shape[:2], dense.shape[2] + 1)
        told.scatter_add_(2, places.long(), torch.ones(places.shape))
        assert torch.equal(told[..., :-1], dense)  # each once: they are summed
        legal = game.legal(state).flatten(0, 1).float()
        state, _ = game.step(state, torch.multinomial(legal, 1, generator=generator).view(30, -1))
    assert not state.present.all()
