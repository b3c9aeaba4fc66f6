import importlib
import warnings
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import env_contract
import numpy as np
import pettingzoo
import pytest
import torch
from env_contract import refuses
from gymnasium import spaces
from line_game import RUN, WAIT, WALK, LineEnv, LineGame
from pettingzoo.test import api_test, max_cycles_test, parallel_api_test, parallel_seed_test, render_test, seed_test
from pettingzoo.test.state_test import state_test
from pettingzoo.utils.conversions import parallel_to_aec

import omg_lightning.envs
from omg_lightning.envs import GameParallelEnv, snowdrift_v0, stag_hunt_v0
from omg_lightning.games import Game
from omg_lightning.games.grid.snowdrift import SHOVEL
from omg_lightning.games.grid.stag_hunt import DOWN, HUNT_HARE, HUNT_STAG, LEFT, RIGHT, STAY, UP
from omg_lightning.types import ConfigError, ego_order

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


def identify(value):
    """Return the name of a module, and any other value as text."""
    return getattr(value, "__name__", str(value)).removeprefix("omg_lightning.envs.")


both = pytest.mark.parametrize("module", [stag_hunt_v0, snowdrift_v0], ids=identify)


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
    ids=identify,
)
def test_grid_games_keep_the_contract(module, kwargs):
    make = partial(module.parallel_env, **kwargs)
    env_contract.check_contract(make)
    env_contract.check_moves_match_the_mask(make)


@both
def test_pettingzoo_parallel_api_test_passes_without_a_warning(module):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # its complaints about missing or dead agents are warnings
        parallel_api_test(module.parallel_env(), num_cycles=100)


@both
def test_pettingzoo_aec_api_test_passes(module):
    api_test(module.env(), num_cycles=60)


@both
def test_pettingzoo_seed_tests_pass(module):
    parallel_seed_test(module.parallel_env, num_cycles=20)
    seed_test(module.env, num_cycles=20)


def test_pettingzoo_max_cycles_test_passes():
    # It wants almost everyone to be there after 4 unseeded random steps: no hares, and a wide grid for the stag.
    wide = {"num_hares": 0, "height": 12, "width": 12}
    max_cycles_test(
        SimpleNamespace(parallel_env=partial(stag_hunt_v0.parallel_env, **wide), env=partial(stag_hunt_v0.env, **wide))
    )
    max_cycles_test(snowdrift_v0)


def test_pettingzoo_render_and_state_tests_pass(capsys):
    render_test(partial(stag_hunt_v0.env, preset="4h1s_4x4"))
    assert "step 0 of 35" in capsys.readouterr().out
    for module in (stag_hunt_v0, snowdrift_v0):
        state_test(module.env(), module.parallel_env())
    render_test(snowdrift_v0.env)
    assert "step 0 of 50" in capsys.readouterr().out


def test_environments_are_registered_once_and_made_by_name():
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


def test_stag_hunt_defaults_to_4h1s():
    game = stag_hunt_v0.parallel_env().game
    assert (game.num_players, game.num_stags, game.num_hares, game.height, game.width) == (4, 1, 4, 8, 8)


def test_observations_of_an_exact_layout_are_ego_first():
    _, seen = placed({**LAYOUT, "blocks": [(3, 0)]})
    planes = {
        name: np.argwhere(seen["hunter_1"]["observation"][k]).tolist() for k, name in enumerate(("self", "other"))
    }
    assert planes == {"self": [[3, 3]], "other": [[0, 0]]}
    things = [np.argwhere(plane).tolist() for plane in seen["hunter_0"]["observation"][2:]]
    assert things == [[[3, 0]], [[2, 1]], [[0, 0], [1, 3]]]
    legal = [np.flatnonzero(seen[agent]["action_mask"]).tolist() for agent in ("hunter_0", "hunter_1")]
    assert legal == [[DOWN, RIGHT, STAY, HUNT_HARE], [UP, LEFT, STAY]]


def test_a_hare_terminates_its_hunter_and_the_time_limit_truncates_the_rest():
    env, _ = placed(max_steps=3)
    assert act(env, HUNT_HARE, STAY) == [(1.0, True, False), (0.0, False, False)]
    assert env.agents == ["hunter_1"]
    assert act(env, STAY) == [(0.0, False, False)]
    assert act(env, STAY) == [(0.0, False, True)]
    assert env.agents == []


def test_step_ignores_the_action_of_an_agent_that_has_left():
    env, _ = placed()
    act(env, HUNT_HARE, STAY)
    for action in (HUNT_HARE, UP, None, "up", -1, 99):
        seen, rewards, terminations, truncations, infos = env.step({"hunter_0": action, "hunter_1": UP})
        assert set(seen) == set(rewards) == set(terminations) == set(truncations) == set(infos) == {"hunter_1"}
    assert np.argwhere(seen["hunter_1"]["observation"][0]).tolist() == [[0, 3]], "hunter_1 walked up from (3, 3)"
    assert not seen["hunter_1"]["observation"][1].any(), "hunter_0 is still gone"
    refuses(ConfigError, r"got none for \['hunter_1'\]", env.step, {"hunter_0": STAY})
    refuses(ConfigError, "'hunter_2' is not an agent of this game", env.step, {"hunter_1": STAY, "hunter_2": STAY})


def test_step_accepts_actions_of_all_agents():
    env = stag_hunt_v0.parallel_env(preset="4h1s_4x4")
    rng, fewest = np.random.default_rng(0), len(env.possible_agents)
    for episode in range(10):
        env.reset(seed=episode)
        while env.agents:
            fewest = min(fewest, len(env.agents))
            env.step({agent: rng.integers(env.game.num_actions) for agent in env.possible_agents})
    assert fewest == 1, "agents left before the others"


def test_two_share_a_stag_and_one_alone_gets_nothing():
    env, _ = placed({**LAYOUT, "hunters": [(2, 1), (2, 0)]})
    assert act(env, HUNT_STAG, RIGHT) == [(0.0, False, False)] * 2
    assert act(env, HUNT_STAG, HUNT_STAG) == [(5.0, True, False)] * 2
    assert env.agents == []
    refuses(RuntimeError, "the episode is over", env.step, {})


def test_a_capture_in_the_last_step_is_a_termination():
    env, _ = placed(max_steps=1)
    assert act(env, HUNT_HARE, STAY) == [(1.0, True, False), (0.0, False, True)]


def test_an_early_end_by_rule_is_a_termination():
    env, _ = placed(steps_after_first_hunt=2)
    assert act(env, HUNT_HARE, STAY) == [(1.0, True, False), (0.0, False, False)]
    assert act(env, STAY) == [(0.0, False, False)]
    assert act(env, STAY) == [(0.0, True, False)]


def test_prosocial_rewards_go_only_to_remaining_agents():
    env, _ = placed({**LAYOUT, "hunters": [(0, 0), (1, 3)]}, prosocial=True)
    assert act(env, HUNT_HARE, STAY) == [(0.5, True, False), (0.5, False, False)]
    assert act(env, HUNT_HARE) == [(0.5, True, False)]


def test_changing_returned_arrays_does_not_change_the_environment():
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
def test_a_wrong_layout_raises_one_line(options, says):
    refuses(ConfigError, says, small().reset, options=options)


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
def test_a_wrong_parameter_raises_one_line(kwargs, says):
    refuses(ConfigError, says, stag_hunt_v0.parallel_env, **kwargs)


def glowing(picture):
    """Count the pixels with the background colour of a capture."""
    return int((np.abs(picture.astype(int) - (0xFB, 0xF0, 0xB2)).sum(-1) < 6).sum())


def test_picture_marks_captures_of_the_last_step_only():
    env, _ = placed(render_mode="rgb_array")
    quiet = env.render()
    act(env, HUNT_HARE, STAY)
    taken = env.render()
    act(env, STAY)
    after = env.render()
    env.reset(options=LAYOUT)
    act(env, HUNT_HARE, STAY)
    env.reset(options=LAYOUT)
    again = env.render()
    assert quiet.shape == taken.shape == after.shape
    assert glowing(quiet) == glowing(after) == glowing(again) == 0
    assert glowing(taken) > 300


def test_text_shows_step_returns_and_board():
    env, _ = placed(render_mode="ansi")
    act(env, HUNT_HARE, LEFT)
    assert env.render() == "step 1 of 35   0: 1.0  1: 0.0\n. . . .\n. . . H\n. S . .\n. . 1 .\n"


def test_render_without_a_mode_warns():
    env, _ = placed()
    with pytest.warns(UserWarning, match="give one to parallel_env"):
        assert env.render() is None


SNOW = {"players": [(0, 0), (1, 2)], "drifts": [(1, 2), (0, 0)]}


def snowed(**kwargs):
    env = snowdrift_v0.parallel_env(num_players=2, num_drifts=2, height=2, width=3, **kwargs)
    return env, env.reset(options=SNOW)[0]


def test_snowdrift_defaults_to_msg():
    game = snowdrift_v0.parallel_env().game
    assert (game.num_players, game.num_drifts, game.height, game.width, game.max_steps) == (4, 6, 8, 8, 50)


def test_snowdrift_observations_are_ego_first():
    _, seen = snowed()
    found = [np.argwhere(plane).tolist() for plane in seen["player_1"]["observation"]]
    assert found == [[[1, 2]], [[0, 0]], [[0, 0], [1, 2]]]
    legal = [np.flatnonzero(seen[agent]["action_mask"]).tolist() for agent in ("player_0", "player_1")]
    assert legal == [[DOWN, RIGHT, STAY, SHOVEL], [UP, LEFT, STAY, SHOVEL]]


def test_in_snowdrift_the_last_drift_terminates_all():
    env, _ = snowed()
    assert act(env, SHOVEL, STAY) == [(2.0, False, False), (6.0, False, False)]
    assert act(env, RIGHT, SHOVEL) == [(6.0, True, False), (2.0, True, False)]
    assert env.agents == []
    refuses(RuntimeError, "the episode is over", env.step, {})


def test_in_snowdrift_the_time_limit_truncates_all():
    env, _ = snowed(max_steps=1)
    assert act(env, SHOVEL, STAY) == [(2.0, False, True), (6.0, False, True)]


def test_in_snowdrift_the_last_drift_in_the_last_step_is_a_termination():
    env = snowdrift_v0.parallel_env(num_players=1, num_drifts=1, height=1, width=2, max_steps=1)
    env.reset(options={"players": [(0, 0)], "drifts": [(0, 0)]})
    assert act(env, SHOVEL) == [(2.0, True, False)]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"players": [(0, 0), (0, 0)]}, r"missing \['drifts'\]; an exact layout is a dict such as \{'players'"),
        ({**SNOW, "blocks": []}, r"unknown \['blocks'\]"),
        ({**SNOW, "players": [(0, 0)]}, "got 1 positions; expected 2"),
        ({**SNOW, "drifts": [(0, 0), (0, 0)]}, "two drifts share a cell"),
    ],
)
def test_a_wrong_snowdrift_layout_raises_one_line(options, says):
    refuses(ConfigError, says, snowed()[0].reset, options=options)


def test_a_wrong_snowdrift_parameter_raises_one_line():
    refuses(ConfigError, r"unknown \['num_hares'\]; expected preset", snowdrift_v0.parallel_env, num_hares=2)
    refuses(ConfigError, "mean the same", snowdrift_v0.parallel_env, max_cycles=4, max_steps=5)


def test_picture_marks_cleared_drifts_of_the_last_step_only():
    env, _ = snowed(render_mode="rgb_array")
    pictures = [env.render()]
    for actions in ((SHOVEL, STAY), (STAY, STAY)):
        act(env, *actions)
        pictures.append(env.render())
    quiet, cleared, after = (glowing(picture) for picture in pictures)
    assert quiet == after == 0
    assert cleared > 300


def test_text_shows_a_player_on_a_drift():
    env, _ = snowed(render_mode="ansi")
    assert env.render() == "step 0 of 50   0: 0.0  1: 0.0\nD0 .  .\n.  .  D1\n"
    act(env, SHOVEL, LEFT)
    assert env.render() == "step 1 of 50   0: 2.0  1: 6.0\n0 . .\n. 1 D\n"


class BitGame(LineGame):
    """`LineGame` in which each place is written in 7 bits, the lowest first."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.observation_space = spaces.MultiBinary((self.num_players, 7))

    def observe(self, state):
        batch, players = state.place.shape
        ego = torch.arange(players).repeat(batch)
        places = ego_order(state.place.repeat_interleave(players, 0), ego).view(batch, players, players)
        return (places[..., None] >> torch.arange(7) & 1).to(torch.uint8)


class TickState(NamedTuple):
    time: torch.Tensor


class Ticks(Game):
    """A game with every default of `Game`. Its one player sees the time, a single number; action 1 pays 1."""

    num_players, num_actions, max_steps = 1, 2, 4
    observation_space = spaces.Box(0, 9, (), np.float32)

    def reset(self, batch_size, generator=None):
        return TickState(torch.zeros(batch_size, dtype=torch.int64))

    def observe(self, state):
        return state.time[:, None].float()

    def step(self, state, actions):
        return TickState(state.time + 1), actions.float()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.uint8])
@pytest.mark.parametrize("num_players", [1, 2, 3])
def test_games_off_the_grid_keep_the_contract(num_players, dtype):
    env_contract.check_contract(partial(GameParallelEnv, LineGame(num_players, dtype=dtype)))


def test_views_of_bits_and_of_a_single_number_keep_the_contract():
    env_contract.check_contract(partial(GameParallelEnv, BitGame()))
    env_contract.check_contract(partial(GameParallelEnv, Ticks()), random_start=False)


@pytest.mark.parametrize("num_players", [1, 2])
def test_games_off_the_grid_pass_pettingzoos_tests(num_players, capsys):
    def make(render_mode=None):
        return LineEnv(LineGame(num_players), render_mode)

    def make_aec(render_mode=None):
        return parallel_to_aec(make(render_mode))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(make(), num_cycles=100)
    api_test(make_aec(), num_cycles=60)
    parallel_seed_test(make, num_cycles=20)
    seed_test(make_aec, num_cycles=20)
    state_test(make_aec(), make())
    render_test(make_aec)
    assert "step 0 of 6" in capsys.readouterr().out


def test_views_keep_the_space_of_the_game():
    game = LineGame(dtype=np.float64)
    env = LineEnv(game)
    seen, _ = env.reset(options={"places": [7, 40]})
    assert env.observation_space("bo")["observation"] == game.observation_space
    assert seen["bo"]["observation"].dtype == np.float64
    assert seen["bo"]["observation"].tolist() == [40, 7]
    assert seen["bo"]["action_mask"].tolist() == [1, 1, 1]


def test_views_of_bits_are_float32():
    env = LineEnv(BitGame())
    seen, _ = env.reset(options={"places": [5, 64]})
    assert env.observation_space("bo")["observation"] == spaces.Box(0.0, 1.0, (2, 7), np.float32)
    assert seen["bo"]["observation"].dtype == np.float32
    assert seen["bo"]["observation"].tolist() == [[0, 0, 0, 0, 0, 0, 1], [1, 0, 1, 0, 0, 0, 0]]


def test_off_the_grid_state_holds_the_views_of_all_seats():
    env = LineEnv(LineGame(3))
    env.reset(options={"places": [1, 2, 3]})
    assert env.state().tolist() == [[1, 2, 3], [2, 3, 1], [3, 1, 2]]
    assert env.state_space == spaces.Box(0, 100, (3, 3), np.float32)


def test_the_game_says_whether_an_agent_is_terminated_or_truncated():
    env = LineEnv(LineGame(3, max_steps=2))
    env.reset(options={"places": [40, 40, 0]})
    assert act(env, RUN, WALK, WAIT) == [(1.0, True, False), (0.0, False, False), (0.0, False, False)]
    assert env.agents == ["bo", "cy"]
    assert act(env, WALK, WAIT) == [(1.0, True, False), (0.0, False, True)], "bo arrives in the last step"


def test_by_default_max_steps_truncates():
    env = GameParallelEnv(Ticks())
    env.reset()
    assert [act(env, 1) for _ in range(4)] == [[(1.0, False, False)]] * 3 + [[(1.0, False, True)]]


def test_text_off_the_grid_is_a_line_of_step_returns_and_actions():
    env = LineEnv(LineGame(), "ansi")
    env.reset(options={"places": [40, 60]})
    assert env.render() == "step 0 of 6   0: 0.0  1: 0.0\n"
    act(env, RUN, RUN)
    assert env.render() == "step 1 of 6   0: 1.0  1: 0.0   played 0: run  1: wait\n", "running from 60 is illegal"
    act(env, WALK)
    assert env.render() == "step 2 of 6   0: 1.0  1: 0.0   played 1: walk\n", "ada has left"
    env.reset(options={"places": [40, 60]})
    assert env.render() == "step 0 of 6   0: 0.0  1: 0.0\n"


def test_human_mode_off_the_grid_prints_every_step(capsys):
    env = LineEnv(LineGame(), "human")
    env.reset(options={"places": [40, 60]})
    act(env, RUN, WALK)
    assert capsys.readouterr().out.split("\n\n") == [
        "step 0 of 6   0: 0.0  1: 0.0",
        "step 1 of 6   0: 1.0  1: 0.0   played 0: run  1: walk",
        "",
    ]


def test_a_picture_off_the_grid_is_refused_in_one_line():
    says = (
        r"'rgb_array': LineGame expects one of \['human', 'ansi'\], because only games on a grid have pictures; choose"
    )
    refuses(ConfigError, says, LineEnv, LineGame(), "rgb_array")
    assert LineEnv.metadata["render_modes"] == ["human", "rgb_array", "ansi"], "the class still offers pictures"


def test_a_game_with_another_kind_of_space_is_refused_in_one_line():
    game = LineGame()
    game.observation_space = spaces.Discrete(5)
    refuses(ConfigError, "LineGame.observation_space is .*expected gymnasium.spaces.Box", GameParallelEnv, game)
