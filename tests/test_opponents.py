"""The contract of opponent models, for every model on every kind of view; goals that change; co-player policies."""

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from gymnasium import spaces
from toys import (
    PlainPolicy,
    TokenGame,
    as_batch,
    model_spec,
    plain_learner,
    play_with,
    repeat_last,
    same,
    snapshot,
    stag_hunt,
    tiny_agent,
    training_batch,
)

from omg_lightning import opponents
from omg_lightning.actors.simulator import Networks, Simulator
from omg_lightning.games import Game, Snowdrift
from omg_lightning.losses import masked_logits
from omg_lightning.opponents import BeliefConfig, Direct, MixtureConfig, OpponentModel, Oracle, Targets
from omg_lightning.opponents.action_predictor import ActionPredictor
from omg_lightning.types import NO_GOAL, ConfigError, Estimate, View, take

L = 4


class EchoState(NamedTuple):
    time: torch.Tensor  # int64 [B]
    last: torch.Tensor  # int64 [B, P] every seat's last action


class EchoGame(Game):
    """Off the grid: seats say left, right or nothing, see what all said last, and are paid for saying the same.

    Args:
        binary: views are bits, one-hot for each seat; otherwise real numbers of very different size.
        goals: left and right are declared goals.
    """

    num_players, num_actions, max_steps, noop = 2, 3, 4, 2
    action_names = ("left", "right", "nothing")

    def __init__(self, binary: bool = False, goals: bool = True) -> None:
        self.binary, self.goal_names = binary, ("left", "right") if goals else ()
        self.observation_space = spaces.MultiBinary(6) if binary else spaces.Box(-np.inf, np.inf, (3,), np.float32)

    def reset(self, batch_size, generator=None):
        last = torch.randint(3, (batch_size, 2), generator=generator)
        return EchoState(torch.zeros(batch_size, dtype=torch.int64), last)

    def observe(self, state):
        seen = torch.stack([state.last, state.last.flip(1)], 1)  # [B, P, 2] ego first
        if self.binary:
            return torch.nn.functional.one_hot(seen, 3).flatten(2)
        time = state.time[:, None, None].expand(-1, 2, 1)
        return torch.cat([100.0 * seen[..., :1] - 150, 0.01 * seen[..., 1:], time], -1)

    def step(self, state, actions):
        together = (actions == actions[:, :1]).all(1, keepdim=True) & (actions < 2)
        return EchoState(state.time + 1, actions), together.float()

    def realised(self, state, actions):
        return torch.where(actions < 2, actions, NO_GOAL)


def snowdrift():
    return Snowdrift(num_players=2, num_drifts=2, height=2, width=3, max_steps=6)


GAMES = {"grid": stag_hunt, "reals": EchoGame, "bits": lambda: EchoGame(binary=True)}
EVERYWHERE = ("Direct", "Declared", "Codebook", "Subgoal", "Oracle")
CASES = [(name, game) for name in EVERYWHERE for game in GAMES.values()] + [("Locations", snowdrift)]
EVERY = pytest.mark.parametrize(
    ("name", "make"), CASES, ids=[f"{n}-{k}" for n in EVERYWHERE for k in GAMES] + ["Locations-cells"]
)


def seen(game, state, time):
    """What all seats see of a state in which nothing has been earned."""
    active = game.active(state)
    return View(game.observe(state).float(), game.legal(state), time, active, active * 0.0)


def met(name, make, rows=L):
    """An opponent model, and a view of its game by so many environments."""
    game = make()
    agent, state = tiny_agent(game, name), game.reset(rows, torch.Generator().manual_seed(0))
    view = seen(game, state, torch.zeros(rows))
    return game, agent, agent.opponent, view


def actions_of(game, rows=L):
    return torch.randint(game.num_actions, (rows, game.num_players), generator=torch.Generator().manual_seed(1))


def true_goals(game, rows=L):
    seats = torch.arange(game.num_players).expand(rows, -1)
    return torch.where(seats == 0, NO_GOAL, 1)


# Every model -------------------------------------------------------------------------------------------------------


@EVERY
def test_goals_are_inferred_for_all_seats_from_memory_that_is_a_value(name, make, generator):
    game, agent, model, view = met(name, make)
    prior, true_goal, seats = model.prior(L), true_goals(game), game.num_players
    with torch.no_grad():
        memory = model.start(prior, true_goal)
        before = snapshot((prior, true_goal, memory, tuple(view)))
        for estimate in (model.infer(memory, view), model.uninformed(memory, view)):
            assert estimate.point.shape == (L, seats, model.size)
            assert estimate.draw(7, generator).shape == (L, 7, seats, model.size)
        following = model.update(memory, view, actions_of(game), torch.full((L, seats), NO_GOAL))
        carried = model.carry(prior, play_with(agent, game, ["random"] * seats, L))
        assert carried.shape == prior.shape
        assert same((prior, true_goal, memory, tuple(view)), before), "inputs are never changed in place"
        assert type(following) is type(memory)
        again = model.infer(following, view)
        assert again.point.shape == (L, seats, model.size)
        twice = [model.infer(memory, view).draw(3, torch.Generator().manual_seed(5)) for _ in range(2)]
        assert torch.equal(*twice), "the same inputs give the same draws"


@EVERY
def test_environments_are_inferred_independently_of_each_other(name, make):
    game, _, model, view = met(name, make)
    with torch.no_grad():
        memory = model.start(model.prior(L), true_goals(game))
        memory = model.update(memory, view, actions_of(game), torch.full((L, game.num_players), NO_GOAL))
        point = model.infer(memory, view).point
        index = torch.tensor([2, 0])
        alone = model.infer(take(memory, index), take(view, index)).point
    torch.testing.assert_close(alone, point[index])


@EVERY
def test_goals_stay_in_a_search_unless_a_model_says_otherwise(name, make, generator):
    game, _, model, view = met(name, make)
    goal = torch.rand(L, game.num_players, model.size)
    assert not model.goals_change
    assert torch.equal(model.next_goal(goal, view, torch.zeros(L, game.num_players).long(), generator), goal)


@EVERY
def test_a_forecast_is_a_distribution_over_legal_actions(name, make):
    game, _, model, view = met(name, make)
    with torch.no_grad():
        memory = model.start(model.prior(L), true_goals(game))
        goal, legal = model.infer(memory, view).point[:, 1], view.legal[:, 1].clone()
        legal[0] = torch.arange(game.num_actions) == 1
        seat = torch.ones(L, dtype=torch.int64)
        chances = model.forecast(view.observation[:, 1], view.time, seat, legal, goal).softmax(-1)
    torch.testing.assert_close(chances.sum(-1), torch.ones(L))
    assert not chances[~legal].any()
    if goal.any():  # without any belief, as of seats that pursue nothing, nothing is promised
        assert float(chances[0, 1]) == 1


@EVERY
@pytest.mark.parametrize("offline", [False, True], ids=["online", "offline"])
def test_one_training_step_has_finite_losses_and_moves_the_weights(name, make, offline):
    game, agent, model, _ = met(name, make)
    episodes = play_with(agent, game, ["random", "random"] if offline else ["learner", "random"], 8)
    goals = torch.randint(2, episodes.true_goal.shape, generator=torch.Generator().manual_seed(0))
    losses = agent.losses(as_batch(episodes._replace(true_goal=goals), offline))
    assert {name for name in losses if name in model.loss_weights} == set(model.loss_weights)
    assert all(torch.isfinite(value) for value in losses.values())
    before = {key: weight.clone() for key, weight in model.named_parameters()}
    optimizer = agent.optimizer()
    agent.weigh(losses).backward()
    optimizer.step()
    moved = {key.split(".")[0] for key, weight in model.named_parameters() if not torch.equal(weight, before[key])}
    assert moved == {key.split(".")[0] for key in before}
    assert all(weight.isfinite().all() for weight in model.parameters())


@EVERY
@pytest.mark.parametrize("online", [True, False])
def test_co_player_policies_that_are_not_trained_online_keep_what_scripts_taught_them(name, make, online):
    game = make()
    agent = tiny_agent(game, name, opponent_args={"online": online})
    episodes = play_with(agent, game, ["learner", "random"])
    assert "coplayer" in agent.losses(as_batch(episodes, offline=True))
    assert ("coplayer" in agent.losses(as_batch(episodes))) == online


@pytest.mark.parametrize("name", EVERYWHERE)
def test_a_model_without_weight_for_its_co_player_policies_does_not_train_them(name):
    game = stag_hunt()
    agent = tiny_agent(game, name, losses={"coplayer": 0.0})
    assert "coplayer" not in agent.losses(as_batch(play_with(agent, game, ["learner", "random"])))


# What a game must offer --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Declared", "Oracle", "Locations"])
@pytest.mark.parametrize("make", [lambda: EchoGame(goals=False), lambda: EchoGame(binary=True, goals=False)])
def test_a_model_that_needs_declared_goals_refuses_a_game_without(name, make):
    with pytest.raises(ConfigError, match=f"opponent {name} needs.*EchoGame.*use ") as caught:
        getattr(opponents, name)(model_spec(make()))
    assert "\n" not in str(caught.value)


def test_locations_refuses_goals_that_are_not_objects_in_cells():
    for game in (EchoGame(), TokenGame(2)):
        with pytest.raises(ConfigError, match="Locations needs goals that are objects in cells of a grid") as caught:
            opponents.Locations(model_spec(game))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["Direct", "Codebook", "Subgoal"])
def test_the_other_models_play_and_learn_without_declared_goals(name):
    game = EchoGame(goals=False)
    agent = tiny_agent(game, name)
    losses = agent.losses(as_batch(play_with(agent, game, ["learner", "random"])))
    assert torch.isfinite(agent.weigh(losses))
    assert agent.opponent.metrics(game.goal_names) == {}


# Models without belief, and with the truth -------------------------------------------------------------------------


def test_goals_of_the_direct_model_are_empty_and_known_everywhere():
    game = TokenGame(3)
    agent = tiny_agent(game, "Direct")
    episodes = play_with(agent, game, ["learner", "random", "random"])
    targets = training_batch(agent, episodes).targets
    assert agent.opponent.size == 0
    assert targets.label.shape == (*episodes.active.shape, 0)
    assert torch.equal(targets.known, episodes.active)


def test_the_oracle_takes_the_scripts_goals_as_they_are():
    game = TokenGame(3)
    model = Oracle(model_spec(game))
    memory = model.start(model.prior(1), torch.tensor([[1, NO_GOAL, 0]]))
    truth = [[[0, 1], [0, 0], [1, 0]]]
    assert memory.tolist() == truth
    state = game.reset(1)
    view = seen(game, state, torch.zeros(1))
    memory = model.update(memory, view, torch.zeros(1, 3, dtype=torch.int64), torch.zeros(1, 3, dtype=torch.int64))
    estimate = model.infer(memory, view)
    assert estimate.point.tolist() == truth
    assert torch.equal(estimate.draw(3, torch.Generator()), memory[:, None].expand(1, 3, 3, 2))


def test_the_oracle_is_trained_on_true_goals():
    game = stag_hunt()
    agent = tiny_agent(game, "Oracle")
    episodes = play_with(agent, game, ["nearest_stag", "nearest_hare"])
    targets = training_batch(agent, episodes, offline=True).targets
    assert targets.known[episodes.active].all()
    for seat, expected in enumerate(([1, 0], [0, 1])):
        there = episodes.active[..., seat]
        assert (targets.label[..., seat, :][there] == torch.tensor(expected)).all()


# Goals that change in a search -------------------------------------------------------------------------------------


class Following(Direct):
    """A seat's goal is the action that it last achieved something by; goals are vectors of length 1."""

    goals_change = True

    def __init__(self, spec):
        super().__init__(spec)
        self.size, self.calls = 1, 0

    def next_goal(self, goal, view, achieved, generator):
        self.calls, self.view, self.achieved = self.calls + 1, view, achieved
        return torch.where(achieved != NO_GOAL, achieved, goal[..., 0])[..., None].float()


class Watching(PlainPolicy):
    """Keeps the goals that it was asked with."""

    def __call__(self, view, time, condition):
        self.asked = condition
        return super().__call__(view, time, condition)


def searched(trees=6, seed=0, kind=Following):
    """A simulator of token players that say their last word plus their goal, and where it starts."""
    game, generator = TokenGame(3), torch.Generator().manual_seed(seed)
    state = game.reset(trees, generator)
    ego, goals = torch.arange(trees) % 3, torch.randint(4, (trees, 3, 1), generator=generator).float()
    goals = torch.where(game.active(state)[..., None], goals, 0.0)
    model, policy = kind(model_spec(game)), Watching(game.num_actions)
    opponent = plain_learner(game, repeat_last, model).opponent
    simulator = Simulator(game, Networks(opponent, policy, False, False), ego, goals, generator)
    return game, simulator, policy, model, state, ego, goals


class Tree(NamedTuple):
    """One node of one tree, in plain numbers."""

    time: int
    last: list[int]  # of each seat
    goal: list[int]
    achieved: list[int]  # by the step that led here

    def said(self, seat, leaves, actions):
        """What a co-player says here."""
        return (self.last[seat] + self.goal[seat]) % actions if self.time < leaves[seat] else actions - 1

    def after(self, ego, action, leaves, actions):
        """The node that the ego's action leads to."""
        joint = [self.said(seat, leaves, actions) for seat in range(len(self.last))]
        joint[ego] = action if self.time < leaves[ego] else actions - 1
        going = [self.time < left for left in leaves]
        achieved = [a if there and a < 2 else NO_GOAL for a, there in zip(joint, going, strict=True)]
        goal = [new if new != NO_GOAL else old for new, old in zip(achieved, self.goal, strict=True)]
        time = self.time + any(going)
        goal = [g if time < left else 0 for g, left in zip(goal, leaves, strict=True)]
        last = [a if there else x for a, x, there in zip(joint, self.last, going, strict=True)]
        return Tree(time, last, goal, achieved)


@pytest.mark.parametrize("seed", range(3))
def test_changing_goals_follow_every_node_as_in_a_slow_simulation_of_single_trees(seed):
    game, simulator, policy, model, state, ego, goals = searched(seed=seed)
    node = simulator.root(state).state
    slow = [Tree(0, state.last[k].tolist(), goals[k, :, 0].int().tolist(), []) for k in range(6)]
    random, turned = torch.Generator().manual_seed(seed), False
    for step in range(game.max_steps + 1):
        for k in range(6):
            leaves, others = state.leaves[k].tolist(), [(int(ego[k]) + j) % 3 for j in (1, 2)]
            said = [slow[k].said(seat, leaves, game.num_actions) for seat in others]
            assert node.coplayers[k].tolist() == said, "co-players are asked under the goals of this node"
            assert node.goals[k, others, 0].int().tolist() == [slow[k].goal[seat] for seat in others]
            assert policy.asked[k].tolist() == [slow[k].goal[seat] for seat in others], "and so is the policy"
        assert model.calls == step, "the transition is asked once at every node, and not at the root"
        legal = game.legal(node.game)[torch.arange(6), ego]
        actions = torch.multinomial(legal.float(), 1, generator=random)[:, 0]
        before = snapshot(node)
        output, following = simulator.step(node, actions)
        assert same(node, before), "a node is never written to"
        turned |= bool((following.goals != node.goals).any())
        slow = [slow[k].after(int(ego[k]), int(actions[k]), state.leaves[k].tolist(), 5) for k in range(6)]
        assert model.achieved.tolist() == [tree.achieved for tree in slow], "also by a seat that leaves with this step"
        after = following.game
        seen = (game.observe(after), game.legal(after), after.time / game.max_steps, game.active(after))
        assert same(tuple(model.view)[:4], seen), "the transition sees what the step led to"
        assert torch.equal(model.view.reward[torch.arange(6), ego], output.reward), "and what it earned"
        node = following
    assert turned, "or this test shows nothing"


def test_each_branch_of_a_search_has_goals_of_its_own():
    _, simulator, _, _, state, ego, _ = searched()
    root = simulator.root(state).state
    rows, words = torch.arange(6), [torch.full((6,), action) for action in (0, 1)]
    one, two = (simulator.step(root, word)[1] for word in words)
    here = simulator.game.active(one.game)[rows, ego]
    assert (one.goals[rows, ego, 0][here] == 0).all()
    assert (two.goals[rows, ego, 0][here] == 1).all()
    assert same(simulator.step(root, words[0])[1], one), "the way to a node does not change its parent"


def test_goals_that_stay_are_conditioned_on_once_and_are_no_part_of_a_node():
    asked = []
    _, simulator, *_, state, _, _ = searched(kind=Direct)
    opponent, policy = simulator.networks.opponent, simulator.networks.policy
    opponent.condition = lambda goals, seat: asked.append("opponent") or goals
    policy.condition = lambda goals, seat: asked.append("policy") or goals.flatten(1)
    node = simulator.root(state).state
    count = len(asked)
    for _ in range(3):
        _, node = simulator.step(node, torch.zeros(6, dtype=torch.int64))
    assert len(asked) == count
    assert node.goals.shape == (6, 0)


class Drifting(OpponentModel):
    """Real networks under goals that are drawn anew at every node."""

    goals_change = True

    def __init__(self, spec):
        super().__init__(spec, 2)
        self.seen = []

    def infer(self, memory, view):
        point = torch.ones(*view.active.shape, 2)
        return Estimate(point, lambda trees, generator: point[:, None].expand(-1, trees, -1, -1))

    def next_goal(self, goal, view, achieved, generator):
        self.seen.append(view)
        return torch.randn(goal.shape, generator=generator)

    def targets(self, batch):
        return Targets(batch.episodes.goal, torch.ones_like(batch.episodes.goal), batch.episodes.active)


def test_an_agent_whose_goals_change_searches_reproducibly_and_learns():
    game = stag_hunt()
    agent = tiny_agent(game, Drifting, search_args={"trees": 2, "simulations": 3})
    one, two = (play_with(agent, game, ["learner", "random"], 4) for _ in range(2))
    assert same(one.tensors(), two.tensors())
    steps = int(one.learner.any((1, 2)).sum())
    assert len(agent.opponent.seen) == 2 * 3 * steps
    view = agent.opponent.seen[0]
    assert view.observation.shape == (4 * 2, 2, *game.observation_shape)
    assert float(view.time[0]) == pytest.approx(1 / game.max_steps), "the view is the one after the step"
    assert torch.isfinite(agent.weigh(agent.losses(as_batch(one))))


# Co-player policies ------------------------------------------------------------------------------------------------


def test_co_player_loss_is_the_cross_entropy_over_legal_actions():
    game = TokenGame(2, num_actions=3)
    predictor = ActionPredictor(model_spec(game, hidden=8), 1)
    with torch.no_grad():
        predictor.net.out.weight.zero_()
        predictor.net.out.bias.copy_(torch.tensor([0.0, math.log(3), 9.0]))
    legal = torch.tensor([[True, True, False], [True, True, True]])
    views, seat = torch.zeros(2, *game.observation_shape), torch.tensor([0, 1])
    found = predictor.loss(views, torch.zeros(2), torch.zeros(2, 1), seat, legal, torch.tensor([0, 2]))
    second = math.log(4 + math.exp(9)) - 9
    assert found["coplayer"].item() == pytest.approx((math.log(4) + second) / 2, rel=1e-5)
    assert found["coplayer_top1"].item() == 0.5
    assert not found["coplayer_top1"].requires_grad


def test_co_player_loss_of_no_samples_is_zero_and_not_nan():
    game = TokenGame(2, num_actions=3)
    none, legal = torch.zeros(0), torch.ones(0, 3, dtype=torch.bool)
    predictor = ActionPredictor(model_spec(game), 1)
    found = predictor.loss(
        torch.zeros(0, *game.observation_shape), none, none[:, None], none.long(), legal, none.long()
    )
    assert found["coplayer"].item() == found["coplayer_top1"].item() == 0


@pytest.mark.parametrize("sharing", ["shared", "roles", "separate"])
def test_the_likelihood_of_actions_under_each_goal_equals_one_call_for_each(sharing):
    game = stag_hunt()
    model = tiny_agent(game, "Declared", sharing=sharing).opponent
    state = game.reset(3, torch.Generator().manual_seed(0))
    view = seen(game, state, torch.tensor([0.0, 0.5, 1.0]))
    actions = torch.tensor([[4, 4], [4, 4], [4, 4]])
    with torch.no_grad():
        found = model.predictor.likelihood(view, actions)
        for row, seat, goal in torch.ones(3, 2, 2).nonzero().tolist():
            condition = model.condition(torch.eye(2)[goal][None], torch.tensor([seat]))
            logits = model.predict(view.observation[row, seat][None], view.time[row][None], condition)[0]
            logs = masked_logits(logits, view.legal[row, seat]).log_softmax(-1)
            assert float(found[row, seat, goal]) == pytest.approx(float(logs[actions[row, seat]]), abs=1e-5)
    assert (found[..., 0] != found[..., 1]).all(), "goals matter"


@pytest.mark.parametrize("learner", [0, 1])
def test_co_players_are_learned_from_their_own_views_goals_and_actions(learner):
    game = TokenGame(3)
    agent = tiny_agent(game, "Declared", opponent_args={"belief": BeliefConfig(labels="hindsight")})
    lineup = ["random"] * 3
    lineup[learner] = "learner"
    episodes = play_with(agent, game, lineup)
    episodes.achieved_goal[0, :, learner] = 1  # the learner's steps have labels too, and are no samples
    asked = {}
    loss = agent.opponent.predictor.loss

    def spy(observation, time, goal, seat, legal, action):
        asked.update(view=observation, time=time, goal=goal, seat=seat, legal=legal, action=action)
        return loss(observation, time, goal, seat, legal, action)

    agent.opponent.predictor.loss = spy
    batch = replace(training_batch(agent, episodes), prepare=torch.clone)
    agent.opponent.losses(batch)
    assert (episodes.active & ~batch.targets.known).any(), "there are steps without a label, which are no samples"
    where = [(t, b, p) for t, b, p in batch.targets.known.nonzero().tolist() if p != learner]
    assert len(where) == len(asked["view"]) > 0
    for row, (t, b, p) in enumerate(where):
        assert torch.equal(asked["view"][row], episodes.observation[t, b, p].float())
        assert int(asked["seat"][row]) == p
        assert int(asked["action"][row]) == episodes.action[t, b, p]
        assert torch.equal(asked["legal"][row], episodes.legal[t, b, p])
        assert torch.equal(asked["goal"][row], batch.targets.label[t, b, p])
        assert float(asked["time"][row]) == pytest.approx(t / game.max_steps)


# Settings ----------------------------------------------------------------------------------------------------------


def test_the_share_of_goals_in_hindsight_falls_linearly_to_zero():
    mixture = MixtureConfig(start=0.5, steps=1000)
    assert [mixture.share(steps) for steps in (0, 500, 1000, 9999)] == [0.5, 0.25, 0.0, 0.0]


@pytest.mark.parametrize("settings", [{"start": 2.0}, {"start": -0.1}, {"steps": 0}])
def test_a_mixture_out_of_range_is_refused_by_name(settings):
    with pytest.raises(ConfigError, match=r"mixture.start is .* mixture.steps") as caught:
        MixtureConfig(**settings)
    assert "\n" not in str(caught.value)
