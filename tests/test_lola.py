"""LOLA-DiCE: its objective and its gradient in closed form, naive learning as its special case, and who cooperates."""

from functools import partial
from itertools import product

import pytest
import torch
from test_contract import fit
from toys import play_with, stag_hunt, tiny_agent, tiny_data, training_batch

from omg_lightning.algorithms import LOLA
from omg_lightning.games import CoinGame, MatrixGame
from omg_lightning.testing import check_algorithm
from omg_lightning.types import ConfigError

STEPS, DISCOUNT = 3, 0.9
GAME = MatrixGame("prisoners_dilemma", max_steps=STEPS)
PAYOFF = torch.tensor(GAME.payoff, dtype=torch.float64).flatten(0, 1)  # [4, 2] of CC, CD, DC, DD


def learner(lookahead=0.7, seed=0, game=GAME, **args):
    """An agent with random tables, for the policies and for the baselines, in double precision."""
    agent = tiny_agent(game, "Direct", algorithm=partial(LOLA, lookahead=lookahead, discount=DISCOUNT, **args))
    random = torch.Generator().manual_seed(seed)
    agent.algorithm.double()
    for weight in agent.algorithm.parameters():
        weight.data.copy_(torch.randn(weight.shape, generator=random, dtype=torch.float64))
    return agent


def every_episode(agent):
    """All joint histories of three steps, drawn by uniform play: their mean is an expectation without any noise."""
    actions = torch.tensor(list(product(range(2), repeat=2 * STEPS))).view(-1, STEPS, 2).transpose(0, 1)
    episodes = play_with(agent.float(), GAME, ["learner", "learner"], actions.shape[1])
    agent.algorithm.double()
    state, views, rewards = GAME.reset(actions.shape[1]), [], []
    for joint in actions:
        views.append(GAME.observe(state))
        state, reward = GAME.step(state, joint)
        rewards.append(reward)
    extras = {**episodes.extras, "log_probability": torch.full_like(episodes.reward, 0.5, dtype=torch.float64).log()}
    view = torch.stack(views).to(episodes.observation)
    return episodes._replace(observation=view, action=actions, reward=torch.stack(rewards).double(), extras=extras)


def exact(tables):
    """The discounted return of each seat, float64 `[2]`, as a Markov chain of joint actions, in closed form.

    Args:
        tables: for each seat the logits `[2, 5]` of its actions at the start and after (own, other) = CC, DC, CD, DD.
    """
    first, second = (table.softmax(0).t() for table in tables)  # [5, 2] by the state as the seat itself sees it

    def joint(one, other):  # the chances of CC, CD, DC, DD
        return (first[one][:, None] * second[other][None]).flatten()

    start = joint(0, 0)
    chain = torch.stack([joint(1 + a + 2 * b, 1 + b + 2 * a) for a, b in product(range(2), repeat=2)])
    total = 0.0
    for t in range(STEPS):
        total = total + DISCOUNT**t * start @ torch.linalg.matrix_power(chain, t) @ PAYOFF
    return total


def tables_of(agent):
    return [net.weight.detach().clone().requires_grad_() for net in agent.algorithm.policy.nets]


def slope(agent, batch):
    """The gradient of the policy loss with respect to both tables."""
    agent.zero_grad()
    agent.algorithm.losses(batch)["policy"].backward()
    return [net.weight.grad for net in agent.algorithm.policy.nets]


@pytest.mark.parametrize("lookahead", [0.0, 0.7])
@pytest.mark.parametrize("steps", [1, 2])
def test_loss_and_gradient_are_those_of_the_closed_form(lookahead, steps):
    agent = learner(lookahead, steps=steps)
    batch = training_batch(agent, every_episode(agent))
    losses, expected = [], []
    for ego in range(2):
        now = tables_of(agent)
        own = now[ego]
        for _ in range(steps if lookahead else 0):
            other = now[1 - ego]
            (step,) = torch.autograd.grad(exact(now)[1 - ego], other, create_graph=True)
            now[1 - ego] = other + lookahead * step
        losses.append(-exact(now)[ego])
        expected.append(torch.autograd.grad(losses[-1], own)[0])
    assert agent.algorithm.losses(batch)["policy"].item() == pytest.approx(float(sum(losses)), rel=1e-9)
    for found, wanted in zip(slope(agent, batch), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-10)


def test_without_a_look_ahead_it_is_the_naive_policy_gradient():
    agent = learner(0.0)
    for net in agent.algorithm.policy.values:  # no baseline
        net.weight.data.zero_()
    batch = training_batch(agent, play_with(agent.float(), GAME, ["learner", "learner"], 50))
    episodes, policy = batch.episodes, agent.algorithm.policy
    features = policy.features(episodes.observation, episodes.active)
    chosen = torch.stack(
        [
            net(features[:, :, seat]).log_softmax(-1).gather(-1, episodes.action[:, :, seat, None])[..., 0]
            for seat, net in enumerate(policy.nets)
        ],
        -1,
    )
    ahead, weights = torch.zeros(50, 2), []
    for t in reversed(range(STEPS)):
        ahead = ahead + DISCOUNT**t * episodes.reward[t]
        weights.insert(0, ahead)
    agent.zero_grad()
    (-(torch.stack(weights) * chosen).sum(0).mean(0)).sum().backward()
    naive = [net.weight.grad.clone() for net in policy.nets]
    for found, wanted in zip(slope(agent, batch), naive, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


def test_no_learning_step_is_expected_of_a_script():
    game = MatrixGame("prisoners_dilemma", max_steps=STEPS)
    slopes = []
    for lookahead in (0.0, 2.0):
        agent = learner(lookahead).float()
        batch = training_batch(agent, play_with(agent, game, ["learner", "tit_for_tat"], 20))
        slopes.append(slope(agent, batch))
    assert torch.equal(slopes[0][0], slopes[1][0])
    assert slopes[0][1] is None or not slopes[0][1].any()


def test_a_table_has_a_row_for_each_joint_action_own_action_first():
    agent = learner()
    policy, state = agent.algorithm.policy, GAME.reset(4)
    assert policy.features(GAME.observe(state), torch.ones(4, 2, dtype=torch.bool)).argmax(-1).unique().tolist() == [0]
    state, _ = GAME.step(state, torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]))
    rows = policy.features(GAME.observe(state), torch.ones(4, 2, dtype=torch.bool)).argmax(-1)
    assert rows.tolist() == [[1, 1], [3, 2], [2, 3], [4, 4]]


@pytest.mark.parametrize(
    ("algorithm", "game"), [(LOLA, GAME), (partial(LOLA, hidden=8), CoinGame(max_steps=3))], ids=["table", "network"]
)
def test_contract(algorithm, game):
    check_algorithm(algorithm, game, batch_size=4)


def test_a_run_trains_every_seat(tmp_path):
    data = tiny_data(game=GAME, seats=["learner", "learner"], num_envs=3)
    agent = tiny_agent(data.env, "Direct", algorithm=LOLA)
    fit(data, agent, tmp_path)
    assert all(net.weight.any() for net in agent.algorithm.policy.nets)


@pytest.mark.parametrize(
    ("game", "args", "message"),
    [
        (GAME, {"discount": 2}, "discount is 2: it must lie between 0 and 1"),
        (GAME, {"lookahead": -1}, "lookahead is -1: it must be at least 0"),
        (GAME, {"steps": 0}, "steps is 0 and hidden 0: expected >= 1 and >= 0"),
        (stag_hunt(), {}, r"but StagHunt has views of shape .*: set --model\.algorithm\.hidden 32"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_one_line(game, args, message):
    with pytest.raises(ConfigError, match=message) as caught:
        tiny_agent(game, "Direct", algorithm=partial(LOLA, **args))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_with_a_look_ahead_learners_cooperate_and_naive_ones_defect():
    """As in `configs/lola.yaml`. Mutual cooperation pays -1 in each step, mutual defection -2."""
    game, last = MatrixGame("prisoners_dilemma", max_steps=20), {}
    for lookahead in (0.0, 1.0):
        agent = tiny_agent(game, "Direct", algorithm=partial(LOLA, lookahead=lookahead), learning_rate=0.05)
        optimizer = agent.optimizer()
        for round_ in range(200):
            batch = training_batch(agent, play_with(agent, game, ["learner", "learner"], 512, seed=round_))
            losses = agent.algorithm.losses(batch)
            optimizer.zero_grad()
            agent.weigh(losses).backward()
            optimizer.step()
        last[lookahead] = float(batch.episodes.reward.mean())
    assert last[0.0] < -1.9
    assert last[1.0] > -1.2
