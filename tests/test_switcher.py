import math

import pytest
import torch
from toys import TokenGame, plain_learner, stag_hunt

from omg_lightning.games import Snowdrift
from omg_lightning.opponents import OracleGoals
from omg_lightning.actors import NearestHare, NearestStag, Player, make_player
from omg_lightning.rollout import arrange, play
from omg_lightning.types import NO_GOAL, ConfigError

CPU = torch.device("cpu")
STAG, HARE = 0, 1


def rollout(game, lineup, batch=40, seed=0, **learners):
    return play(game, arrange([lineup], batch, game, CPU), learners, torch.Generator().manual_seed(seed)).episodes


def test_each_episode_and_environment_draws_its_own_goal(generator):
    player, game = make_player("switcher"), stag_hunt()
    assert isinstance(player, Player)
    player.check(game)
    drawn = []
    for _ in range(2):
        player.reset(4000, 0, game, generator)
        drawn.append(player.goals)
    assert abs(int(drawn[0].sum()) - 2000) < 5 * math.sqrt(1000)  # five standard deviations
    assert abs(int((drawn[0] == drawn[1]).sum()) - 2000) < 5 * math.sqrt(1000)


def test_it_acts_as_the_script_in_force_and_knows_its_distribution():
    game, script = stag_hunt(), make_player("switcher:3")
    episodes = rollout(game, ["random", "switcher:3"])
    script.check(game)
    script.reset(40, 1, game, torch.Generator().manual_seed(9))
    pure = [NearestStag(), NearestHare()]
    for player in pure:
        player.reset(40, 1, game, torch.Generator())
    first = episodes.truth[0, :, 1]
    assert set(first.tolist()) == {STAG, HARE}
    script._first = first == STAG
    for t in range(len(episodes.active)):
        truth = episodes.truth[t, :, 1]
        assert torch.equal(truth, first if t < 3 else 1 - first), "the goal changes at step 3, in every episode"
        assert torch.equal(script.goals, truth)
        view, legal = episodes.observation[t, :, 1], episodes.legal[t, :, 1]
        stag, hare = (player.action_probabilities(view, legal) for player in pure)
        expected = torch.where((truth == STAG)[:, None], stag, hare)
        torch.testing.assert_close(script.action_probabilities(view, legal), expected)
        here = episodes.active[t, :, 1]
        assert (expected.gather(1, episodes.action[t, :, 1:])[here] > 0).all()
        script.act(view, legal)


def test_it_changes_back_at_the_second_step_of_a_schedule():
    player, game = make_player("switcher:1:4"), stag_hunt()
    player.check(game)
    player.reset(1, 0, game, torch.Generator().manual_seed(0))
    found, planes = [], torch.zeros(1, 5, 4, 4)
    for _ in range(6):
        found.append(int(player.goals))
        player.act(planes, torch.ones(1, 7, dtype=torch.bool))
    assert found in ([0, 1, 1, 1, 0, 0], [1, 0, 0, 0, 1, 1])


def test_the_oracle_is_told_each_rows_goal_at_each_step():
    game = stag_hunt(3)
    learner = plain_learner(game, source=OracleGoals(2))
    episodes = rollout(game, ["learner", "switcher:2", "nearest_hare"], learner=learner)
    expected = torch.nn.functional.one_hot(episodes.truth[..., 1:], 2) * episodes.active[..., 1:, None]
    assert torch.equal(episodes.goal[:, :, 1:], expected.float())
    assert not episodes.goal[:, :, 0].any()
    assert (episodes.truth[..., 0] == NO_GOAL).all()


def test_in_snowdrift_it_cleans_or_leaves_the_work_to_others():
    game = Snowdrift(num_players=2, num_drifts=2, height=3, width=3, max_steps=20)
    episodes = rollout(game, ["defector", "switcher"])
    cleaned = (episodes.realised[..., 1] != NO_GOAL).any(0)
    assert 8 < cleaned.sum() < 32
    assert (episodes.reward.sum((0, 2))[cleaned] == 2 * (2 * 6) - 2 * 4).all(), "one that cleans removes all drifts"
    assert not episodes.reward[:, ~cleaned].any()
    assert (episodes.truth == NO_GOAL).all(), "neither script declares a goal"


@pytest.mark.parametrize(
    ("name", "game", "says"),
    [
        ("switcher", TokenGame(2), "TokenGame names none: set its `scripts`"),
        ("switcher:8", stag_hunt(), "changes at step 8, but StagHunt is over after 8 steps"),
    ],
)
def test_a_game_that_it_cannot_play_is_one_clear_line(name, game, says):
    with pytest.raises(ConfigError, match=says) as caught:
        arrange([["random", name]], 1, game, CPU)
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
        (lambda rows: torch.full((rows,), 2), r"places in \['stag', 'hare'\]"),
    ],
)
def test_wrong_goals_of_a_users_player_are_one_clear_line(goals, says, monkeypatch):
    bad = type("Bad", (Wrong,), {"make": staticmethod(goals)})
    monkeypatch.setattr(f"{__name__}.Wrong", bad)
    with pytest.raises(ConfigError, match=says):
        rollout(stag_hunt(), ["random", f"{__name__}.Wrong"], 4)
