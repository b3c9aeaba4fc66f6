"""Strategies of the package axelrod in seats: the same matches as there, and what is said where it is missing.

Most are slow tests: importing the package takes ten seconds in each process.
"""

import sys

import pytest
import torch

from omg_lightning.actors import arrange, make_player
from omg_lightning.envs import RulesEnv
from omg_lightning.games import CoinGame, MatrixGame
from omg_lightning.rollout import play
from omg_lightning.types import ConfigError

STEPS = 12
ENV = RulesEnv(MatrixGame("prisoners_dilemma", max_steps=STEPS))


@pytest.fixture
def axelrod():
    return pytest.importorskip("axelrod", reason="needs the extra [envs]")


def actions_of(*seats, batch=2, seed=0):
    """What two players do, int64 `[T, B, 2]`."""
    seating = arrange([list(seats)], batch, ENV, torch.Generator().device)
    return play(ENV, seating, {}, torch.Generator().manual_seed(seed)).episodes.action


@pytest.mark.slow
@pytest.mark.parametrize(
    "names",
    [
        ("TitForTat", "Alternator"),
        ("Grudger", "CyclerCCD"),
        ("WinStayLoseShift", "SuspiciousTitForTat"),
        ("TitFor2Tats", "BackStabber"),  # it knows when the match ends
        ("Adaptive", "Gradual"),
    ],
)
def test_matches_are_those_of_the_package(names, axelrod):
    players = [getattr(axelrod, name)() for name in names]
    match = axelrod.Match(players, turns=STEPS, game=axelrod.Game(r=-1, s=-3, t=0, p=-2))
    expected = [[int(action == axelrod.Action.D) for action in joint] for joint in match.play()]
    found = actions_of(*(f"axelrod.{name}" for name in names))
    assert found[:, 0].tolist() == expected
    assert torch.equal(found[:, 0], found[:, 1]), "each row has a copy of its own"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("tit_for_tat", "TitForTat"), ("grim_trigger", "Grudger"), ("win_stay_lose_shift", "WinStayLoseShift")],
)
def test_our_own_players_play_as_those_of_the_same_name(ours, theirs, axelrod):
    for partner in ("axelrod.CyclerCCD", "always_1"):
        assert torch.equal(actions_of(ours, partner), actions_of(f"axelrod.{theirs}", partner))


@pytest.mark.slow
def test_strategies_that_draw_differ_between_rows_and_repeat_with_the_seed(axelrod):
    first, again, other = (actions_of("axelrod.Random", "always_0", batch=8, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(first[..., 0].unique(dim=1).t()) > 4


@pytest.mark.slow
def test_an_unknown_strategy_and_another_game_are_refused_in_one_line(axelrod):
    with pytest.raises(ConfigError, match=r"axelrod has no strategy 'TitForTta'; did you mean TitForTat") as caught:
        make_player("axelrod.TitForTta", ENV.game)
    assert "\n" not in str(caught.value)
    for game in (CoinGame(), MatrixGame("climbing"), MatrixGame("public_goods")):
        with pytest.raises(
            ConfigError, match=r"axelrod\.TitForTat plays games of two players that cooperate or defect"
        ):
            make_player("axelrod.TitForTat", game)


def test_without_the_package_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "axelrod", None)
    with pytest.raises(ConfigError, match=r"needs the package axelrod .*: pip install 'omg-lightning\[envs\]'$"):
        make_player("axelrod.TitForTat", ENV.game)
