"""The rules of Level-Based Foraging: cases worked out by hand, and random starts."""

import pytest
import torch

from omg_lightning.encoders import Paths
from omg_lightning.games import LevelBasedForaging
from omg_lightning.testing import check_device, check_game
from omg_lightning.types import NO_GOAL, ConfigError

NONE, NORTH, SOUTH, WEST, EAST, LOAD = range(6)
SEEDS = torch.Generator().manual_seed
PRESETS = ("8x8-2p-3f", "8x8-2p-2f-coop", "6x6-3p-2f", "2s-8x8-2p-3f", "7x7-2p-3f-no-levels")


def placed(players, foods, preset=None, **settings):
    sizes = {"num_players": len(players), "num_foods": len(foods), "height": 6, "width": 7}
    game = LevelBasedForaging(preset, **{**({} if preset else sizes), **settings})
    return game, game.place(players=players, foods=foods)


def play(game, state, *actions):
    return game.step(state, torch.tensor([actions]))


def cells(game, state):
    return [divmod(cell, game.width) for cell in state.players[0].tolist()]


@pytest.mark.parametrize("preset", PRESETS)
def test_keeps_the_contract_of_a_game(preset):
    game = LevelBasedForaging(preset, max_steps=8)
    kinds = {name: game.players[name] for name in list(game.players)[:1]}  # tests/test_foragers.py checks them all
    game.players, game.scripts = kinds, ()
    check_game(game, batch_size=4)


def test_runs_without_reading_values_so_that_an_accelerator_never_waits():
    check_device(LevelBasedForaging("6x6-3p-2f", max_steps=4), "meta")


def test_two_load_together_and_share_the_level_by_theirs():
    game, state = placed([(2, 2, 2), (3, 3, 1), (5, 6, 1)], [(2, 3, 3), (4, 5, 2)])
    after, rewards = play(game, state, LOAD, LOAD, NONE)
    torch.testing.assert_close(rewards, torch.tensor([[3 * 2 / (3 * 5), 3 * 1 / (3 * 5), 0]]))  # 5 is the sum of levels
    assert after.food_levels.tolist() == [[0, 2]]
    assert game.realised(state, torch.tensor([[LOAD, LOAD, NONE]])).tolist() == [[0, 0, NO_GOAL]]


def test_too_little_strength_achieves_nothing_and_costs_the_penalty():
    for penalty in (0.0, 0.25):
        game, state = placed([(2, 2, 2), (3, 3, 1)], [(2, 3, 3), (4, 5, 2)], penalty=penalty)
        after, rewards = play(game, state, LOAD, SOUTH)
        assert rewards.tolist() == [[-penalty, 0]]
        assert after.food_levels.tolist() == [[3, 2]]
        assert game.realised(state, torch.tensor([[LOAD, SOUTH]])).tolist() == [[NO_GOAL, NO_GOAL]]
        assert game.seat_bounds[0] == -50 * penalty


def test_a_food_that_is_taken_leaves_its_cell_free_and_the_last_one_ends_the_episode():
    game, state = placed([(2, 2, 2), (0, 0, 1)], [(2, 3, 2)])
    assert not game.legal(state)[0, 0, EAST], "no player walks onto a food"
    after, rewards = play(game, state, LOAD, EAST)
    assert rewards.tolist() == [[1, 0]]
    assert not game.active(after).any()
    assert game.terminated(after).all()
    assert game.legal(after)[0].tolist() == [[True] + [False] * 5] * 2
    again, rewards = play(game, after, EAST, EAST)
    assert all(torch.equal(x, y) for x, y in zip(again, after, strict=True))
    assert rewards.tolist() == [[0, 0]]


def test_the_time_limit_cuts_an_episode_off():
    game, state = placed([(0, 0, 1), (0, 1, 1)], [(2, 3, 2)], max_steps=2)
    for _ in range(2):
        assert game.active(state).all()
        state, _ = play(game, state, NONE, NONE)
    assert not game.active(state).any()
    assert not game.terminated(state).any()


def test_legal_moves_and_loads():
    game, state = placed([(0, 0, 1), (3, 4, 1), (5, 6, 1)], [(1, 2, 1), (3, 3, 1)])
    names = [[game.action_names[a] for a in row.nonzero()[:, 0].tolist()] for row in game.legal(state)[0]]
    assert names == [["none", "south", "east"], ["none", "north", "south", "east", "load"], ["none", "north", "west"]]


@pytest.mark.parametrize(
    ("start", "actions", "end"),
    [
        ([(2, 2), (2, 4), (5, 6)], (EAST, WEST, NONE), [(2, 2), (2, 4), (5, 6)]),  # both want one cell: both stay
        ([(2, 2), (2, 3), (5, 6)], (EAST, NONE, NONE), [(2, 2), (2, 3), (5, 6)]),  # one stands in the way
        ([(2, 2), (2, 3), (5, 6)], (EAST, WEST, NONE), [(2, 3), (2, 2), (5, 6)]),  # they change places
        ([(2, 2), (2, 3), (2, 4)], (EAST, EAST, EAST), [(2, 3), (2, 4), (2, 5)]),  # one after the other
        ([(2, 2), (2, 3), (2, 5)], (EAST, EAST, WEST), [(2, 3), (2, 3), (2, 5)]),  # the first comes to one that stays
    ],
)
def test_moves_that_meet(start, actions, end):
    game, state = placed([(*pair, 1) for pair in start], [(4, 1, 1)])
    after, _ = play(game, state, *actions)
    assert cells(game, after) == end


def test_foods_are_numbered_row_by_row_whatever_their_order():
    game, state = placed([(0, 0, 1), (5, 0, 2)], [(4, 1, 2), (2, 5, 1), (2, 2, 3)])
    assert state.foods.tolist() == [[16, 19, 29]]
    assert state.food_levels.tolist() == [[3, 1, 2]]
    assert game.goal_names == ("food_0", "food_1", "food_2")


def test_the_planes_by_hand():
    game, state = placed([(0, 0, 1), (5, 0, 2)], [(2, 2, 3), (2, 5, 1)])
    state = state._replace(food_levels=torch.tensor([[3, 0]]))
    names = ["self", "other_1", "food_0", "food_1", "player_level_2"]
    names += [f"food_{k}_level_{level}" for k in range(2) for level in (2, 3, 4)]
    assert list(game.layout.plane_names) == names
    assert game.layout.goal_planes == (2, 3)
    view = game.observe(state)[0, 1]
    shown = {name: [tuple(x) for x in plane.nonzero().tolist()] for name, plane in zip(names, view, strict=True)}
    assert {name: where for name, where in shown.items() if where} == {
        "self": [(5, 0)], "other_1": [(0, 0)], "food_0": [(2, 2)], "player_level_2": [(5, 0)],
        "food_0_level_3": [(2, 2)],
    }  # fmt: skip


def test_three_players_may_share_a_cell_and_their_level():
    game, state = placed([(0, 0, 2), (0, 1, 2), (5, 6, 1)], [(3, 3, 6)])
    state = state._replace(players=torch.tensor([[8, 8, 41]]))
    view = dict(zip(game.layout.plane_names, game.observe(state)[0, 2], strict=True))
    assert view["player_level_2"].nonzero().tolist() == [[1, 1]]
    assert view["other_1"].nonzero().tolist() == view["other_2"].nonzero().tolist() == [[1, 1]]
    assert view["food_0_level_6"].nonzero().tolist() == [[3, 3]]
    state = state._replace(levels=torch.tensor([[1, 1, 2]]))
    view = dict(zip(game.layout.plane_names, game.observe(state)[0, 2], strict=True))
    assert view["player_level_2"].nonzero().tolist() == [[5, 6]]
    assert sum(int(plane.sum()) for plane in view.values()) == 3 + 1 + 1 + 1


def test_a_sparse_view_tells_the_same_walks_as_the_planes_do():
    game = LevelBasedForaging("6x6-3p-2f", max_steps=9)
    encoder, generator = Paths(game.observation_space, game.layout, 4), SEEDS(0)
    state = game.reset(20, generator)
    for _ in range(6):
        sparse = game.observe_sparse(state, game.board(state)).flatten(0, 1)
        dense, none = (
            encoder.prepare(game.observe(state).flatten(0, 1)),
            game.layout.cells * len(game.layout.plane_names),
        )
        for one, other in zip(sparse.tolist(), dense.tolist(), strict=True):
            assert sorted(set(one) - {none}) == sorted(set(other) - {none})
        state, _ = game.step(state, torch.randint(6, (20, 3), generator=generator))


def test_the_vector_by_hand():
    game, state = placed([(0, 0, 1), (5, 0, 2), (5, 6, 1)], [(2, 2, 3), (2, 5, 1)], view="vector")
    foods, others = [2, 2, 3, 2, 5, 1], [0, 0, 1, 5, 0, 2]
    assert game.observe(state)[0, 2].tolist() == [*foods, 5, 6, 1, *others]
    gone = state._replace(food_levels=torch.tensor([[0, 1]]))
    assert game.observe(gone)[0, 2].tolist() == [2, 5, 1, -1, -1, 0, 5, 6, 1, *others]
    assert game.layout is None


# The variant without levels ------------------------------------------------------------------------------------------


def without_levels(players, foods):
    return placed([(*p, 1) for p in players], [(*f, 2) for f in foods], "7x7-2p-3f-no-levels")


def test_without_levels_a_food_needs_two_players_with_equal_pay():
    game, state = without_levels([(2, 2), (3, 3)], [(2, 3), (5, 5), (5, 3)])
    assert play(game, state, LOAD, NONE)[1].tolist() == [[0, 0]]
    after, rewards = play(game, state, LOAD, LOAD)
    torch.testing.assert_close(rewards, torch.full((1, 2), 1 / 6))
    assert after.food_levels.tolist() == [[0, 2, 2]]
    assert (game.max_steps, game.seat_bounds, game.team_bounds) == (100, (0, 0.5), (0, 1))


def test_without_levels_no_player_moves_to_an_occupied_cell():
    game, state = without_levels([(2, 2), (2, 3)], [(5, 1), (5, 3), (5, 5)])
    assert game.legal(state)[0, :, [WEST, EAST]].tolist() == [[True, False], [False, True]]
    assert cells(game, play(game, state, EAST, WEST)[0]) == [(2, 2), (2, 3)]
    assert cells(game, play(game, state, EAST, EAST)[0]) == [(2, 2), (2, 4)], "the cell was not free when they moved"
    _, apart = without_levels([(2, 2), (2, 4)], [(5, 1), (5, 3), (5, 5)])
    assert cells(game, play(game, apart, EAST, WEST)[0]) == [(2, 2), (2, 4)]


def test_without_levels_a_player_between_two_foods_loads_both():
    game, state = without_levels([(2, 2), (3, 3)], [(2, 3), (3, 2), (5, 5)])
    after, rewards = play(game, state, LOAD, LOAD)
    torch.testing.assert_close(rewards, torch.full((1, 2), 2 / 6))
    assert after.food_levels.tolist() == [[0, 0, 2]]
    assert game.realised(state, torch.tensor([[LOAD, LOAD]])).tolist() == [[0, 0]]


def test_without_levels_players_start_in_rows_whose_number_no_food_has():
    game = LevelBasedForaging("7x7-2p-3f-no-levels")
    state = game.reset(500, SEEDS(0))
    rows, numbers = state.players // 7, torch.cat([state.foods // 7, state.foods % 7], 1)
    assert not (rows[:, :, None] == numbers[:, None]).any()
    assert rows.unique().tolist() == list(range(7))
    assert (state.food_levels == 2).all()
    away = (state.foods[:, :, None] // 7 - state.foods[:, None] // 7).abs()
    away += (state.foods[:, :, None] % 7 - state.foods[:, None] % 7).abs()
    assert away[away > 0].min() == 2


# Random starts -------------------------------------------------------------------------------------------------------


def test_random_starts_keep_to_the_rules():
    game = LevelBasedForaging("8x8-3p-4f")
    state = game.reset(2000, SEEDS(0))
    row, column = state.foods // 8, state.foods % 8
    assert (row.min(), row.max(), column.min(), column.max()) == (1, 6, 1, 6)
    rows, columns = ((x[:, :, None] - x[:, None]).abs() for x in (row, column))
    others = ~torch.eye(4, dtype=torch.bool)
    assert not ((rows <= 1) & (columns <= 1) & others).any()
    assert not ((rows + columns == 2) & (rows * columns == 0)).any()
    taken = torch.cat([state.players, state.foods], 1).sort(1).values
    assert (taken[:, 1:] > taken[:, :-1]).all(), "no two on one cell"
    assert state.levels.unique().tolist() == [1, 2]
    highest = state.levels.sum(1, keepdim=True)
    assert ((state.food_levels >= 1) & (state.food_levels <= highest)).all()
    for level in range(1, 7):  # uniform, whatever the players' levels
        share = (state.food_levels[highest[:, 0] == 6] == level).float().mean()
        assert abs(share - 1 / 6) < 0.05
    assert (LevelBasedForaging("8x8-3p-4f-coop").reset(9).food_levels.float().std(1) == 0).all()
    assert torch.equal(state.total, state.food_levels.sum(1).float())


def test_the_highest_food_has_the_sum_of_the_three_lowest_levels():
    state = LevelBasedForaging("9x9-5p-2f-coop").reset(50, SEEDS(0))
    assert torch.equal(state.food_levels[:, 0], state.levels.sort(1).values[:, :3].sum(1))


def test_foods_without_room_are_left_out_and_the_episode_ends_without_them():
    game = LevelBasedForaging("5x5-2p-4f")  # nine inner cells hold two foods at most
    state = game.reset(64, SEEDS(0))
    there = state.food_levels > 0
    assert there[:, 0].all()
    assert not there[:, 2:].any()
    assert torch.equal(state.total, state.food_levels.sum(1).float())
    assert game.active(state).all()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"preset": "8x8"}, "preset='8x8': expected rows x columns"),
        ({"preset": "8x8-2p-3f-nolevels"}, "expected rows x columns"),
        ({"height": 5}, "got no num_players, num_foods, width: give them"),
        ({"preset": "8x8-2p-3f", "max_steps": 0}, "max_steps=0: expected a whole number >= 1"),
        ({"preset": "8x8-2p-3f", "min_player_level": 3}, "min_player_level=3 is above max_player_level=2"),
        ({"preset": "8x8-2p-3f", "min_food_level": 3}, "min_food_level=3 is above the sum of .* 2: lower it"),
        ({"preset": "8x8-2p-3f", "min_food_level": 3, "max_food_level": 2}, "min_food_level=3 is above max_food"),
        ({"preset": "4x4-4p-1f"}, "4 cells are off the border, but 4 players"),
        ({"preset": "2s-8x8-2p-3f", "view": "planes"}, "view='planes' shows the whole grid, but sight=2"),
        ({"preset": "8x8-2p-3f", "view": "bits"}, "view='bits': expected one of planes, vector"),
        ({"preset": "8x8-2p-3f", "variant": "mine"}, "variant='mine': expected one of lbforaging, jumanji"),
        ({"preset": "8x8-2p-3f", "force_coop": 1}, "force_coop=1: expected True or False"),
    ],
)
def test_wrong_settings_are_one_clear_line(settings, says):
    with pytest.raises(ConfigError, match=says) as caught:
        LevelBasedForaging(**settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("players", "foods", "says"),
    [
        ([(0, 0, 1)], [(2, 2, 1)], "players: got 1 entries; expected 2"),
        ([(0, 0, 1), (0, 1, 1)], [], "foods: got 0 entries; expected 1 to 3"),
        ([(0, 0), (0, 1)], [(2, 2, 1)], r"expected a list of triples \(row, column, level\)"),
        ([(0, 0, 1), (0, 0, 1)], [(2, 2, 1)], r"two of them share the cell \(0, 0\)"),
        ([(0, 0, 1), (0, 8, 1)], [(2, 2, 1)], r"players: got \(0, 8\)"),
        ([(0, 0, 1), (0, 1, 3)], [(2, 2, 1)], "players: got the level 3 .*, 1 to 2"),
        ([(0, 0, 1), (0, 1, 1)], [(2, 2, 5)], "foods: got the level 5 .*, 1 to 4"),
        ([(0, 0, 1), (0, 1, 1)], [(0, 2, 1)], r"\(0, 2\) is on the border"),
        ([(0, 0, 1), (0, 1, 1)], [(2, 2, 1), (3, 3, 1)], r"\(2, 2\) and \(3, 3\) are closer"),
        ([(0, 0, 1), (0, 1, 1)], [(2, 2, 1), (2, 2, 1)], "share the cell"),
    ],
)
def test_wrong_layouts_are_one_clear_line(players, foods, says):
    with pytest.raises(ConfigError, match=says) as caught:
        LevelBasedForaging("8x8-2p-3f").place(players=players, foods=foods)
    assert "\n" not in str(caught.value)


def test_presets_are_games_of_these_names_and_repr_makes_the_same_game():
    game = LevelBasedForaging.preset("2s-10x12-3p-4f-coop")
    assert (game.height, game.width, game.num_players, game.num_foods, game.sight) == (10, 12, 3, 4, 2)
    assert (game.force_coop, game.max_steps, game.variant, game.prosocial) == (True, 50, "lbforaging", False)
    assert repr(eval(repr(game))) == repr(game)
    game = LevelBasedForaging("7x7-2p-3f-no-levels", max_steps=7)
    assert (game.variant, game.prosocial, game.max_player_level, game.max_steps) == ("jumanji", True, 1, 7)
