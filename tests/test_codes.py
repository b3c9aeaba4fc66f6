"""What codes of states have to keep, how slowly they move, and how that is measured."""

import json
from types import SimpleNamespace

import pytest
import torch
from lightning import Trainer
from toys import TokenGame, as_batch, model_spec, play_with, snapshot, stag_hunt, tiny_agent, training_batch

from callbacks.code_drift import CodeDrift, drift, stability
from callbacks.projector import HEADER, points
from omg_lightning.encoders.quality import hit_ratio
from omg_lightning.opponents import GoalVAE, VAEConfig
from omg_lightning.opponents.futures import NO_ACTION, futures
from omg_lightning.samples import active_steps
from omg_lightning.types import ConfigError


@pytest.fixture(scope="module")
def ragged():
    """Episodes of a three-seat game in which seats leave at different times."""
    game = TokenGame(3)
    return game, play_with(tiny_agent(game, "Direct"), game, ["random"] * 3, batch=12)


# What codes have to keep -------------------------------------------------------------------------------------------


def test_futures_are_of_the_same_seat_within_the_horizon_and_before_it_leaves(ragged, generator):
    game, episodes = ragged
    samples = active_steps(episodes, game.max_steps)
    found = futures(episodes, samples, horizon=2, steps=3, generator=generator)
    where = episodes.active.nonzero().tolist()
    seen = set()
    for n, (t, b, p) in enumerate(where):
        later, row, seat = where[int(found.goal[n])]
        last = int(episodes.active[:, b, p].sum()) - 1
        assert (row, seat) == (b, p)
        assert later in ([t + 1, t + 2] if t < last - 1 else [min(t + 1, last)])
        seen.add(later - t)
        for k in range(3):
            expected = int(episodes.action[t + k, b, p]) if t + k <= last else NO_ACTION
            assert int(found.action[n, k]) == expected
            if t + k <= last:
                assert torch.equal(found.legal[n, k], episodes.legal[t + k, b, p])
    assert seen == {0, 1, 2}


@pytest.mark.parametrize("name", ["action", "next_actions"])
def test_the_action_losses_of_a_uniform_actor_are_logs_of_the_numbers_of_legal_actions(ragged, generator, name):
    game, episodes = ragged
    samples = active_steps(episodes, game.max_steps)
    config = VAEConfig(reconstruction=0.0, kl_weight=0.0, next_steps=2, **{name: 2.0})
    vae = GoalVAE(model_spec(game, hidden=8), 2, config)
    with torch.no_grad():
        vae.actor.out.weight.zero_()
        vae.actor.out.bias.zero_()
    later = futures(episodes, samples, 2, 2, generator)
    found = vae.loss(samples, generator, later)
    logs = torch.where(later.action != NO_ACTION, later.legal.sum(-1).float().log(), torch.nan)
    expected = logs[:, 0].mean() if name == "action" else logs.nanmean(1).mean()
    assert found[f"vae_{name}"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert found["vae"].item() == pytest.approx(2 * expected.item(), rel=1e-5)
    assert "vae_reconstruction" not in found


def test_codes_are_learned_from_actions_alone(generator):
    """From code and view the actor learns more of what is done next than from the view and nothing."""
    game = stag_hunt()
    agent = tiny_agent(game, opponent_args={"vae": VAEConfig(reconstruction=0, action=1.0), "goal_dim": 2})
    vae = agent.opponent.vae
    episodes = play_with(agent, game, ["nearest_stag", "nearest_hare"], 32)
    samples, optimizer = active_steps(episodes, game.max_steps), torch.optim.Adam(vae.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = vae.loss(samples, generator, futures(episodes, samples, 5, 5, generator))["vae"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_the_weight_of_the_kl_rises_with_the_batches(monkeypatch):
    game = stag_hunt()
    agent = tiny_agent(game, opponent_args={"vae": VAEConfig(kl_warmup=10, kl_weight=1.0)})
    warmth = []
    monkeypatch.setattr(agent.opponent.vae, "loss", lambda samples, noise, later, share: warmth.append(share) or {})
    batch = as_batch(play_with(agent, game, ["random", "random"]), offline=True)
    for step in (0, 5, 20):
        monkeypatch.setattr(type(agent), "global_step", step)
        agent.losses(batch)
    assert warmth == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("name", ["action", "next_actions"])
def test_the_model_gives_the_vae_the_futures_that_its_objectives_need(name):
    game = stag_hunt()
    agent = tiny_agent(game, opponent_args={"vae": VAEConfig(**{name: 1.0})})
    found = agent.opponent.losses(training_batch(agent, play_with(agent, game, ["random", "random"]), offline=True))
    assert torch.isfinite(found[f"vae_{name}"])
    assert not found[f"vae_{name}"].requires_grad, "a part of the loss is a metric: only the sum is trained"
    assert found["vae"].requires_grad


# How codes move ----------------------------------------------------------------------------------------------------


def test_the_slow_encoder_is_a_moving_average_and_is_not_trained():
    vae = GoalVAE(model_spec(stag_hunt(), hidden=8), goal_dim=3)
    view = torch.rand(4, *stag_hunt().observation_shape)
    assert torch.equal(vae.codes(view)[0], vae.encode(view)[0])
    with torch.no_grad():
        vae.posterior.bias.add_(1.0)
    before = vae.codes(view)[0]
    vae.track(0.75)
    torch.testing.assert_close(vae.codes(view)[0], before + 0.25)
    vae.track(0.0)
    torch.testing.assert_close(vae.codes(view)[0], vae.encode(view)[0])
    assert not any(weight.requires_grad for weight in vae.slow.parameters())


def test_codes_follow_at_once_offline_and_slowly_online():
    game = stag_hunt()
    agent = tiny_agent(game, opponent_args={"vae": VAEConfig(slowness=0.9)})
    vae, episodes = agent.opponent.vae, play_with(agent, game, ["learner", "random"])
    views = episodes.observation[episodes.active].float()
    before = agent.opponent.codes(views)
    with torch.no_grad():
        vae.posterior.bias.add_(1.0)
    agent.on_train_batch_end(None, as_batch(episodes, offline=False), 0)
    torch.testing.assert_close(agent.opponent.codes(views), before + 0.1)
    agent.on_train_batch_end(None, as_batch(episodes, offline=True), 0)
    torch.testing.assert_close(agent.opponent.codes(views), vae.encode(views)[0])


# Measures ----------------------------------------------------------------------------------------------------------


def test_hit_ratio_by_hand():
    """One seat, a board of one cell with three planes; the views of its four steps are a, b, b, c."""
    a, b, c, d = (torch.tensor(x).bool().view(3, 1, 1) for x in ([1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]))

    def ratio(pictures, steps=4):
        views = torch.stack([a, b, b, c])[:, None, None]
        who = (torch.arange(4) < steps)[:, None, None]
        return float(hit_ratio(torch.stack(pictures)[:, None, None], views, who))

    assert ratio([b, c, d, d]) == 2 / 4
    assert ratio([b, b, b, d]) == 1 / 4, "one picture counts once, and at step 2 there is no later b"
    assert ratio([a, a, a, c]) == 0, "what is there now, or was, is not the future"
    assert ratio([c, d, c, d]) == 1 / 4
    assert ratio([c, d, d, d], steps=3) == 0, "the seat has left before it comes to c"
    assert ratio([b, d, d, d], steps=3) == pytest.approx(1 / 3)
    assert ratio([b, d, d, d], steps=0) == 0


def test_drift_and_stability_by_hand():
    before = torch.tensor([[0.0, 0.0], [4.0, 0.0]])  # two from their centre each
    assert drift(before, before + torch.tensor([0.0, 1.0])).item() == pytest.approx(0.5)
    assert stability(torch.tensor([1, 2, 2, 0]), torch.tensor([1, 2, 3, 0])).item() == 0.75


@pytest.mark.parametrize(
    ("opponent", "logged"),
    [("Subgoal", {"goal/code_drift": [0.0] * 2}), ("Codebook", {"goal/code_stability": [1.0] * 2}), ("Declared", {})],
)
def test_code_drift_is_logged_with_learned_codes_and_is_0_without_changes(opponent, logged, monkeypatch):
    game, found = stag_hunt(), {}
    agent = tiny_agent(game, opponent)
    monkeypatch.setattr(agent, "log", lambda key, value, **kwargs: found.setdefault(key, []).append(float(value)))
    episodes = play_with(agent, game, ["nearest_hare", "nearest_hare"])
    trainer = SimpleNamespace(datamodule=SimpleNamespace(latest=SimpleNamespace(episodes=episodes)))
    watch = CodeDrift(64)
    for _ in range(3):
        watch.on_train_epoch_end(trainer, agent)
    assert found == logged
    if opponent == "Subgoal":  # a callback that was resumed measures against the codes before
        again, state = CodeDrift(), watch.state_dict()
        again.load_state_dict(dict(zip(state, snapshot(tuple(state.values())), strict=True)))
        with torch.no_grad():
            agent.opponent.vae.posterior.bias.add_(1.0)
        agent.opponent.after_step(offline=True)
        again.on_train_epoch_end(trainer, agent)
        assert found["goal/code_drift"][-1] > 0


def test_points_of_the_projector_have_labels():
    agent = tiny_agent(stag_hunt(), "Declared")
    episodes = play_with(agent, stag_hunt(), ["nearest_stag", "nearest_hare"])
    vectors, rows = points(episodes, 1000, ("stag", "hare"))
    assert vectors.shape == (int(episodes.active.sum()), 2)
    assert len(HEADER) == 4
    assert {(true, seat) for true, _, seat, _ in rows} == {("stag", "0"), ("hare", "1")}
    assert {came for _, came, seat, _ in rows if seat == "1"} == {"hare"}
    assert len(points(episodes, 5, ("stag", "hare"))[1]) == 5


# Settings, and the VAE of another run ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"reconstruction": 0.0}, "one of them positive"),
        ({"action": -1.0}, "at least 0"),
        ({"kl_warmup": -1}, "kl_warmup"),
        ({"next_steps": 0}, "at least 1"),
        ({"slowness": 1.0}, "less than 1"),
    ],
)
def test_a_vae_setting_out_of_range_is_refused(settings, word):
    with pytest.raises(ConfigError, match=word) as caught:
        VAEConfig(**settings)
    assert "\n" not in str(caught.value)


def fit_from(tmp_path, path, **settings):
    """An agent after `setup('fit')` with `vae_checkpoint`."""
    agent = tiny_agent(stag_hunt(), opponent_args={"vae_checkpoint": str(path), **settings})
    agent.trainer = Trainer(logger=False, enable_checkpointing=False, default_root_dir=tmp_path)
    agent.setup("fit")
    return agent


def saved(tmp_path, agent):
    path = tmp_path / "vae.ckpt"
    hparams = json.loads(json.dumps(dict(agent.hparams)))
    torch.save({"state_dict": agent.state_dict(), "hyper_parameters": hparams}, path)
    return path


def test_a_run_starts_from_the_vae_of_another_run_and_from_nothing_else_of_it(tmp_path):
    other = tiny_agent(stag_hunt(), seed=5)
    agent = fit_from(tmp_path, saved(tmp_path, other))
    pairs = zip(agent.opponent.vae.parameters(), other.opponent.vae.parameters(), strict=True)
    assert all(torch.equal(x, y) for x, y in pairs)
    assert not torch.equal(agent.algorithm.policy.net.out.weight, other.algorithm.policy.net.out.weight)


def test_a_vae_that_predicts_actions_too_keeps_its_own_actor_where_the_checkpoint_has_none(tmp_path):
    other = tiny_agent(stag_hunt(), seed=5)
    path = saved(tmp_path, other)
    agent = fit_from(tmp_path, path, vae=VAEConfig(action=1.0))
    assert torch.equal(agent.opponent.vae.posterior.weight, other.opponent.vae.posterior.weight)
    assert agent.opponent.vae.actor is not None


@pytest.mark.parametrize(
    ("opponent", "settings", "word"),
    [
        ("Subgoal", {"opponent_args": {"goal_dim": 4}}, r"goal_dim"),
        ("Subgoal", {"hidden": 8}, r"networks.*hidden"),
        ("Direct", {}, r"model.opponent"),
    ],
)
def test_a_vae_that_does_not_fit_is_refused_in_one_line(tmp_path, opponent, settings, word):
    with pytest.raises(ConfigError, match=word) as caught:
        fit_from(tmp_path, saved(tmp_path, tiny_agent(stag_hunt(), opponent, **settings)))
    assert "\n" not in str(caught.value)


def test_a_vae_that_predicts_another_number_of_actions_is_refused_in_one_line(tmp_path):
    other = tiny_agent(stag_hunt(), opponent_args={"vae": VAEConfig(next_actions=1.0, next_steps=3)})
    with pytest.raises(ConfigError, match="next_steps") as caught:
        fit_from(tmp_path, saved(tmp_path, other), vae=VAEConfig(next_actions=1.0, next_steps=5))
    assert "\n" not in str(caught.value)


def test_a_vae_checkpoint_that_is_not_there_is_refused_in_one_line(tmp_path):
    with pytest.raises(ConfigError, match="no checkpoint") as caught:
        fit_from(tmp_path, tmp_path / "nothing.ckpt")
    assert "\n" not in str(caught.value)
