"""PPO: advantages against a slow reference, losses by hand, what acting records, and which data it learns from."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from line_game import RUN, LineGame, LineState
from toys import as_batch, attached, gradients, play_with, tiny_agent, tiny_data, training_batch

from omg_lightning.algorithms import PPO, gae
from omg_lightning.encoders import ModelSpec
from omg_lightning.envs import RulesEnv
from omg_lightning.games import MatrixGame
from omg_lightning.spec import GameSpec
from omg_lightning.types import ConfigError

GAMES = {"reals": lambda: LineGame(max_steps=4), "bits": lambda: MatrixGame("prisoners_dilemma", max_steps=4)}
OPPONENTS = ["Direct", "Declared", "Codebook", "Subgoal", "Oracle"]


def ppo_agent(game, opponent="Direct", **args):
    return tiny_agent(game, opponent, algorithm=partial(PPO, **{"epochs": 2, "minibatches": 2, **args}))


def played(opponent="Direct", **args):
    """An agent, and episodes that it has played with itself."""
    game = MatrixGame("prisoners_dilemma", max_steps=4)
    agent = ppo_agent(game, opponent, **args)
    partner = "always_0" if opponent == "Oracle" else "learner"
    return agent, play_with(agent, game, ["learner", partner], batch=8)


def value_of(agent, view, time, seat):
    """What the policy network of an agent without goals says of views from these seats."""
    policy, goals = agent.algorithm.policy, torch.zeros(len(view), 1, 0)
    with torch.no_grad():
        return policy(view, time, policy.condition(goals, seat))[1]


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


def test_a_rollout_records_the_value_of_the_last_view_where_time_ran_out_and_0_elsewhere():
    game = LineGame(max_steps=4)
    agent = ppo_agent(game)
    episodes = play_with(agent, game, ["learner", "learner"], batch=32)
    expected = torch.zeros_like(episodes.reward)
    places = episodes.observation[0, :, 0].long()  # the view of seat 0, in which ego order is seat order
    state = LineState(torch.zeros(32, dtype=torch.int64), places)
    for t, actions in enumerate(episodes.action):
        state, _ = game.step(state, torch.where(game.active(state), actions, game.noop))
        row, seat = episodes.truncated[t].nonzero(as_tuple=True)
        clock = torch.full((len(row),), (t + 1) / game.max_steps)
        expected[t, row, seat] = value_of(agent, game.observe(state)[row, seat], clock, seat)
    assert episodes.truncated.any()
    assert episodes.terminated.any()
    assert not (episodes.terminated & episodes.truncated).any()
    torch.testing.assert_close(episodes.extras["bootstrap"], expected)


@pytest.mark.parametrize("opponent", OPPONENTS)
def test_the_ratio_is_one_before_the_first_update(opponent):
    agent, episodes = played(opponent)
    losses = agent.algorithm.losses(training_batch(agent, episodes))
    assert float(losses["ppo_kl"]) == pytest.approx(0, abs=1e-6)
    assert float(losses["ppo_clipped"]) == 0


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss"),
    [(1.5, 1, -1.2), (1.5, -1, 1.5), (0.5, 1, -0.5), (0.5, -1, 0.8), (1.1, 1, -1.1), (0.9, -1, 0.9)],
)
def test_the_surrogate_is_clipped_where_that_is_the_smaller_gain(ratio, advantage, loss):
    agent, episodes = played(normalise=False, clip=0.2, discount=0.0)  # so the advantage is the reward minus the value
    before = episodes.extras["log_probability"] - math.log(ratio)
    extras = {**episodes.extras, "log_probability": before, "value": torch.zeros_like(before)}
    episodes = episodes._replace(reward=torch.full_like(before, advantage), extras=extras)
    losses = agent.algorithm.losses(training_batch(agent, episodes))
    assert losses["policy"].item() == pytest.approx(loss, rel=1e-4)
    assert losses["ppo_clipped"].item() == (abs(ratio - 1) > 0.2)
    assert losses["ppo_kl"].item() == pytest.approx(ratio - 1 - math.log(ratio), rel=1e-3)


def test_the_value_loss_is_the_squared_error_in_units_of_the_returns_deviation():
    agent, episodes = played()
    batch = training_batch(agent, episodes)
    _, returns = agent.algorithm.advantages(batch)
    returns, head = returns[episodes.learner], episodes.extras["value"][episodes.learner]  # before: mean 0, deviation 1
    mean, deviation = returns.mean(), returns.std(correction=0)
    expected = ((mean + deviation * head - returns) / deviation).square().mean()
    assert agent.algorithm.losses(batch)["value"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_values_are_given_out_in_the_units_of_the_game():
    agent, episodes = played()
    policy, before = agent.algorithm.policy, episodes.extras["value"]
    policy.mean.fill_(100.0)
    policy.variance.fill_(25.0)
    view, time = episodes.observation[0, :, 0].float(), torch.zeros(8)
    seat, goals = torch.zeros(8, dtype=torch.int64), torch.zeros(8, 1, 1, 0)
    with torch.no_grad():
        one = policy(view, time, policy.condition(goals[:, 0], seat))[1]
        several = agent.algorithm.values()(view, time, goals.expand(-1, 3, -1, -1), seat)
    torch.testing.assert_close(one, 100 + 5 * before[0, :, 0])
    torch.testing.assert_close(several, one[:, None].expand(-1, 3))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.floats(-50, 50), min_size=1, max_size=4), min_size=1, max_size=6))
def test_mean_and_variance_of_returns_are_those_of_all_minibatches_the_newest_weighing_most(minibatches):
    policy = ppo_agent(GAMES["bits"]()).algorithm.policy.double()
    for returns in minibatches:
        policy.follow(torch.tensor(returns, dtype=torch.float64))
    # A minibatch weighs 0.99 times what the next one does, and its returns share that alike.
    weighted = [(x, 0.99**age / len(part)) for age, part in enumerate(reversed(minibatches)) for x in part]
    total = sum(weight for _, weight in weighted)
    mean = sum(weight * x for x, weight in weighted) / total
    variance = sum(weight * (x - mean) ** 2 for x, weight in weighted) / total
    assert policy.mean.item() == pytest.approx(mean, rel=1e-6, abs=1e-6)
    assert policy.variance.item() == pytest.approx(variance, rel=1e-6, abs=1e-6)


def test_equal_returns_leave_a_deviation_to_divide_by():
    policy = ppo_agent(GAMES["bits"]()).algorithm.policy
    for _ in range(3):
        policy.follow(torch.full((8,), 250.0))
    assert policy.deviation.item() == pytest.approx(2.5)
    agent, episodes = played()
    nothing = episodes._replace(reward=torch.zeros_like(episodes.reward))
    nothing = nothing._replace(extras={name: torch.zeros_like(field) for name, field in episodes.extras.items()})
    assert agent.algorithm.losses(training_batch(agent, nothing))["value"].isfinite()


def test_advantages_are_normalised_over_a_minibatch():
    agent, episodes = played()
    scaled = episodes._replace(reward=1000 * episodes.reward + 7)
    one, two = (agent.algorithm.losses(training_batch(agent, each))["policy"] for each in (episodes, scaled))
    assert abs(float(one)) < 1e-5
    assert abs(float(two)) < 1e-5, "with a ratio of 1 the mean of normalised advantages is left, which is 0"


def test_illegal_actions_are_never_drawn_and_have_no_part_in_the_losses():
    game = GAMES["reals"]()
    agent = ppo_agent(game)
    with torch.no_grad():
        for weight in agent.algorithm.policy.parameters():
            weight.zero_()  # so that all legal actions are alike
    episodes = play_with(agent, game, ["learner"] * game.num_players, batch=32)
    here = episodes.learner
    legal, action = episodes.legal[here], episodes.action[here]
    assert legal.gather(-1, action[:, None]).all()
    count = legal.sum(-1)
    assert set(count.tolist()) == {2, 3}, "running is illegal in a part of the steps"
    torch.testing.assert_close(episodes.extras["log_probability"][here], -count.float().log())
    losses = agent.algorithm.losses(training_batch(agent, episodes))
    assert losses["entropy"].item() == pytest.approx(-count.float().log().mean().item(), rel=1e-5)
    assert losses["ppo_kl"].item() == pytest.approx(0, abs=1e-6)


def test_losses_do_not_move_the_logits_of_illegal_actions():
    agent = ppo_agent(GAMES["reals"]())
    episodes = play_with(agent, GAMES["reals"](), ["learner", "learner"], batch=8)
    episodes = episodes._replace(
        legal=episodes.legal & (torch.arange(3) != RUN),  # as if running had been illegal everywhere
        action=episodes.action.clamp(max=RUN - 1),
    )
    losses = agent.algorithm.losses(training_batch(agent, episodes))
    found = gradients(agent.algorithm, losses["policy"] + losses["entropy"])
    # Of the last layer, which gives three logits and the value.
    bias = next(grad for grad in reversed(found.values()) if grad.shape == (4,))
    assert bias[RUN] == 0
    assert bias[:RUN].abs().min() > 0


def weights_of(agent):
    return {name: weight.detach().clone() for name, weight in agent.algorithm.named_parameters()}


@pytest.mark.parametrize("opponent", OPPONENTS)
def test_every_opponent_model_trains_beside_ppo_and_offline_it_trains_alone(opponent):
    agent, episodes = played(opponent)
    optimizer = agent.optimizer()
    for offline in (True, False):
        policy, model = weights_of(agent), {n: w.detach().clone() for n, w in agent.opponent.named_parameters()}
        loss = agent.weigh(agent.losses(as_batch(episodes, offline=offline)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        moved = [name for name, weight in weights_of(agent).items() if not torch.equal(weight, policy[name])]
        assert bool(moved) is not offline
        assert all(weight.isfinite().all() for weight in agent.parameters())
        assert any(not torch.equal(weight, model[name]) for name, weight in agent.opponent.named_parameters())


def test_offline_only_the_opponent_model_trains():
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
