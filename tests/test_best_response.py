"""The exact best response to a fixed strategy: returns and actions worked out by hand."""

import itertools

import pytest
import torch
from toys import tiny_agent

from omg_lightning.actors import arrange
from omg_lightning.envs import RulesEnv
from omg_lightning.evaluation.best_response import best_response
from omg_lightning.games import MatrixGame
from omg_lightning.rollout import play
from omg_lightning.types import ConfigError


@pytest.mark.parametrize(
    ("preset", "partner", "value"),
    [
        ("prisoners_dilemma", "always_0", 0),  # defect 25 times against a cooperator
        ("prisoners_dilemma", "always_1", -50),
        ("prisoners_dilemma", "mostly_0", 25 * 0.2 * -2),  # defection is dominant: 0 or -2
        ("prisoners_dilemma", "tit_for_tat", -24),  # cooperate 24 times, defect in the last step
        ("prisoners_dilemma", "grim_trigger", -24),
        ("chicken", "always_1", -25),
        ("chicken", "tit_for_tat", 1),  # swerve together, dare in the last step
        ("stag_hunt", "mostly_0", 25 * 0.8 * 5),
        ("climbing", "tit_for_tat", 275),
        ("climbing", "mostly_0", 25 * (0.8 * 11 - 0.1 * 30)),
        ("penalty", "always_2", 250),
        ("matching_pennies", "tit_for_tat", 25),  # it starts with heads and copies: heads for ever
    ],
)
def test_the_best_return_in_closed_form(preset, partner, value):
    game = MatrixGame(preset)
    assert best_response(game, game.players[partner]()).value == pytest.approx(value)


@pytest.mark.parametrize("partner", ["tit_for_tat", "grim_trigger", "win_stay_lose_shift", "mostly_1"])
def test_no_sequence_of_actions_earns_more(partner):
    game = MatrixGame("prisoners_dilemma", max_steps=5)
    payoff, player = torch.tensor(game.payoff), game.players[partner]()
    returns = []
    for own in itertools.product(range(2), repeat=5):  # its expected return against the player's probabilities
        chance, total = {(): 1.0}, 0.0
        for t, action in enumerate(own):
            after: dict[tuple, float] = {}
            for past, likely in chance.items():
                state = game.reset(1)
                if past:
                    state = state._replace(last=torch.tensor([[past[-1]]]))
                player.reset(1, 1, RulesEnv(game), torch.Generator())
                reply = player.action_probabilities(game.observe(state)[:, 1], game.legal(state)[:, 1])[0]
                for other in range(2):
                    weight = likely * float(reply[other])
                    total += weight * float(payoff[action, other, 0])
                    after[(*past, (action, other))] = weight
            chance = {past: weight for past, weight in after.items() if weight > 0}
            assert sum(chance.values()) == pytest.approx(1), t
        returns.append(total)
    best = best_response(game, player).value
    assert best >= max(returns) - 1e-5
    if partner != "mostly_1":  # against a strategy without chance a fixed sequence is as good as any plan
        assert best == pytest.approx(max(returns))


def test_regret_is_what_actions_cost_step_by_step():
    game = MatrixGame("prisoners_dilemma", max_steps=3)
    seating = arrange([["always_0", "tit_for_tat"]], 2, RulesEnv(game), torch.Generator().device)
    agent = tiny_agent(game, "Direct").actor()
    episodes = play(RulesEnv(game), seating, {"learner": agent}, torch.Generator().manual_seed(0)).episodes
    regret = best_response(game, game.players["tit_for_tat"]()).regret(episodes)
    assert regret.tolist() == [[0, 0], [0, 0], [1, 1]]  # to cooperate in the last step costs 1
    seating = arrange([["always_1", "tit_for_tat"]], 1, RulesEnv(game), torch.Generator().device)
    episodes = play(RulesEnv(game), seating, {"learner": agent}, torch.Generator().manual_seed(0)).episodes
    # Best: -1, -1, 0. To defect first earns 0 and then at most -2 - 2 or -3 + 0: -3. Then -2 - 2 is one below -3 + 0.
    regret = best_response(game, game.players["tit_for_tat"]()).regret(episodes)
    assert regret[:, 0].tolist() == [1, 1, 0]


@pytest.mark.parametrize("game", [MatrixGame("climbing", memory=2), MatrixGame("public_goods", num_players=3)])
def test_other_games_are_refused(game):
    with pytest.raises(ConfigError, match="expects 2 and 1"):
        best_response(game, game.players["always_0"]())
