import math

import pytest
import torch
from toys import TokenGame, model_spec, plain_learner, stag_hunt

from omg_lightning.actors import arrange, make_player
from omg_lightning.envs import as_env
from omg_lightning.games import Snowdrift
from omg_lightning.games.grid.scripted import NearestHare, NearestStag
from omg_lightning.games.scripts import Player
from omg_lightning.opponents import Oracle
from omg_lightning.rollout import play
from omg_lightning.types import NO_GOAL, ConfigError

DEVICE = torch.Generator().device  # the CPU, or that of `pytest --device`
STAG, HARE = 0, 1


def rollout(game, lineup, batch=40, seed=0, **learners):
    env, random = as_env(game), torch.Generator().manual_seed(seed)
    return play(env, arrange([lineup], batch, env, DEVICE), learners, random).episodes


def test_each_episode_and_environment_draws_its_own_goal(generator):
    game = stag_hunt()
    player = make_player("switcher", game)
    assert isinstance(player, Player)
    drawn = []
    for _ in range(2):
        player.reset(4000, 0, game, generator)
        drawn.append(player.pursues(torch.zeros(4000, 5, 4, 4), torch.ones(4000, 7, dtype=torch.bool)))
    assert abs(int(drawn[0].sum()) - 2000) < 5 * math.sqrt(1000)  # five standard deviations
    assert abs(int((drawn[0] == drawn[1]).sum()) - 2000) < 5 * math.sqrt(1000)


def test_a_switcher_has_the_actions_and_distribution_of_the_script_in_force():
    game = stag_hunt()
    script = make_player("switcher:3", game)
    episodes = rollout(game, ["random", "switcher:3"])
    script.reset(40, 1, game, torch.Generator().manual_seed(9))
    pure = [NearestStag(), NearestHare()]
    for player in pure:
        player.reset(40, 1, game, torch.Generator())
    first, own = episodes.true_goal[0, :, 1], script.pursues(episodes.observation[0, :, 1], episodes.legal[0, :, 1])
    for goals in (first, own):
        assert set(goals.tolist()) == {STAG, HARE}
    for t in range(len(episodes.active)):
        goal, live = episodes.true_goal[t, :, 1], episodes.active[t].any(-1)
        assert torch.equal(goal[live], (first if t < 3 else 1 - first)[live]), "it changes at step 3 of every episode"
        view, legal = episodes.observation[t, :, 1], episodes.legal[t, :, 1]
        pursued = script.pursues(view, legal)
        assert torch.equal(pursued, own if t < 3 else 1 - own)
        stag, hare = (player.action_probabilities(view, legal) for player in pure)
        expected = torch.where((pursued == STAG)[:, None], stag, hare)
        torch.testing.assert_close(script.action_probabilities(view, legal), expected)
        expected = torch.where((goal == STAG)[:, None], stag, hare)
        here = episodes.active[t, :, 1]
        assert (expected.gather(1, episodes.action[t, :, 1:])[here] > 0).all()
        script.act(view, legal)


def test_it_changes_back_at_the_second_step_of_a_schedule():
    game = stag_hunt()
    player = make_player("switcher:1:4", game)
    player.reset(1, 0, game, torch.Generator().manual_seed(0))
    found, planes, legal = [], torch.zeros(1, 5, 4, 4), torch.ones(1, 7, dtype=torch.bool)
    for _ in range(6):
        found.append(int(player.pursues(planes, legal)))
        player.act(planes, legal)
    assert found in ([0, 1, 1, 1, 0, 0], [1, 0, 0, 0, 1, 1])


def test_the_oracle_gets_the_true_goal_of_each_row_at_each_step():
    game = stag_hunt(3)
    learner = plain_learner(game, source=Oracle(model_spec(game)))
    episodes = rollout(game, ["learner", "switcher:2", "nearest_hare"], learner=learner)
    expected = torch.nn.functional.one_hot(episodes.true_goal[..., 1:].clamp(min=0), 2) * episodes.active[..., 1:, None]
    assert torch.equal(episodes.goal[:, :, 1:], expected.float())
    assert not episodes.goal[:, :, 0].any()
    assert len(set(episodes.true_goal[0, :, 1].tolist())) == 2
    assert (episodes.true_goal[..., 0] == NO_GOAL).all()


def test_the_switcher_of_snowdrift_is_a_cleaner_or_a_defector():
    game = Snowdrift(num_players=2, num_drifts=2, height=3, width=3, max_steps=20)
    episodes = rollout(game, ["defector", "switcher"])
    cleaned = (episodes.achieved_goal[..., 1] != NO_GOAL).any(0)
    assert 8 < cleaned.sum() < 32
    assert (episodes.reward.sum((0, 2))[cleaned] == 2 * (2 * 6) - 2 * 4).all(), "one that cleans removes all drifts"
    assert not episodes.reward[:, ~cleaned].any()
    assert (episodes.true_goal == NO_GOAL).all(), "neither script declares a goal"


@pytest.mark.parametrize(
    ("name", "game", "says"),
    [
        ("switcher", TokenGame(2), "TokenGame has none: set its `scripts`"),
        ("switcher:8", stag_hunt(), "changes at step 8, but StagHunt ends after 8 steps"),
    ],
)
def test_a_game_that_it_cannot_play_is_one_clear_line(name, game, says):
    with pytest.raises(ConfigError, match=says) as caught:
        arrange([["random", name]], 1, as_env(game), DEVICE)
    assert "\n" not in str(caught.value)


class Wrong:
    def reset(self, batch_size, seat, game, generator):
        self.goals = self.make(batch_size)

    def act(self, observation, legal):
        return torch.zeros(len(legal), dtype=torch.int64)


@pytest.mark.parametrize(
    ("goals", "says"),
    [
        (lambda rows: [0] * rows, r"Bad.goals must be an int64 tensor of shape \[4\]"),
        (lambda rows: torch.zeros(rows + 1, dtype=torch.int64), r"of shape \[4\]"),
        (lambda rows: torch.full((rows,), 2), r"indices in \['stag', 'hare'\]"),
    ],
)
def test_wrong_goals_of_a_users_player_are_one_clear_line(goals, says, monkeypatch):
    bad = type("Bad", (Wrong,), {"make": staticmethod(goals)})
    monkeypatch.setattr(f"{__name__}.Wrong", bad)
    with pytest.raises(ConfigError, match=says):
        rollout(stag_hunt(), ["random", f"{__name__}.Wrong"], 4)
