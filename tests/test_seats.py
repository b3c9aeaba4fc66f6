import pytest
import torch
from toys import TokenGame, stag_hunt

from omg_lightning.games import Snowdrift
from omg_lightning.rollout import arrange, is_planner, scripted_lineups, scripts_of
from omg_lightning.types import NO_GOAL, ConfigError

CPU = torch.device("cpu")
LINEUPS = [["learner", "nearest_stag"], ["nearest_stag", "random"], ["checkpoint:a.ckpt", "learner"]]


def test_lineups_take_turns():
    seats = arrange(LINEUPS, 7, stag_hunt(), CPU)
    for b, row in enumerate(seats.who.tolist()):
        assert [seats.names[index] for index in row] == LINEUPS[b % 3]


def test_held_by():
    seats = arrange(LINEUPS, 3, stag_hunt(), CPU)
    assert seats.held_by("learner").tolist() == [[True, False], [False, False], [False, True]]
    assert not seats.held_by("nobody").any()


def test_every_seat_of_a_player_is_played_by_an_object_of_its_own_and_planners_by_none():
    seats = arrange(LINEUPS, 6, stag_hunt(), CPU)
    played = {(type(seated.player).__name__, seated.seat): seated.rows.tolist() for seated in seats.seated}
    assert played == {("NearestStag", 1): [0, 3], ("NearestStag", 0): [1, 4], ("RandomPlayer", 1): [1, 4]}
    assert len({id(seated.player) for seated in seats.seated}) == 3


def test_start_tells_players_their_seat_and_returns_the_scripts_goals(generator):
    game = stag_hunt(3)
    seats = arrange([["learner", "nearest_hare", "nearest_stag"], ["random"] * 3], 4, game, CPU)
    told = []
    for seated in seats.seated:
        seated.player.reset = lambda *args: told.append(args)
    truth = seats.start(game, generator)
    assert truth.tolist() == [[NO_GOAL, 1, 0], [NO_GOAL] * 3] * 2
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
def test_mistakes_are_one_clear_line(lineups, message):
    with pytest.raises(ConfigError, match=message) as caught:
        arrange(lineups, 4, stag_hunt(), CPU)
    assert "\n" not in str(caught.value)


def test_a_script_for_another_game_is_one_clear_line():
    with pytest.raises(ConfigError, match="Cleaner needs drifts, shovel, which StagHunt does not have") as caught:
        arrange([["learner", "random"], ["learner", "cleaner"]], 2, stag_hunt(), CPU)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="NearestHare needs hares, hunt_hare, which Snowdrift"):
        arrange([["learner", "nearest_hare"]], 1, Snowdrift(num_players=2), CPU)


@pytest.mark.parametrize(
    ("game", "first", "second"),
    [(stag_hunt(3), "nearest_stag", "nearest_hare"), (Snowdrift(num_players=3), "cleaner", "defector")],
)
def test_scripted_lineups_are_k_of_one_script_beside_the_other_and_random(game, first, second):
    found = scripted_lineups(game)
    assert [lineup.count(first) for lineup in found] == [0, 1, 2, 3, 0]
    assert [lineup.count(second) for lineup in found] == [3, 2, 1, 0, 0]
    assert found[-1] == ["random"] * 3
    assert scripts_of(game) == (first, second)
    arrange(found, len(found), game, CPU)


def test_a_users_game_names_its_own_scripts_or_none():
    game = TokenGame(2)
    assert scripted_lineups(game) == [["random", "random"]]
    game.scripts = ["random", "toys.Counter"]
    assert scripted_lineups(game)[:3] == [["toys.Counter"] * 2, ["random", "toys.Counter"], ["random"] * 2]
    game.scripts = ("random",)
    with pytest.raises(ConfigError, match=r"TokenGame.scripts is \('random',\): name two players"):
        scripted_lineups(game)


def test_planners():
    assert is_planner("learner")
    assert is_planner("checkpoint:last.ckpt")
    assert not is_planner("random")


def test_a_script_without_a_goal_in_this_game_has_no_true_goal(generator):
    game = TokenGame(2)
    assert (arrange([["random", "random"]], 2, game, CPU).start(game, generator) == NO_GOAL).all()
