"""Scripted players of Level-Based Foraging: what they are after, which way they go, and what an observer can know."""

import pytest
import torch
from toys import Fixed, model_spec, play_with, tiny_agent

from omg_lightning.actors import arrange, make_player
from omg_lightning.envs import RulesEnv
from omg_lightning.evaluation.exact import exact_observer
from omg_lightning.events import rewarded
from omg_lightning.games import ForagingState, LevelBasedForaging
from omg_lightning.games.grid.foragers import ORDERS
from omg_lightning.games.grid.symmetry import Symmetries
from omg_lightning.games.scripts import goal_scripts
from omg_lightning.opponents.locations import location_labels
from omg_lightning.rollout import play
from omg_lightning.testing import check_game
from omg_lightning.types import NO_GOAL, ConfigError

NONE, NORTH, SOUTH, WEST, EAST, LOAD = range(6)
FAR = (6, 6, 2)  # where the other player is in nobody's way
FOODS = [(1, 4, 1), (3, 1, 1), (5, 3, 1)]  # food_0, food_1, food_2
DEVICE = torch.Generator().device  # the CPU, or that of `pytest --device`


def at(player, foods=FOODS, other=FAR, view=None, gone=()):
    """A 7 x 7 game, and what seat 0 sees and may do in it when it stands at (row, column)."""
    game = LevelBasedForaging("7x7-2p-3f", view=view)
    state = game.place(players=[(*player, 1), other], foods=foods)
    levels = state.food_levels.clone()
    levels[:, list(gone)] = 0
    state = state._replace(food_levels=levels)
    return game, game.observe(state)[:, 0], game.legal(state)[:, 0]


def asked(name, *args, **options):
    """What a script is after, and which actions it may take."""
    game, view, legal = at(*args, **options)
    player = make_player(name, game)
    player.reset(1, 0, game, torch.Generator().manual_seed(0))
    chance = player.action_probabilities(view, legal)[0]
    likely = {game.action_names[a]: pytest.approx(float(chance[a])) for a in chance.nonzero()[:, 0].tolist()}
    return int(player.pursues(view, legal)), likely


@pytest.mark.parametrize(
    ("name", "start", "order"),
    [
        ("lexicographic", (6, 2), [0, 1, 2]),
        ("reverse_lexicographic", (6, 2), [2, 1, 0]),
        ("column_major", (6, 2), [1, 2, 0]),
        ("reverse_column_major", (6, 2), [0, 2, 1]),
        ("nearest", (6, 2), [2, 1, 0]),  # 7, 4 and 2 rows and columns away
        ("nearest", (6, 0), [1, 2, 0]),  # 9, 4 and 4: of equal ones the first
        ("farthest", (6, 2), [0, 1, 2]),
        ("farthest", (6, 0), [0, 1, 2]),
        ("farthest", (0, 5), [1, 2, 0]),  # 2, 7 and 7
    ],
)
@pytest.mark.parametrize("view", ["planes", "vector"])
def test_a_fixed_order_by_hand(name, start, order, view):
    game, first, legal = at(start, view=view)
    player = make_player(name, game)
    player.reset(1, 0, game, torch.Generator())
    found = [int(player.pursues(first, legal))]
    for _ in range(2):  # it keeps to its order, wherever it stands by then
        _, seen, legal = at((3, 3), view=view, gone=found)
        found.append(int(player.pursues(seen, legal)))
    assert found == order


def test_the_names_of_all_fixed_orders():
    game = LevelBasedForaging("8x8-2p-3f")
    assert [name for name in game.players if name in ORDERS] == list(ORDERS)
    assert set(game.players) == {*ORDERS, "greedy", "entitled", "secret_order", "food_0", "food_1", "food_2"}


def test_it_walks_by_shortest_paths_around_foods_and_players_and_loads_beside_its_food():
    assert asked("food_0", (3, 2)) == (0, {"north": 0.5, "east": 0.5})
    assert asked("food_1", (3, 3)) == (1, {"west": 1})
    assert asked("food_1", (3, 2)) == (1, {"load": 1})
    assert asked("food_0", (3, 0)) == (0, {"north": 1}), "its way to the right is closed by food_1"
    assert asked("food_0", (1, 1), other=(1, 2, 1)) == (0, {"north": 0.5, "south": 0.5}), "around the other player"
    foods = [(2, 1, 1), (5, 5, 1)]
    assert asked("food_0", (0, 0), foods=foods, other=(0, 1, 1)) == (0, {"south": 1})


def test_it_waits_where_no_path_leads():
    game = LevelBasedForaging("7x7-5p-1f")
    around = [(0, 0, 1), (2, 3, 1), (4, 3, 1), (3, 2, 1), (3, 4, 1)]
    state = game.place(players=around, foods=[(3, 3, 2)])
    player = make_player("greedy", game)
    player.reset(1, 0, game, torch.Generator())
    assert player.action_probabilities(game.observe(state)[:, 0], game.legal(state)[:, 0])[0, NONE] == 1


def test_a_script_for_a_single_food_continues_with_the_nearest():
    assert asked("food_0", (5, 1), gone=[0]) == (1, {"north": 1})


def test_the_greedy_forager_goes_to_the_currently_nearest_food():
    assert asked("greedy", (4, 4))[0] == 2
    assert asked("greedy", (2, 2))[0] == 1


def test_the_entitled_forager_waits_for_another_player_on_one_of_two_sides():
    game, generator = LevelBasedForaging("7x7-2p-3f"), torch.Generator().manual_seed(0)
    player = make_player("entitled", game)
    sides = {}
    for name, place in (("north", (2, 1, 2)), ("south", (4, 1, 2)), ("west", (3, 0, 2)), ("east", (3, 2, 2))):
        state = game.place(64, players=[(6, 6, 1), place], foods=FOODS)
        player.reset(64, 0, game, generator.manual_seed(0))
        view, legal = game.observe(state)[:, 0], game.legal(state)[:, 0]
        goals, chance = player.pursues(view, legal), player.action_probabilities(view, legal)
        assert set(goals.tolist()) == {NO_GOAL, 1}
        assert (chance[goals == NO_GOAL, NONE] == 1).all()
        assert (chance[goals == 1, NONE] == 0).all()
        sides[name] = goals == 1
    assert torch.equal(sides["north"], sides["south"])
    assert torch.equal(sides["west"], sides["east"])
    assert torch.equal(sides["north"], ~sides["east"])
    assert asked("entitled", (3, 3), other=FAR) == (NO_GOAL, {"none": 1})


def test_secret_orders_differ_between_episodes_and_are_kept_within_one():
    game = LevelBasedForaging("7x7-2p-3f")
    player = make_player("secret_order", game)
    player.reset(600, 0, game, torch.Generator().manual_seed(0))
    _, view, legal = at((6, 0))
    orders = []
    for gone in ((), (0,)):
        _, view, legal = at((6, 0), gone=gone)
        orders.append(player.pursues(view.expand(600, -1, -1, -1), legal.expand(600, -1)))
    assert all(150 < int((orders[0] == food).sum()) < 250 for food in range(3))
    kept = orders[0] != 0
    assert torch.equal(orders[0][kept], orders[1][kept])
    assert set(orders[1].tolist()) == {1, 2}


def rollout(lineup, batch=32, preset="7x7-2p-3f", **options):
    env = RulesEnv(LevelBasedForaging(preset, **options))
    return env, play(env, arrange([lineup], batch, env, DEVICE), {}, torch.Generator().manual_seed(0)).episodes


def test_players_keep_the_contract_in_both_views():
    for view in ("planes", "vector"):
        check_game(LevelBasedForaging("5x5-2p-2f", max_steps=3, view=view), batch_size=3)


def test_scripts_play_equally_from_planes_and_vectors():
    options = {"batch": 8, "max_steps": 15}
    (_, planes), (_, vectors) = (rollout(["column_major", "greedy"], view=v, **options) for v in ("planes", "vector"))
    assert torch.equal(planes.action, vectors.action)
    assert torch.equal(planes.true_goal, vectors.true_goal)


def test_the_recorded_goal_is_the_food_that_is_taken_next():
    _, episodes = rollout(["lexicographic", "lexicographic"])
    rows = episodes.active.any(-1)
    taken = episodes.achieved_goal != NO_GOAL
    assert taken.any()
    assert torch.equal(episodes.achieved_goal[taken], episodes.true_goal[taken])
    left = (episodes.observation[:, :, 0, 2:5] > 0).flatten(3).any(-1)
    assert torch.equal(episodes.true_goal[..., 0][rows], left.byte().argmax(-1)[rows])


def test_a_limited_sight_has_no_scripts():
    game = LevelBasedForaging("2s-8x8-2p-3f")
    assert not game.players
    with pytest.raises(ConfigError, match="unknown player 'greedy'"):
        make_player("greedy", game)
    with pytest.raises(ConfigError, match="Greedy must observe all foods, but the sight in this LevelBasedForaging"):
        make_player("omg_lightning.games.grid.foragers.Greedy", game)


# What an observer can know -------------------------------------------------------------------------------------------


def test_exact_bayes_over_foods_by_hand():
    """Seat 1 starts between food_0, two columns to its left, and food_1, to its right; it goes for food_1."""
    game = LevelBasedForaging("7x7-2p-2f")
    start = game.place(1, players=[(6, 0, 1), (3, 3, 2)], foods=[(3, 1, 1), (3, 5, 1)])
    env = Fixed(game, start)
    seating = arrange([["random", "food_1"]], 1, env, DEVICE)
    episodes = play(env, seating, {}, torch.Generator().manual_seed(0)).episodes
    found = exact_observer(env, episodes)
    assert found.belief[:2, 0, 1, 1].tolist() == pytest.approx([0.5, 1], abs=1e-5)
    assert found.best[:2, 0, 1].tolist() == pytest.approx([0.5, 1], abs=1e-5)
    assert episodes.achieved_goal[1, 0, 1] == 1, "it was beside it after one step"
    assert found.belief[2, 0, 1].tolist() == pytest.approx([1, 0], abs=1e-5), "the other food is all that is left"


def test_exact_bayes_shares_what_it_believed_of_a_food_that_is_gone():
    game = LevelBasedForaging("7x7-2p-3f")
    start = game.place(1, players=[(3, 2, 2), (6, 3, 2)], foods=[(1, 5, 1), (3, 1, 1), (5, 5, 1)])
    env = Fixed(game, start)
    episodes = play(env, arrange([["food_1", "random"]], 1, env, DEVICE), {}, torch.Generator().manual_seed(0)).episodes
    before, after = exact_observer(env, episodes).belief[:2, 0, 1]
    assert before.tolist() == pytest.approx([1 / 3] * 3)
    assert float(after[1]) == pytest.approx(0, abs=1e-6)
    assert float(after.sum()) == pytest.approx(1, abs=1e-5)


def test_exact_bayes_is_calibrated_beside_secret_orders():
    env, episodes = rollout(["secret_order", "secret_order"], 200, max_steps=15)
    belief, who = exact_observer(env, episodes).belief[:, :, 1], episodes.active[:, :, 1]
    true = belief.gather(-1, episodes.true_goal[:, :, 1:].clamp(min=0))[..., 0][who]
    best, hit = belief.max(-1).values[who], (belief.argmax(-1) == episodes.true_goal[:, :, 1])[who]
    assert true.mean() > 0.6
    assert abs(float(best.mean() - hit.float().mean())) < 0.03  # 2,000 steps of 200 episodes


def test_a_player_with_the_name_of_a_goal_is_its_script():
    env = RulesEnv(LevelBasedForaging("7x7-2p-3f"))
    assert [script.food for script in goal_scripts(env.game)] == ["food_0", "food_1", "food_2"]
    assert exact_observer(RulesEnv(LevelBasedForaging("2s-8x8-2p-3f")), None) is None


def test_locations_are_the_cells_of_the_foods():
    game = LevelBasedForaging("7x7-2p-3f", max_steps=20)
    agent = tiny_agent(game, "Locations")
    episodes = play_with(agent, game, ["learner", "lexicographic"], 16)
    label = location_labels(episodes, torch.Generator().manual_seed(0), game.layout)
    taken = episodes.active & (episodes.achieved_goal != NO_GOAL)
    assert taken.any()
    for t, b, p in taken.nonzero().tolist():
        cells = episodes.observation[t, b, p, 2 + episodes.achieved_goal[t, b, p]].flatten()
        assert cells[label[t, b, p]] == 1
    belief = episodes.goal[episodes.active]
    there = (episodes.observation[episodes.active][:, 2:5] > 0).any(1).flatten(1)
    assert (belief[:, :-1][~there] == 0).all(), "cells with a player of level 2 are no goals"


def test_all_players_that_share_a_food_are_rewarded_at_any_level():
    game = LevelBasedForaging("7x7-2p-1f")
    env = Fixed(game, game.place(1, players=[(3, 2, 1), (3, 4, 2)], foods=[(3, 3, 3)]))
    episodes = play(env, arrange([["greedy", "greedy"]], 1, env, DEVICE), {}, torch.Generator().manual_seed(0)).episodes
    assert rewarded(episodes, game.layout).tolist() == [[[True, True]]]


def state_of(game, view):
    """The state that seat 0 sees, `[C, h, w]`; a food that is gone lies nowhere."""
    seats, foods, area = game.num_players, game.num_foods, game.height * game.width
    planes = view.flatten(1).long()
    cells, lies = planes[: seats + foods].argmax(-1), planes[seats : seats + foods].any(-1)
    levels = planes[seats + foods][cells[:seats]] + 1
    more = planes[seats + foods + 1 :].view(foods, -1, area).any(-1)
    food_levels = torch.where(lies, (more * torch.arange(1, more.shape[1] + 1)).sum(-1) + 1, 0)
    fields = (cells[:seats], levels, cells[seats:], food_levels)
    return ForagingState(torch.zeros(1, dtype=torch.int64), *(field[None] for field in fields), torch.ones(1))


@pytest.mark.parametrize("index", [1, 2, 4, 5])
def test_a_rotated_board_obeys_the_same_rules(index):
    env, episodes = rollout(["random", "greedy"], 2, max_steps=8)
    moved = Symmetries(env).apply(episodes, index)
    for t in range(7):
        for b in range(2):
            state = state_of(env.game, moved.observation[t, b, 0])
            assert torch.equal(env.game.observe(state)[0], moved.observation[t, b].float())
            assert torch.equal(env.game.legal(state)[0], moved.legal[t, b])
            after, _ = env.game.step(state, moved.action[t, b][None])
            assert torch.equal(env.game.observe(after)[0], moved.observation[t + 1, b].float())


@pytest.mark.parametrize("opponent", ["Oracle", "Declared", "Codebook"])
def test_opponent_models_train_beside_foragers(opponent):
    game = LevelBasedForaging("5x5-2p-2f", max_steps=8)
    agent = tiny_agent(game, opponent)
    episodes = play_with(agent, game, ["learner", "secret_order"], 4)
    assert model_spec(game).game.layout.goal_planes == (2, 3)
    assert (episodes.true_goal[:, :, 1][episodes.active[:, :, 1]] >= 0).all()
