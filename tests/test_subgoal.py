"""Latent subgoals: the state VAE, the network that infers subgoals online, and what both are trained on."""

import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from toys import (
    TokenGame,
    inferred,
    model_spec,
    play_with,
    snapshot,
    stag_hunt,
    tiny_agent,
    training_batch,
)

from omg_lightning.events import watched
from omg_lightning.opponents import GoalVAE, MixtureConfig, SelectorConfig, Subgoal, VAEConfig
from omg_lightning.opponents.selector import select_subgoals, shift
from omg_lightning.samples import active_steps
from omg_lightning.types import NO_GOAL, ConfigError, View

P = 2  # players of the Stag-Hunt


@pytest.fixture(scope="module")
def ragged():
    """Episodes of a three-seat game in which seats leave at different times, and the agent that watched them."""
    game = TokenGame(3)
    agent = tiny_agent(game)
    episodes = play_with(agent, game, ["learner", "random", "learner"])
    assert (episodes.active[-1].any(-1) != episodes.active[-1].all(-1)).any()
    return game, agent, episodes


def view_at(game, episodes, t):
    """What all seats see at step t of whole episodes."""
    time = torch.full((episodes.active.shape[1],), t / game.max_steps)
    observation, nothing = episodes.observation[t].float(), torch.zeros_like(episodes.reward[t])
    return View(observation, episodes.legal[t], time, episodes.active[t], nothing)


def stag_samples(batch=16):
    game = stag_hunt()
    episodes = play_with(tiny_agent(game, "Direct"), game, ["nearest_stag", "nearest_hare"], batch)
    return active_steps(episodes, game.max_steps)


# State VAE ---------------------------------------------------------------------------------------------------------


def test_vae_loss_is_reconstruction_plus_weighted_kl(generator):
    vae = GoalVAE(model_spec(stag_hunt(), hidden=8), goal_dim=2, config=VAEConfig(kl_weight=0.1))
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


@pytest.mark.parametrize("error", ["likelihood", "mse"])
def test_vae_learns_and_under_the_likelihood_players_do_not_vanish(error, generator):
    torch.manual_seed(0)
    vae = GoalVAE(model_spec(stag_hunt(), hidden=64), goal_dim=8, config=VAEConfig(error=error))
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
    if error == "likelihood":
        players = vae.decoder(vae.encode(samples.observation)[0]).players.argmax(-1)
        true = samples.observation[:, :P].flatten(2)
        there = true.any(-1)
        assert (players[there] == true.argmax(-1)[there]).float().mean() > 0.5  # 1/16 by chance


def test_codes_are_bounded_and_a_view_has_the_same_code_at_every_time(ragged):
    game, agent, episodes = ragged
    vae = GoalVAE(model_spec(stag_hunt(), hidden=8), goal_dim=3)
    mean, log_var = vae.encode(1e6 * torch.rand(1, *stag_hunt().observation_shape))
    assert mean.shape == log_var.shape == (1, 3)
    assert log_var.min() >= -8
    assert log_var.max() <= 4
    same_view = episodes._replace(observation=episodes.observation[:1].expand_as(episodes.observation))
    codes = active_steps(same_view, game.max_steps).spread(
        agent.opponent.codes(active_steps(same_view, game.max_steps).observation)
    )
    for t in range(1, len(codes)):
        active = episodes.active[t]
        torch.testing.assert_close(codes[t][active], codes[0][active])


# Inference ---------------------------------------------------------------------------------------------------------


def test_inference_from_whole_episodes_equals_inference_step_by_step(ragged):
    game, agent, episodes = ragged
    model, samples = agent.opponent, active_steps(episodes, game.max_steps)
    found = inferred(agent, episodes)
    mean, log_var = samples.spread(found.mean), samples.spread(found.log_var)
    context = model.start(model.prior(6), torch.full((6, 3), NO_GOAL))
    assert not context.any(), "no history at t = 0"
    for t, active in enumerate(episodes.active):
        view = view_at(game, episodes, t)
        before = snapshot(context)
        code = model.codes(view.observation.flatten(0, 1)).view(6, 3, -1)
        one, two = model.inference.infer(context, view, code)
        torch.testing.assert_close(one[active], mean[t][active])
        torch.testing.assert_close(two[active], log_var[t][active])
        torch.testing.assert_close(model.infer(context, view).point, one)
        torch.testing.assert_close(one[active], episodes.goal[t][active])  # and what the learner believed when acting
        context = model.update(context, view, episodes.action[t], episodes.achieved_goal[t])
        assert not torch.equal(context, before)


def test_the_subgoal_of_a_seat_does_not_depend_on_the_other_requested_seats(ragged):
    _, agent, episodes = ragged
    batch = training_batch(agent, episodes)
    codes, _ = agent.opponent.vae.codes(batch.samples.observation)
    who = episodes.active.clone()
    who[:, ::2, 0] = False
    some = agent.opponent.inference.infer_episodes(batch, codes, who)
    asked = who[batch.samples.mask]
    assert 0 < asked.sum() < len(asked)
    for one, two in zip(some, inferred(agent, episodes), strict=True):
        torch.testing.assert_close(one, two[asked])
    nobody = agent.opponent.inference.infer_episodes(batch, codes, torch.zeros_like(who))
    assert not any(len(field) for field in nobody)


def test_the_context_holds_past_actions_of_all_seats_and_nothing_of_the_future(ragged):
    game, agent, episodes = ragged
    full = episodes._replace(active=torch.ones_like(episodes.active))
    spread = active_steps(full, game.max_steps).spread
    base = spread(inferred(agent, full).mean)
    for t in range(len(full.active)):
        action = full.action.clone()
        action[t, :, 1] = (action[t, :, 1] + 1) % game.num_actions
        other = spread(inferred(agent, full._replace(action=action)).mean)
        assert torch.equal(other[: t + 1], base[: t + 1]), "an action is seen after it was played"
        assert (other[t + 1 :] != base[t + 1 :]).any(-1).all(), "and then by every seat"


def test_the_history_reads_all_seats_actions_in_ego_order_and_none_of_seats_that_have_left(ragged):
    game, agent, episodes = ragged
    inference, seen = agent.opponent.inference, []
    hook = inference.history.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    view = view_at(game, episodes, 0)._replace(active=torch.tensor([[True, True, False]]).expand(6, 3))
    actions = torch.tensor([[1, 2, 3]]).expand(6, 3)
    inference.advance(torch.zeros(6, 3, 16), view, actions)
    hook.remove()
    played = seen[0][0].view(6, 3, -1)[..., -3 * game.num_actions :].unflatten(-1, (3, game.num_actions))
    one_hot = torch.nn.functional.one_hot(torch.tensor([1, 2, 3]), game.num_actions).float()
    one_hot[2] = 0
    for seat, order in enumerate(([0, 1, 2], [1, 2, 0], [2, 0, 1])):
        assert torch.equal(played[:, seat], one_hot[order].expand(6, -1, -1))


def test_a_subgoal_starts_from_the_code_of_the_state_and_depends_on_all_observations(ragged):
    game, agent, episodes = ragged
    inference = deepcopy(agent.opponent.inference)
    context, code = torch.zeros(6, 3, 16), torch.randn(6, 3, agent.opponent.size)
    view = view_at(game, episodes, 0)._replace(active=torch.ones(6, 3, dtype=torch.bool))
    before, _ = inference.infer(context, view, code)
    gone = view._replace(active=torch.tensor([True, True, False]).expand(6, 3))
    assert (inference.infer(context, gone, code)[0] != before).any(-1).all(), "a seat that leaves changes all subgoals"
    torch.nn.init.zeros_(inference.posterior[-1].weight)
    torch.nn.init.zeros_(inference.posterior[-1].bias)
    assert torch.equal(inference.infer(context, view, code)[0], code)


def test_episodes_of_one_step_have_no_history(ragged):
    _, agent, episodes = ragged
    assert not inferred(agent, episodes.map(lambda field: field[:1])).context.any()


def test_an_episode_starts_with_an_empty_context_whatever_was_before(ragged):
    _, agent, _ = ragged
    start = agent.opponent.start(torch.rand(4, 3, 0), torch.ones(4, 3, dtype=torch.int64))
    assert torch.equal(start, torch.zeros(4, 3, 16))


def test_subgoals_are_drawn_around_their_mean(ragged, generator):
    game, _, episodes = ragged
    model = Subgoal(model_spec(game), goal_dim=2)
    mean = torch.tensor([[-3.0, 0.0], [0.0, 1.0], [5.0, 2.0]]).expand(6, 3, 2)
    log_var = torch.tensor([0.0, math.log(4)]).expand(6, 3, 2)
    model.inference.infer = lambda context, view, code: (mean, log_var)
    estimate = model.infer(torch.zeros(6, 3, 16), view_at(game, episodes, 0))
    assert torch.equal(estimate.point, mean)
    draws = estimate.draw(6000, generator)
    torch.testing.assert_close(draws.mean(1), mean, atol=0.15, rtol=0)
    torch.testing.assert_close(draws.std(1), torch.tensor([1.0, 2.0]).expand(6, 3, 2), atol=0.1, rtol=0)


# Losses ------------------------------------------------------------------------------------------------------------


def test_subgoal_loss_is_reconstruction_plus_alpha_times_kl(ragged, generator):
    game, agent, episodes = ragged
    samples, predictor = active_steps(episodes, game.max_steps), agent.opponent.inference
    inference = inferred(agent, episodes)
    label = inference.mean.detach() + 2, torch.zeros_like(inference.log_var)
    found = predictor.subgoal_loss(inference, samples.observation, label, generator)
    noise = torch.randn(inference.mean.shape, generator=torch.Generator().manual_seed(0))
    drawn = inference.mean + (inference.log_var / 2).exp() * noise
    code = torch.cat([drawn, inference.context], -1)
    error = predictor.decoder.reconstruction(code, samples.observation).mean()
    variance = inference.log_var.exp()
    kl = (0.5 * (variance + 4 - 1 - inference.log_var)).sum(-1).mean()
    assert found["subgoal_kl"].item() == pytest.approx(kl.item(), rel=1e-4)
    assert found["subgoal_reconstruction"].item() == pytest.approx(error.item(), rel=1e-4)
    assert found["subgoal"].item() == pytest.approx((error + predictor.alpha * kl).item(), rel=1e-4)


def test_targets_are_the_codes_of_the_selected_views(ragged):
    _, agent, episodes = ragged
    batch = training_batch(agent, episodes)
    targets = batch.targets
    codes = batch.samples.spread(agent.opponent.codes(batch.samples.observation))
    # Draw the same noise as `targets` did: first for the inferred subgoals, then for the selection.
    noise = torch.Generator()
    noise.set_state(training_batch(agent, episodes).noise.get_state())
    torch.randn(len(batch.samples.time), agent.opponent.size, generator=noise)
    ahead = select_subgoals(batch, codes, targets.inferred, agent.opponent.selector, noise)
    torch.testing.assert_close(targets.label, shift(codes, ahead))
    assert torch.equal(targets.known, episodes.active)
    assert not targets.label.requires_grad
    assert not targets.inferred.requires_grad


def test_inference_is_trained_towards_the_whole_code_of_the_selected_view():
    game = TokenGame(3)
    agent = tiny_agent(game, opponent_args={"selector": SelectorConfig(rule="offset", horizon=5, offset=2)})
    model, seen = agent.opponent, []
    episodes = play_with(agent, game, ["learner", "random", "random"])
    model.inference.subgoal_loss = lambda inference, views, label, noise: seen.append(label) or {}
    model.losses(training_batch(agent, episodes))
    mean, log_var = seen[0]
    assert len(mean) == int(watched(episodes).sum())
    for n, (t, b, p) in enumerate(watched(episodes).nonzero().tolist()):
        last = int(episodes.active[:, b, p].sum()) - 1
        expected = model.vae.encode(episodes.observation[min(t + 2, last), b, p].float()[None])
        torch.testing.assert_close((mean[n], log_var[n]), (expected[0][0], expected[1][0]))
    assert not mean.requires_grad
    assert not log_var.requires_grad


@pytest.mark.parametrize(("start", "which"), [(0.0, "inferred"), (1.0, "label")])
def test_policy_and_co_player_policies_are_trained_on_the_same_mixture_of_goals(start, which):
    game = stag_hunt()
    options = {"mixture": MixtureConfig(start), "selector": SelectorConfig(rule="offset", offset=2)}
    agent = tiny_agent(game, opponent_args=options)
    episodes = play_with(agent, game, ["learner", "nearest_hare"])
    batch, seen = training_batch(agent, episodes), {}
    expected = getattr(batch.targets, which)
    condition, loss = agent.algorithm.policy.condition, agent.opponent.predictor.loss
    agent.algorithm.policy.condition = lambda goals, seat: seen.update(policy=goals) or condition(goals, seat)
    agent.opponent.predictor.loss = lambda view, time, goal, *rest: (
        seen.update(coplayer=goal) or loss(view, time, goal, *rest)
    )
    agent.opponent.losses(batch)
    agent.algorithm.losses(batch)
    assert torch.equal(seen["coplayer"], expected[watched(episodes)])
    learns = episodes.learner[..., 0]
    others = torch.where(episodes.active[..., None], expected, 0.0)[..., 1, :][learns]
    assert torch.equal(seen["policy"][:, 0], others)


def test_a_vae_that_is_frozen_online_is_trained_offline_alone():
    game = stag_hunt()
    agent = tiny_agent(game, opponent_args={"vae_online": False})
    batch = training_batch(agent, play_with(agent, game, ["learner", "nearest_hare"]))
    assert "vae" not in agent.opponent.losses(batch)
    assert "vae" in agent.opponent.losses(replace(batch, offline=True))


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"vae": 0.0}, {"subgoal", "coplayer"}),
        ({"subgoal": 0.0}, {"vae", "coplayer"}),
        ({"coplayer": 0.0}, {"vae", "subgoal"}),
    ],
)
def test_a_loss_without_weight_is_not_computed(weights, expected):
    game = stag_hunt()
    agent = tiny_agent(game, losses=weights)
    found = agent.opponent.losses(training_batch(agent, play_with(agent, game, ["learner", "nearest_hare"])))
    assert {name for name in found if name in Subgoal.loss_weights} == expected


def test_a_code_without_dimensions_is_refused():
    with pytest.raises(ConfigError, match="goal_dim is 0") as caught:
        Subgoal(model_spec(stag_hunt()), goal_dim=0)
    assert "\n" not in str(caught.value)
