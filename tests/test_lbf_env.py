"""Level-Based Foraging as a PettingZoo environment, its pictures and its text."""

import warnings
from functools import partial

import env_contract
import numpy as np
import pettingzoo
import pytest
from env_contract import refuses
from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test
from PIL import ImageColor
from toys import play_with, tiny_agent

from callbacks.replay import episode_frames
from omg_lightning.envs import lbf_v0
from omg_lightning.games import LevelBasedForaging
from omg_lightning.games.grid import icons
from omg_lightning.games.grid.render import Capture, captures_of
from omg_lightning.types import ConfigError

NONE, NORTH, SOUTH, WEST, EAST, LOAD = range(6)
LAYOUT = {"players": [(2, 2, 2), (3, 3, 1)], "foods": [(2, 3, 3), (4, 1, 4)]}
CELL = 64


def placed(**kwargs):
    env = lbf_v0.parallel_env(preset="6x5-2p-2f", **kwargs)
    return env, env.reset(options=LAYOUT)[0]


@pytest.mark.parametrize("kwargs", [{"preset": "5x6-2p-2f"}, {"preset": "2s-6x6-3p-2f"}, {"view": "vector"}])
def test_keeps_the_contract(kwargs):
    env_contract.check_contract(partial(lbf_v0.parallel_env, max_steps=8, **kwargs))


def test_passes_pettingzoos_own_tests():
    small = partial(lbf_v0.parallel_env, preset="5x5-2p-1f", max_steps=6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(small(), num_cycles=20)
    parallel_seed_test(small, num_cycles=8)
    api_test(lbf_v0.env(preset="5x5-2p-1f", max_steps=6), num_cycles=12)


def test_is_made_by_its_registered_name():
    env = pettingzoo.make("parallel", "omg_lightning/lbf_v0", preset="10x10-3p-3f", max_cycles=9)
    assert str(env) == "lbf_v0"
    assert (env.game.num_players, env.game.num_foods, env.game.height, env.game.max_steps) == (3, 3, 10, 9)
    assert lbf_v0.parallel_env().game.goal_names == ("food_0", "food_1", "food_2")


def test_an_exact_layout_has_levels_and_its_mistakes_are_one_line():
    env, seen = placed()
    assert np.flatnonzero(seen["player_0"]["action_mask"]).tolist() == [NONE, NORTH, SOUTH, WEST, LOAD]
    says = r"missing \['foods'\]; an exact layout is a dict such as \{'players': \[\(row, column, level\), ...\]"
    refuses(ConfigError, says, env.reset, options={"players": LAYOUT["players"]})
    refuses(ConfigError, "level 9", env.reset, options={**LAYOUT, "foods": [(2, 3, 9)]})


def test_the_last_food_terminates_all_and_the_time_limit_truncates_all():
    env = lbf_v0.parallel_env(preset="6x5-2p-1f", max_steps=2)
    env.reset(options={"players": LAYOUT["players"], "foods": [(2, 3, 3)]})
    _, rewards, terminated, truncated, _ = env.step({"player_0": LOAD, "player_1": LOAD})
    assert rewards == pytest.approx({"player_0": 2 / 3, "player_1": 1 / 3})
    assert all(terminated.values())
    assert not any(truncated.values())
    env.reset(seed=0)
    for _ in range(2):
        *_, truncated, _ = env.step({"player_0": NONE, "player_1": NONE})
    assert all(truncated.values())


def test_text_shows_levels():
    env, _ = placed(render_mode="ansi")
    empty = ".   .   .   .   ."
    rows = [empty, empty, ".   .   0:2 F3  .", ".   .   .   1:1 .", ".   F4  .   .   .", empty]
    board = "\n".join([*rows, ""])
    assert env.render() == f"step 0 of 50   0: 0.0  1: 0.0\n{board}"
    env.step({"player_0": LOAD, "player_1": LOAD})
    assert env.render().startswith("step 1 of 50   0: 0.29  1: 0.14\n"), "2 and 1 of 3 of the 7 levels"


def square(picture, row, column):
    """Return the pixels of one cell."""
    top, left = round((0.6 + row) * CELL), round((0.25 + column) * CELL)
    return picture[top : top + CELL, left : left + CELL].astype(int)


def amount(pixels, colour):
    """Return the share of pixels of a colour."""
    return float((np.abs(pixels - ImageColor.getrgb(colour)).sum(-1) < 12).mean())


def test_pictures_show_apples_and_levels():
    env, _ = placed(render_mode="rgb_array")
    picture = env.render()
    apple, player = "#C8373B", icons.SEAT_COLOURS[0]
    assert amount(square(picture, 2, 3), apple) > 0.15
    assert amount(square(picture, 2, 2), player) > 0.15
    assert amount(square(picture, 2, 2), apple) == 0
    other = {**LAYOUT, "foods": [(2, 3, 2), (4, 1, 4)], "players": [(2, 2, 1), (3, 3, 1)]}
    env.reset(options=other)
    changed = env.render()
    for row, column in ((2, 2), (2, 3)):
        assert (square(picture, row, column) != square(changed, row, column)).any(), "the level is shown"
    assert (square(picture, 4, 1) == square(changed, 4, 1)).all()


def test_a_picture_marks_a_taken_food_and_its_takers():
    env, _ = placed(render_mode="rgb_array")
    env.step({"player_0": LOAD, "player_1": LOAD})
    taken = square(env.render(), 2, 3)
    assert amount(taken, icons.GLOW) > 0.2
    assert min(amount(taken, colour) for colour in icons.SEAT_COLOURS[:2]) > 0.02
    env.step({"player_0": NONE, "player_1": NONE})
    assert amount(square(env.render(), 2, 3), icons.TILE) > 0.8


def test_captures_lie_where_the_goals_own_plane_shows_them():
    game = LevelBasedForaging("6x5-2p-2f")
    view = game.observe(game.place(**LAYOUT))[0, 0].numpy()
    found = captures_of(view, [0, 0], game.goal_names, game.layout.plane_names)
    assert found == [Capture(2, 3, "food", (0, 1), 3)]


def test_replays_are_drawn_without_the_food_of_the_last_step():
    game = LevelBasedForaging("5x5-2p-1f", max_steps=30)
    episodes = play_with(tiny_agent(game, "Direct"), game, ["greedy", "greedy"], 8)
    over = episodes.terminated.any(0).any(-1)
    assert over.any()
    row = int(over.nonzero()[0])
    frames = episode_frames(episodes, row, game, cell=24)
    length = int(episodes.active[:, row].any(-1).sum())
    assert len(frames) == length + 1
    apple = [amount(np.asarray(picture).astype(int), "#C8373B") for picture in frames]
    assert apple[0] > 0.001
    assert apple[-1] > 0, "the food that is taken glows in the last picture"
