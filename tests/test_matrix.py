import warnings
from functools import partial
from itertools import product

import env_contract
import numpy as np
import pettingzoo
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonargparse import ArgumentParser
from pettingzoo.test import parallel_api_test

from omg_lightning.envs import RulesEnv, matrix_v0
from omg_lightning.envs.base import describe
from omg_lightning.games import Game, MatrixGame, StagHunt
from omg_lightning.games.matrix import PRESETS, Mixed, Reactive, TitForTat
from omg_lightning.spec import GameSpec
from omg_lightning.testing import check_device, check_game
from omg_lightning.types import NO_GOAL, ConfigError


def payoffs(game):
    """What one step pays at each joint action."""
    joint = torch.tensor(list(product(range(game.num_actions), repeat=game.num_players)))
    _, rewards = game.step(game.reset(len(joint)), joint)
    return {tuple(a): pytest.approx(r) for a, r in zip(joint.tolist(), rewards.tolist(), strict=True)}


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("prisoners_dilemma", {(0, 0): [-1, -1], (0, 1): [-3, 0], (1, 0): [0, -3], (1, 1): [-2, -2]}),
        ("stag_hunt", {(0, 0): [5, 5], (0, 1): [0, 1], (1, 0): [1, 0], (1, 1): [1, 1]}),
        ("chicken", {(0, 0): [0, 0], (0, 1): [-1, 1], (1, 0): [1, -1], (1, 1): [-10, -10]}),
        ("battle_of_the_sexes", {(0, 0): [3, 2], (0, 1): [0, 0], (1, 0): [0, 0], (1, 1): [2, 3]}),
        ("matching_pennies", {(0, 0): [1, -1], (0, 1): [-1, 1], (1, 0): [-1, 1], (1, 1): [1, -1]}),
    ],
)
def test_payoffs_of_games_with_two_actions(preset, expected):
    assert payoffs(MatrixGame(preset)) == expected


@pytest.mark.parametrize(
    ("game", "rows"),
    [
        (MatrixGame("climbing"), [[11, -30, 0], [-30, 7, 6], [0, 0, 5]]),
        (MatrixGame("penalty"), [[0, 0, 10], [0, 2, 0], [10, 0, 0]]),
        (MatrixGame("penalty", penalty=-5), [[-5, 0, 10], [0, 2, 0], [10, 0, -5]]),
    ],
)
def test_cooperative_games_pay_the_same_to_both(game, rows):
    assert payoffs(game) == {(i, j): [rows[i][j]] * 2 for i, j in product(range(3), repeat=2)}


@pytest.mark.parametrize(
    ("preset", "joint", "total"),
    [
        ("climbing", (0, 0), 275),
        ("climbing", (1, 1), 175),
        ("penalty", (0, 2), 250),
        ("penalty", (1, 1), 50),
        ("prisoners_dilemma", (0, 0), -25),
        ("prisoners_dilemma", (1, 1), -50),
    ],
)
def test_returns_of_an_episode(preset, joint, total):
    game = MatrixGame(preset)
    state, returns = game.reset(1), torch.zeros(1, 2)
    while game.active(state).any():
        state, rewards = game.step(state, torch.tensor([joint]))
        returns += rewards
    assert returns.tolist() == [[total, total]]
    assert state.time.tolist() == [25]


@pytest.mark.parametrize(("preset", "best"), [("climbing", 11), ("penalty", 10)])
def test_the_documented_optimum_is_the_largest_payoff(preset, best):
    assert max(np.ravel(MatrixGame(preset, penalty=-5 if preset == "penalty" else None).payoff)) == best


def test_three_share_a_public_good():
    game = MatrixGame("public_goods", num_players=3, multiplier=1.5)
    found = payoffs(game)
    assert found[0, 0, 0] == [1.5, 1.5, 1.5]
    assert found[0, 0, 1] == [1, 1, 2]
    assert found[1, 0, 1] == [1.5, 0.5, 1.5]
    assert found[1, 1, 1] == [1, 1, 1]


def test_the_public_good_is_a_dilemma_by_default():
    game = MatrixGame("public_goods")
    found = {joint: rewards.expected for joint, rewards in payoffs(game).items()}
    assert game.num_players == 4
    assert found[0, 0, 0, 0][0] == pytest.approx(1.6)
    for others in product(range(2), repeat=3):
        assert found[1, *others][0] - found[0, *others][0] == pytest.approx(1 - 1.6 / 4), "to keep it pays"


def test_one_player_alone_gets_its_share_of_its_own_good():
    assert payoffs(MatrixGame("public_goods", num_players=1, multiplier=3)) == {(0,): [3], (1,): [1]}


def expected_payoff(game, row, column):
    """Each seat's mean payoff of two mixed strategies, summed by hand."""
    table = game.payoff
    cells = list(product(range(game.num_actions), repeat=2))
    return [sum(row[i] * column[j] * table[i][j][seat] for i, j in cells) for seat in range(2)]


@pytest.mark.parametrize(
    ("preset", "row", "column", "value"),
    [
        ("chicken", (0.9, 0.1), (0.9, 0.1), (-0.1, -0.1)),
        ("battle_of_the_sexes", (0.6, 0.4), (0.4, 0.6), (1.2, 1.2)),
        ("matching_pennies", (0.5, 0.5), (0.5, 0.5), (0, 0)),
        ("stag_hunt", (0.2, 0.8), (0.2, 0.8), (1, 1)),
    ],
)
def test_the_mixed_equilibrium_leaves_both_indifferent(preset, row, column, value):
    game = MatrixGame(preset)
    assert expected_payoff(game, row, column) == pytest.approx(value)
    for pure in ((1, 0), (0, 1)):
        assert expected_payoff(game, pure, column)[0] == pytest.approx(value[0])
        assert expected_payoff(game, row, pure)[1] == pytest.approx(value[1])


def test_a_view_is_the_last_joint_action_with_the_ego_first():
    game = MatrixGame(payoff=np.zeros((3, 3)).tolist(), memory=2)
    state = game.reset(2)
    assert game.observation_space.shape == (12,)
    assert not game.observe(state).any()
    state, _ = game.step(state, torch.tensor([[0, 2], [1, 1]]))
    first, second = game.observe(state)[0].tolist()
    assert first == [1, 0, 0, 0, 0, 1] + [0] * 6
    assert second == [0, 0, 1, 1, 0, 0] + [0] * 6
    state, _ = game.step(state, torch.tensor([[1, 0], [2, 0]]))
    assert game.observe(state)[0, 1].tolist() == [1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0]
    state, _ = game.step(state, torch.tensor([[2, 2], [0, 0]]))
    assert game.observe(state)[0, 1].tolist() == [0, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 0], "the oldest is forgotten"


def test_three_seats_see_each_other_in_ego_order():
    game = MatrixGame("public_goods", num_players=3)
    state, _ = game.step(game.reset(1), torch.tensor([[0, 1, 1]]))
    played = game.observe(state).view(3, 3, 2).argmax(-1).tolist()
    assert played == [[0, 1, 1], [1, 1, 0], [1, 0, 1]]


def test_the_declared_goal_is_the_action_until_the_end():
    game = MatrixGame("climbing", max_steps=1)
    state, actions = game.reset(1), torch.tensor([[2, 1]])
    assert game.goal_names == game.action_names
    assert game.realised(state, actions).tolist() == [[2, 1]]
    state, _ = game.step(state, actions)
    assert game.realised(state, actions).tolist() == [[NO_GOAL, NO_GOAL]]
    assert not game.terminated(state).any(), "it was cut off"


@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 10**6), st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_step_looks_up_the_table_entry(num_players, num_actions, seed, common):
    shape = [num_actions] * num_players + ([] if common else [num_players])
    table = np.random.default_rng(seed).normal(size=shape)
    game = MatrixGame(payoff=table.tolist(), num_players=num_players)
    actions = torch.randint(num_actions, (9, num_players), generator=torch.Generator().manual_seed(seed))
    _, rewards = game.step(game.reset(9), actions)
    for joint, got in zip(actions.tolist(), rewards.tolist(), strict=True):
        assert got == pytest.approx(np.broadcast_to(table[tuple(joint)], num_players), abs=1e-6)


def test_a_table_that_fits_twice_is_read_per_seat_unless_the_players_are_counted():
    table = np.arange(8).reshape(2, 2, 2).tolist()
    assert payoffs(MatrixGame(payoff=table))[1, 0] == [4, 5]
    assert payoffs(MatrixGame(payoff=table, num_players=3))[1, 0, 1] == [5, 5, 5]


@pytest.mark.parametrize("payoff", [[3, 8], [[3], [8]]])
def test_one_player_chooses_alone(payoff):
    game = MatrixGame(payoff=payoff)
    assert payoffs(game) == {(0,): [3], (1,): [8]}
    assert set(game.players) == {"always_0", "always_1", "mostly_0", "mostly_1"}


def repeated(game, names, batch_size=1, seed=0):
    """Mean returns of the players of these names, `[P]`."""
    generator = torch.Generator().manual_seed(seed)
    state, total = game.reset(batch_size, generator), torch.zeros(batch_size, game.num_players)
    players = [game.players[name]() for name in names]
    for seat, player in enumerate(players):
        player.reset(batch_size, seat, game, generator)
    while game.active(state).any():
        views, legal = game.observe(state), game.legal(state)
        acts = [player.act(views[:, seat], legal[:, seat]) for seat, player in enumerate(players)]
        state, rewards = game.step(state, torch.stack(acts, 1))
        total += rewards
    return total.mean(0).tolist()


@pytest.mark.parametrize(
    ("names", "returns"),
    [
        (("tit_for_tat", "tit_for_tat"), (-10, -10)),
        (("tit_for_tat", "always_1"), (-3 - 9 * 2, -9 * 2)),
        (("grim_trigger", "always_1"), (-3 - 9 * 2, -9 * 2)),
        (("grim_trigger", "always_0"), (-10, -10)),
        (("win_stay_lose_shift", "always_1"), (5 * -3 + 5 * -2, 5 * -2)),
        (("always_0", "win_stay_lose_shift"), (-10, -10)),
        (("always_0", "always_1"), (-30, 0)),
    ],
)
def test_ten_rounds_of_the_prisoners_dilemma(names, returns):
    game = MatrixGame("prisoners_dilemma", max_steps=10)
    assert repeated(game, names) == list(returns)
    assert repeated(game, names[::-1]) == list(returns[::-1])


def test_tit_for_tat_beside_a_mixed_strategy_has_the_closed_form():
    """Beside a partner that cooperates with q in each step, it cooperates first, then with q, independently."""
    q, steps = 0.2, 10
    later = q * q * -1 + q * (1 - q) * -3 + (1 - q) ** 2 * -2
    first = q * -1 + (1 - q) * -3
    got, _ = repeated(MatrixGame("prisoners_dilemma", max_steps=steps), ("tit_for_tat", "mostly_1"), 20_000)
    assert got == pytest.approx(first + (steps - 1) * later, abs=0.05)


def replies(name, history, num_players=2):
    """What a player of seat 0 does at each step of `history`, joint actions; its own in there are ignored."""
    game = MatrixGame("public_goods", num_players=num_players)
    player = game.players[name]()
    state, generator = game.reset(1), torch.Generator().manual_seed(0)
    player.reset(1, 0, game, generator)
    played = []
    for others in history:
        own = int(player.act(game.observe(state)[:, 0], game.legal(state)[:, 0]))
        played.append(own)
        state, _ = game.step(state, torch.tensor([[own, *others]]))
    return played


def test_a_grim_trigger_never_forgives_and_tit_for_tat_does():
    history = [[0], [1], [0], [0], [0]]
    assert replies("tit_for_tat", history) == [0, 0, 1, 0, 0]
    assert replies("grim_trigger", history) == [0, 0, 1, 1, 1]


def test_win_stay_lose_shift_changes_after_every_defection():
    assert replies("win_stay_lose_shift", [[0], [1], [0], [1], [1]]) == [0, 0, 1, 1, 0]


def test_among_three_one_defector_is_enough():
    history = [[0, 0], [0, 1], [0, 0], [0, 0]]
    assert replies("tit_for_tat", history, 3) == [0, 0, 1, 0]
    assert replies("grim_trigger", history, 3) == [0, 0, 1, 1]


def test_tit_for_tat_copies_the_latest_of_many_actions():
    game = MatrixGame("climbing", memory=2)
    player, state = TitForTat(), game.reset(1)
    player.reset(1, 1, game, torch.Generator())
    for joint, reply in (((2, 0), 2), ((1, 0), 1)):
        state, _ = game.step(state, torch.tensor([joint]))
        assert player.action_probabilities(game.observe(state)[:, 1], game.legal(state)[:, 1]).argmax() == reply


def test_fixed_players_pursue_the_goal_of_their_action():
    game = MatrixGame("climbing")
    legal = torch.ones(1, 3, dtype=torch.bool)
    for k, name in enumerate(game.goal_names):
        for player, chances in (("always", [0.0] * 3), ("mostly", [0.1] * 3)):
            chances[k] = 1.0 if player == "always" else 0.8
            made = game.players[f"{player}_{k}"]()
            made.check(game)
            assert made.goal == name
            assert made.action_probabilities(torch.zeros(1, 6), legal)[0].tolist() == pytest.approx(chances)
    assert game.scripts == ("always_0", "always_1")


def test_players_do_nothing_once_the_episode_is_over():
    game = MatrixGame("prisoners_dilemma")
    legal = torch.tensor([[True, False]])
    for name in ("always_1", "mostly_1", "tit_for_tat"):
        player = game.players[name]()
        player.reset(1, 0, game, torch.Generator())
        assert player.action_probabilities(torch.tensor([[0.0, 1, 0, 1]]), legal).tolist() == [[1, 0]]


@pytest.mark.parametrize(
    "game",
    [
        MatrixGame("public_goods", num_players=3, memory=2, max_steps=3),
        MatrixGame(payoff=[[1.5], [-2]], max_steps=3),
        MatrixGame(payoff=[0], max_steps=2),
    ],
    ids=["three players", "one player", "one action"],
)
def test_contract(game):
    check_game(game)
    check_device(game, "meta")


PLAIN = r"\[A\] \* n \+ \[n\] for n players"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "no preset and no payoff: give either a payoff table or a preset, one of prisoners_dilemma"),
        ({"preset": "climbing", "payoff": [1, 2]}, "preset='climbing' and a payoff: give"),
        ({"payoff": [1, 2], "action_names": ["a"]}, "action_names=.*: expected 2 different names"),
        ({"payoff": [1, 2], "action_names": ["a", "a"]}, "action_names=.*: expected 2 different names"),
        ({"payoff": [1, 2], "action_names": "ab"}, "action_names='ab': expected 2 different names"),
        ({"preset": "chicken", "action_names": ["a", "b"]}, "action_names=.*: the preset chicken sets its own names"),
        ({"preset": "chess"}, "preset='chess': expected one of prisoners_dilemma, .*choose one"),
        ({"preset": "climbing", "num_players": 3}, "num_players=3: the preset climbing is for 2 players"),
        ({"preset": "public_goods", "num_players": 17}, "num_players=17: expected at most 16"),
        ({"preset": "public_goods", "num_players": 0}, "num_players=0: expected a whole number >= 1"),
        ({"preset": "public_goods", "multiplier": "2"}, "multiplier='2': expected a finite number"),
        ({"preset": "penalty", "penalty": 1}, "penalty=1: expected a number <= 0"),
        ({"preset": "climbing", "penalty": -1}, "penalty=-1: only the preset penalty has this option"),
        ({"payoff": [1, 2], "multiplier": 2.0}, "multiplier=2.0: only the preset public_goods .*got preset=None"),
        ({"payoff": [[1, 2], [3]]}, rf"payoff=\[\[1, 2\], \[3\]\]: expected nested lists .* equal lengths, {PLAIN}"),
        ({"payoff": "1 2"}, "payoff='1 2': expected nested lists of numbers"),
        ({"payoff": [["a"]]}, r"payoff=\[\['a'\]\]: expected nested lists of numbers"),
        ({"payoff": 3}, rf"payoff has the shape \[\]: expected {PLAIN}"),
        ({"payoff": []}, rf"payoff has the shape \[0\]: expected {PLAIN}"),
        ({"payoff": [[1, 2, 3], [4, 5, 6]]}, rf"payoff has the shape \[2, 3\]: expected {PLAIN}"),
        ({"payoff": np.zeros((2, 3, 2))}, r"payoff has the shape \[2, 3, 2\]"),
        ({"payoff": np.zeros((2, 2, 3))}, r"payoff has the shape \[2, 2, 3\]"),
        ({"payoff": np.zeros((2, 2)), "num_players": 3}, r"shape \[2, 2\]: .* with n = num_players = 3; add or"),
        ({"payoff": [1, float("nan")]}, "payoff has entries that are not finite"),
        ({"preset": "climbing", "memory": 0}, "memory=0: expected a whole number >= 1"),
        ({"preset": "climbing", "max_steps": 2.5}, r"max_steps=2.5: expected a whole number"),
    ],
)
def test_a_mistake_is_one_line(options, says):
    with pytest.raises(ConfigError, match=says) as caught:
        MatrixGame(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "game", "says"),
    [
        (lambda: Mixed([0.5, 0.6]), None, r"probabilities=\[0.5, 0.6\]: expected numbers >= 0 that sum to 1"),
        (lambda: Mixed([1.5, -0.5]), None, "expected numbers >= 0"),
        (lambda: Mixed([]), None, r"probabilities=\[\]"),
        (lambda: Mixed([0.5, 0.5]), "climbing", "Mixed has 2 probabilities, but MatrixGame has 3 actions: give one"),
        (TitForTat, StagHunt.preset("2h1s_4x4"), "TitForTat replies .* unlike StagHunt: choose another player"),
        (TitForTat, MatrixGame(payoff=[1, 2]), "two or more players"),
    ],
)
def test_a_player_that_does_not_fit_is_one_line(make, game, says):
    with pytest.raises(ConfigError, match=says):
        make().check(MatrixGame(game) if isinstance(game, str) else game)


def test_a_strategy_of_your_own_is_one_method():
    class Alternate(Reactive):
        def reply(self, own, others):
            return (own == 0).long()

    game = MatrixGame("prisoners_dilemma", max_steps=4)
    game.players = {**game.players, "alternate": Alternate}
    assert repeated(game, ("alternate", "always_0")) == [-1 + 0 - 1 + 0, -1 - 3 - 1 - 3]


@pytest.mark.parametrize("preset", PRESETS)
def test_repr_builds_the_same_game(preset):
    game = MatrixGame.preset(preset, memory=2, max_steps=7)
    again = eval(repr(game), {"MatrixGame": MatrixGame})
    assert describe(RulesEnv(again)) == describe(RulesEnv(game))
    assert again.action_names == game.action_names


def test_games_with_other_payoffs_have_other_descriptions():
    described = [describe(RulesEnv(MatrixGame("penalty", penalty=k))) for k in (0, -5)]
    assert described[0] != described[1]


def test_a_table_can_be_given_on_the_command_line():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Game, "game")
    args = ["--game", "MatrixGame", "--game.payoff", "[[[1, 2], [3, 4.5]], [[5, 6], [7, 8]]]", "--game.max_steps", "3"]
    game = parser.instantiate(parser.parse_args(args)).game
    assert payoffs(game)[0, 1] == [3, 4.5]
    assert game.max_steps == 3


@pytest.mark.parametrize(
    "options", [{}, {"preset": "climbing"}, {"preset": "public_goods", "num_players": 3, "memory": 2}], ids=str
)
def test_the_pettingzoo_environment_keeps_its_contract(options):
    make = partial(matrix_v0.parallel_env, **options)
    env_contract.check_contract(make, random_start=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # PettingZoo's complaints are warnings
        parallel_api_test(make(), num_cycles=60)


def test_the_pettingzoo_environment_is_the_prisoners_dilemma_by_default_and_registered():
    env = pettingzoo.make("parallel", "omg_lightning/matrix_v0", max_cycles=2)
    assert env.possible_agents == ["player_0", "player_1"]
    env.reset()
    seen, rewards, *_ = env.step({"player_0": 0, "player_1": 1})
    assert rewards == {"player_0": -3, "player_1": 0}
    assert seen["player_1"]["observation"].tolist() == [0, 1, 1, 0]
    *_, truncations, _ = env.step({"player_0": 0, "player_1": 0})
    assert truncations == {"player_0": True, "player_1": True}
    assert matrix_v0.parallel_env(payoff=[[1, 2], [3, 4]]).game.payoff[1][0] == [3, 3]
    assert str(pettingzoo.make("aec", "omg_lightning/matrix_v0")) == "matrix_v0"
    with pytest.raises(ConfigError, match="unknown \\['rounds'\\]"):
        matrix_v0.parallel_env(rounds=3)


@pytest.mark.parametrize("game", [MatrixGame("chicken", memory=2), MatrixGame(payoff=[[1, 2], [3, 4]])])
def test_a_game_rebuilt_from_its_description_is_the_same(game):
    spec = GameSpec.of(RulesEnv(game))
    again = spec.make()
    assert GameSpec.of(RulesEnv(again)) == spec
    assert again.action_names == game.action_names


def test_actions_of_a_table_can_be_named():
    game = MatrixGame(payoff=[[1, 0], [0, 1]], action_names=["left", "right"])
    assert game.action_names == game.goal_names == ("left", "right")
    assert MatrixGame(payoff=[1, 2]).action_names == ("action_0", "action_1")
