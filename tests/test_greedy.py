"""Evaluations play greedily: wherever learners are judged, they take the best action, and they explore in training."""

import pytest
import torch
from toys import TokenGame, always, attached, plain_learner, tiny_data

from omg_lightning.actors import Actor, Choice, PlannerConfig, arrange
from omg_lightning.algorithms import PPO
from omg_lightning.data import AdaptationConfig, EpisodeDataModule, EvaluationConfig, OfflineConfig
from omg_lightning.envs import as_env
from omg_lightning.rollout import match, play

GREEDY, EXPLORING = 2, 3  # actions


class Torn(Actor):
    """Says 2 where it plays greedily, and 3 where it explores."""

    def start(self, env, mine, prior, generator):
        return mine

    def act(self, memory, scene):
        action = GREEDY if scene.greedy else EXPLORING
        return Choice(memory & scene.view.active, torch.full_like(memory, action, dtype=torch.int64))


GAME = TokenGame(2, ragged=False)  # the last digit of a reward is the own action, and the first one the other's
RETURN = 11 * GREEDY * GAME.max_steps


def torn_data(workers=1, **settings):
    """A data module whose learner is torn, in all seats."""
    adaptation = AdaptationConfig(relationships=3, steps=12, score_steps=6)
    data = EpisodeDataModule(
        GAME,
        ["learner", "learner"],
        num_envs=4,
        workers=workers,
        offline=OfflineConfig(0),
        evaluation=EvaluationConfig(episodes=6, val_episodes=6, predict_episodes=6),
        adaptation=adaptation,
        **settings,
    )
    data.attach(Torn, lambda path: Torn())
    return data


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("loader", ["val_dataloader", "predict_dataloader"])
def test_evaluations_and_replays_are_greedy(loader, workers):
    chunks = list(getattr(torn_data(workers), loader)())
    assert [chunk.action.shape[1] for chunk in chunks] == [4, 2]
    assert all((chunk.action == GREEDY).all() for chunk in chunks)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_evaluation_with_a_changed_learner_is_greedy(workers):
    chunks = torn_data(workers).evaluate([["learner", "random"]], 4, lambda learner: learner)
    assert all((chunk.action[..., 0] == GREEDY).all() for chunk in chunks)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("belief", [True, False])
def test_the_adaptation_protocol_is_greedy(workers, belief):
    config = AdaptationConfig(relationships=3, steps=12, score_steps=6, belief=belief)
    data = torn_data(workers, partners=["toys.Counter"])
    data.adaptation = config
    for segment in data.test_dataloader():
        # The other seat counts in tens: the last digit is that of the learner's own actions.
        assert (segment.returns[:, 0] % 10 == GREEDY * GAME.max_steps % 10).all()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_match_is_greedy(workers):
    learners = {"checkpoint:a": Torn(), "checkpoint:b": Torn()}
    random = torch.Generator().manual_seed(0)
    returns = match(as_env(GAME), [*learners], learners, 6, 4, random, workers)
    assert returns.tolist() == [[RETURN, RETURN]] * 6


@pytest.mark.parametrize("workers", [1, 2])
def test_training_explores(workers):
    data = torn_data(workers)
    assert (data.refresh()[0].episodes.action == EXPLORING).all()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("settings", [{}, {"rule": "gumbel"}, {"policy": "search", "c_puct": 50.0}])
def test_the_evaluation_of_a_search_takes_the_argmax_of_its_root_policy(settings, workers):
    data = tiny_data(workers=workers, offline={"rounds": 0})
    planner = PlannerConfig(beta=0.2) if not settings else PlannerConfig(**settings)
    data = attached(data, "Direct", search_args={"simulations": 6, "planner": planner})
    for episodes, greedy in ((next(iter(data.val_dataloader())), True), (data.refresh()[0].episodes, False)):
        here = episodes.learner
        policy = episodes.extras["root_policy"][here]
        taken = policy.gather(-1, episodes.action[here][:, None])[:, 0]
        assert torch.equal(taken, policy.amax(-1)) == greedy


@pytest.mark.parametrize("workers", [1, 2])
def test_the_evaluation_of_a_policy_without_search_takes_the_likeliest_action(workers):
    data = attached(tiny_data(workers=workers, offline={"rounds": 0}), "Direct", algorithm=PPO)
    greedy, drawn = next(iter(data.val_dataloader())), data.refresh()[0].episodes
    least = {}
    for name, episodes in (("greedy", greedy), ("drawn", drawn)):
        legal = episodes.legal[episodes.learner].sum(-1)
        chance = episodes.extras["log_probability"][episodes.learner].exp()
        least[name] = float((chance * legal).min())
    assert least["greedy"] >= 1 - 1e-5, "the likeliest of n actions has a probability of at least 1 / n"
    assert least["drawn"] < 1 - 1e-5


def test_the_first_of_equally_good_actions_is_taken():
    game = TokenGame(1)
    env = as_env(game)
    learner = plain_learner(game, always(0, game.num_actions), simulations=0)
    seating = arrange([["learner"]], 40, env, torch.Generator().device)
    greedy, drawn = (
        play(env, seating, {"learner": learner}, torch.Generator().manual_seed(0), greedy=greedy).episodes
        for greedy in (True, False)
    )
    assert not greedy.action[greedy.learner].any(), "action 0"
    assert set(drawn.action[drawn.learner].tolist()) == set(range(game.num_actions))
