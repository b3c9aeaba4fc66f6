"""Overcooked: rules by hand, what a view shows, what scripts do, and the environment; `test_overcooked_original` has
the rest."""

import pettingzoo
import pytest
import torch
from env_contract import check_contract
from pettingzoo.test import parallel_api_test

from omg_lightning.actors import arrange, make_player
from omg_lightning.envs import RulesEnv, overcooked_v0
from omg_lightning.games import Overcooked
from omg_lightning.games.grid.render import text
from omg_lightning.rollout import play
from omg_lightning.testing import check_device, check_game
from omg_lightning.types import NO_GOAL, ConfigError

NORTH, SOUTH, EAST, WEST, STAY, INTERACT = range(6)
POT_ONION, TAKE_DISH, TAKE_SOUP, DELIVER, COOK = range(5)
AWAY = (2, 3, "east", "nothing")  # the second player of cramped_room, facing a counter


def start(*players, game=None, **things):
    return (game or Overcooked()).place(players=players, **things)


def played(state, *steps, game=None):
    """The state after joint actions, all rewards, and all goals, `[T][P]` each."""
    game, rewards, goals = game or Overcooked(), [], []
    for actions in steps:
        joint = torch.tensor([actions])
        goals.append(game.realised(state, joint)[0].tolist())
        state, reward = game.step(state, joint)
        rewards.append(reward[0].tolist())
    return state, rewards, goals


def shown(game, state):
    """What seat 0 sees: the cells of each plane that is not empty, but for what never changes."""
    static = {"counters", "pots", "onion_dispensers", "dish_dispensers", "hatches"}
    planes = dict(zip(game.layout.plane_names, game.observe(state)[0, 0], strict=True))
    return {
        name: [tuple(cell) for cell in plane.nonzero().tolist()]
        for name, plane in planes.items()
        if plane.any() and name not in static
    }


@pytest.mark.parametrize(
    "options",
    [{}, {"preset": "forced_coord", "old_dynamics": True, "cook_time": 3, "prosocial": False}],
    ids=str,
)
def test_contract(options):
    check_game(Overcooked(**options, max_steps=4), batch_size=4)


def test_all_rules_run_where_values_are_not_known():
    check_device(Overcooked(max_steps=3), "meta")


def test_a_soup_from_the_first_onion_to_the_hatch():
    """One cook works, and the pot cooks for three steps, the one in which it is started among them."""
    game = Overcooked(cook_time=3)
    onion = [WEST, INTERACT, EAST, NORTH, INTERACT]
    work = [NORTH, *onion, *onion, *onion, INTERACT]  # three onions from the left, and the start
    dish = [SOUTH, WEST, SOUTH, INTERACT, EAST, NORTH, NORTH, INTERACT]  # the second NORTH turns
    serve = [SOUTH, EAST, SOUTH, INTERACT]
    state = start((2, 1, "north", "nothing"), (1, 3, "north", "nothing"), game=game)
    state, rewards, goals = played(state, *([action, STAY] for action in work + dish + serve), game=game)
    assert [goal for goal, _ in goals if goal != NO_GOAL] == [POT_ONION] * 3 + [COOK, TAKE_DISH, TAKE_SOUP, DELIVER]
    assert rewards == [[0, 0]] * (len(goals) - 1) + [[10, 10]]
    assert all(other == NO_GOAL for _, other in goals)
    assert state.content.sum() == state.held.sum() == 0
    assert state.time.tolist() == [len(goals)]


@pytest.mark.parametrize(("steps", "taken"), [(1, False), (2, False), (3, True)])
def test_a_soup_is_ready_after_the_time_to_cook(steps, taken):
    game = Overcooked(cook_time=3)
    state = start((1, 2, "north", "dish"), AWAY, game=game, pots=[(0, 2, 3, 0)])
    _, _, goals = played(state, *[[STAY, STAY]] * steps, [INTERACT, STAY], game=game)
    assert (goals[-1][0] == TAKE_SOUP) == taken


def test_pots_start_by_themselves_by_the_old_rules_alone():
    for old, after in ((True, {"cooking": [(0, 2)]}), (False, {})):
        game = Overcooked(old_dynamics=old)
        state, _, _ = played(
            start((1, 2, "north", "onion"), AWAY, game=game, pots=[(0, 2, 2, -1)]), [INTERACT, STAY], game=game
        )
        seen = shown(game, state)
        assert {name: seen[name] for name in seen if name == "cooking"} == after
        assert ("cook" in game.goal_names) is not old
        waiting = start((1, 2, "north", "nothing"), AWAY, game=game, pots=[(0, 2, 2, -1)])
        state, _, goals = played(waiting, [INTERACT, STAY], game=game)
        assert ("cooking" in shown(game, state), goals[0][0]) == ((False, NO_GOAL) if old else (True, COOK))


@pytest.mark.parametrize(("soup", "paid"), [("soup", 20), ("soup_2", 0), ("soup_1", 0)])
def test_only_a_soup_of_three_onions_rewards_all_equally_or_the_player_that_serves(soup, paid):
    for prosocial, expected in ((True, [paid / 2, paid / 2]), (False, [paid, 0])):
        game = Overcooked(prosocial=prosocial)
        state = start((2, 3, "south", soup), (2, 1, "north", "nothing"), game=game)
        _, rewards, goals = played(state, [INTERACT, STAY], game=game)
        assert (rewards, goals) == ([expected], [[DELIVER, NO_GOAL]])


def test_the_first_seat_interacts_first_and_both_before_they_move():
    game = Overcooked("coord_ring")
    both = [(2, 3, "west", "nothing"), (1, 2, "south", "nothing")]  # at the counter in the middle
    state, _, _ = played(start(*both, game=game, objects=[(2, 2, "onion")]), [INTERACT, INTERACT], game=game)
    assert shown(game, state)["onions"] == [(2, 3)]
    state, _, _ = played(state, [INTERACT, INTERACT], game=game)  # what the first puts down the second may take
    assert shown(game, state)["onions"] == [(1, 2)]


@pytest.mark.parametrize(
    ("players", "actions", "cells"),
    [
        ([(1, 1), (1, 3)], [EAST, WEST], [(1, 1), (1, 3)]),  # one cell for two
        ([(1, 1), (1, 2)], [EAST, WEST], [(1, 1), (1, 2)]),  # they would change places
        ([(1, 1), (1, 2)], [EAST, STAY], [(1, 1), (1, 2)]),  # one stands there
        ([(1, 1), (1, 2)], [EAST, EAST], [(1, 2), (1, 3)]),  # it leaves
        ([(1, 1), (2, 3)], [WEST, SOUTH], [(1, 1), (2, 3)]),  # no floor
    ],
)
def test_players_that_would_meet_stay_but_turn(players, actions, cells):
    game = Overcooked()
    state, _, _ = played(start(*[(*cell, "north", "nothing") for cell in players]), actions)
    assert [divmod(cell, 5) for cell in state.players[0].tolist()] == cells
    assert state.facing[0].tolist() == [NORTH if action == STAY else action for action in actions]
    assert game.active(state).all()


@pytest.mark.parametrize(
    ("pots", "objects", "other", "useful"),
    [
        ([], [], "nothing", False),  # nothing to serve from
        ([(0, 2, 1, -1)], [], "nothing", True),
        ([(0, 2, 3, -1)], [], "nothing", False),  # full, and nobody has started it: so the original has it
        ([(0, 2, 3, 7)], [], "nothing", True),
        ([(0, 2, 3, 20)], [], "nothing", True),
        ([(0, 2, 3, 20)], [], "dish", False),  # one pot, one dish
        ([(0, 2, 3, 20)], [(0, 0, "dish")], "nothing", False),  # take that one
        ([(0, 2, 3, 20)], [(0, 0, "onion")], "nothing", True),
    ],
)
def test_take_dish_is_a_goal_only_if_the_dish_is_useful(pots, objects, other, useful):
    state = start((2, 1, "south", "nothing"), (2, 3, "east", other), pots=pots, objects=objects)
    after, _, goals = played(state, [INTERACT, STAY])
    assert goals == [[TAKE_DISH if useful else NO_GOAL, NO_GOAL]]
    assert after.held[0, 0] == 2  # it has a dish anyway


def test_a_view_shows_directions_held_objects_and_cooking_pots():
    game = Overcooked()
    state = start(
        (1, 1, "west", "onion"), (2, 3, "south", "soup"), objects=[(0, 0, "dish"), (0, 4, "soup_1")],
        pots=[(0, 2, 2, 7)],
    )  # fmt: skip
    assert shown(game, state) == {
        "self": [(1, 1)],
        "other_1": [(2, 3)],
        "facing_south": [(2, 3)],
        "facing_west": [(1, 1)],
        "onions": [(1, 1)],
        "dishes": [(0, 0)],
        "soups": [(0, 4), (2, 3)],
        "soups_level_3": [(2, 3)],
        "pots_level_2": [(0, 2)],
        "cooking": [(0, 2)],
        "cooking_level_1": [(0, 2)],
        "cooking_level_4": [(0, 2)],
        "cooking_level_8": [(0, 2)],  # 13 steps to go
    }
    assert text(game.observe(state)[0, 0], game.layout.plane_names).split() == [
        *["#D", "#", "P2C13", "#", "#S1"],
        *["O", "<O0", ".", ".", "O"],
        *["#", ".", ".", "vS31", "#"],
        *["#", "D", "#", "H", "#"],
    ]


def test_every_kitchen_starts_where_the_grid_has_the_players():
    state = Overcooked("counter_circuit").reset(2)
    assert state.players.tolist() == [[3 * 8 + 3, 8 + 3]] * 2
    assert not state.facing.any()
    grid = ["XPX", "O1X", "D2S", "XXX"]
    assert Overcooked(grid=grid).reset(1).players.tolist() == [[4, 7]]


# Scripts ------------------------------------------------------------------------------------------------------------


def does(name, state, seat=0, game=None):
    """The actions that a script may take, and what it says that it pursues."""
    game = game or Overcooked()
    player = make_player(name, game)
    player.reset(1, seat, game, torch.Generator())
    view, legal = game.observe(state)[:, seat], game.legal(state)[:, seat]
    chances = player.action_probabilities(view, legal)[0]
    return {action for action in range(6) if chances[action] > 0.21}, int(player.pursues(view, legal)[0])


@pytest.mark.parametrize(
    ("name", "player", "pots", "actions", "goal"),
    [
        ("onion_carrier", (1, 1, "north", "nothing"), [], {WEST}, POT_ONION),  # turns to the onions
        ("onion_carrier", (1, 1, "west", "nothing"), [], {INTERACT}, POT_ONION),
        ("onion_carrier", (1, 1, "west", "onion"), [], {EAST}, POT_ONION),
        ("onion_carrier", (1, 2, "north", "onion"), [(0, 2, 2, -1)], {INTERACT}, POT_ONION),
        ("onion_carrier", (1, 2, "north", "nothing"), [(0, 2, 3, -1)], {INTERACT}, COOK),
        ("dish_carrier", (1, 1, "north", "nothing"), [], set(), NO_GOAL),  # strolls
        ("dish_carrier", (1, 1, "north", "nothing"), [(0, 2, 1, -1)], {SOUTH}, TAKE_DISH),
        ("dish_carrier", (2, 1, "south", "dish"), [(0, 2, 3, 5)], {NORTH, EAST}, TAKE_SOUP),
        ("dish_carrier", (1, 2, "north", "dish"), [(0, 2, 3, 20)], {INTERACT}, TAKE_SOUP),
        ("dish_carrier", (1, 2, "north", "soup"), [], {SOUTH}, DELIVER),
        ("independent", (1, 1, "north", "nothing"), [], {WEST}, POT_ONION),
        ("independent", (1, 1, "north", "nothing"), [(0, 2, 3, 5)], {SOUTH}, TAKE_DISH),
        ("independent", (1, 1, "north", "onion"), [(0, 2, 3, 5)], {INTERACT}, NO_GOAL),  # puts it down
    ],
)
def test_each_cook_does_its_tasks_and_reports_its_goals(name, player, pots, actions, goal):
    assert does(name, start(player, (1, 3, "east", "nothing"), pots=pots)) == (actions, goal)


@pytest.mark.parametrize("name", ["dish_carrier", "independent"])
def test_a_cook_fetches_no_dish_if_the_other_has_one(name):
    for held, expected in (("nothing", {SOUTH}), ("dish", set())):
        state = start((1, 1, "north", "nothing"), (1, 3, "east", held), pots=[(0, 2, 3, 5)])
        assert does(name, state)[0] == expected


def test_scripts_do_not_block_each_other_for_ever():
    """Two who want to step on the same cell: each strolls in one step of five."""
    game = Overcooked()
    state = start((1, 1, "east", "onion"), (1, 3, "west", "onion"), pots=[(0, 2, 2, -1)])
    player = make_player("onion_carrier", game)
    player.reset(1, 0, game, torch.Generator())
    chances = player.action_probabilities(game.observe(state)[:, 0], game.legal(state)[:, 0])[0]
    torch.testing.assert_close(chances, torch.tensor([0.04, 0.04, 0.84, 0.04, 0.04, 0.0]))


def test_scripts_that_share_the_work_deliver_soups_and_one_task_alone_does_not():
    env = RulesEnv(Overcooked(max_steps=80))
    lineups = [["onion_carrier", "dish_carrier"], ["independent", "independent"], ["onion_carrier", "onion_carrier"]]
    seating = arrange(lineups, 3, env, torch.Generator().device)
    episodes = play(env, seating, {}, torch.Generator().manual_seed(0)).episodes
    shared, alone, none = episodes.reward.sum((0, 2)).tolist()
    assert shared >= 20
    assert alone >= 20
    assert none == 0
    assert set(episodes.true_goal[:, 0, 0].unique().tolist()) <= {POT_ONION, COOK, NO_GOAL}


# The environment ----------------------------------------------------------------------------------------------------


def test_the_environment_keeps_the_contract_and_can_be_made_by_name():
    check_contract(lambda **kwargs: overcooked_v0.parallel_env(**{"max_steps": 3, **kwargs}), random_start=False)
    parallel_api_test(overcooked_v0.parallel_env(max_steps=5), num_cycles=12)
    env = pettingzoo.make("parallel", "omg_lightning/overcooked_v0", preset="coord_ring", max_cycles=9)
    assert env.unwrapped.game.max_steps == 9
    players = [(3, 1, "north", "nothing"), (1, 3, "east", "dish")]
    env.reset(options={"players": players, "objects": [], "pots": [(1, 4, 3, 20)]})
    env.step({"cook_0": STAY, "cook_1": INTERACT})
    assert "soups" in shown(env.unwrapped.game, env.unwrapped.game_state)


def test_a_picture_shows_the_kitchen():
    env = overcooked_v0.parallel_env(render_mode="rgb_array")
    players = [(1, 2, "north", "onion"), (2, 3, "south", "nothing")]

    def drawn(**things):
        env.reset(options={"players": players, "objects": [], "pots": [], **things})
        return env.render()

    nothing, onion, soup = drawn(), drawn(objects=[(0, 0, "onion")]), drawn(pots=[(0, 2, 3, 5)])
    assert nothing.shape == onion.shape
    cells = [(slice(38 + 64 * row, 38 + 64 * (row + 1)), slice(16 + 64 * column, 80 + 64 * column))
             for row, column in ((0, 0), (0, 2))]  # fmt: skip
    for other, (changed, same) in ((onion, cells), (soup, cells[::-1])):
        assert (other[changed] != nothing[changed]).any()
        assert (other[same] == nothing[same]).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Overcooked("cramped"), "preset='cramped': expected one of cramped_room, asymm_advantages"),
        (lambda: Overcooked("coord_ring", grid=["X"]), "are two kitchens; give one of them"),
        (lambda: Overcooked(cook_time=0), "cook_time=0: expected a whole number >= 1"),
        (lambda: Overcooked(grid="XPX"), "give a list of strings"),
        (lambda: Overcooked(grid=["XPX", "O1"]), r"rows have \[2, 3\] marks"),
        (lambda: Overcooked(grid=["XPX", "O1S", "XTX"]), "got the mark 'T'; expected one of .* no tomatoes"),
        (lambda: Overcooked(grid=["XPX", "O2S", "XDX"]), "got the players 2; give 1, 2, ... once each"),
        (lambda: Overcooked(grid=["XPX", "O1 ", "XDX"]), r"the floor reaches the border at \(1, 2\)"),
        (lambda: Overcooked(grid=["XPX", "O1S", "XXX"]), "there is no D, so no soup can be served"),
        (lambda: start((1, 1, "up", "onion"), AWAY), "players: got 'up'; expected one of north, south"),
        (lambda: start((1, 1, "north", "tomato"), AWAY), "players: got 'tomato'; expected one of nothing, onion"),
        (lambda: start((1, 1, "north"), AWAY), "expected entries of 4"),
        (lambda: start(AWAY), "players: got 1 positions; expected 2"),
        (lambda: start((0, 0, "north", "onion"), AWAY), r"players: got \(0, 0\); expected the floor"),
        (lambda: start((1, 1, "north", "onion"), AWAY, objects=[(0, 2, "dish")]), r"got \(0, 2\); expected a counter"),
        (lambda: start((1, 1, "north", "onion"), AWAY, pots=[(0, 2, 3, 21)]), "got 3 onions after 21 steps"),
    ],
)
def test_mistakes_are_named_in_one_line(make, message):
    with pytest.raises(ConfigError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
