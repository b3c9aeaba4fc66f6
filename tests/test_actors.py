"""What sits in a seat: how searching actors, policies and players decide, and what they are asked with."""

import math
from importlib import import_module

import pytest
import torch
from number_games import Countdown, NumberGame
from toys import Fixed, TokenGame, plain_learner, repeat_last, same, stag_hunt, tiny_agent

from omg_lightning.actors import (
    Memory,
    PlannerConfig,
    PlayerActor,
    PolicyActor,
    Scene,
    SearchActor,
    arrange,
)
from omg_lightning.actors.search import root_policy, sharpened
from omg_lightning.algorithms import PPO
from omg_lightning.envs import CopyableGame, PettingZooEnv, as_env
from omg_lightning.games import Snowdrift
from omg_lightning.rollout import play
from omg_lightning.search import Root, SearchConfig, SearchResult, pooled_policy
from omg_lightning.types import ConfigError, View

DEVICE = torch.Generator().device  # the CPU, or that of `pytest --device`


def scene_of(env, state, greedy=True, seed=0):
    """The first step of episodes that start in `state`."""
    now = Fixed(env, state).reset(len(state.time), torch.Generator())
    fixed = Fixed(env, state)
    fixed.reset(len(state.time), torch.Generator())
    view = View(now.observation, now.legal, torch.zeros(len(state.time)), now.active, now.reward)
    return Scene(fixed, view, torch.Generator().manual_seed(seed), greedy)


def decided(monkeypatch, greedy=True, **planner):
    """What four decisions with three trees each come to, and what their searches found; `[4, 3, A]` each."""
    roots = []
    game = TokenGame(2, ragged=False)
    actor = plain_learner(game, trees=3, **planner)
    module, found = import_module("omg_lightning.actors.search"), []
    search = module.search

    def spy(root, *args):
        found.append(search(root, *args))
        roots.append(root)
        return found[-1]

    monkeypatch.setattr(module, "search", spy)
    scene = scene_of(game, game.reset(4, torch.Generator().manual_seed(0)), greedy)
    memory = actor.start(scene.env, torch.ones(4, 2, dtype=torch.bool), actor.prior(4), scene.generator)
    estimate = actor.opponent.infer(memory.opponent, scene.view)
    made = actor.decide(memory, scene, estimate, torch.tensor([0, 1, 1, 3]), torch.tensor([1, 0, 1, 0]))
    policy, value = made.extras["root_policy"], made.extras["root_value"]
    statistics = (found[0].q, found[0].policy, found[0].visits.float(), roots[0].prior_logits)
    return (policy, made.action, value), *(each.view(4, 3, -1) for each in statistics)


def test_root_values_are_averaged_over_trees_and_the_root_policy_is_their_softmax(monkeypatch):
    (policy, action, value), q, *_ = decided(monkeypatch, beta=0.5)
    for m in range(4):
        mean = sum(q[m, k] for k in range(3)) / 3
        torch.testing.assert_close(policy[m], torch.softmax(0.5 * mean, -1))
        assert int(action[m]) == int(mean.argmax())
        assert float(value[m]) == pytest.approx(float(policy[m] @ mean), rel=1e-5)


def test_the_root_policy_can_be_the_visits_of_the_search(monkeypatch):
    (policy, action, value), q, answers, *_ = decided(monkeypatch, policy="search", rule="puct", c_puct=50.0)
    for m in range(4):
        mean = sum(answers[m, k] for k in range(3)) / 3
        torch.testing.assert_close(policy[m], mean)
        assert int(action[m]) == int(mean.argmax())
        assert float(value[m]) == pytest.approx(float(mean @ q[m].mean(0)), rel=1e-5)
    assert not torch.allclose(policy, torch.softmax(2 * q.mean(1), -1), atol=1e-3), "not the softmax of values"


def test_gumbel_improves_the_policy_once_by_values_averaged_over_trees(monkeypatch):
    (policy, action, value), q, _, visits, logits = decided(monkeypatch, policy="search", rule="gumbel")
    for m in range(4):  # all actions are legal here
        mean, most = q[m].mean(0), visits[m].mean(0).max()
        prior = torch.log_softmax(logits[m], -1).mean(0)
        shares = (mean - mean.min()) / (mean.max() - mean.min())
        expected = torch.softmax(prior + (50 + most) * 0.1 * shares, -1)
        torch.testing.assert_close(policy[m], expected)
        assert int(action[m]) == int(expected.argmax())
        assert float(value[m]) == pytest.approx(float(expected @ mean), rel=1e-5)


def test_a_rare_large_loss_is_not_outvoted():
    # Three trees in which action 0 earns 1, and one in which it costs 10; action 1 earns 0. Three of four trees would
    # choose action 0, and it costs 1.75 in the mean.
    q = torch.tensor([[1.0, 0], [1, 0], [1, 0], [-10, 0]])
    policy = torch.softmax(5 * q, -1)
    result = SearchResult(q, torch.full((4, 2), 4), policy, torch.zeros(4), q.argmax(-1))
    root = Root(torch.zeros(4, 2), torch.zeros(4), torch.ones(4, 2, dtype=torch.bool), None)
    pooled = pooled_policy(SearchConfig(rule="gumbel"), result, root, 4)
    assert policy.mean(0).argmax() == 0
    assert pooled.shape == (1, 2)
    assert pooled[0].argmax() == 1


def test_a_pooled_policy_is_0_where_illegal():
    legal = torch.tensor([[True, False, True]] * 2)
    q = torch.tensor([[1.0, 0, 2], [3, 0, 2]])
    result = SearchResult(q, torch.ones(2, 3, dtype=torch.int64), q, torch.zeros(2), torch.zeros(2, dtype=torch.int64))
    root = Root(torch.tensor([[0.0, 99, 0]] * 2), torch.zeros(2), legal, None)
    pooled = pooled_policy(SearchConfig(rule="gumbel"), result, root, 2)
    torch.testing.assert_close(pooled, torch.tensor([[0.5, 0, 0.5]]))


def test_every_tree_has_goals_of_its_own_and_keeps_them():
    game = TokenGame(3, ragged=False)
    seen = []

    def coplayer(view, time, condition):
        seen.append(condition.view(-1, 2))  # [decisions * trees, P-1]
        return repeat_last(view, time, condition)

    actor = plain_learner(game, coplayer, trees=4)
    numbers = torch.arange(2 * 4 * 3).view(2, 4, 3, 1).float()  # environment, tree, seat
    scene = scene_of(game, game.reset(2, torch.Generator().manual_seed(0)), greedy=False)
    memory = actor.start(scene.env, torch.ones(2, 3, dtype=torch.bool), actor.prior(2), scene.generator)
    estimate = actor.opponent.infer(memory.opponent, scene.view)._replace(draw=lambda trees, generator: numbers)
    actor.decide(memory, scene, estimate, torch.tensor([0, 1]), torch.tensor([1, 0]))
    expected = torch.cat([numbers[0, :, [2, 0], 0], numbers[1, :, [1, 2], 0]])
    assert all(torch.equal(condition, expected) for condition in seen)
    assert len(seen) == 1 + actor.simulations


@pytest.mark.parametrize(("opponent", "cells"), [("Locations", True), ("Declared", False)])
def test_an_actor_says_whether_its_goals_are_cells_which_augmentation_moves(opponent, cells):
    game = Snowdrift(num_players=2, num_drifts=2, height=3, width=3)
    assert tiny_agent(game, opponent).actor().goals_are_cells is cells


def test_every_tree_starts_in_the_state_of_its_own_environment(monkeypatch):
    module, game, roots = import_module("omg_lightning.actors.search"), TokenGame(2, ragged=False), []
    search = module.search
    monkeypatch.setattr(module, "search", lambda root, *args: (roots.append(root), search(root, *args))[1])
    actor = plain_learner(game, trees=3)
    state = game.reset(4, torch.Generator().manual_seed(0))
    assert len(state.last.unique(dim=0)) == 4, "or the environments could be taken for each other"
    scene = scene_of(game, state)
    memory = actor.start(scene.env, torch.ones(4, 2, dtype=torch.bool), actor.prior(4), scene.generator)
    estimate = actor.opponent.infer(memory.opponent, scene.view)
    actor.decide(memory, scene, estimate, torch.tensor([0, 1, 3]), torch.tensor([1, 0, 0]))
    assert torch.equal(roots[0].state.game.last.view(3, 3, 2), state.last[[0, 1, 3], None].expand(3, 3, 2))


def test_the_temperature_sharpens_the_root_policy_and_not_the_greedy_choice(monkeypatch):
    settings = {"policy": "search", "rule": "puct", "c_puct": 50.0, "temperature": 0.5}
    (policy, action, _), _, answers, *_ = decided(monkeypatch, **settings)
    square = answers.mean(1) ** 2
    torch.testing.assert_close(policy, square / square.sum(-1, keepdim=True))
    assert torch.equal(action, answers.mean(1).argmax(-1))


def test_the_trees_of_a_decision_share_out_what_the_co_player_does_first(monkeypatch):
    game, module, roots = TokenGame(2, ragged=False), import_module("omg_lightning.actors.search"), []
    search = module.search
    monkeypatch.setattr(module, "search", lambda root, *args: (roots.append(root), search(root, *args))[1])
    chance = torch.tensor([0.6, 0.3, 0.1, *[0.0] * (game.num_actions - 3)])
    actor = plain_learner(game, lambda view, time, condition: chance.log().expand(len(view), -1), trees=10)
    scene = scene_of(game, game.reset(8, torch.Generator().manual_seed(0)))
    memory = actor.start(scene.env, torch.ones(8, 2, dtype=torch.bool), actor.prior(8), scene.generator)
    estimate = actor.opponent.infer(memory.opponent, scene.view)
    actor.decide(memory, scene, estimate, torch.arange(8), torch.arange(8) % 2)
    count = torch.nn.functional.one_hot(roots[0].state.coplayers.view(8, 10), game.num_actions).sum(1)
    assert (count - 10 * chance).abs().max() <= 1


def test_a_temperature_sharpens_the_policy_by_hand():
    policy = torch.tensor([[0.6, 0.3, 0.0, 0.1]])
    assert sharpened(policy, 1.0) is policy
    torch.testing.assert_close(sharpened(policy, 0.5), torch.tensor([[36 / 46, 9 / 46, 0, 1 / 46]]))
    torch.testing.assert_close(sharpened(policy, 1e-6), torch.tensor([[1.0, 0, 0, 0]]))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_a_temperature_out_of_range_is_refused(temperature):
    with pytest.raises(ConfigError, match="above 0 and finite"):
        PlannerConfig(policy="search", temperature=temperature)


def test_a_temperature_that_has_no_effect_is_refused():
    with pytest.raises(ConfigError, match=r"set planner\.policy to search"):
        PlannerConfig(temperature=0.5)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"rule": "ucb"}, "planner.rule is 'ucb': expected puct or gumbel"),
        ({"rule": "gumbel", "cuda_graph": True}, "planner.cuda_graph is True, but planner.rule is 'gumbel': set"),
        ({"policy": "visits"}, "planner.policy is 'visits': expected values or search"),
        ({"discount": 0.0}, "planner.discount is 0.0"),
        ({"discount": 1.1}, "planner.discount is 1.1"),
        ({"td_lambda": -0.1}, "planner.td_lambda is -0.1"),
        ({"c_puct": -1.0}, "planner.c_puct is -1.0"),
        ({"beta": 0.0}, "beta 0.0"),
        ({"least_span": -1.0}, "planner.least_span is -1.0"),
    ],
)
def test_a_planner_setting_out_of_range_is_one_clear_line(setting, says):
    with pytest.raises(ConfigError, match=says) as caught:
        PlannerConfig(**setting)
    assert "\n" not in str(caught.value)


def test_root_policy_by_hand():
    q, legal = torch.tensor([[1.0, 2.0, 9.0], [0.1, 0.3, 0.2]]), torch.tensor([[True, True, False], [True] * 3])
    found = root_policy(q, legal, PlannerConfig(beta=2.0))
    assert found[0].tolist() == pytest.approx([1 / (1 + math.e**2), math.e**2 / (1 + math.e**2), 0.0])
    # Rescaled, both rows run from 0 to 1: the smaller stakes of the second do not matter.
    found = root_policy(q, legal, PlannerConfig(beta=2.0, rescale=True))
    assert found[0].tolist() == pytest.approx([1 / (1 + math.e**2), math.e**2 / (1 + math.e**2), 0.0])
    total = 1 + math.e**2 + math.e
    assert found[1].tolist() == pytest.approx([1 / total, math.e**2 / total, math.e / total])


def test_equal_values_stay_equal_when_rescaled():
    found = root_policy(torch.full((1, 4), 0.3), torch.tensor([[True, True, False, True]]), PlannerConfig(rescale=True))
    assert found[0].tolist() == pytest.approx([1 / 3, 1 / 3, 0.0, 1 / 3])


# Greedy play --------------------------------------------------------------------------------------------------------

ACTORS = {
    "puct": {},
    "gumbel": {"rule": "gumbel"},
    "answer of puct": {"policy": "search", "c_puct": 50.0},
    "answer of gumbel": {"policy": "search", "rule": "gumbel"},
    "policy without search": None,
}


def lonely(kind):
    """A learner of a game for one player: no co-player's action has to be drawn in a search."""
    game, settings = TokenGame(1), ACTORS[kind]
    if settings is None:
        return game, tiny_agent(game, "Direct", algorithm=PPO).actor()
    search = {"simulations": 7, "planner": PlannerConfig(**settings)}
    return game, tiny_agent(game, "Direct", search_args=search).actor()


@pytest.mark.parametrize("kind", ACTORS)
def test_greedy_play_draws_no_random_number_of_its_own(kind):
    game, actor = lonely(kind)
    states, episodes = {}, {}
    for greedy in (True, False):
        env, random = as_env(game), torch.Generator().manual_seed(0)
        played = play(env, arrange([["learner"]], 8, env, DEVICE), {"learner": actor}, random, greedy=greedy)
        states[greedy], episodes[greedy] = random.get_state(), played.episodes
    start = torch.Generator().manual_seed(0)
    game.reset(8, start)  # the start of an episode is the only thing that is drawn
    assert torch.equal(states[True], start.get_state())
    assert not torch.equal(states[False], start.get_state()), "in training actions are drawn"


def test_the_least_span_of_values_is_in_standard_deviations_of_the_returns():
    game = TokenGame(1)
    policies = []
    for least, deviation in ((1.0, 100.0), (2.0, 50.0), (2.0, 100.0)):
        planner = PlannerConfig(rule="gumbel", policy="search", least_span=least)
        agent = tiny_agent(game, "Direct", search_args={"simulations": 7, "planner": planner})
        head = agent.algorithm.policy.net.out  # values of 0, so that their unit changes nothing but the span
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
        agent.algorithm.policy.variance.fill_(deviation**2)
        env, random = as_env(game), torch.Generator().manual_seed(0)
        seating = arrange([["learner"]], 8, env, DEVICE)
        played = play(env, seating, {"learner": agent.actor()}, random, greedy=True).episodes
        policies.append(played.extras["root_policy"][0])
    assert torch.equal(policies[0], policies[1])
    assert not torch.allclose(policies[0], policies[2])


@pytest.mark.parametrize("kind", ACTORS)
def test_greedy_actions_are_the_argmax_whatever_the_seed(kind):
    game, actor = lonely(kind)
    state = game.reset(40, torch.Generator().manual_seed(3))
    first, second, drawn = (
        play(
            Fixed(game, state),
            arrange([["learner"]], 40, as_env(game), DEVICE),
            {"learner": actor},
            torch.Generator().manual_seed(seed),
            greedy=greedy,
        ).episodes
        for seed, greedy in ((1, True), (2, True), (3, False))
    )
    assert same(first, second)
    here = first.learner
    assert here.any()
    if kind == "policy without search":
        assert not same(first.action, drawn.action)
        return
    policy = first.extras["root_policy"][here]
    assert torch.equal(policy.gather(-1, first.action[here][:, None])[:, 0], policy.amax(-1))
    policy = drawn.extras["root_policy"][drawn.learner]
    assert not torch.equal(policy.gather(-1, drawn.action[drawn.learner][:, None])[:, 0], policy.amax(-1))


@pytest.mark.parametrize(("greedy", "noise", "ties"), [(True, 0.0, False), (False, 1.0, True)])
def test_the_search_gets_the_planners_settings_and_explores_in_training_alone(monkeypatch, greedy, noise, ties):
    module, asked = import_module("omg_lightning.actors.search"), []
    search = module.search
    monkeypatch.setattr(module, "search", lambda *args: asked.append(args[2]) or search(*args))
    settings = {"rule": "gumbel", "c_puct": 3.0, "c_scale": 0.7, "least_span": 0.2, "discount": 0.9}
    decided(monkeypatch, greedy, **settings)
    assert asked == [SearchConfig(num_simulations=4, gumbel_scale=noise, random_ties=ties, **settings)]


def test_an_illegal_action_is_never_the_best_one_and_the_entropy_is_that_of_the_legal_ones(monkeypatch):
    module, game = import_module("omg_lightning.actors.search"), stag_hunt()
    search = module.search
    values = lambda root: torch.where(root.legal, -1.0, 0.0)  # noqa: E731 - worse than an illegal action
    monkeypatch.setattr(module, "search", lambda root, *args: search(root, *args)._replace(q=values(root)))
    actor = plain_learner(game)
    scene = scene_of(game, game.place(1, hunters=[(0, 0), (3, 3)], stags=[(1, 1)], hares=[(2, 2), (3, 0)]))
    memory = actor.start(scene.env, torch.ones(1, 2, dtype=torch.bool), actor.prior(1), scene.generator)
    estimate = actor.opponent.infer(memory.opponent, scene.view)
    made = actor.decide(memory, scene, estimate, torch.tensor([0]), torch.tensor([0]))
    legal = scene.view.legal[0, 0]
    assert not legal.all()
    assert legal[made.action[0]]
    assert made.notes == {"search/policy_entropy": pytest.approx(math.log(int(legal.sum())))}


def test_a_policy_decides_by_hand():
    """Probabilities of the legal actions by softmax; the greedy action is the likeliest legal one."""
    game = TokenGame(2, num_actions=3)
    logits = torch.tensor([0.0, math.log(2.0), 5.0])

    class Known:
        def condition(self, goals, seat):
            return goals.flatten(1)

        def __call__(self, view, time, condition):
            return logits.expand(len(view), -1), torch.full((len(view),), 0.25)

    actor = PolicyActor(tiny_agent(game, "Direct").opponent, Known())
    state = game.reset(3000, torch.Generator().manual_seed(0))
    scenes = {greedy: scene_of(game, state, greedy) for greedy in (True, False)}
    legal = torch.tensor([True, True, False]).expand(3000, 2, 3)
    chosen = {}
    for greedy, scene in scenes.items():
        scene = scene._replace(view=scene.view._replace(legal=legal))
        memory = actor.start(scene.env, torch.tensor([[True, False]] * 3000), actor.prior(3000), scene.generator)
        chosen[greedy] = actor.act(memory, scene)
    assert (chosen[True].action[:, 0] == 1).all()
    share = (chosen[False].action[:, 0] == 1).float().mean()
    assert float(share) == pytest.approx(2 / 3, abs=0.04)
    for choice in chosen.values():
        probability = torch.where(choice.action[:, 0] == 1, 2 / 3, 1 / 3)
        torch.testing.assert_close(choice.extras["log_probability"][:, 0], probability.log())
        assert (choice.extras["value"][:, 0] == 0.25).all()
        assert not choice.extras["value"][:, 1].any(), "seat 1 is not its own"
        entropy = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))
        assert choice.notes["policy/entropy"] == pytest.approx(entropy)


# Environments without rules -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("env", [Countdown(2), PettingZooEnv("parallel_toys.Toy")], ids=["plain", "pettingzoo"])
def test_a_search_on_an_environment_without_rules_is_refused_in_one_line(env):
    actor = plain_learner(env)
    assert isinstance(actor, SearchActor)
    lineup = ["learner", *["random"] * (env.num_players - 1)]
    with pytest.raises(ConfigError, match=r"cannot be stepped.*--model\.algorithm PPO.*CopyableGame") as caught:
        play(env, arrange([lineup], 2, env, DEVICE), {"learner": actor}, torch.Generator().manual_seed(0))
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"--model\.algorithm PPO.*CopyableGame") as caught:
        tiny_agent(env, "Direct")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("env", [Countdown(2), PettingZooEnv("parallel_toys.Toy")], ids=["plain", "pettingzoo"])
def test_scripts_play_an_environment_without_rules_while_a_searching_learner_watches(env):
    watching = plain_learner(env)
    lineup = ["random"] * env.num_players
    played = play(env, arrange([lineup], 4, env, DEVICE), {"learner": watching}, torch.Generator().manual_seed(0))
    assert played.episodes.active[0].any()
    assert not played.episodes.learner.any()
    assert played.episodes.extras["root_policy"].shape[-1] == env.num_actions


def test_a_copyable_game_can_be_searched():
    game = CopyableGame("parallel_toys.Toy")
    env = as_env(game)
    lineup = ["learner", *["random"] * (env.num_players - 1)]
    learners, random = {"learner": plain_learner(game)}, torch.Generator().manual_seed(0)
    played = play(env, arrange([lineup], 2, env, DEVICE), learners, random)
    assert played.episodes.learner[..., 0].any()


# Players ------------------------------------------------------------------------------------------------------------


class Witness:
    """A player that keeps all that it is shown."""

    def __init__(self):
        self.shown = []

    def reset(self, batch_size, seat, game, generator):
        self.told = batch_size, seat, game, generator

    def act(self, observation, legal):
        self.shown.append((observation.clone(), legal.clone()))
        return legal.byte().argmax(-1)


@pytest.mark.parametrize("game", [TokenGame(2), NumberGame("reals"), Countdown(2)], ids=["bits", "reals", "no rules"])
def test_a_player_always_sees_all_its_rows_and_finished_ones_are_blank(game):
    env, witness = as_env(game), Witness()
    seating = arrange([["random", "random"], ["learner", "random"]], 12, env, DEVICE)
    first, *rest = seating.scripted["random"].seated
    seating = seating._replace(scripted={"random": PlayerActor((first._replace(player=witness), *rest))})
    rows = torch.arange(0, 12, 2)
    assert first.rows.tolist() == rows.tolist()
    actor = tiny_agent(game, "Direct", algorithm=PPO).actor()
    episodes = play(env, seating, {"learner": actor}, torch.Generator().manual_seed(0)).episodes
    assert witness.told[:2] == (6, 0)
    assert witness.told[2] is (env if env.game is None else game)
    noop_only = torch.nn.functional.one_hot(torch.tensor(env.noop), env.num_actions).bool()
    finished = 0
    for t, (observation, legal) in enumerate(witness.shown):
        assert len(observation) == len(legal) == 6
        live = episodes.active[t, rows].any(-1)
        torch.testing.assert_close(observation[live], episodes.observation[t, rows, 0][live].to(observation.dtype))
        assert torch.equal(legal[live], episodes.legal[t, rows, 0][live])
        assert not observation[~live].any()
        assert (legal[~live] == noop_only).all()
        finished += int((~live).sum())
    assert len(witness.shown) == len(episodes.active)
    assert finished, "or no episode ended before the others"


def test_separate_seats_of_a_player_keep_their_own_rows():
    env = as_env(stag_hunt(2))
    seating = arrange([["nearest_stag", "nearest_hare"], ["nearest_hare", "nearest_hare"]], 6, env, DEVICE)
    index = torch.tensor([5, 2, 1])
    kept = seating.keep(index).scripted["nearest_hare"]
    # Environment 5 is the first now, 2 the second and 1 the third.
    assert {each.seat: sorted(each.rows.tolist()) for each in kept.seated} == {0: [0, 2], 1: [0, 1, 2]}


def test_an_actor_that_searches_keeps_the_memory_it_is_given():
    game = TokenGame(2)
    actor = plain_learner(game)
    scene = scene_of(game, game.reset(4, torch.Generator().manual_seed(0)))
    memory = actor.start(scene.env, torch.ones(4, 2, dtype=torch.bool), actor.prior(4), scene.generator)
    assert isinstance(memory, Memory)
    index = torch.tensor([2, 0])
    kept = actor.keep(memory, index)
    assert torch.equal(kept.mine, memory.mine[index])
    assert torch.equal(kept.opponent, memory.opponent[index])
    assert kept.own is None


@pytest.mark.parametrize("greedy", [True, False])
def test_the_last_view_of_a_seat_that_was_cut_off_is_valued(greedy):
    """The toy's value is ten times the number that its view shows, plus the time."""
    env = Countdown(2)

    class Known:
        def condition(self, goals, seat):
            return goals.flatten(1)

        def __call__(self, view, time, condition):
            return torch.zeros(len(view), env.num_actions), 10 * view[:, 0] + time

    actor = PolicyActor(tiny_agent(env, "Direct", algorithm=PPO).opponent, Known())
    seating, random = arrange([["learner", "random"]], 30, env, DEVICE), torch.Generator().manual_seed(0)
    episodes = play(env, seating, {"learner": actor}, random, greedy=greedy).episodes
    cut = episodes.truncated & episodes.learner
    left = episodes.observation[0, :, :, 0] - episodes.reward.sum(0)  # what has not been counted down, [B, P]
    expected = torch.where(cut, 10 * left + 1, 0.0)
    torch.testing.assert_close(episodes.extras["bootstrap"], expected)
    assert cut.any()
    assert (episodes.terminated & episodes.learner).any()
    time = torch.arange(len(episodes.active))[:, None] / env.max_steps
    value = torch.where(episodes.learner[..., 0], 10 * episodes.observation[..., 0, 0] + time, 0.0)
    torch.testing.assert_close(episodes.extras["value"][..., 0], value)
