import pytest
import torch
from number_games import Countdown
from toys import TokenGame, stag_hunt, tiny_agent

from omg_lightning.actors import (
    arrange,
    as_lineups,
    beside_learner,
    check_lineups,
    default_partners,
    scripted_lineups,
)
from omg_lightning.actors.seating import has_networks
from omg_lightning.envs import as_env
from omg_lightning.games import Snowdrift
from omg_lightning.games.scripts import scripts_of
from omg_lightning.rollout import play
from omg_lightning.types import NO_GOAL, ConfigError

DEVICE = torch.Generator().device  # the CPU, or that of `pytest --device`
LINEUPS = [["learner", "nearest_stag"], ["nearest_stag", "random"], ["checkpoint:a.ckpt", "learner"]]


def seat(lineups, batch, game=None):
    return arrange(lineups, batch, as_env(game or stag_hunt()), DEVICE)


def seated(seating):
    """All scripted players with their seat and environments: `[(class, seat, rows)]`."""
    return [
        (type(each.player).__name__, each.seat, each.rows.tolist())
        for actor in seating.scripted.values()
        for each in actor.seated
    ]


def true_goals(game, lineups, batch, seed=0):
    """What a rollout records of the goals that scripts pursue at the first step."""
    seating = seat(lineups, batch, game)
    return play(as_env(game), seating, {}, torch.Generator().manual_seed(seed)).episodes.true_goal[0]


def test_lineups_take_turns():
    seating = seat(LINEUPS, 7)
    for b, row in enumerate(seating.who.tolist()):
        assert [seating.names[index] for index in row] == LINEUPS[b % 3]


def test_held_by_marks_the_seats_of_a_name():
    seating = seat(LINEUPS, 3)
    assert seating.held_by("learner").tolist() == [[True, False], [False, False], [False, True]]
    assert not seating.held_by("nobody").any()


def test_each_seat_of_a_script_has_a_player_object_of_its_own_and_learners_have_none():
    seating = seat(LINEUPS, 6)
    assert sorted(seated(seating)) == [
        ("NearestStag", 0, [1, 4]),
        ("NearestStag", 1, [0, 3]),
        ("RandomPlayer", 1, [1, 4]),
    ]
    assert set(seating.scripted) == {"nearest_stag", "random"}
    assert len({id(each.player) for actor in seating.scripted.values() for each in actor.seated}) == 3


def test_players_get_their_seat_and_the_scripts_goals_are_recorded(generator):
    game = stag_hunt(3)
    lineups = [["learner", "nearest_hare", "nearest_stag"], ["random"] * 3]
    seating, told = seat(lineups, 4, game), []
    for actor in seating.scripted.values():
        for each in actor.seated:
            kept = each.player.reset
            each.player.reset = lambda *args, kept=kept: (told.append(args), kept(*args))
    learners = {"learner": tiny_agent(game, "Direct").actor()}
    episodes = play(as_env(game), seating, learners, generator).episodes
    assert episodes.true_goal[0].tolist() == [[NO_GOAL, 1, 0], [NO_GOAL] * 3] * 2
    assert sorted((batch, seat) for batch, seat, _, _ in told) == [(2, 0), (2, 1), (2, 1), (2, 2), (2, 2)]
    assert all(args[2] is game and args[3] is generator for args in told)


@pytest.mark.parametrize(
    ("lineups", "message"),
    [
        ([], "no line-up"),
        ([["learner"]], "2 seats"),
        ([["learner", "random"], ["random"] * 3], "2 seats"),
        ([["learner", "nearest_unicorn"]], "nearest_unicorn"),
        ([["learner", "no_such_package.Player"]], "no_such_package"),
    ],
)
def test_a_wrong_lineup_is_one_clear_line(lineups, message):
    with pytest.raises(ConfigError, match=message) as caught:
        seat(lineups, 4)
    assert "\n" not in str(caught.value)


def test_the_message_about_missing_seats_names_players_of_this_game():
    with pytest.raises(ConfigError, match="such as learner, random, nearest_stag, nearest_hare"):
        seat([["learner"]], 1)


def test_a_script_for_another_game_is_one_clear_line():
    with pytest.raises(ConfigError, match=r"unknown player 'cleaner' in StagHunt: use random, nearest_stag") as caught:
        seat([["learner", "random"], ["learner", "cleaner"]], 2)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"unknown player 'nearest_hare' in Snowdrift: use random, cleaner"):
        seat([["learner", "nearest_hare"]], 1, Snowdrift(num_players=2))
    path = "omg_lightning.games.grid.scripted.Cleaner"
    with pytest.raises(ConfigError, match="Cleaner needs drifts, shovel, which StagHunt lacks"):
        seat([["learner", path]], 1)


@pytest.mark.parametrize(
    ("game", "first", "second"),
    [(stag_hunt(3), "nearest_stag", "nearest_hare"), (Snowdrift(num_players=3), "cleaner", "defector")],
)
def test_scripted_lineups_are_k_of_one_script_beside_the_other_and_random(game, first, second):
    env = as_env(game)
    found = scripted_lineups(env)
    assert [lineup.count(first) for lineup in found] == [0, 1, 2, 3, 0]
    assert [lineup.count(second) for lineup in found] == [3, 2, 1, 0, 0]
    assert found[-1] == ["random"] * 3
    assert scripts_of(game) == (first, second)
    arrange(found, len(found), env, DEVICE)
    assert default_partners(env) == ["random", first, second, "switcher"]


def test_a_users_game_names_its_own_scripts_or_none():
    game = TokenGame(2)
    assert scripted_lineups(as_env(game)) == [["random", "random"]]
    assert default_partners(as_env(game)) == ["random"]
    game.scripts = ["random", "toys.Counter"]
    assert scripted_lineups(as_env(game))[:3] == [["toys.Counter"] * 2, ["random", "toys.Counter"], ["random"] * 2]
    game.scripts = ("random",)
    with pytest.raises(ConfigError, match=r"TokenGame.scripts is \('random',\): name two players"):
        scripted_lineups(as_env(game))


def test_an_environment_without_rules_is_played_by_random_and_by_dotted_paths():
    env = Countdown(2)
    assert scripted_lineups(env) == [["random"] * 2]
    seating = arrange([["random", f"{__name__}.Second"]], 4, env, DEVICE)
    assert sorted(seated(seating)) == [("RandomPlayer", 0, [0, 1, 2, 3]), ("Second", 1, [0, 1, 2, 3])]
    with pytest.raises(ConfigError, match="unknown player 'nearest_stag' in Countdown"):
        arrange([["random", "nearest_stag"]], 4, env, DEVICE)


class Second:
    """Plays the last action."""

    def reset(self, batch_size, seat, game, generator):
        self.action = game.num_actions - 1

    def act(self, observation, legal):
        return torch.full((len(legal),), self.action)


def test_learners_past_selves_and_checkpoints_have_networks():
    assert all(map(has_networks, ("learner", "past", "checkpoint:last.ckpt")))
    assert not any(map(has_networks, ("random", "nearest_stag", "my_package.learner", "pasta")))


def test_a_script_without_a_goal_in_this_game_has_no_true_goal():
    assert (true_goals(TokenGame(2), [["random", "random"]], 2) == NO_GOAL).all()


def test_lineups_are_one_or_a_list_of_them():
    assert as_lineups(["learner", "random"]) == [["learner", "random"]]
    assert as_lineups([["learner", "random"], ["random", "learner"]]) == [["learner", "random"], ["random", "learner"]]
    with pytest.raises(ConfigError, match="not both"):
        as_lineups(["learner", ["learner", "random"]])


def test_a_partner_plays_all_seats_but_the_learners():
    assert beside_learner("random", 3) == ["learner", "random", "random"]
    assert beside_learner("random", 1) == ["learner"]


def test_a_checkpoint_that_is_not_there_is_one_clear_line(tmp_path):
    env, path = as_env(stag_hunt()), tmp_path / "a.ckpt"
    with pytest.raises(ConfigError, match=r"no checkpoint at .*a\.ckpt: give the path") as caught:
        check_lineups([["learner", f"checkpoint:{path}"]], env)
    assert "\n" not in str(caught.value)
    path.touch()
    check_lineups([["learner", f"checkpoint:{path}"]], env)


def test_keeping_some_environments_keeps_their_players():
    game = stag_hunt()
    lineups = [["learner", "nearest_stag"], ["learner", "nearest_hare"], ["random", "learner"]]
    seating, index = seat(lineups, 6, game), torch.tensor([4, 2, 0])
    kept = seating.keep(index)
    assert torch.equal(kept.held_by("learner"), seating.held_by("learner")[index])
    learners = {"learner": tiny_agent(game, "Direct").actor()}
    episodes = play(as_env(game), kept, learners, torch.Generator().manual_seed(0)).episodes
    assert episodes.true_goal[0].tolist() == [[-1, 1], [-1, -1], [-1, 0]]
    assert sorted(seated(kept)) == [("NearestHare", 1, [0]), ("NearestStag", 1, [2]), ("RandomPlayer", 0, [1])]
    assert len(seated(seating.keep(torch.tensor([0, 3])))) == 1, "a player that plays nowhere is not asked"
