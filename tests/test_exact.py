"""Exact Bayes from the scripts' own probabilities, and what the scripts themselves say of their next action."""

from functools import partial

import pytest
import torch
from toys import (
    Fixed,
    TokenGame,
    as_batch,
    attached,
    model_spec,
    plain_learner,
    play_with,
    same,
    stag_hunt,
    tiny_agent,
    tiny_data,
)

from omg_lightning.actors import arrange, make_player
from omg_lightning.envs import RulesEnv
from omg_lightning.evaluation.exact import exact_observer
from omg_lightning.games import Game, LevelBasedForaging, Snowdrift
from omg_lightning.games.grid.scripted import NearestHare, NearestStag
from omg_lightning.games.scripts import best_chance, goal_scripts
from omg_lightning.opponents import BeliefConfig, ExactBayes, TransitionConfig
from omg_lightning.rollout import play
from omg_lightning.testing import check_opponent
from omg_lightning.types import ConfigError

DEVICE = torch.Generator().device  # the CPU, or that of `pytest --device`


def rollout(game, lineup, batch, measure=False, **learners):
    env = RulesEnv(game) if isinstance(game, Game) else game
    seating = arrange([lineup], batch, env, DEVICE)
    return play(env, seating, learners, torch.Generator().manual_seed(0), measure=measure).episodes


def one_hunter(stags, hares):
    """Seat 1 stands in the middle of a row of five; seat 0 in a corner where it is in nobody's way."""
    game = stag_hunt(height=1, width=5, num_hares=len(hares))
    return Fixed(game, game.place(1, hunters=[(0, 0), (0, 2)], stags=stags, hares=hares))


def test_exact_beliefs_of_a_decisive_step_by_hand():
    game = one_hunter([(0, 4)], [(0, 0)])
    episodes = rollout(game, ["nearest_hare", "nearest_stag"], 1)
    belief = exact_observer(game, episodes).belief[:, 0, 1, 0]  # of seat 1, in the stag
    assert belief[:2].tolist() == pytest.approx([0.5, 1.0], abs=1e-5)


def test_exact_beliefs_of_an_ambiguous_step_by_hand():
    # The stag lies to the right, hares lie to both sides: who seeks a hare goes right half of the time.
    game = one_hunter([(0, 3)], [(0, 0), (0, 4)])
    episodes = rollout(game, ["nearest_hare", "nearest_stag"], 1)
    found = exact_observer(game, episodes)
    assert found.belief[:3, 0, 1, 0].tolist() == pytest.approx([1 / 2, 2 / 3, 1], abs=1e-5)  # then it hunts
    # At first it goes right for the stag, right or left for a hare; then it hunts, or goes on to the right.
    assert found.best[:3, 0, 1].tolist() == pytest.approx([1 / 2 + 1 / 4, 2 / 3, 1], abs=1e-5)


def test_exact_beliefs_find_the_goal_again_after_a_change():
    game = one_hunter([(0, 4)], [(0, 0)])
    episodes = rollout(game, ["nearest_stag", "switcher:1"], 1)
    truth, belief = episodes.true_goal[:, 0, 1], exact_observer(game, episodes).belief[:, 0, 1]
    assert truth[0] != truth[1]
    assert float(belief[1, truth[0]]) > 0.99
    assert float(belief[2, truth[2]]) > 0.99


def test_goal_scripts_stand_in_the_order_of_the_goals():
    assert [type(script) for script in goal_scripts(stag_hunt())] == [NearestStag, NearestHare]
    assert goal_scripts(TokenGame()) is None, "it has no scripts"
    snowdrift = RulesEnv(Snowdrift.preset("msg"))
    assert goal_scripts(snowdrift) is None, "its scripts pursue none of its declared goals all along"
    assert exact_observer(snowdrift, None) is None


class Picky(NearestStag):
    def check(self, game):
        raise ConfigError("Picky cannot play this")


def test_goal_scripts_are_checked_as_players_in_seats_are():
    game = stag_hunt()
    game.players = {**game.players, "nearest_stag": Picky}
    with pytest.raises(ConfigError, match="Picky cannot play this"):
        goal_scripts(game)


@pytest.mark.parametrize(
    ("game", "partner"),
    [
        (stag_hunt(), "nearest_stag"),
        (stag_hunt(), "nearest_hare"),
        (LevelBasedForaging("7x7-2p-3f-no-levels", max_steps=12), "secret_order"),
    ],
)
def test_the_belief_of_exact_bayes_is_that_of_the_exact_observer(game, partner):
    model = partial(ExactBayes, belief=BeliefConfig(floor=1e-6), transition=TransitionConfig(at_events=True))
    seats = ["learner"] + [partner] * (game.num_players - 1)
    episodes = play_with(tiny_agent(game, model), game, seats, batch=20)
    who = episodes.active.clone()
    who[:, :, 0] = False  # the learner's own seat is no script's
    exact = exact_observer(RulesEnv(game), episodes).belief[who]
    assert torch.allclose(episodes.goal[who], exact, atol=1e-3)
    assert (exact.amax(-1) > 0.9).float().mean() > 0.3, "or there is nothing to compare"


def test_exact_bayes_keeps_the_contract_of_opponent_models():
    check_opponent(ExactBayes, stag_hunt(), batch_size=4)


@pytest.mark.parametrize("game", [TokenGame(), Snowdrift.preset("msg")])
def test_exact_bayes_refuses_a_game_whose_goals_have_no_scripts(game):
    with pytest.raises(ConfigError, match=r"not a game of omg_lightning|ExactBayes needs a script"):
        ExactBayes(model_spec(game))


class Unsure:
    """A player that knows nothing of its own probabilities."""

    def reset(self, batch_size, seat, game, generator):
        self.noop = game.noop

    def act(self, observation, legal):
        return torch.full((len(legal),), self.noop)


def test_scripts_know_their_own_best_chance_and_other_players_do_not(generator):
    env = one_hunter([(0, 3)], [(0, 0), (0, 4)])
    step = env.reset(1, generator)
    view, legal = step.observation[:, 1], step.legal[:, 1]
    for name, expected in (("nearest_stag", 1.0), ("nearest_hare", 0.5), ("random", 1 / 3)):
        player = make_player(name, env.game)
        player.reset(1, 1, env.game, generator)
        assert best_chance(player, view, legal).tolist() == pytest.approx([expected])
    assert best_chance(Unsure(), view, legal).tolist() == [0]
    player = make_player("switcher", env.game)
    player.reset(1, 1, env.game, generator)
    assert best_chance(player, view, legal).tolist() == [1.0 if player.pursues(view, legal)[0] == 0 else 0.5]
    player.scripts = (Unsure(), Unsure())
    assert best_chance(player, view, legal).tolist() == [0]


def test_a_measured_rollout_records_best_chances_and_plays_the_same():
    game = stag_hunt()
    plain, measured = (
        rollout(game, ["learner", "nearest_hare"], 6, learner=plain_learner(game), measure=measure)
        for measure in (False, True)
    )
    assert torch.equal(plain.action, measured.action)
    assert "script_best" not in plain.extras
    here, recorded = measured.active[:, :, 1], measured.extras["script_best"]
    best = recorded[:, :, 1][here]
    assert set((1 / best).round().int().tolist()) <= {1, 2, 3, 4}
    assert best.min() < 1, "there are ties"
    assert not recorded[:, :, 0].any(), "a learner's seat is no script's"


def test_only_evaluations_query_the_scripts():
    data = attached(tiny_data(seats=["learner", "nearest_hare"]))
    (episodes, *_) = data.evaluate(data.lineups, 4)
    assert (episodes.extras["script_best"][:, :, 1][episodes.active[:, :, 1]] > 0).all()
    played, _ = data.refresh()
    assert "script_best" not in played.episodes.extras


@pytest.mark.parametrize("opponent", ["Direct", "Declared", "Subgoal", "Codebook"])
def test_scripts_own_probabilities_never_reach_a_learner(opponent):
    game = stag_hunt()
    episodes = play_with(tiny_agent(game, opponent), game, ["learner", "switcher"])
    assert (episodes.true_goal[:, :, 1][episodes.active[:, :, 1]] >= 0).all()
    told = {**episodes.extras, "script_best": torch.rand(episodes.reward.shape)}
    other = episodes._replace(extras=told, true_goal=1 - episodes.true_goal)
    one, two = (tiny_agent(game, opponent).losses(as_batch(each)) for each in (episodes, other))
    assert same(one, two)
    assert one, "or there is nothing to compare"
