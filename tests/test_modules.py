import math
from copy import deepcopy
from dataclasses import asdict
from types import SimpleNamespace

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from toys import (
    TokenGame,
    as_batch,
    attached,
    inferred,
    play_with,
    same,
    snapshot,
    spoil,
    stag_hunt,
    tiny_agent,
    tiny_data,
)

from callbacks import BufferRefresh, RunCheckpoint, TreeCount
from omg_lightning.opponents import BeliefConfig, candidates, hindsight_goals
from omg_lightning.losses import masked_logits, reconstruction
from omg_lightning.training import Agent, GoalVAE, LossWeights, PolicyModule, SelectorConfig, SubgoalPredictor, VAEConfig
from omg_lightning.training.agent import load_agent
from omg_lightning.opponents.targets import complete, declared, latent, seat_scores, watched
from omg_lightning.samples import flatten
from omg_lightning.types import NO_GOAL, ConfigError, PlannerConfig, View, ego_order

SHAPE, P, A = (5, 4, 4), 2, 7
GOALS = ("none", "declared", "subgoal", "oracle")


@pytest.fixture(scope="module")
def ragged():
    """Episodes of a three-seat game in which seats leave at different times, and the agent that watched them."""
    game = TokenGame(3)
    agent = tiny_agent(game)
    episodes = play_with(agent, game, ["learner", "random", "learner"])
    assert (episodes.active[-1].any(-1) != episodes.active[-1].all(-1)).any()
    return game, agent, episodes


def stag_samples(batch=16):
    game = stag_hunt()
    return flatten(play_with(tiny_agent(game, "none"), game, ["nearest_stag", "nearest_hare"], batch), game.max_steps)


# Samples ----------------------------------------------------------------------------------------------------------


def test_flatten_takes_active_steps_and_spread_puts_them_back(ragged):
    game, _, episodes = ragged
    samples = flatten(episodes, game.max_steps)
    number = 0
    table = samples.spread(torch.arange(1, len(samples.time) + 1))
    for t, b, p in torch.ones_like(episodes.active).nonzero().tolist():
        if episodes.active[t, b, p]:
            assert torch.equal(samples.observation[number], episodes.observation[t, b, p].float())
            assert float(samples.time[number]) == pytest.approx(t / game.max_steps)
            number += 1
            assert int(table[t, b, p]) == number
        else:
            assert int(table[t, b, p]) == 0
    assert number == len(samples.time)


# State VAE --------------------------------------------------------------------------------------------------------


def test_vae_loss_is_reconstruction_plus_weighted_kl(generator):
    vae = GoalVAE(SHAPE, P, A, goal_dim=2, hidden=8, config=VAEConfig(kl_weight=0.1))
    with torch.no_grad():  # code N(1, e) in the first dimension and N(0, 1) in the second, whatever the view
        vae.posterior.weight.zero_()
        vae.posterior.bias.copy_(torch.tensor([1.0, 0.0, 1.0, 0.0]))
        vae.decoder.layers[-1].weight.zero_()
        vae.decoder.layers[-1].bias.zero_()
    samples = stag_samples()
    found = vae.loss(samples, generator)
    kl = 0.5 * (1 + math.e - 1 - 1)
    # 2 players uniform over 17 classes; 3 object planes at log odds 0, to which the log of zeros over ones is added;
    # the one without blocks has no ones, counts as having one, and misses none
    ones = samples.observation[:, P:].flatten(2).sum(-1)
    odds = (16 - ones).div(ones).where(ones > 0, torch.tensor(16.0))
    expected = 2 * math.log(17) + 0.5 * float(((ones > 0) * (1 + 1 / odds).log() + (1 + odds).log()).sum(-1).mean())
    assert float(found["vae_kl"]) == pytest.approx(kl, rel=1e-5)
    assert float(found["vae_reconstruction"]) == pytest.approx(expected, rel=1e-5)
    assert found["vae"].item() == pytest.approx(expected + 0.1 * kl, rel=1e-5)
    assert vae.loss(samples, generator, warmth=0.5)["vae"].item() == pytest.approx(expected + 0.05 * kl, rel=1e-5)
    vae.config = VAEConfig(kl_weight=0.1, free_bits=0.5)  # the second dimension has none to lose
    assert vae.loss(samples, generator)["vae"].item() == pytest.approx(expected + 0.1 * (kl + 0.5), rel=1e-5)


@pytest.mark.parametrize("objective", ["planes", "mse"])
def test_vae_learns_and_with_planes_the_players_do_not_vanish(objective, generator):
    torch.manual_seed(0)
    vae = GoalVAE(SHAPE, P, A, goal_dim=8, hidden=64, config=VAEConfig(error=objective))
    samples = stag_samples()
    optimizer = torch.optim.Adam(vae.parameters(), lr=1e-2)
    first = None
    for _ in range(100):
        loss = vae.loss(samples, generator)["vae"]
        first = first or loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.6 * first
    if objective == "planes":
        players = vae.decode(vae.encode(samples.observation)[0]).players.argmax(-1)
        true = samples.observation[:, :P].flatten(2)
        there = true.any(-1)
        assert (players[there] == true.argmax(-1)[there]).float().mean() > 0.5  # 1/16 by chance


def test_codes_know_no_time_and_are_bounded():
    vae = GoalVAE(SHAPE, P, A, goal_dim=3, hidden=8)
    view = torch.rand(1, *SHAPE)
    mean, log_var = vae.encode(1e6 * view)
    assert mean.shape == log_var.shape == (1, 3)
    assert log_var.min() >= -8
    assert log_var.max() <= 4


# Subgoal predictor ------------------------------------------------------------------------------------------------


def test_infer_episodes_is_what_a_rollout_infers_step_by_step(ragged):
    game, agent, episodes = ragged
    predictor = agent.predictor
    samples = flatten(episodes, game.max_steps)
    found = inferred(agent, episodes, samples)
    mean, log_var = samples.spread(found.mean), samples.spread(found.log_var)
    context = predictor.start(6, 3, torch.device("cpu"))
    assert not context.any(), "no history at t = 0"
    for t, active in enumerate(episodes.active):
        time = torch.full((6,), t / game.max_steps)
        view = View(episodes.observation[t].float(), episodes.legal[t], time, active)
        before = snapshot(context)
        code = agent.vae.codes(view.observation.flatten(0, 1))[0].view(6, 3, -1)
        one, two = predictor.infer(context, view, code)
        torch.testing.assert_close(one[active], mean[t][active])
        torch.testing.assert_close(two[active], log_var[t][active])
        torch.testing.assert_close(one[active], episodes.goal[t][active])  # and what the learner believed when acting
        context = predictor.advance(context, view, episodes.action[t])
        assert not torch.equal(context, before)


def test_what_is_inferred_of_some_seats_does_not_depend_on_who_else_is_asked_for(ragged):
    game, agent, episodes = ragged
    samples = flatten(episodes, game.max_steps)
    codes, _ = agent.vae.codes(samples.observation)
    who = episodes.active.clone()
    who[:, ::2, 0] = False
    some = agent.predictor.infer_episodes(episodes, samples, codes, who)
    asked = who[samples.mask]
    assert 0 < asked.sum() < len(asked)
    for one, two in zip(some, inferred(agent, episodes, samples), strict=True):
        torch.testing.assert_close(one[asked], two[asked])
        assert not one[~asked].any()
    nobody = agent.predictor.infer_episodes(episodes, samples, codes, torch.zeros_like(who))
    assert not any(field.any() for field in nobody)


def test_the_context_holds_the_past_and_nothing_of_the_future(ragged):
    game, agent, episodes = ragged
    cut = episodes._replace(active=torch.ones_like(episodes.active))
    samples = flatten(cut, game.max_steps)
    base = samples.spread(inferred(agent, cut, samples).mean)
    for t in range(len(cut.active)):
        action = cut.action.clone()
        action[t, :, 1] = (action[t, :, 1] + 1) % game.num_actions
        other = samples.spread(inferred(agent, cut._replace(action=action), samples).mean)
        assert torch.equal(other[: t + 1], base[: t + 1]), "an action is seen after it was played"
        assert (other[t + 1 :] != base[t + 1 :]).any(-1).all(), "and then by every seat"


def test_a_subgoal_starts_from_the_code_of_the_state_and_depends_on_what_everybody_sees(ragged):
    _, agent, episodes = ragged
    predictor = deepcopy(agent.predictor)
    context, code = torch.zeros(6, 3, 16), torch.randn(6, 3, predictor.goal_size)
    view = View(episodes.observation[0].float(), episodes.legal[0], torch.zeros(6), torch.ones(6, 3, dtype=torch.bool))
    before, _ = predictor.infer(context, view, code)
    gone = view._replace(active=torch.tensor([True, True, False]).expand(6, 3))
    assert (predictor.infer(context, gone, code)[0] != before).any(-1).all(), "who leaves changes what all aim at"
    torch.nn.init.zeros_(predictor.posterior[-1].weight)
    torch.nn.init.zeros_(predictor.posterior[-1].bias)
    assert torch.equal(predictor.infer(context, view, code)[0], code)


def test_one_step_episodes_have_no_history(ragged):
    game, agent, episodes = ragged
    short = type(episodes)(*(field[:1] for field in episodes))
    samples = flatten(short, game.max_steps)
    assert not inferred(agent, short, samples).context.any()


def test_subgoal_loss_is_reconstruction_plus_alpha_kl(ragged, generator):
    game, agent, episodes = ragged
    samples = flatten(episodes, game.max_steps)
    predictor = agent.predictor
    inference = inferred(agent, episodes, samples)
    label = inference.mean.detach() + 2, torch.zeros_like(inference.log_var)
    state = generator.get_state()
    found = predictor.subgoal_loss(inference, samples.observation, label, generator)
    noise = torch.randn(inference.mean.shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(state, torch.Generator().manual_seed(0).get_state())
    drawn = inference.mean + (inference.log_var / 2).exp() * noise
    error = reconstruction(predictor.decoder(torch.cat([drawn, inference.context], -1)), samples.observation).mean()
    variance = inference.log_var.exp()
    kl = (0.5 * (variance + 4 - 1 - inference.log_var)).sum(-1).mean()
    assert float(found["subgoal_kl"]) == pytest.approx(kl.item(), rel=1e-4)
    assert float(found["subgoal_reconstruction"]) == pytest.approx(error.item(), rel=1e-4)
    assert found["subgoal"].item() == pytest.approx((error + predictor.alpha * kl).item(), rel=1e-4)


def test_coplayer_loss_by_hand():
    predictor = SubgoalPredictor(SHAPE, P, 3, 1, infers=False, hidden=8)
    with torch.no_grad():
        predictor.coplayer.out.weight.zero_()
        predictor.coplayer.out.bias.copy_(torch.tensor([0.0, math.log(3), 9.0]))
    legal = torch.tensor([[True, True, False], [True, True, True]])
    found = predictor.coplayer_loss(
        torch.zeros(2, *SHAPE), torch.zeros(2), torch.zeros(2, 1), torch.tensor([0, 1]), legal, torch.tensor([0, 2])
    )
    second = math.log(4 + math.exp(9)) - 9
    assert found["coplayer"].item() == pytest.approx((math.log(4) + second) / 2, rel=1e-5)
    assert float(found["coplayer_top1"]) == 0.5


def test_losses_of_nobody_are_zero_and_not_nan():
    none = torch.zeros(0)
    predictor = SubgoalPredictor(SHAPE, P, A, 1, infers=False, hidden=8)
    legal = torch.ones(0, A, dtype=torch.bool)
    views = torch.zeros(0, *SHAPE)
    assert (
        float(predictor.coplayer_loss(views, none, torch.zeros(0, 1), none.long(), legal, none.long())["coplayer"]) == 0
    )
    policy = PolicyModule(SHAPE, P, A, 1, hidden=8)
    found = policy.loss(views, none, torch.zeros(0, 1, 1), none.long(), legal, torch.zeros(0, A), none)
    assert float(found["policy"]) == float(found["value"]) == 0


# Policy -----------------------------------------------------------------------------------------------------------


def test_policy_loss_by_hand():
    module = PolicyModule(SHAPE, P, 2, 1, hidden=8)
    with torch.no_grad():
        module.net.out.weight.zero_()
        module.net.out.bias.copy_(torch.tensor([0.0, math.log(3), 2.0]))
    legal = torch.tensor([[True, True], [True, False]])
    target = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    found = module.loss(
        *(torch.zeros(2, *size) for size in (SHAPE, (), (1, 1))),
        torch.tensor([0, 1]),
        legal,
        target,
        torch.tensor([5.0, 1.0]),
    )
    assert float(found["policy"]) == pytest.approx((0.5 * math.log(4) + 0.5 * math.log(4 / 3)) / 2, rel=1e-5)
    assert float(found["value"]) == pytest.approx((9 + 1) / 2)


@pytest.mark.parametrize("sharing", ["shared", "roles", "separate"])
def test_goal_values_read_the_view_once_and_agree_with_forward(sharing):
    module, seat = PolicyModule(SHAPE, 3, A, 2, hidden=8, sharing=sharing), torch.arange(4) % 3
    views, time, goals = torch.rand(4, *SHAPE), torch.rand(4), torch.randn(4, 3, 2, 2)
    found = module.goal_values(views, time, goals, seat)
    for k in range(3):
        torch.testing.assert_close(found[:, k], module(views, time, module.condition(goals[:, k], seat))[1])


# Hindsight --------------------------------------------------------------------------------------------------------


def test_seat_scores_against_a_loop_over_pairs(ragged, monkeypatch):
    monkeypatch.setattr("omg_lightning.opponents.targets.ROWS", 7)  # so that there are several blocks
    game, agent, episodes = ragged
    steps, rows, seats = episodes.active.shape
    generator = torch.Generator().manual_seed(0)
    codes, inferred = (torch.randn(steps, rows, seats, 3, generator=generator) for _ in range(2))
    valid = candidates(episodes.active, 4)
    found = seat_scores(episodes, flatten(episodes, game.max_steps), codes, inferred, valid, agent.policy.goal_values)
    pairs = 0
    for k, t, b, j in valid.nonzero().tolist():
        values = []
        for ego in range(seats):
            if ego == j or not episodes.planned[t, b, ego]:
                continue
            others = [(ego + m) % seats for m in range(1, seats)]
            goals = torch.stack([codes[t + 1 + k, b, j] if seat == j else inferred[t, b, seat] for seat in others])
            view = episodes.observation[t, b, ego].float()[None]
            _, value = agent.policy(view, torch.tensor([t / game.max_steps]), agent.policy.condition(goals[None], None))
            values.append(float(value))
        pairs += len(values) == 2
        expected = sum(values) / len(values) if values else 0.0
        assert float(found[k, t, b, j]) == pytest.approx(expected, abs=1e-5)
    assert pairs, "or no seat here is watched by two learners"


@pytest.mark.parametrize("rule", ["optimistic", "conservative"])
def test_the_selected_subgoal_is_the_one_the_learner_values(ragged, rule):
    game, agent, episodes = ragged
    samples = flatten(episodes, game.max_steps)
    codes, inferred = torch.randn(*episodes.active.shape, 3), torch.randn(*episodes.active.shape, 3)
    hindsight, ahead = latent(episodes, samples, codes, inferred, agent.policy.goal_values, rule, 4, torch.Generator())
    score = seat_scores(episodes, samples, codes, inferred, candidates(episodes.active, 4), agent.policy.goal_values)
    best = max if rule == "optimistic" else min
    for t, b, j in episodes.active.nonzero().tolist():
        options = [k for k in range(1, 5) if t + k < len(codes) and episodes.active[t + k, b, j]]
        if options:
            assert float(score[ahead[t, b, j] - 1, t, b, j]) == best(float(score[k - 1, t, b, j]) for k in options)
        assert torch.equal(hindsight.label[t, b, j], codes[t + ahead[t, b, j], b, j])
    assert torch.equal(hindsight.known, episodes.active)


def test_whom_no_learner_watched_gets_a_random_subgoal_not_always_the_next_state():
    # In an online batch that still holds offline episodes, and where the learner has left, nobody gives a score.
    game = TokenGame(3, ragged=False)
    agent = tiny_agent(game)
    episodes = play_with(agent, game, ["random"] * 3, 32)
    codes = torch.randn(*episodes.active.shape, 3)
    for values in (None, agent.policy.goal_values):
        samples, random = flatten(episodes, game.max_steps), torch.Generator().manual_seed(0)
        _, ahead = latent(episodes, samples, codes, codes, values, "optimistic", 4, random)
        assert len(ahead[0].unique()) == 4


def test_declared_labels_are_one_hot_where_they_are_known():
    game = stag_hunt()
    episodes = play_with(tiny_agent(game, "declared"), game, ["nearest_hare", "nearest_hare"])
    hindsight = declared(episodes, torch.Generator().manual_seed(0))
    label = hindsight_goals(episodes.realised, episodes.active)
    assert torch.equal(hindsight.known, label != NO_GOAL)
    assert hindsight.known.any()
    assert torch.equal(hindsight.label.argmax(-1)[hindsight.known], label[hindsight.known])
    assert torch.equal(hindsight.inferred.sum(-1), episodes.active.float())  # one goal, drawn from the belief
    assert torch.equal(hindsight.inferred, hindsight.inferred.round())
    certain = episodes._replace(goal=torch.eye(2)[(episodes.active.cumsum(0) % 2)])
    again = declared(certain, torch.Generator().manual_seed(0))
    assert torch.equal(again.inferred[episodes.active], certain.goal[episodes.active])


def test_who_ends_with_nothing_is_labelled_by_its_last_belief():
    # Two seats, four steps: seat 0 realises goal 1 at step 1 and stays idle; seat 1 leaves after step 2 with nothing.
    active = torch.tensor([[1, 1], [1, 1], [1, 1], [1, 0]]).bool().view(4, 1, 2)
    belief = torch.zeros(4, 1, 2, 3)
    belief[:3, 0, :, 1] = 1  # what was believed on the way there counts for nothing
    belief[3, 0, 0, 2] = 1
    belief[2, 0, 1] = torch.tensor([1.0, 0, 0])
    belief[3, 0, 1, 1] = 1  # beyond its end
    game = stag_hunt()
    episodes = play_with(tiny_agent(game, "declared"), game, ["nearest_hare"] * 2)._replace(goal=belief, active=active)
    known = torch.tensor([[1, NO_GOAL], [1, NO_GOAL], [NO_GOAL, NO_GOAL], [NO_GOAL, NO_GOAL]]).view(4, 1, 2)
    found = complete(episodes, known, torch.Generator().manual_seed(0))
    assert found.view(4, 2).tolist() == [[1, 0], [1, 0], [2, 0], [2, NO_GOAL]]
    blind = complete(episodes._replace(goal=torch.zeros_like(belief)), known, torch.Generator().manual_seed(0))
    assert torch.equal(blind, known)


@pytest.mark.parametrize("goals", ["declared", "codebook"])
def test_steps_of_idle_hunters_are_samples_where_the_belief_labels_them(goals):
    game = stag_hunt()
    trained = {}
    for labels in (False, True):
        agent = tiny_agent(game, goals, belief=BeliefConfig(labels=labels))
        batch = as_batch(play_with(agent, game, ["nearest_stag", "nearest_hare"], 8), offline=True)  # no company
        hindsight, _ = agent.objective.label(batch, flatten(batch.episodes, game.max_steps), agent.noise)
        trained[labels] = hindsight.known
    active = batch.episodes.active
    assert torch.equal(trained[True], active)
    assert not (trained[False] & ~active).any()
    idle = batch.episodes.realised[:, :, 0].amax(0) == NO_GOAL  # stag hunters who wait to the end
    assert idle.any()
    assert not trained[False][:, idle, 0].any()


# Agent ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("goals", GOALS)
@pytest.mark.parametrize("offline", [False, True])
def test_training_reaches_every_part_that_is_due(goals, offline):
    game = stag_hunt()
    agent = tiny_agent(game, goals)
    lineup = ["nearest_stag", "nearest_hare"] if offline else ["learner", "nearest_hare"]
    losses = agent.losses(as_batch(play_with(agent, game, lineup, 8), offline))
    assert all(torch.isfinite(value) for value in losses.values())
    wanted = {"coplayer", "value"} | (set() if offline else {"policy"})
    wanted |= {"vae", "subgoal"} if goals == "subgoal" else set()
    assert wanted == set(asdict(agent.weights)) & set(losses)
    sum(losses[name] for name in wanted).backward()
    reached = {name.split(".")[0] for name, p in agent.named_parameters() if p.grad is not None and p.grad.any()}
    parts = {"predictor", "policy"} | ({"vae"} if goals == "subgoal" else set())
    assert reached == parts


@pytest.mark.parametrize("goals", GOALS)
def test_parameter_groups_are_disjoint_and_complete(goals):
    agent = tiny_agent(stag_hunt(), goals)
    optimizer = agent.optimizer()
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(p) for name, p in agent.named_parameters() if not name.startswith("vae.slow.")}
    assert all(group["lr"] == agent.learning_rate for group in optimizer.param_groups)


@pytest.mark.parametrize("weights", [{"policy": 0.5}, {"vae": 1.0}, {"value": 1.0}])
@pytest.mark.parametrize("offline", [False, True])
def test_a_single_part_can_be_trained_alone(weights, offline):
    # Offline, none of these may be due: no traceback of an empty stack.
    game = stag_hunt()
    losses = LossWeights(**{**dict.fromkeys(asdict(LossWeights()), 0.0), **weights})
    agent = tiny_agent(game, "subgoal", losses=losses)
    agent.log_dict = agent.log = lambda *args, **kwargs: None
    lineup = ["random", "random"] if offline else ["learner", "random"]
    batch = as_batch(play_with(agent, game, lineup), offline)
    if offline and weights == {"policy": 0.5}:  # nothing to do: say so in one line, or train nothing
        try:
            assert agent.training_step(batch, 0) is None
        except ConfigError as error:
            assert "offline" in str(error)  # noqa: PT017 (either will do)
    else:
        assert torch.isfinite(agent.training_step(batch, 0))


def test_the_weighted_sum_of_losses_by_hand(monkeypatch):
    agent = tiny_agent(stag_hunt(), "none", losses=LossWeights(vae=0, subgoal=0, coplayer=2.0, policy=0.5, value=0.25))
    parts = {"coplayer": 1.0, "coplayer_top1": 100.0, "policy": 4.0, "value": 8.0}
    monkeypatch.setattr(agent, "losses", lambda batch: {name: torch.tensor(x) for name, x in parts.items()})
    logged = {}
    monkeypatch.setattr(agent, "log_dict", lambda named, **kwargs: logged.update(named))
    agent.on_train_epoch_start()
    assert float(agent.training_step(as_batch(None, env_steps=77), 0)) == 2 + 2 + 2
    parts["coplayer"] = 2.0
    assert float(agent.training_step(as_batch(None, env_steps=77), 1)) == 4 + 2 + 2
    assert not logged
    agent.on_train_epoch_end()
    means = {"loss/coplayer": 1.5, "goal/coplayer_top1": 100.0, "loss/policy": 4.0, "loss/value": 8.0, "step": 77.0}
    assert {name: float(value) for name, value in logged.items()} == means


def test_the_mixture_falls_linearly_to_zero():
    agent = tiny_agent(stag_hunt(), selector=SelectorConfig(mixture=0.5, mixture_steps=1000))
    assert [agent.selector.share(steps) for steps in (0, 500, 1000, 9999)] == [0.5, 0.25, 0.0, 0.0]


@pytest.mark.parametrize(("mixture", "which"), [(0.0, "inferred"), (1.0, "label")])
def test_policy_and_co_player_model_get_the_mixture(mixture, which, monkeypatch):
    game = stag_hunt()
    agent = tiny_agent(game, selector=SelectorConfig(mixture=mixture, rule="offset", offset=2))
    episodes = play_with(agent, game, ["learner", "nearest_hare"])
    seen = {}
    monkeypatch.setattr(agent.objective, "policy_loss", lambda episodes, samples, goal: seen.update(policy=goal) or {})
    monkeypatch.setattr(
        agent.objective, "coplayer_loss", lambda episodes, samples, goal, known: seen.update(coplayer=goal) or {}
    )
    kept = {}
    label = agent.objective.label
    monkeypatch.setattr(agent.objective, "label", lambda *args: kept.setdefault("found", label(*args)))
    agent.losses(as_batch(episodes))
    expected = getattr(kept["found"][0], which)[episodes.active]
    for goal in seen.values():
        assert torch.equal(goal[episodes.active], expected)


def test_where_nothing_was_realised_the_belief_stands_in_for_the_label(monkeypatch):
    game = stag_hunt()
    agent = tiny_agent(game, "declared", selector=SelectorConfig(mixture=1.0), belief=BeliefConfig(labels=False))
    episodes = play_with(agent, game, ["learner", "nearest_stag"])  # who never meets, catches no stag
    certain = torch.eye(2)[episodes.active.cumsum(0) % 2] * episodes.active[..., None]
    episodes = episodes._replace(goal=certain)  # so that what is drawn from the belief is the belief
    label = hindsight_goals(episodes.realised, episodes.active)
    unknown = episodes.active & (label == NO_GOAL)
    assert unknown.any()
    assert (episodes.active & ~unknown).any()
    seen = []
    monkeypatch.setattr(agent.objective, "policy_loss", lambda episodes, samples, goal: seen.append(goal) or {})
    agent.losses(as_batch(episodes))
    assert torch.equal(seen[0][unknown], episodes.goal[unknown])
    known = episodes.active & ~unknown
    assert torch.equal(seen[0][known], torch.eye(2)[label[known]])


def test_inference_is_trained_towards_the_whole_code_of_the_selected_view(monkeypatch):
    game = TokenGame(3)
    agent = tiny_agent(game, selector=SelectorConfig(rule="offset", offset=2))
    episodes = play_with(agent, game, ["learner", "random", "random"])
    seen = []
    monkeypatch.setattr(
        agent.predictor, "subgoal_loss", lambda inference, views, label, noise: seen.append(label) or {}
    )
    agent.losses(as_batch(episodes))
    mean, log_var = seen[0]
    for n, (t, b, p) in enumerate(watched(episodes).nonzero().tolist()):
        last = int(episodes.active[:, b, p].sum()) - 1
        expected = agent.vae.encode(episodes.observation[min(t + 2, last), b, p].float()[None])
        torch.testing.assert_close((mean[n], log_var[n]), (expected[0][0], expected[1][0]))
    assert not mean.requires_grad
    assert not log_var.requires_grad


def test_likelihood_against_a_loop():
    game = stag_hunt()
    agent = tiny_agent(game, "declared")
    state = game.reset(3, torch.Generator().manual_seed(0))
    view = View(game.observe(state), game.legal(state), torch.tensor([0.0, 0.5, 1.0]), game.active(state))
    actions = torch.tensor([[4, 4], [4, 4], [4, 4]])
    found = agent.predictor.likelihood(view, actions)
    head = agent.predictor.coplayer
    for row in range(3):
        for seat in range(2):
            for goal in range(2):
                condition = head.condition(torch.eye(2)[goal][None], torch.tensor([seat]))
                logits = head(view.observation[row, seat][None], view.time[row][None], condition)[0]
                logs = masked_logits(logits, view.legal[row, seat]).log_softmax(-1)
                assert float(found[row, seat, goal]) == pytest.approx(float(logs[actions[row, seat]]), abs=1e-5)


def test_the_learner_is_always_the_current_weights():
    agent = tiny_agent(stag_hunt(), "none")
    learner = agent.learner()
    views = torch.zeros(1, *agent.hparams["observation_shape"])
    before = learner.policy(views, torch.zeros(1), torch.zeros(1, 0))[1].clone()
    with torch.no_grad():
        agent.policy.net.out.bias += 1
    assert float(learner.policy(views, torch.zeros(1), torch.zeros(1, 0))[1] - before) == pytest.approx(1)


def test_watched_are_those_whom_a_learner_has_to_predict():
    game = TokenGame(3)
    agent = tiny_agent(game, "none")
    for lineup, expected in (
        (["random"] * 3, [True, True, True]),  # offline: everyone
        (["learner", "random", "random"], [False, True, True]),
        (["random", "learner", "learner"], [True, True, True]),  # learners predict each other
    ):
        episodes = play_with(agent, game, lineup)
        assert torch.equal(watched(episodes), episodes.active & torch.tensor(expected))


def test_offline_episodes_in_an_online_batch_are_samples_too():
    # Scripted episodes stay in the buffer for a while after the online phase starts.
    game = TokenGame(3, ragged=False)
    agent = tiny_agent(game, "none")
    one = play_with(agent, game, ["random"] * 3, 2)
    two = play_with(agent, game, ["learner", "random", "random"], 2)
    both = type(one)(*(torch.cat(fields, 1) for fields in zip(one, two, strict=True)))
    assert torch.equal(watched(both), torch.cat([watched(one), watched(two)], 1))


def test_a_loss_that_is_not_finite_stops_the_run():
    game = stag_hunt()
    agent = tiny_agent(game, "declared")
    episodes = play_with(agent, game, ["learner", "random"])
    with torch.no_grad():
        agent.policy.net.out.bias.fill_(float("nan"))
    with pytest.raises(ConfigError, match="policy nan") as caught:
        agent.training_step(as_batch(episodes), 0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"goal_dim": 0}, "goal_dim is 0"),
        ({"trees": 0}, "trees is 0"),
        ({"simulations": 0}, "simulations is 0"),
        ({"losses": {"vae": -1.0}}, "at least 0"),
        ({"selector": {"horizon": 0}}, "horizon"),
        ({"selector": {"offset": 9}}, "offset"),
        ({"selector": {"mixture": 2.0}}, "mixture"),
        ({"belief": {"alpha": 3.0}}, "alpha"),
        ({"num_goals": 0, "goals": "declared"}, "declares no goals"),
    ],
)
def test_settings_out_of_range_are_one_clear_line(settings, message):
    sizes = {"observation_shape": SHAPE, "num_players": P, "num_actions": A, "max_steps": 8, "num_goals": 2}
    with pytest.raises(ConfigError, match=message) as caught:
        Agent(**{**sizes, **settings})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "planner",
    [{"discount": 2.0}, {"c_puct": -1.0}, {"beta": float("nan")}, {"rule": "minimax"}, {"policy": "visits"}],
)
def test_a_wrong_planner_is_refused_before_the_offline_phase(planner):
    # The search would name some of these at the first online step only.
    with pytest.raises(ConfigError):
        PlannerConfig(**planner)


# Trainer, checkpoints ---------------------------------------------------------------------------------------------


def fit(data, agent, folder, *callbacks, epochs=4, **settings):
    trainer = Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, default_root_dir=folder,
        callbacks=[*callbacks, BufferRefresh(max_age=3)], **settings,
    )  # fmt: skip
    trainer.fit(agent, data)
    return trainer


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    data = tiny_data(offline_rounds=1)
    agent = tiny_agent(data.game)
    trainer = fit(data, agent, folder, epochs=2, limit_val_batches=0)
    path = folder / "agent.ckpt"
    trainer.save_checkpoint(path)
    return agent, str(path)


def test_a_checkpoint_gives_the_same_player_back(checkpoint):
    agent, path = checkpoint
    loaded = load_agent(path)
    assert same(loaded.state_dict(), agent.state_dict())
    assert not any(p.requires_grad for p in loaded.parameters())
    assert (loaded.trees, loaded.simulations, loaded.selector) == (agent.trees, agent.simulations, agent.selector)
    game = tiny_data().game
    assert same(play_with(loaded, game, ["learner", "random"]), play_with(agent, game, ["learner", "random"]))


def test_a_checkpoint_whose_networks_were_built_otherwise_is_refused_in_one_line(checkpoint, tmp_path):
    agent, path = checkpoint
    old = torch.load(path, weights_only=True)
    whole = old["state_dict"]
    damages = {
        r"predictor.mix.weight: \[2, 3\], expected": {**whole, "predictor.mix.weight": torch.zeros(2, 3)},
        r"predictor.mix.bias: nothing, expected": {k: v for k, v in whole.items() if k != "predictor.mix.bias"},
        r"predictor.gone: \[1\], expected nothing": {**whole, "predictor.gone": torch.zeros(1)},
    }
    for says, weights in damages.items():
        old["state_dict"] = weights
        torch.save(old, tmp_path / "old.ckpt")
        for load in (lambda: load_agent(tmp_path / "old.ckpt"), lambda: agent.on_load_checkpoint(old)):
            with pytest.raises(ConfigError, match=f"another version .{says}.*train anew") as caught:
                load()
            assert "\n" not in str(caught.value)


def test_a_checkpoint_may_sit_beside_a_learner_of_other_goals(checkpoint):
    _, path = checkpoint
    data = attached(tiny_data(seats=["learner", f"checkpoint:{path}"], offline_rounds=0), "declared")
    episodes = data.refresh()[0].episodes
    assert episodes.planned[..., 0].any()
    assert not episodes.planned[..., 1].any()


@pytest.mark.parametrize("change", [{"num_players": 3}, {"height": 5}, {"max_steps": 9}])
def test_a_checkpoint_of_another_game_is_refused(checkpoint, change):
    _, path = checkpoint
    other = tiny_agent(stag_hunt(**change))
    with pytest.raises(ConfigError, match="checkpoint was trained with") as caught:
        other.load_learner(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [{"goal_dim": 4}, {"hidden": 8}, {"goals": "declared"}, {"trunk": "conv"}])
def test_a_resume_with_other_networks_is_refused(checkpoint, change):
    _, path = checkpoint
    other = tiny_agent(stag_hunt(), **change)
    with pytest.raises(ConfigError, match=next(iter(change))):
        other.on_load_checkpoint(torch.load(path, weights_only=True))


def test_what_is_no_checkpoint_is_refused(tmp_path):
    text, other, empty = tmp_path / "a.ckpt", tmp_path / "b.ckpt", tmp_path / "c.ckpt"
    text.write_text("no tensor in here")
    torch.save({"weights": torch.zeros(3)}, other)
    empty.touch()
    for path in (text, other, empty, tmp_path / "none.ckpt"):
        with pytest.raises(ConfigError, match=path.name) as caught:
            load_agent(str(path))
        assert "\n" not in str(caught.value)


class StopAt(Callback):
    """Ends a run after some epochs, as a user would."""

    def __init__(self, epoch, path):
        self.epoch, self.path = epoch, path

    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.current_epoch + 1 == self.epoch:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("goals", ["subgoal", "declared"])
def test_a_resumed_run_ends_with_the_same_weights(goals, tmp_path):
    """Trap 7: what is saved is loaded, and everything goes on bit by bit, from the offline into the online phase."""
    path = tmp_path / "stop.ckpt"
    whole = tiny_agent(stag_hunt(), goals)
    fit(tiny_data(), whole, tmp_path, StopAt(1, path), TreeCount({0: 1, 60: 2}), epochs=4, limit_val_batches=0)
    again, data = tiny_agent(stag_hunt(), goals, seed=5), tiny_data()
    trainer = Trainer(
        max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, limit_val_batches=0,
        callbacks=[TreeCount({0: 1, 60: 2}), BufferRefresh(max_age=3)],
    )  # fmt: skip
    trainer.fit(again, data, ckpt_path=str(path), weights_only=True)
    assert data.rounds == 4
    assert same(dict(again.state_dict()), dict(whole.state_dict()))


def test_a_run_that_diverges_saves_no_nan(tmp_path):
    # The last step before a checkpoint has no next loss that would tell.
    data = tiny_data(offline_rounds=0, steps_per_epoch=1)
    agent = tiny_agent(data.game, "none")
    agent.policy.net.out.weight.register_hook(lambda gradient: gradient * float("nan"))
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, limit_val_batches=0, default_root_dir=tmp_path,
        callbacks=[BufferRefresh(), RunCheckpoint(last_every=1)],
    )  # fmt: skip
    with pytest.raises(ConfigError, match="not finite"):
        trainer.fit(agent, data)
    assert not (tmp_path / "last.ckpt").exists()


def test_tree_count_follows_env_steps_and_evaluation_has_the_models_own(tmp_path):
    seen = []

    class Spy(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            seen.append((trainer.datamodule.env_steps, pl_module.trees))

        def on_validation_epoch_start(self, trainer, pl_module):
            seen.append(("validation", pl_module.trees))

    data = tiny_data(num_envs=2, capacity=8, eval_episodes=2, val_episodes=2)
    agent = tiny_agent(data.game, "none", trees=3)
    fit(data, agent, tmp_path, TreeCount({20: 1, 30: 2}), Spy())
    assert ("validation", 3) in seen
    steps = [entry for entry in seen if entry[0] != "validation"]
    assert len(steps) == 4
    for env_steps, trees in steps:
        assert trees == (3 if env_steps < 20 else 1 if env_steps < 30 else 2)
    for schedule in ({-1: 2}, {0: 0}):
        with pytest.raises(ConfigError, match="TreeCount"):
            TreeCount(schedule)


@pytest.mark.parametrize(("env_steps", "trees"), [(0, 3), (19, 3), (20, 1), (29, 1), (30, 2), (999, 2)])
def test_tree_count_changes_at_the_very_step(env_steps, trees):
    callback = TreeCount({30: 2, 20: 1})
    trainer = SimpleNamespace(datamodule=SimpleNamespace(env_steps=env_steps))
    module = SimpleNamespace(trees=3, log=lambda *args, **kwargs: None)
    callback.on_fit_start(trainer, module)
    callback.on_train_epoch_start(trainer, module)
    assert module.trees == trees


def test_buffer_refresh_plays_every_interval_and_says_what_it_dropped(tmp_path):
    seen = []

    class Spy(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            metrics = trainer.callback_metrics
            seen.append(tuple(int(metrics.get(f"buffer/{name}", -1)) for name in ("episodes", "dropped", "oldest_age")))

    data = tiny_data(num_envs=2, capacity=8)
    trainer = Trainer(
        max_epochs=5, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, limit_val_batches=0, default_root_dir=tmp_path,
        callbacks=[BufferRefresh(max_age=2, interval=2), Spy()],
    )  # fmt: skip
    trainer.fit(tiny_agent(data.game, "none"), data)
    assert data.rounds == 3  # at epochs 0, 2, 4
    assert (seen[0], seen[2], seen[4]) == ((2, 0, 0), (4, 0, 1), (4, 2, 1))
    for settings in ({"max_age": 0}, {"interval": 0}):
        with pytest.raises(ConfigError, match="BufferRefresh"):
            BufferRefresh(**settings)
    with pytest.raises(ConfigError, match="last_every"):
        RunCheckpoint(last_every=0)


def test_validation_adds_up_to_metrics():
    game = stag_hunt()
    agent = tiny_agent(game, "subgoal")
    episodes = play_with(agent, game, ["learner", "nearest_hare"], 8)
    agent.validation_step(episodes, 0)
    found = agent.returns.compute()
    assert float(found["return/episodes"]) == 8
    assert float(found["return/team_mean"]) == pytest.approx(float(episodes.reward.sum((0, 2)).mean()))
    samples = int(agent.predictions.confusion.sum())
    assert samples == int(episodes.active[..., 1].sum()), "the learner's own steps are no predictions"


def test_padding_is_never_read_in_validation():
    game = TokenGame(3)
    agent = tiny_agent(game, "subgoal")
    episodes = play_with(agent, game, ["learner", "random", "random"])
    for each in (episodes, spoil(episodes, fields=("observation", "legal", "action", "goal", "realised"))):
        agent.validation_step(each, 0)
        found = {**agent.predictions.compute()}
        agent.predictions.reset()
        agent.returns.reset()
        if each is episodes:
            expected = found
    assert same(found, expected)


def test_noise_is_the_modules_own():
    game = stag_hunt()
    agent = tiny_agent(game)
    episodes = play_with(agent, game, ["learner", "random"])
    torch.manual_seed(1)
    one = agent.losses(as_batch(episodes))
    other = tiny_agent(game)
    torch.manual_seed(2)
    two = other.losses(as_batch(episodes))
    assert same(one, two), "no global randomness"


def test_ego_order_and_back():
    x = torch.arange(12).view(4, 3)
    ego = torch.tensor([0, 1, 2, 1])
    assert ego_order(x, ego).tolist() == [[0, 1, 2], [4, 5, 3], [8, 6, 7], [10, 11, 9]]
    assert torch.equal(ego_order(ego_order(x, ego), (3 - ego) % 3), x)


def test_annealing_ends_at_a_twentieth_in_the_last_epoch():
    game = stag_hunt()
    agent = tiny_agent(game, "declared", learning_rate=1e-2, anneal=True)
    trainer = Trainer(max_epochs=5, logger=False, enable_checkpointing=False)
    agent.trainer = trainer
    parts = agent.configure_optimizers()
    rates = []
    for _ in range(5):
        rates.append(parts["optimizer"].param_groups[0]["lr"])
        parts["optimizer"].step()
        parts["lr_scheduler"].step()
    assert rates == pytest.approx([1e-2 * (1 - 0.95 * k / 4) for k in range(5)])
    trainer.fit_loop.max_epochs = 1
    assert isinstance(agent.configure_optimizers(), torch.optim.Adam)
    trainer.fit_loop.max_epochs = -1
    with pytest.raises(ConfigError, match="max_epochs"):
        agent.configure_optimizers()


@pytest.mark.parametrize("online", [True, False])
def test_a_co_player_model_that_is_not_trained_online_stays_as_the_scripts_taught_it(online):
    game = stag_hunt()
    agent = tiny_agent(game, "declared", coplayer_online=online)
    episodes = play_with(agent, game, ["learner", "nearest_hare"])
    assert "coplayer" in agent.losses(as_batch(episodes, offline=True))
    assert ("coplayer" in agent.losses(as_batch(episodes))) == online
