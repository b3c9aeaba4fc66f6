"""LIAM and MeLIBA: acting against learning, whose history counts, losses by hand, and whether the embedding is used."""

import math
from functools import partial
from itertools import product

import pytest
import torch
from lightning import Trainer
from toys import TokenGame, attached, gradients, play_with, stag_hunt, tiny_agent, tiny_data, training_batch

from callbacks import BufferRefresh
from omg_lightning.actors import arrange
from omg_lightning.algorithms import PPO
from omg_lightning.envs import RulesEnv
from omg_lightning.evaluation.probe import linear_probe
from omg_lightning.events import watchers
from omg_lightning.games import MatrixGame
from omg_lightning.opponents.liam import pairs_of
from omg_lightning.rollout import play
from omg_lightning.types import ConfigError

DILEMMA = MatrixGame("prisoners_dilemma", max_steps=4)
KINDS = ("LIAM", "MeLIBA")
both = pytest.mark.parametrize("kind", KINDS)


def played(kind="LIAM", game=None, lineup=("learner", "random", "learner"), batch=8, **args):
    """An agent, and episodes of a game that seats leave at different times."""
    game = game or TokenGame(3)
    agent = tiny_agent(game, kind, algorithm=PPO, opponent_args={"embedding": 4, **args})
    return agent, play_with(agent, game, list(lineup), batch)


@both
def test_inference_while_acting_equals_inference_from_whole_episodes(kind):
    agent, episodes = played(kind)
    found = agent.opponent.targets(training_batch(agent, episodes)).inferred
    here = episodes.active
    torch.testing.assert_close(found[here], episodes.goal[here])
    assert not episodes.goal[~here].any()


@both
def test_an_embedding_depends_on_the_own_views_and_the_own_past_actions_alone(kind):
    agent, episodes = played(kind, DILEMMA, ("learner", "learner"))

    def embedded(**change):
        return agent.opponent.targets(training_batch(agent, episodes._replace(**change))).inferred

    before = embedded()
    observation, action = episodes.observation.clone(), episodes.action.clone()
    observation[:, :, 1], action[:, :, 1] = 1 - observation[:, :, 1], 1 - action[:, :, 1]
    after = embedded(observation=observation, action=action)
    assert torch.equal(after[:, :, 0], before[:, :, 0])
    assert (after[1:, :, 1] != before[1:, :, 1]).any(-1).all()
    action = episodes.action.clone()
    action[2, :, 0] = 1 - action[2, :, 0]
    after = embedded(action=action)
    assert torch.equal(after[:3], before[:3]), "an action is not known before it is played"
    assert (after[3, :, 0] != before[3, :, 0]).any(-1).all()


@both
def test_no_gradient_of_the_policy_reaches_the_encoder_and_none_of_the_co_player_policies_does(kind):
    agent, episodes = played(kind)
    batch = training_batch(agent, episodes)
    losses = agent.algorithm.losses(batch)
    reached = gradients(agent, losses["policy"] + losses["value"])
    assert {name.split(".")[0] for name in reached} == {"algorithm"}
    found = agent.opponent.losses(training_batch(agent, episodes))
    assert {name.split(".")[1] for name in gradients(agent, found["coplayer"])} == {"predictor"}
    parts = {"encoder", "history", "head", "view_decoder", "action_decoder"}
    found = agent.opponent.losses(training_batch(agent, episodes))
    assert {name.split(".")[1] for name in gradients(agent, found["liam_view"] + found["liam_action"])} == parts


@both
def test_the_policy_sees_the_own_embedding_when_it_acts_and_when_it_learns(kind):
    agent, episodes = played(kind, lineup=("learner", "learner", "learner"))
    batch = training_batch(agent, episodes)
    losses = agent.algorithm.losses(batch)
    assert float(losses["ppo_kl"]) == pytest.approx(0, abs=1e-6)
    t, b, ego = where = episodes.learner.nonzero(as_tuple=True)
    seen = batch.others(episodes.goal, where)
    assert torch.equal(seen, episodes.goal[t, b, ego][:, None].expand(-1, 2, -1))
    changed = episodes.goal.clone()
    changed[:, :, 1] += 1
    condition = agent.algorithm.policy.condition(seen, ego)
    other = agent.algorithm.policy.condition(batch.others(changed, where), ego)
    assert torch.equal((condition != other).any(-1), ego == 1)


def test_a_search_plans_with_the_own_embedding_for_every_co_player():
    game = stag_hunt(3, max_steps=3)
    agent, seen = tiny_agent(game, "LIAM", opponent_args={"embedding": 4}), []
    condition = agent.opponent.condition
    agent.opponent.condition = lambda goal, seat: (seen.append((goal, seat)), condition(goal, seat))[1]
    episodes = play_with(agent, game, ["learner", "random", "random"], 1)
    goal, seat = seen[0]
    assert seat.tolist() == [1, 2]
    assert torch.equal(goal, episodes.goal[0, 0, :1].expand(2, -1))


def test_observers_observe_every_other_active_seat():
    agent, episodes = played()
    pairs = pairs_of(episodes)
    expected = [
        (t, b, i, j)
        for t, b, i, j in product(*map(range, (*episodes.active.shape, 3)))
        if i != j and i != 1 and episodes.active[t, b, i] and episodes.active[t, b, j]
    ]
    assert list(zip(*(index.tolist() for index in pairs[:4]), strict=True)) == expected
    samples = training_batch(agent, episodes).samples
    seen = episodes.observation[pairs.t, pairs.row, pairs.other].float()
    assert torch.equal(samples.observation[pairs.sample[pairs.t, pairs.row, pairs.other]], seen)
    nobody = pairs_of(episodes._replace(learner=torch.zeros_like(episodes.learner)))
    assert set(nobody.ego.tolist()) == {0, 1, 2}
    assert watchers(episodes).unique(dim=0).tolist() == [[2, 0, 0]]
    assert watchers(episodes._replace(learner=torch.zeros_like(episodes.learner)))[0].tolist() == [1, 2, 0]


@both
def test_the_loss_of_an_uninformed_decoder_is_the_entropy_of_views_and_actions(kind):
    agent, episodes = played(kind, DILEMMA, ("learner", "random"))
    for decoder in (agent.opponent.view_decoder.layers, agent.opponent.action_decoder):
        decoder[-1].weight.data.zero_()
        decoder[-1].bias.data.zero_()
    losses = agent.opponent.losses(training_batch(agent, episodes))
    assert losses["liam_action"].item() == pytest.approx(math.log(2))  # two actions
    assert losses["liam_view"].item() == pytest.approx(4 * math.log(2))  # four bits


def test_each_co_player_is_decoded_at_its_own_place():
    agent, episodes = played(lineup=("learner", "random", "random"))
    seen, decoder = [], agent.opponent.action_decoder.forward
    agent.opponent.action_decoder.forward = lambda x: (seen.append(x), decoder(x))[1]
    agent.opponent.losses(training_batch(agent, episodes))
    pairs = pairs_of(episodes)
    assert torch.equal(seen[0][:, 4:].argmax(-1) + 1, (pairs.other - pairs.ego) % 3)


def test_the_posterior_is_held_to_the_one_of_the_step_before_and_the_first_to_the_normal():
    agent, episodes = played("MeLIBA", DILEMMA, ("learner", "random"))
    head = agent.opponent.head  # means of both latents, then logarithms of their variances, each of 2 * 4
    head.weight.data.zero_()
    head.bias.data.copy_(torch.tensor([1.0] * 8 + [math.log(0.5)] * 8))
    assert agent.opponent.embed(torch.zeros(1, 16))[0].tolist() == pytest.approx([1] * 8 + [0.5] * 8)
    first = 8 * 0.5 * (0.5 + 1 - 1 - math.log(0.5))
    found = agent.opponent.losses(training_batch(agent, episodes))["meliba_kl"].item()
    assert found == pytest.approx(first / 4), "it never moves after the first of four steps"


def test_later_actions_are_those_of_steps_from_here_to_where_the_co_player_leaves():
    agent, episodes = played("MeLIBA", lineup=("learner", "random", "random"))
    asked, later = [], agent.opponent.later.forward
    agent.opponent.later.forward = lambda view, time, condition: (asked.append(time), later(view, time, condition))[1]
    for seed in range(25):
        agent.opponent.losses(training_batch(agent, episodes, seed=seed))
    pairs, times = pairs_of(episodes), torch.stack(asked) * TokenGame(3).max_steps
    last = (episodes.active.sum(0) - 1)[pairs.row, pairs.other]
    torch.testing.assert_close(times.amin(0), pairs.t.float())
    torch.testing.assert_close(times.amax(0), last.float())


def test_an_embedding_without_entries_is_refused_in_one_line():
    with pytest.raises(ConfigError, match=r"embedding is 0: it must be at least 1$"):
        tiny_agent(DILEMMA, "LIAM", opponent_args={"embedding": 0})


def test_evaluations_predict_a_co_player_from_its_watcher_s_embedding():
    data = attached(tiny_data(game=DILEMMA, seats=["learner", "random"]), "LIAM", algorithm=PPO)
    agent = data.population.learners(())["learner"].opponent
    episodes = next(iter(data.evaluate([["learner", "random"]], 3)))
    whole = tiny_agent(DILEMMA, "LIAM", algorithm=PPO)
    whole.opponent.load_state_dict(agent.state_dict())
    seen = []
    whole.opponent.forecast = lambda view, time, seat, legal, goal: (seen.append(goal), torch.zeros(len(view), 2))[1]
    whole.validation_step(episodes, 0)
    assert torch.equal(seen[0], episodes.goal[:, :, 0].flatten(0, 1)), "seat 1 is watched by seat 0"


def test_a_linear_probe_reads_what_a_line_separates_and_nothing_from_noise():
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (400,), generator=random)
    centres = torch.tensor([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0]])
    near = centres[labels] + 0.5 * torch.randn(400, 2, generator=random)
    noise = torch.randn(400, 2, generator=random)
    assert linear_probe(near[:200], labels[:200], near[200:], labels[200:]) > 0.99
    assert linear_probe(noise[:200], labels[:200], noise[200:], labels[200:]) == pytest.approx(1 / 3, abs=0.1)


# Does it pay? --------------------------------------------------------------------------------------------------------

GUESS = MatrixGame(payoff=[[1, 0, 0], [0, 1, 0], [0, 0, 1]], max_steps=20)  # 1 for the action that the partner plays
PARTNERS = [["learner", f"mostly_{kind}"] for kind in range(3)]  # its own kind 4 times of 5


def trained(opponent):
    """The return of a learner beside partners of three kinds, and the kind as a probe reads it after ten steps."""
    data = tiny_data(game=GUESS, seats=PARTNERS, num_envs=96, training={"capacity": 96}, offline={"rounds": 0})
    ppo = partial(PPO, discount=0.9, minibatches=2, entropy=0.02)
    agent = tiny_agent(GUESS, opponent, hidden=32, learning_rate=3e-3, algorithm=ppo)
    Trainer(
        max_epochs=30, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, limit_val_batches=0, callbacks=[BufferRefresh()],
    ).fit(agent, data)  # fmt: skip
    env = RulesEnv(GUESS)
    seating = arrange(PARTNERS, 600, env, torch.Generator().device)
    episodes = play(env, seating, {"learner": agent.actor()}, torch.Generator().manual_seed(1), greedy=True).episodes
    kind, nobody = torch.arange(600) % 3, agent.opponent.size == 0
    known = episodes.observation[10, :, 0].float() if nobody else episodes.goal[10, :, 0 if opponent == "LIAM" else 1]
    read = linear_probe(known[:300], kind[:300], known[300:], kind[300:])
    return float(episodes.reward[..., 0].sum(0).mean()), read


@pytest.mark.slow
def test_the_oracle_beats_liam_which_beats_no_opponent_model_and_a_line_tells_the_partner_from_the_embedding():
    """Who repeats the last action wins 1/3 + 19 * 0.66 = 12.9 of 20; who knows the kind wins 20 * 0.8 = 16."""
    (none, view), (liam, embedding), (oracle, _) = (trained(name) for name in ("Direct", "LIAM", "Oracle"))
    assert none == pytest.approx(12.9, abs=0.4)
    assert oracle == pytest.approx(16, abs=0.4)
    assert none + 1 < liam < oracle - 0.4
    assert view == pytest.approx(0.8, abs=0.1)  # the last action alone
    assert embedding > 0.95
