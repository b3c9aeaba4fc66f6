import pytest
import torch
from toys import TokenGame, stag_hunt

from omg_lightning.rollout import arrange, is_planner, scripted_lineups
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


def test_scripted_lineups_are_0ns_to_pns_and_random():
    found = scripted_lineups(3)
    assert [lineup.count("nearest_stag") for lineup in found] == [0, 1, 2, 3, 0]
    assert [lineup.count("nearest_hare") for lineup in found] == [3, 2, 1, 0, 0]
    assert found[-1] == ["random"] * 3


def test_planners():
    assert is_planner("learner")
    assert is_planner("checkpoint:last.ckpt")
    assert not is_planner("random")


def test_a_script_without_a_goal_in_this_game_has_no_true_goal(generator):
    game = TokenGame(2)
    assert (arrange([["random", "random"]], 2, game, CPU).start(game, generator) == NO_GOAL).all()
