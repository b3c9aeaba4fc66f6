import importlib
import warnings
from functools import partial
from types import SimpleNamespace

import env_contract
import numpy as np
import pettingzoo
import pytest
from env_contract import refuses
from pettingzoo.test import api_test, max_cycles_test, parallel_api_test, parallel_seed_test, render_test, seed_test
from pettingzoo.test.state_test import state_test

import omg_lightning.envs
from omg_lightning.envs import snowdrift_v0, stag_hunt_v0
from omg_lightning.games.grid.snowdrift import SHOVEL
from omg_lightning.games.grid.stag_hunt import DOWN, HUNT_HARE, HUNT_STAG, LEFT, RIGHT, STAY, UP

small = partial(stag_hunt_v0.parallel_env, preset="2h1s_4x4")
LAYOUT = {"hunters": [(0, 0), (3, 3)], "stags": [(2, 1)], "hares": [(0, 0), (1, 3)]}


def placed(layout=LAYOUT, **kwargs):
    env = small(**kwargs)
    return env, env.reset(options=layout)[0]


def act(env, *actions):
    """One step, actions in the order of `env.agents`; (reward, terminated, truncated) of each."""
    agents = list(env.agents)
    _, rewards, terminations, truncations, _ = env.step(dict(zip(agents, actions, strict=True)))
    return [(rewards[a], terminations[a], truncations[a]) for a in agents]


both = pytest.mark.parametrize("module", [stag_hunt_v0, snowdrift_v0], ids=lambda m: m.__name__.rpartition(".")[2])


@pytest.mark.parametrize(
    ("module", "kwargs"),
    [
        (stag_hunt_v0, {}),
        (stag_hunt_v0, {"preset": "2h1s_4x4"}),
        (stag_hunt_v0, {"preset": "4h1s_6x6", "steps_after_first_hunt": 5}),
        (stag_hunt_v0, {"preset": "4h2s", "prosocial": True}),
        (snowdrift_v0, {}),
        (snowdrift_v0, {"num_players": 3, "height": 2, "width": 3, "num_drifts": 2, "max_steps": 12}),
        (snowdrift_v0, {"num_players": 2, "prosocial": True}),
    ],
    ids=str,
)
def test_contract(module, kwargs):
    env_contract.check_contract(partial(module.parallel_env, **kwargs))


@both
def test_pettingzoo_parallel_api(module):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # its complaints about missing or dead agents are warnings
        parallel_api_test(module.parallel_env(), num_cycles=100)


@both
def test_pettingzoo_aec_api(module):
    api_test(module.env(), num_cycles=60)


@both
def test_pettingzoo_seed(module):
    parallel_seed_test(module.parallel_env, num_cycles=20)
    seed_test(module.env, num_cycles=20)


def test_pettingzoo_max_cycles():
    # It wants almost everyone to be there after 4 unseeded random steps: no hares, and a wide grid for the stag.
    wide = {"num_hares": 0, "height": 12, "width": 12}
    max_cycles_test(
        SimpleNamespace(parallel_env=partial(stag_hunt_v0.parallel_env, **wide), env=partial(stag_hunt_v0.env, **wide))
    )
    max_cycles_test(snowdrift_v0)


def test_pettingzoo_render_and_state(capsys):
    render_test(partial(stag_hunt_v0.env, preset="4h1s_4x4"))
    assert "step 0 of 35" in capsys.readouterr().out
    for module in (stag_hunt_v0, snowdrift_v0):
        state_test(module.env(), module.parallel_env())
    render_test(snowdrift_v0.env)
    assert "step 0 of 50" in capsys.readouterr().out


def test_registered_once_and_made_by_name():
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # PettingZoo warns where a name is registered twice
        importlib.reload(omg_lightning.envs)
    env = pettingzoo.make("parallel", "omg_lightning/stag_hunt_v0", preset="2h1s_4x4", max_cycles=9)
    assert str(env) == "stag_hunt_v0"
    assert env.possible_agents == ["hunter_0", "hunter_1"]
    assert env.game.max_steps == 9
    assert str(pettingzoo.make("aec", "omg_lightning/stag_hunt-v0")) == "stag_hunt_v0"
    env = pettingzoo.make("parallel", "omg_lightning/snowdrift_v0", max_cycles=9)
    assert str(env) == "snowdrift_v0"
    assert env.possible_agents == ["player_0", "player_1", "player_2", "player_3"]


def test_default_is_4h1s():
    game = stag_hunt_v0.parallel_env().game
    assert (game.num_players, game.num_stags, game.num_hares, game.height, game.width) == (4, 1, 4, 8, 8)


def test_exact_layout_is_seen_ego_first():
    _, seen = placed({**LAYOUT, "blocks": [(3, 0)]})
    planes = {
        name: np.argwhere(seen["hunter_1"]["observation"][k]).tolist() for k, name in enumerate(("self", "other"))
    }
    assert planes == {"self": [[3, 3]], "other": [[0, 0]]}
    things = [np.argwhere(plane).tolist() for plane in seen["hunter_0"]["observation"][2:]]
    assert things == [[[3, 0]], [[2, 1]], [[0, 0], [1, 3]]]
    legal = [np.flatnonzero(seen[agent]["action_mask"]).tolist() for agent in ("hunter_0", "hunter_1")]
    assert legal == [[DOWN, RIGHT, STAY, HUNT_HARE], [UP, LEFT, STAY]]


def test_who_takes_a_hare_leaves_and_the_rest_plays_on_until_the_time_is_up():
    env, _ = placed(max_steps=3)
    assert act(env, HUNT_HARE, STAY) == [(1.0, True, False), (0.0, False, False)]
    assert env.agents == ["hunter_1"]
    refuses(ValueError, "'hunter_0' has left the game", env.step, {"hunter_0": STAY, "hunter_1": STAY})
    assert act(env, STAY) == [(0.0, False, False)]
    assert act(env, STAY) == [(0.0, False, True)]
    assert env.agents == []


def test_two_share_a_stag_and_one_alone_gets_nothing():
    env, _ = placed({**LAYOUT, "hunters": [(2, 1), (2, 0)]})
    assert act(env, HUNT_STAG, RIGHT) == [(0.0, False, False)] * 2
    assert act(env, HUNT_STAG, HUNT_STAG) == [(5.0, True, False)] * 2
    assert env.agents == []
    refuses(RuntimeError, "the episode is over", env.step, {})


def test_a_capture_in_the_last_step_is_a_termination():
    env, _ = placed(max_steps=1)
    assert act(env, HUNT_HARE, STAY) == [(1.0, True, False), (0.0, False, True)]


def test_an_end_by_rule_is_a_termination():
    env, _ = placed(steps_after_first_hunt=2)
    assert act(env, HUNT_HARE, STAY) == [(1.0, True, False), (0.0, False, False)]
    assert act(env, STAY) == [(0.0, False, False)]
    assert act(env, STAY) == [(0.0, True, False)]


def test_prosocial_pays_only_who_is_there():
    env, _ = placed({**LAYOUT, "hunters": [(0, 0), (1, 3)]}, prosocial=True)
    assert act(env, HUNT_HARE, STAY) == [(0.5, True, False), (0.5, False, False)]
    assert act(env, HUNT_HARE) == [(0.5, True, False)]


def test_what_is_handed_out_is_the_users_own():
    env, seen = placed()
    seen["hunter_0"]["observation"][:] = 0
    seen["hunter_0"]["action_mask"][:] = 0
    again, _, _, _, infos = env.step({"hunter_0": STAY, "hunter_1": STAY})
    again["hunter_0"]["action_mask"][:] = 0
    assert again["hunter_0"]["observation"].any()
    assert infos["hunter_0"]["action_mask"].any()
    assert env.state().any()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"hunters": [(0, 0), (3, 3)]}, r"missing \['stags', 'hares'\]; an exact layout is a dict such as \{'hunters'"),
        ({**LAYOUT, "rocks": []}, r"unknown \['rocks'\]"),
        ({**LAYOUT, "hunters": [(0, 0)]}, "got 1 positions; expected 2"),
        ({**LAYOUT, "stags": [(4, 0)]}, r"stags: got \(4, 0\)"),
        ({**LAYOUT, "stags": [(0, 0)]}, "two preys share a cell"),
        ({**LAYOUT, "blocks": [(3, 3)]}, "is on a block"),
        ({**LAYOUT, "hares": "ab"}, "hares='ab'"),
    ],
)
def test_a_wrong_layout_is_one_clear_line(options, says):
    refuses(ValueError, says, small().reset, options=options)


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"presett": "4h1s"}, r"unknown \['presett'\]; expected preset"),
        ({"preset": "9h9s"}, "preset='9h9s'"),
        ({"max_cycles": 4, "max_steps": 5}, "max_cycles=4 and max_steps=5 mean the same"),
        ({"max_cycles": 0}, "max_steps=0"),
        ({"height": 0}, "height=0"),
    ],
)
def test_a_wrong_parameter_is_one_clear_line(kwargs, says):
    refuses(ValueError, says, stag_hunt_v0.parallel_env, **kwargs)


def glowing(picture):
    """How many pixels have the background of a capture."""
    return int((np.abs(picture.astype(int) - (0xFB, 0xF0, 0xB2)).sum(-1) < 6).sum())


def test_render_shows_the_board_and_the_last_captures():
    env, _ = placed(render_mode="rgb_array")
    quiet = env.render()
    act(env, HUNT_HARE, STAY)
    taken = env.render()
    act(env, STAY)
    after = env.render()
    assert quiet.shape == taken.shape == after.shape
    assert glowing(quiet) == glowing(after) == 0
    assert glowing(taken) > 300


def test_render_as_text():
    env, _ = placed(render_mode="ansi")
    act(env, HUNT_HARE, LEFT)
    assert env.render() == "step 1 of 35   0: 1.0  1: 0.0\n. . . .\n. . . H\n. S . .\n. . 1 .\n"


def test_render_without_a_mode_says_so():
    env, _ = placed()
    with pytest.warns(UserWarning, match="give one to parallel_env"):
        assert env.render() is None


SNOW = {"players": [(0, 0), (1, 2)], "drifts": [(1, 2), (0, 0)]}


def snowed(**kwargs):
    env = snowdrift_v0.parallel_env(num_players=2, num_drifts=2, height=2, width=3, **kwargs)
    return env, env.reset(options=SNOW)[0]


def test_snowdrift_default_is_msg():
    game = snowdrift_v0.parallel_env().game
    assert (game.num_players, game.num_drifts, game.height, game.width, game.max_steps) == (4, 6, 8, 8, 50)


def test_snowdrift_exact_layout_is_seen_ego_first():
    _, seen = snowed()
    found = [np.argwhere(plane).tolist() for plane in seen["player_1"]["observation"]]
    assert found == [[[1, 2]], [[0, 0]], [[0, 0], [1, 2]]]
    legal = [np.flatnonzero(seen[agent]["action_mask"]).tolist() for agent in ("player_0", "player_1")]
    assert legal == [[DOWN, RIGHT, STAY, SHOVEL], [UP, LEFT, STAY, SHOVEL]]


def test_in_snowdrift_nobody_leaves_until_the_last_drift_terminates_all():
    env, _ = snowed()
    assert act(env, SHOVEL, STAY) == [(2.0, False, False), (6.0, False, False)]
    assert act(env, RIGHT, SHOVEL) == [(6.0, True, False), (2.0, True, False)]
    assert env.agents == []
    refuses(RuntimeError, "the episode is over", env.step, {})


def test_in_snowdrift_the_time_limit_truncates():
    env, _ = snowed(max_steps=1)
    assert act(env, SHOVEL, STAY) == [(2.0, False, True), (6.0, False, True)]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"players": [(0, 0), (0, 0)]}, r"missing \['drifts'\]; an exact layout is a dict such as \{'players'"),
        ({**SNOW, "blocks": []}, r"unknown \['blocks'\]"),
        ({**SNOW, "players": [(0, 0)]}, "got 1 positions; expected 2"),
        ({**SNOW, "drifts": [(0, 0), (0, 0)]}, "two drifts share a cell"),
    ],
)
def test_a_wrong_snowdrift_layout_is_one_clear_line(options, says):
    refuses(ValueError, says, snowed()[0].reset, options=options)


def test_a_wrong_snowdrift_parameter_is_one_clear_line():
    refuses(ValueError, r"unknown \['num_hares'\]; expected preset", snowdrift_v0.parallel_env, num_hares=2)
    refuses(ValueError, "mean the same", snowdrift_v0.parallel_env, max_cycles=4, max_steps=5)


def test_snowdrift_render_shows_what_was_cleared_for_one_picture():
    env, _ = snowed(render_mode="rgb_array")
    pictures = [env.render()]
    for actions in ((SHOVEL, STAY), (STAY, STAY)):
        act(env, *actions)
        pictures.append(env.render())
    quiet, cleared, after = (glowing(picture) for picture in pictures)
    assert quiet == after == 0
    assert cleared > 300


def test_snowdrift_as_text():
    env, _ = snowed(render_mode="ansi")
    assert env.render() == "step 0 of 50   0: 0.0  1: 0.0\nD0 .  .\n.  .  D1\n"
    act(env, SHOVEL, LEFT)
    assert env.render() == "step 1 of 50   0: 2.0  1: 6.0\n0 . .\n. 1 D\n"
