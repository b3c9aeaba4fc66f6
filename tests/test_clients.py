"""The recipes of docs/clients.md run as they stand there, each where its library is installed."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from line_game import RUN, WAIT, WALK, LineEnv, LineGame

from omg_lightning.envs import GameParallelEnv, stag_hunt_v0
from omg_lightning.games.grid.stag_hunt import HUNT_STAG, STAY

PAGE = Path(__file__).parents[1] / "docs" / "clients.md"


def blocks(section: str) -> list[str]:
    """Return the code blocks of a section of the page."""
    sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (text,) = [text for text in sections if text.startswith(section)]
    return re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def run(*codes: str) -> dict:
    """Run code blocks one after the other and return their names."""
    names: dict = {"__name__": "clients"}
    for code in codes:
        exec(compile(code, str(PAGE), "exec"), names)
    return names


class Walker:
    """Walk in every step; keep what was seen."""

    def reset(self, batch_size, seat, game, generator):
        self.seat, self.seen = seat, []
        self.first = torch.randint(1 << 30, (), generator=generator).item()

    def act(self, observation, legal):
        self.seen.append((observation.tolist(), legal.tolist()))
        return torch.full((len(legal),), WALK)


def one_seat(env, make_player):
    """Make the environment `OneSeat` of the page, which needs no other library."""
    return run(blocks("Stable-Baselines3")[0])["OneSeat"](env, make_player)


def test_torchrl_recipe_plays_the_same_episode_as_the_environment_alone():
    pytest.importorskip("torchrl", reason="torchrl is not installed")
    (code,) = blocks("TorchRL")
    with torch.random.fork_rng():  # TorchRL draws its actions from the global generator
        torch.manual_seed(0)
        names = run(code)
    rollout, views, rewards, playing = (names[name] for name in ("rollout", "views", "rewards", "playing"))
    env = stag_hunt_v0.parallel_env(preset="4h1s_4x4")
    env.reset(seed=1)
    seen, _ = env.reset()  # `rollout` resets once more
    for t, actions in enumerate(rollout["hunter", "action"].tolist()):
        assert playing[t].tolist() == [agent in env.agents for agent in env.possible_agents]
        long_gone = ~playing[t] & ~playing[t - 1] if t else ~playing[t]
        assert not views[t, long_gone].any(), "a hunter's last view stands once more after it has left, then zeros"
        for agent in env.agents:
            seat = env.possible_agents.index(agent)
            np.testing.assert_array_equal(views[t, seat].numpy(), seen[agent]["observation"])
            assert rollout["hunter", "action_mask"][t, seat].tolist() == seen[agent]["action_mask"].tolist()
            assert seen[agent]["action_mask"][actions[seat]], "a rollout plays legal actions"
        seen, earned, *_ = env.step(dict(zip(env.possible_agents, actions, strict=True)))
        assert rewards[t, :, 0].tolist() == [earned.get(agent, 0.0) for agent in env.possible_agents]
    assert not env.agents, "the rollout ends with the episode"
    assert rollout["next", "done"].sum() == 1
    assert not playing.all(), "a hunter left before the end"


def test_torchrl_plays_games_off_the_grid():
    envs = pytest.importorskip("torchrl.envs", reason="torchrl is not installed")
    for num_players in (1, 2):
        game = LineGame(num_players, dtype=np.float64)
        env = envs.PettingZooWrapper(GameParallelEnv(game), done_on_any=False, use_mask=True)
        rollout = env.rollout(120, break_when_any_done=False)
        assert len(rollout) == 120
        assert rollout["ada", "observation", "observation"].shape == (120, 1, num_players)
        assert rollout["next", "done"].sum() >= 20, "an episode has at most 6 steps"


@pytest.mark.slow
def test_stable_baselines_recipe_learns_in_the_environment():
    pytest.importorskip("stable_baselines3", reason="stable_baselines3 is not installed")
    from stable_baselines3.common.env_checker import check_env

    names = run(*blocks("Stable-Baselines3"))
    assert names["model"].num_timesteps == 2048
    assert 0 <= names["mean_return"] <= 5
    check_env(names["env"])


def test_one_seat_plays_beside_the_scripted_player():
    env = stag_hunt_v0.parallel_env(preset="2h1s_4x4")
    seat = one_seat(env, env.game.players["nearest_stag"])
    layout = {"hunters": [(2, 0), (2, 3)], "stags": [(2, 0)], "hares": [(0, 0), (0, 3)]}
    view, _ = seat.reset(seed=0, options=layout)
    assert view.shape == seat.observation_space.shape == (7 + 5 * 16,)
    assert np.flatnonzero(view[:7]).tolist() == [0, 1, 3, STAY, HUNT_STAG], "the mask comes first"
    assert np.flatnonzero(view[7:]).tolist() == [8, 16 + 11, 48 + 8, 64 + 0, 64 + 3]
    steps = [seat.step(HUNT_STAG) for _ in range(4)]  # the other walks three cells to the left, then hunts
    assert [(reward, terminated, truncated) for _, reward, terminated, truncated, _ in steps] == [
        (0.0, False, False),
        (0.0, False, False),
        (0.0, False, False),
        (5.0, True, False),
    ]
    assert [np.flatnonzero(view[7 + 16 : 7 + 32]).tolist() for view, *_ in steps] == [[10], [9], [8], []]


def test_one_seat_plays_on_after_others_have_left():
    env = one_seat(LineEnv(LineGame(3, max_steps=4, dtype=np.float64)), Walker)
    view, _ = env.reset(options={"places": [0, 80, 10]})
    assert view.tolist() == [1, 1, 1, 0, 80, 10]
    ends = [env.step(action) for action in (WAIT, RUN, WAIT, WALK)]
    assert [(reward, terminated, truncated) for _, reward, terminated, truncated, _ in ends] == [
        (0.0, False, False),
        (0.0, False, False),
        (0.0, False, False),
        (0.0, False, True),
    ]
    first, second = env.others["bo"], env.others["cy"]
    assert (first.seat, second.seat) == (1, 2)
    assert first.seen == [([[80, 10, 0]], [[True, True, False]])], "bo leaves with its first step"
    assert [seen for seen, _ in second.seen] == [[[10, 0, 80]], [[40, 0, 100]], [[70, 60, 100]]]


def test_one_seat_is_fixed_by_its_seed():
    env = one_seat(GameParallelEnv(LineGame()), Walker)

    def draws(seed):
        """Return two starts, and the first number that the other player draws in each."""
        return [(env.reset(seed=s)[0].tolist(), env.others["bo"].first) for s in (seed, None)]

    assert draws(1) == draws(1) != draws(2)
    assert len({first for _, first in draws(1)}) == 2, "a new episode draws new numbers"
