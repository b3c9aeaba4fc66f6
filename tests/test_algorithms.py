"""Best-response search: the policy network, its losses by hand, and its settings. PPO has a file of its own."""

import math

import pytest
import torch
from toys import TokenGame, model_spec, play_with, same, stag_hunt, tiny_agent, training_batch

from omg_lightning.actors import PlannerConfig
from omg_lightning.algorithms import BestResponseSearch
from omg_lightning.algorithms.policy import PolicyModule
from omg_lightning.types import ConfigError


def constant(agent, *outputs):
    """Make the policy network say the same of every view: logits of all actions, then the value."""
    with torch.no_grad():
        agent.algorithm.policy.net.out.weight.zero_()
        agent.algorithm.policy.net.out.bias.copy_(torch.tensor(outputs))
    return agent


def two_steps(**search):
    """An agent with two actions whose policy is (1/4, 3/4) and whose value is 2, and one episode of two steps.

    Seat 0 is the learner. It earns 4 and then 2; in the second step its second action is illegal.
    """
    game = TokenGame(2, num_actions=2, max_steps=2, ragged=False)
    agent = constant(tiny_agent(game, "Direct", search_args=search), 0.0, math.log(3), 2.0)
    episodes = play_with(agent, game, ["learner", "random"], 1)
    reward = torch.tensor([[[4.0, 100.0]], [[2.0, 100.0]]])
    legal = torch.ones_like(episodes.legal)
    legal[1, 0, 0, 1] = False
    extras = {name: torch.full_like(field, torch.nan) for name, field in episodes.extras.items()}  # not the learner's
    extras["root_policy"][:, 0, 0] = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    extras["root_value"][:, 0, 0] = torch.tensor([50.0, 6.0])
    return agent, episodes._replace(reward=reward, legal=legal, extras=extras)


def test_losses_are_the_cross_entropy_to_the_root_policy_and_the_squared_error_to_the_return():
    agent, episodes = two_steps(planner=PlannerConfig(discount=0.5))
    found = agent.algorithm.losses(training_batch(agent, episodes))
    assert set(found) == {"policy", "value"}
    # Step 0: 1/2 log 4 + 1/2 log(4/3). Step 1: only one action is legal, so its probability is 1.
    assert found["policy"].item() == pytest.approx((0.5 * math.log(4) + 0.5 * math.log(4 / 3)) / 2, rel=1e-5)
    # Returns 4 + 0.5 * 2 = 5 and 2 have mean 3.5 and deviation 1.5, so that the network's 2 is a value of 6.5: it is 1
    # and 3 deviations off.
    assert found["value"].item() == pytest.approx((1**2 + 3**2) / 2)
    assert agent.algorithm.policy.mean.item() == 3.5


def test_the_search_plans_with_values_in_the_units_of_the_game():
    agent, episodes = two_steps(planner=PlannerConfig(discount=0.5))
    agent.algorithm.losses(training_batch(agent, episodes))
    policy, goals = agent.algorithm.policy, torch.zeros(1, 1, 0)
    view, seat = episodes.observation[0, :, 0].float(), torch.tensor([0])
    _, value = policy(view, torch.zeros(1), policy.condition(goals, seat))
    assert value.tolist() == policy.goal_values(view, torch.zeros(1), goals[:, None], seat)[0].tolist() == [6.5]


@pytest.mark.parametrize("lam", [1.0, 0.0, 0.5])
def test_value_targets_rely_on_the_root_values_of_later_steps_by_td_lambda(lam):
    agent, episodes = two_steps(planner=PlannerConfig(discount=0.5, td_lambda=lam))
    target = agent.algorithm.value_targets(training_batch(agent, episodes))
    assert target[:, 0, 0].tolist() == pytest.approx([4 + 0.5 * (lam * 2 + (1 - lam) * 6), 2])


def test_rewards_after_a_seat_has_left_count_until_the_episode_is_over():
    agent, episodes = two_steps(planner=PlannerConfig(discount=0.5))
    left = torch.tensor([[[True, True]], [[False, True]]])
    target = agent.algorithm.value_targets(training_batch(agent, episodes._replace(active=left)))
    assert float(target[0, 0, 0]) == 5
    over = torch.tensor([[[True, True]], [[False, False]]])
    target = agent.algorithm.value_targets(training_batch(agent, episodes._replace(active=over)))
    assert float(target[0, 0, 0]) == 4


def test_offline_the_value_alone_learns_the_returns_of_all_seats():
    agent, episodes = two_steps(planner=PlannerConfig(discount=0.5))
    found = agent.algorithm.losses(training_batch(agent, episodes, offline=True))
    assert set(found) == {"value"}
    returns = torch.tensor([5.0, 2.0, 150.0, 100.0])  # the network is two of their deviations above their mean
    units = (returns - returns.mean()) / returns.std(correction=0)
    assert found["value"].item() == pytest.approx(float(((units - 2) ** 2).mean()), rel=1e-5)
    agent, episodes = two_steps(offline_value=False)
    assert agent.algorithm.losses(training_batch(agent, episodes, offline=True)) == {}


def test_a_loss_without_weight_is_not_computed():
    agent, episodes = two_steps()
    agent.algorithm.weights = {"policy": 0.0, "value": 0.0}
    for offline in (False, True):
        assert agent.algorithm.losses(training_batch(agent, episodes, offline)) == {}


def test_losses_of_no_samples_are_zero_and_not_nan():
    game = stag_hunt()
    agent = tiny_agent(game, "Declared")
    batch = training_batch(agent, play_with(agent, game, ["random", "random"]))
    assert not batch.episodes.learner.any()
    found = agent.algorithm.losses(batch)
    assert found["policy"].item() == found["value"].item() == 0


def test_only_the_learners_own_steps_train_the_policy():
    game = TokenGame(3)
    agent = tiny_agent(game, "Direct")
    episodes = play_with(agent, game, ["learner", "random", "learner"])
    mine = episodes.learner

    def spoiled(field, junk):
        return torch.where(mine.view(*mine.shape, *[1] * (field.dim() - 3)), field, junk)

    other = episodes._replace(
        observation=spoiled(episodes.observation, 1 - episodes.observation),
        reward=episodes.reward.index_fill(2, torch.tensor(1), torch.nan),
        legal=spoiled(episodes.legal, ~episodes.legal),
        extras={name: spoiled(field, torch.nan) for name, field in episodes.extras.items()},
    )
    one, two = (agent.algorithm.losses(training_batch(agent, each)) for each in (episodes, other))
    assert same(one, two)


@pytest.mark.parametrize("sharing", ["shared", "roles", "separate"])
def test_values_under_many_goals_equal_one_call_for_each(sharing):
    game = stag_hunt(3)
    module, seat = PolicyModule(model_spec(game, hidden=8, sharing=sharing), 2), torch.arange(4) % 3
    generator = torch.Generator().manual_seed(0)
    views = (torch.rand(4, *game.observation_shape, generator=generator) < 0.3).float()
    time, goals = torch.rand(4, generator=generator), torch.randn(4, 3, 2, 2, generator=generator)
    found = module.goal_values(views, time, goals, seat)
    assert found.shape == (4, 3)
    for k in range(3):
        torch.testing.assert_close(found[:, k], module(views, time, module.condition(goals[:, k], seat))[1])
    assert (found[:, 0] != found[:, 1]).all(), "goals matter"


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"trees": 0}, r"model.algorithm.trees is 0"), ({"simulations": 0}, r"model.algorithm.simulations is 0")],
)
def test_a_search_setting_out_of_range_is_refused_by_name(settings, message):
    with pytest.raises(ConfigError, match=message) as caught:
        BestResponseSearch(model_spec(stag_hunt()), 2, **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "planner",
    [
        {"discount": 2.0},
        {"discount": 0.0},
        {"c_puct": -1.0},
        {"beta": float("nan")},
        {"rule": "minimax"},
        {"policy": "visits"},
        {"td_lambda": 1.5},
        {"temperature": 0.0},
        {"temperature": 0.5},  # without `policy: search` it would change nothing
    ],
)
def test_a_planner_setting_out_of_range_is_refused_before_the_offline_phase(planner):
    # The search would refuse some of these at the first online step only.
    with pytest.raises(ConfigError, match=next(iter(planner))) as caught:
        PlannerConfig(**planner)
    assert "\n" not in str(caught.value)
