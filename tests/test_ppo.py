"""PPO: advantages against a slow reference, losses by hand, what acting records, and which data it learns from."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from line_game import LineGame
from toys import as_batch, attached, play_with, tiny_agent, tiny_data, training_batch

from omg_lightning.algorithms import PPO, gae
from omg_lightning.encoders import ModelSpec
from omg_lightning.envs import RulesEnv
from omg_lightning.games import MatrixGame
from omg_lightning.spec import GameSpec
from omg_lightning.types import ConfigError

GAMES = {"reals": lambda: LineGame(max_steps=4), "bits": lambda: MatrixGame("prisoners_dilemma", max_steps=4)}


def ppo_agent(game, opponent="Direct", **args):
    return tiny_agent(game, opponent, algorithm=partial(PPO, **{"epochs": 2, "minibatches": 2, **args}))


def played(opponent="Direct", **args):
    """An agent, and episodes that it has played with itself."""
    game = MatrixGame("prisoners_dilemma", max_steps=4)
    agent = ppo_agent(game, opponent, **args)
    partner = "always_0" if opponent == "Oracle" else "learner"
    return agent, play_with(agent, game, ["learner", partner], batch=8)


def slow_gae(reward, value, bootstrap, ended, discount, lam):
    """Sums discounted temporal differences, for one seat, step by step from the definition."""
    steps = len(reward)
    found = []
    for t in range(steps):
        total, weight = 0.0, 1.0
        for k in range(t, steps):
            following = bootstrap[k] if ended[k] else (value[k + 1] if k + 1 < steps else 0.0)
            total += weight * (reward[k] + discount * following - value[k])
            weight *= discount * lam
            if ended[k]:
                break
        found.append(total)
    return found


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**31))
def test_gae_equals_the_sum_of_discounted_differences(steps, discount, lam, seed):
    random = torch.Generator().manual_seed(seed)
    reward, value = torch.randn(2, steps, 3, generator=random, dtype=torch.float64)
    ended = torch.rand(steps, 3, generator=random) < 0.3
    cut = torch.rand(steps, 3, generator=random) < 0.5
    bootstrap = torch.where(ended & cut, torch.randn(steps, 3, generator=random, dtype=torch.float64), 0.0)
    found = gae(reward, value, bootstrap, ended, discount, lam)
    for seat in range(3):
        columns = (x[:, seat].tolist() for x in (reward, value, bootstrap, ended))
        assert found[:, seat].tolist() == pytest.approx(slow_gae(*columns, discount, lam), abs=1e-9)


def test_truncation_bootstraps_and_termination_does_not():
    reward, value = torch.tensor([1.0, 1.0]), torch.tensor([0.5, 0.5])
    ended = torch.tensor([False, True])
    cut = gae(reward, value, torch.tensor([0.0, 10.0]), ended, 0.5, 1.0)
    over = gae(reward, value, torch.zeros(2), ended, 0.5, 1.0)
    assert cut.tolist() == [1 + 0.5 * (1 + 0.5 * 10) - 0.5, 1 + 0.5 * 10 - 0.5]
    assert over.tolist() == [1 + 0.5 * 1 - 0.5, 1 - 0.5]


def test_a_rollout_records_the_value_of_the_last_view_where_time_ran_out():
    _, episodes = played()
    bootstrap = episodes.extras["bootstrap"]
    assert episodes.truncated[-1].all()
    assert bootstrap[-1].all()
    assert not bootstrap[:-1].any()


@pytest.mark.parametrize("opponent", ["Direct", "Declared", "Codebook", "Subgoal", "Oracle"])
def test_the_ratio_is_one_before_the_first_update(opponent):
    agent, episodes = played(opponent)
    losses = agent.algorithm.losses(training_batch(agent, episodes))
    assert float(losses["ppo_kl"]) == pytest.approx(0, abs=1e-6)
    assert float(losses["ppo_clipped"]) == 0


def test_losses_by_hand():
    agent, episodes = played(normalise=False, clip=0.2)
    shift = math.log(1.5)  # as if the behaviour had chosen each action with 2/3 of the probability it has now
    before = episodes.extras["log_probability"] - shift
    episodes = episodes._replace(extras={**episodes.extras, "log_probability": before})
    batch = training_batch(agent, episodes)
    advantage, returns = agent.algorithm.advantages(batch)
    losses = agent.algorithm.losses(batch)
    surrogate = torch.minimum(1.5 * advantage, 1.2 * advantage)
    assert losses["policy"].item() == pytest.approx(-surrogate[episodes.learner].mean().item(), rel=1e-4)
    assert float(losses["ppo_clipped"]) == 1
    error = (episodes.extras["value"] - returns)[episodes.learner]
    assert losses["value"].item() >= 0
    assert error.shape == (episodes.learner.sum(),)
    assert -math.log(2) - 1e-5 <= losses["entropy"].item() < 0


def test_advantages_are_normalised_over_a_minibatch():
    agent, episodes = played()
    scaled = episodes._replace(reward=1000 * episodes.reward + 7)
    one, two = (agent.algorithm.losses(training_batch(agent, each))["policy"] for each in (episodes, scaled))
    assert abs(float(one)) < 1e-5
    assert abs(float(two)) < 1e-5, "with a ratio of 1 the mean of normalised advantages is left, which is 0"


def test_illegal_actions_are_never_drawn_and_have_no_probability():
    game = GAMES["reals"]()
    agent = ppo_agent(game)
    episodes = play_with(agent, game, ["learner"] * game.num_players, batch=16)
    chosen = episodes.legal.gather(-1, episodes.action[..., None])[..., 0]
    assert chosen[episodes.active].all()


def test_nothing_is_learned_offline_but_by_the_opponent_model():
    game = MatrixGame("prisoners_dilemma", max_steps=4)
    agent = ppo_agent(game, "Declared")
    losses = agent.losses(as_batch(play_with(agent, game, ["always_0", "always_1"]), offline=True))
    assert "coplayer" in losses
    assert not {"policy", "value", "entropy"} & set(losses)


def test_each_round_is_used_in_every_pass_and_then_dropped():
    data = attached(tiny_data(offline={"rounds": 0}), "Direct", algorithm=partial(PPO, epochs=3, minibatches=2))
    for _ in range(2):
        data.refresh(1)
    assert len(data.buffer) == data.num_envs
    batches = list(data.train_dataloader())
    assert len(batches) == 6
    for first in range(0, 6, 2):
        count = sum(batch.episodes.active.shape[1] for batch in batches[first : first + 2])
        assert count == data.num_envs


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"discount": 1.5}, "discount is 1.5"),
        ({"gae_lambda": -0.1}, "gae_lambda is -0.1"),
        ({"epochs": 0}, "epochs is 0"),
        ({"minibatches": 0}, "minibatches is 0"),
        ({"clip": 0.0}, "clip is 0"),
        ({"entropy": -1.0}, "entropy -1"),
    ],
)
def test_settings_out_of_range_are_one_line(args, message):
    spec = ModelSpec(GameSpec.of(RulesEnv(GAMES["bits"]())))
    with pytest.raises(ConfigError, match=message) as caught:
        PPO(spec, 0, **args)
    assert "\n" not in str(caught.value)
