"""Rewards for learning: worked out by hand, learned from, and checked by `check_reward`."""

import math
from functools import partial

import pytest
import torch
from line_game import LineGame
from test_contract import fit
from torch import nn
from toys import TokenGame, gradients, play_with, stag_hunt, tiny_agent, tiny_data, training_batch

from omg_lightning.algorithms import PPO
from omg_lightning.games import MatrixGame
from omg_lightning.rewards import SVO, GameReward, GoalBonus, Prosocial, Reward, SocialInfluence
from omg_lightning.rewards.influence import divergence
from omg_lightning.testing import CheckError, check_reward
from omg_lightning.types import NO_GOAL, ConfigError

DILEMMA = MatrixGame("prisoners_dilemma", max_steps=4)
REWARDS = {
    "game": GameReward,
    "prosocial": Prosocial,
    "ring": SVO,
    "angle": partial(SVO, 30, form="angle"),
    "influence": SocialInfluence,
    "bonus": GoalBonus,
}
small_ppo = partial(PPO, epochs=1, minibatches=1)


def paid(reward, *each, active=None):
    """What `reward` makes of one step in which the seats are paid `each`."""
    episodes = play_with(
        tiny_agent(TokenGame(len(each)), "Direct", algorithm=PPO), TokenGame(len(each)), ["random"] * len(each), 1
    )
    one = episodes.map(lambda field: field[:1])._replace(
        reward=torch.tensor([[each]]), active=torch.tensor([[active or [True] * len(each)]])
    )
    return reward.reward(one, None)[0, 0].tolist()


@pytest.mark.parametrize(("weight", "expected"), [(1.0, [3, 3, 3]), (0.0, [6, 3, 0]), (0.5, [4.5, 3, 1.5])])
def test_prosocial_mixes_the_own_reward_with_the_mean(weight, expected):
    assert paid(Prosocial(weight), 6.0, 3.0, 0.0) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("angle", "expected"),
    [
        (0, [6, 3, 0]),
        (90, [1.5, 3, 4.5]),  # the mean of the two others
        (45, [7.5 / math.sqrt(2), 6 / math.sqrt(2), 4.5 / math.sqrt(2)]),
        (-45, [4.5 / math.sqrt(2), 0, -4.5 / math.sqrt(2)]),
        (180, [-6, -3, 0]),
    ],
)
def test_the_ring_weighs_own_and_others_by_cosine_and_sine(angle, expected):
    assert paid(SVO(angle), 6.0, 3.0, 0.0) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("angle", "rewards", "expected"),
    [
        (45, (2.0, 2.0), [2, 2]),  # as wanted: nothing is taken off
        (0, (2.0, 2.0), [2 - 0.4 * math.pi / 4] * 2),
        (90, (1.0, 0.0), [1 - 0.4 * math.pi / 2, 0]),
        (0, (0.0, 0.0), [0, 0]),  # nobody earned anything: there is no angle
        (-170, (-1.0, 0.0), [-1 - 0.4 * math.radians(10), -0.4 * math.radians(80)]),  # the shorter way round
    ],
)
def test_the_other_form_takes_off_the_distance_between_angles(angle, rewards, expected):
    assert paid(SVO(angle, form="angle", weight=0.4), *rewards) == pytest.approx(expected, abs=1e-6)


def test_goal_bonus_rewards_the_seat_that_achieves_a_named_goal():
    game = TokenGame(3, ragged=False)
    agent = tiny_agent(game, "Direct", algorithm=PPO, reward=partial(GoalBonus, {"one": 3, "zero": -0.5}))
    episodes = play_with(agent, game, ["random"] * 3, 1)
    achieved = torch.tensor([[[0, 1, NO_GOAL]]])
    one = episodes.map(lambda field: field[:1])._replace(achieved_goal=achieved)
    one = one._replace(reward=torch.tensor([[[1.0, 2.0, 4.0]]]))
    assert agent.reward.reward(one, agent.opponent)[0, 0].tolist() == [0.5, 5.0, 4.0]
    left = one._replace(active=torch.tensor([[[True, False, True]]]))
    assert agent.reward.reward(left, agent.opponent)[0, 0].tolist() == [0.5, 0.0, 4.0]
    check_reward(partial(GoalBonus, {"one": 3, "zero": -0.5}), TokenGame(2, max_steps=3), batch_size=4)


@pytest.mark.parametrize(
    ("bonus", "says"),
    [
        ({"two": 1.0}, "names 'two', but TokenGame declares zero, one: use names of its goals"),
        ({"one": math.inf}, "expected a finite number"),
    ],
)
def test_a_bonus_that_cannot_be_paid_is_refused_in_one_line(bonus, says):
    with pytest.raises(ConfigError, match=says) as caught:
        tiny_agent(TokenGame(3), "Direct", algorithm=PPO, reward=partial(GoalBonus, bonus))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reward", [Prosocial(), SVO(), SVO(form="angle")])
def test_a_seat_that_has_left_receives_nothing(reward):
    assert paid(reward, 1.0, 4.0, 0.0, active=[True, True, False])[2] == 0


class Known(nn.Module):
    """Predicts that a co-player copies the ego's action with a chance of 0.9, and else plays any other alike."""

    def __init__(self, seats, actions, ego=0):
        super().__init__()
        self.shape, self.ego = (seats, actions), ego

    def condition(self, goal, seat):
        place = (self.ego - seat) % self.shape[0]
        return goal.unflatten(1, self.shape)[torch.arange(len(goal)), place]

    def under(self, view, time, condition):
        return torch.where(condition > 0, 0.9, 0.1 / (self.shape[1] - 1)).log()


def influence_of(game, lineup, batch=4, policy=(0.25, 0.75)):
    """Episodes of a learner in seat 0 that says it has played this policy, and the influence that `Known` predicts."""
    agent = tiny_agent(game, "Direct", algorithm=PPO, reward=SocialInfluence)
    agent.reward.net = Known(game.num_players, game.num_actions)
    episodes = play_with(agent, game, lineup, batch)
    extras = {**episodes.extras, "policy": torch.tensor(policy).expand(*episodes.active.shape, -1)}
    episodes = episodes._replace(extras=extras)
    return episodes, agent.reward.influence(episodes)


def kl(given, marginal):
    return sum(p * math.log(p / q) for p, q in zip(given, marginal, strict=True))


def test_influence_is_the_divergence_from_the_expectation_over_the_policy():
    episodes, found = influence_of(DILEMMA, ["learner", "random"])
    # sum over b of pi(b) q(. | b), with q(0 | 0) = 0.9 and q(0 | 1) = 0.1
    marginal = (0.25 * 0.9 + 0.75 * 0.1, 0.25 * 0.1 + 0.75 * 0.9)
    expected = torch.tensor([kl((0.9, 0.1), marginal), kl((0.1, 0.9), marginal)])
    torch.testing.assert_close(found[:-1, :, 0], expected[episodes.action[:-1, :, 0]])
    assert not found[-1].any(), "after the last step no seat acts"
    assert not found[..., 1].any(), "seat 1 is no learner"


def test_influence_is_the_sum_over_the_others_that_act_at_the_next_step():
    game = TokenGame(3, num_actions=2, max_steps=6)  # seats leave at different times
    episodes, found = influence_of(game, ["learner", "random", "random"], 16, (0.5, 0.5))
    single = kl((0.9, 0.1), (0.5, 0.5))
    later = torch.cat([episodes.active[1:], torch.zeros_like(episodes.active[:1])])
    expected = single * later[..., 1:].sum(-1) * episodes.learner[..., 0]
    assert set(later[..., 1:].sum(-1).flatten().tolist()) == {0, 1, 2}
    torch.testing.assert_close(found[..., 0], expected)


def test_an_action_of_a_sure_policy_has_no_influence():
    chance = torch.tensor([[[0.9, 0.1], [0.3, 0.7]]])
    assert divergence(chance, torch.tensor([[1.0, 0.0]]), torch.tensor([0])).item() == pytest.approx(0, abs=1e-6)


def test_the_influence_on_a_copying_player_is_the_surprise_of_the_action_and_0_on_others():
    torch.manual_seed(0)
    found = {}
    for partner in ("tit_for_tat", "always_1"):
        agent = tiny_agent(DILEMMA, "Direct", algorithm=PPO, reward=SocialInfluence, hidden=32)
        batch = training_batch(agent, play_with(agent, DILEMMA, ["learner", partner], 64))
        optimizer = torch.optim.Adam(agent.reward.parameters(), 0.02)
        for _ in range(60):
            optimizer.zero_grad()
            agent.reward.losses(batch)["influence"].backward()
            optimizer.step()
        episodes = batch.episodes
        added = agent.reward.reward(episodes, agent.opponent) - episodes.reward
        surprise = -episodes.extras["log_probability"][:-1, :, 0]
        found[partner] = (added[:-1, :, 0] / agent.reward.weight, surprise)
    torch.testing.assert_close(*found["tit_for_tat"], atol=0.05, rtol=0)
    assert found["always_1"][0].abs().max() < 0.01


def test_only_the_next_step_of_co_players_trains_the_network():
    agent = tiny_agent(DILEMMA, "Direct", algorithm=PPO, reward=SocialInfluence)
    episodes = play_with(agent, DILEMMA, ["learner", "random"])
    loss = agent.reward.losses(training_batch(agent, episodes))["influence"]
    changed = episodes._replace(action=episodes.action.clone())
    changed.action[-1, :, 0] = 1 - changed.action[-1, :, 0]  # the learner's own last action is nobody's input or target
    assert agent.reward.losses(training_batch(agent, changed))["influence"].item() == loss.item()
    changed.action[-1, :, 1] = 1 - changed.action[-1, :, 1]
    assert agent.reward.losses(training_batch(agent, changed))["influence"].item() != loss.item()
    assert set(gradients(agent.reward, loss)) == {name for name, _ in agent.reward.named_parameters()}


@pytest.mark.parametrize("reward", REWARDS)
@pytest.mark.parametrize("game", [stag_hunt(3, max_steps=4), LineGame(max_steps=4)], ids=["grid", "reals"])
def test_every_reward_keeps_the_contract(reward, game):
    check_reward(REWARDS[reward], game, batch_size=4)


@pytest.mark.parametrize("reward", ["ring", "influence"])
def test_a_run_learns_from_it_and_reports_the_returns_of_the_game(reward, tmp_path):
    data = tiny_data(game=DILEMMA, seats=["learner", "learner"], num_envs=3)
    agent = tiny_agent(data.env, "Direct", algorithm=small_ppo, reward=REWARDS[reward])
    before = agent.copy_weights()
    logged = fit(data, agent, tmp_path)
    after = agent.state_dict()
    moved = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {"opponent", "algorithm"} | ({"reward"} if reward == "influence" else set())
    assert ("loss/influence" in logged) == (reward == "influence")
    episodes = next(iter(data.evaluate([["learner", "learner"]], 3)))
    agent.validation_step(episodes, 0)
    assert agent.returns.compute()["return/team_mean"] == pytest.approx(float(episodes.reward.sum((0, 2)).mean()))
    assert not torch.equal(agent.reward.reward(episodes, agent.opponent), episodes.reward)


def test_an_actor_that_records_no_policy_is_refused_in_one_line():
    agent = tiny_agent(DILEMMA, "Direct", algorithm=PPO, reward=SocialInfluence)
    episodes = play_with(agent, DILEMMA, ["learner", "random"])
    with pytest.raises(ConfigError, match=r"SocialInfluence needs .* choose --model\.algorithm PPO") as caught:
        agent.reward.reward(episodes._replace(extras={}), agent.opponent)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Prosocial(2), "weight is 2: it must lie between 0 and 1"),
        (lambda: SVO(200), "angle is 200: it must lie between -180 and 180"),
        (lambda: SVO(form="line"), "form is 'line': expected ring or angle"),
        (lambda: SVO(weight=-1), "weight is -1: it must be at least 0"),
        (lambda: SocialInfluence(-1), "weight is -1: it must be at least 0"),
    ],
)
def test_settings_out_of_range_are_refused_in_one_line(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def broken(change, **members):
    """A reward that makes something else of the game's; `change(reward, episodes)`."""

    def reward(self, episodes, opponent):
        return change(episodes.reward, episodes)

    return type("Broken", (Reward,), {"reward": reward, **members})


BROKEN = {
    "shape": (broken(lambda r, e: r[0]), r"Broken.reward: got float32 \[6, 2\]; expected float32 \[T, B, P\]"),
    "padding": (
        broken(lambda r, e: r + e.observation.float().mean((3, 4, 5))),
        "another reward for other padding.*NaN",
    ),
    "after the end": (broken(lambda r, e: r + 1), "after the end .* expected 0: multiply it by episodes.active"),
    "episodes": (broken(lambda r, e: (r - r[e.active].mean()) * e.active), "an episode among other ones"),
    "true goal": (broken(lambda r, e: r + e.true_goal * e.active), "other true goals"),
    "in place": (broken(lambda r, e: r.mul_(2)), "changed in place"),
    "plans with it": (broken(lambda r, e: 2 * r, same_as_game=True), "same_as_game: got another reward"),
    "losses of nothing": (broken(lambda r, e: r, loss_weights={"envy": 1.0}), "without a torch.nn.Module"),
    "an error": (broken(lambda r, e: r + nothing), "NameError .*correct test_rewards.py"),  # noqa: F821
    "no part": (nn.Linear, "expected a subclass of omg_lightning.rewards.Reward"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_reward_is_named_in_one_sentence(what):
    part, message = BROKEN[what]
    with pytest.raises(CheckError, match=message) as caught:
        check_reward(part, stag_hunt(max_steps=4))
    assert "\n" not in str(caught.value)


class Unreached(SocialInfluence):
    """Has a weight that no loss reaches."""

    def build(self, spec):
        super().build(spec)
        self.spare = nn.Linear(1, 1)


def test_a_reward_that_learns_is_checked_like_other_parts_that_learn():
    with pytest.raises(CheckError, match=r"no gradient of the losses for 'spare\.weight'"):
        check_reward(Unreached, DILEMMA)
