"""The agent: what is trained and how it is weighed, optimiser groups, evaluation, checkpoints, resuming."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from toys import (
    TokenGame,
    as_batch,
    attached,
    play_with,
    same,
    spoil,
    stag_hunt,
    tiny_agent,
    tiny_data,
)

from callbacks import BufferRefresh, RunCheckpoint, TreeCount
from omg_lightning.algorithms import PPO
from omg_lightning.encoders import Conv
from omg_lightning.envs import RulesEnv
from omg_lightning.opponents import Direct
from omg_lightning.rewards import Prosocial
from omg_lightning.spec import GameSpec
from omg_lightning.training import Agent, read_agent, restore
from omg_lightning.types import ConfigError

MODELS = ("Direct", "Declared", "Codebook", "Subgoal", "Oracle")


def restore_agent(path):
    return restore(read_agent(path))


class Bonus(Direct):
    """Adds a loss of its own, which is least where `scale` is 0."""

    loss_weights = {**Direct.loss_weights, "bonus": 0.5}  # noqa: RUF012, as in the parent

    def __init__(self, spec):
        super().__init__(spec)
        self.scale = torch.nn.Parameter(torch.tensor(2.0))

    def losses(self, batch):
        size = self.scale.square()
        return {**super().losses(batch), "bonus": size, "bonus_size": size.detach()}


class Unweighed(Bonus):
    """Forgets to name the weight of its loss."""

    loss_weights = Direct.loss_weights


class Clash(Bonus):
    """Has a loss that is called as one of the algorithm."""

    loss_weights = {**Direct.loss_weights, "value": 1.0}  # noqa: RUF012, as in the parent


def fit(data, agent, folder, *callbacks, epochs=4, **settings):
    """A run without logger, checkpoints and evaluation."""
    trainer = Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, limit_val_batches=0, default_root_dir=folder,
        callbacks=[*callbacks, BufferRefresh(max_age=3)],
    )  # fmt: skip
    trainer.fit(agent, data, **settings)
    return trainer


def one_line(caught):
    return "\n" not in str(caught.value)


# What is trained ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opponent", MODELS)
@pytest.mark.parametrize("offline", [False, True], ids=["online", "offline"])
def test_training_reaches_every_loss_that_is_due(opponent, offline):
    game = stag_hunt()
    agent = tiny_agent(game, opponent)
    lineup = ["nearest_stag", "nearest_hare"] if offline else ["learner", "nearest_hare"]
    losses = agent.losses(as_batch(play_with(agent, game, lineup, 8), offline))
    assert all(torch.isfinite(value) for value in losses.values())
    wanted = {"coplayer", "value"} | (set() if offline else {"policy"})
    wanted |= {"vae", "subgoal"} if opponent == "Subgoal" else set()
    assert wanted == set(agent.loss_weights) & set(losses)
    sum(losses[name] for name in wanted).backward()
    reached = {".".join(name.split(".")[:2]) for name, p in agent.named_parameters() if p.grad is not None}
    parts = {"opponent.predictor", "algorithm.policy"}
    assert reached == parts | ({"opponent.vae", "opponent.inference"} if opponent == "Subgoal" else set())


@pytest.mark.parametrize("opponent", MODELS)
def test_optimiser_groups_are_disjoint_and_hold_every_trained_parameter(opponent):
    agent = tiny_agent(stag_hunt(), opponent)
    optimizer = agent.optimizer()
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(p) for name, p in agent.named_parameters() if "vae.slow." not in name}
    assert [group["name"] for group in optimizer.param_groups] == ["opponent", "algorithm"]
    assert all(group["lr"] == agent.learning_rate for group in optimizer.param_groups)


def test_a_parameter_outside_of_every_optimiser_group_is_refused_by_name():
    agent = tiny_agent(stag_hunt(), "Direct")
    agent.stray = torch.nn.Linear(2, 2)
    with pytest.raises(ConfigError, match=r"'stray.weight' is in no optimiser group") as caught:
        agent.optimizer()
    assert one_line(caught)
    agent.stray.requires_grad_(False)
    agent.optimizer()  # what is frozen needs no optimiser


@pytest.mark.parametrize("weights", [{"policy": 0.5}, {"vae": 1.0}, {"value": 1.0}])
@pytest.mark.parametrize("offline", [False, True], ids=["online", "offline"])
def test_a_single_part_can_be_trained_alone(weights, offline):
    # Offline, none of these may be due: no traceback of an empty stack.
    game = stag_hunt()
    others = dict.fromkeys(("vae", "subgoal", "coplayer", "policy", "value"), 0.0)
    agent = tiny_agent(game, "Subgoal", losses={**others, **weights})
    lineup = ["random", "random"] if offline else ["learner", "random"]
    loss = agent.training_step(as_batch(play_with(agent, game, lineup), offline), 0)
    if offline and weights == {"policy": 0.5}:
        assert loss is None or float(loss) == 0 or not loss.requires_grad
    else:
        loss.backward()
        owner = "opponent.vae" if "vae" in weights else "algorithm.policy"
        reached = [name for name, p in agent.named_parameters() if p.grad is not None and p.grad.any()]
        assert reached
        assert all(name.startswith(owner) for name in reached)


# Weights -----------------------------------------------------------------------------------------------------------


def test_the_loss_is_the_weighted_sum_and_its_parts_are_logged_as_epoch_means(monkeypatch):
    agent = tiny_agent(stag_hunt(), "Direct", losses={"coplayer": 2.0, "policy": 0.5, "value": 0.25})
    batch = as_batch(play_with(agent, stag_hunt(), ["learner", "random"]), env_steps=77)
    parts = {"coplayer": 1.0, "coplayer_top1": 100.0, "policy": 4.0, "value": 8.0}
    monkeypatch.setattr(agent, "losses", lambda batch: {name: torch.tensor(x) for name, x in parts.items()})
    logged = {}
    monkeypatch.setattr(agent, "log_dict", lambda named, **kwargs: logged.update(named))
    agent.on_train_epoch_start()
    assert float(agent.training_step(batch, 0)) == 2 + 2 + 2
    parts["coplayer"] = 2.0
    assert float(agent.training_step(batch, 1)) == 4 + 2 + 2
    assert not logged
    agent.on_train_epoch_end()
    means = {"loss/coplayer": 1.5, "goal/coplayer_top1": 100.0, "loss/policy": 4.0, "loss/value": 8.0, "step": 77.0}
    assert {name: float(value) for name, value in logged.items()} == means


def test_the_losses_of_an_epoch_that_was_broken_off_are_not_logged(monkeypatch):
    agent = tiny_agent(stag_hunt(), "Direct")
    batch = as_batch(play_with(agent, stag_hunt(), ["learner", "random"]))
    parts, logged = {"coplayer": 5.0}, {}
    monkeypatch.setattr(agent, "losses", lambda batch: {name: torch.tensor(x) for name, x in parts.items()})
    monkeypatch.setattr(agent, "log_dict", lambda named, **kwargs: logged.update(named))
    agent.training_step(batch, 0)
    agent.on_train_epoch_start()
    parts["coplayer"] = 1.0
    agent.training_step(batch, 0)
    agent.on_train_epoch_end()
    assert float(logged["loss/coplayer"]) == 1


def test_a_subclass_that_names_a_loss_of_its_own_has_it_trained(tmp_path):
    data = tiny_data(offline={"rounds": 0})
    agent = tiny_agent(data.env, Bonus)
    game = stag_hunt()
    batch = as_batch(play_with(agent, game, ["learner", "random"]))
    losses = agent.losses(batch)
    others = 1.0 * losses["coplayer"] + 0.5 * losses["policy"] + 0.5 * losses["value"]
    assert float(agent.weigh(losses).detach()) == pytest.approx(float(others.detach()) + 0.5 * 4, rel=1e-5)
    trainer = fit(data, agent, tmp_path, epochs=1)
    assert float(agent.opponent.scale) < 2
    assert float(trainer.callback_metrics["loss/bonus"]) == pytest.approx(4, abs=0.1)
    assert "loss/bonus_size" in trainer.callback_metrics, "what has no gradient is a metric"


def test_the_users_weight_of_a_subclass_loss_replaces_its_own():
    agent = tiny_agent(stag_hunt(), Bonus, losses={"bonus": 3.0})
    assert agent.loss_weights["bonus"] == agent.opponent.weights["bonus"] == 3
    assert agent.loss_weights["coplayer"] == 1
    assert Bonus.loss_weights["bonus"] == 0.5, "weights of the class stay as they are"


def test_a_loss_with_a_gradient_but_without_a_weight_is_refused_by_name():
    game = stag_hunt()
    agent = tiny_agent(game, Unweighed)
    with pytest.raises(ConfigError, match=r"the loss 'bonus' has no weight.*`loss_weights`") as caught:
        agent.training_step(as_batch(play_with(agent, game, ["learner", "random"])), 0)
    assert one_line(caught)


def test_two_parts_with_a_loss_of_one_name_are_refused():
    message = "BestResponseSearch has a loss called 'value', which exists already: give it another name"
    with pytest.raises(ConfigError, match=message) as caught:
        tiny_agent(stag_hunt(), Clash)
    assert one_line(caught)


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ({"coplayer": -1.0}, r"at least 0"),
        ({"coplayer": 0.0, "policy": 0.0, "value": 0.0}, r"one of them positive"),
        ({"vae": 1.0}, r"model.losses has a weight for 'vae': expected one of coplayer, policy, value"),
    ],
)
def test_invalid_weights_of_losses_are_refused(losses, message):
    with pytest.raises(ConfigError, match=message) as caught:
        tiny_agent(stag_hunt(), "Direct", losses=losses)
    assert one_line(caught)


def test_a_loss_that_is_not_finite_stops_the_run():
    game = stag_hunt()
    agent = tiny_agent(game, "Declared")
    episodes = play_with(agent, game, ["learner", "random"])
    with torch.no_grad():
        agent.algorithm.policy.net.out.bias.fill_(float("nan"))
    with pytest.raises(ConfigError, match="policy nan") as caught:
        agent.training_step(as_batch(episodes), 0)
    assert one_line(caught)


# Settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0.0}, r"model.learning_rate is 0"),
        ({"learning_rate": float("inf")}, r"model.learning_rate is inf"),
        ({"hidden": 0}, r"hidden is 0"),
    ],
)
def test_settings_out_of_range_are_refused_in_one_line(settings, message):
    with pytest.raises(ConfigError, match=message) as caught:
        tiny_agent(stag_hunt(), "Direct", **settings)
    assert one_line(caught)


def test_an_agent_without_a_game_is_refused():
    with pytest.raises(ConfigError, match="no spec") as caught:
        Agent(Direct)
    assert one_line(caught)


def test_a_search_refuses_rewards_that_it_cannot_plan_with():
    with pytest.raises(ConfigError, match=r"BestResponseSearch plans with the game's own rewards.*Prosocial") as caught:
        tiny_agent(stag_hunt(), "Direct", reward=Prosocial)
    assert one_line(caught)
    tiny_agent(stag_hunt(), "Direct", reward=Prosocial, algorithm=PPO)


def test_a_search_refuses_a_game_that_cannot_be_stepped_from_a_state():
    spec = replace(GameSpec.of(RulesEnv(stag_hunt())), searchable=False).plain()
    with pytest.raises(ConfigError, match=r"BestResponseSearch searches, but StagHunt cannot.*algorithm PPO") as caught:
        Agent(Direct, spec=spec)
    assert one_line(caught)
    Agent(Direct, PPO, spec=spec)


def test_the_actor_always_has_the_current_weights():
    agent = tiny_agent(stag_hunt(), "Direct")
    actor = agent.actor()
    views, nothing = torch.zeros(1, *stag_hunt().observation_shape), torch.zeros(1, 0)
    before = actor.policy(views, torch.zeros(1), nothing)[1].clone()
    with torch.no_grad():
        agent.algorithm.policy.net.out.bias += 1
    assert float((actor.policy(views, torch.zeros(1), nothing)[1] - before).detach()) == pytest.approx(1)


def test_an_actor_of_copied_weights_plays_as_the_agent_did_then():
    game = stag_hunt()
    agent = tiny_agent(game, "Declared")
    copied = agent.copy_weights()
    before = play_with(agent, game, ["learner", "random"])
    with torch.no_grad():
        for weight in agent.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    assert not same(play_with(agent, game, ["learner", "random"]).tensors(), before.tensors())
    past = agent.load_actor(copied)
    agent.actor = lambda: past
    assert same(play_with(agent, game, ["learner", "random"]).tensors(), before.tensors())


def test_noise_comes_from_the_agents_own_generator():
    game = stag_hunt()
    agent = tiny_agent(game)
    episodes = play_with(agent, game, ["learner", "random"])
    torch.manual_seed(1)
    one = agent.losses(as_batch(episodes))
    other = tiny_agent(game)
    torch.manual_seed(2)
    two = other.losses(as_batch(episodes))
    assert same(one, two), "no global randomness"
    assert not same(two, agent.losses(as_batch(episodes))), "and it moves on"


def test_the_learning_rate_falls_to_a_twentieth_in_the_last_epoch():
    agent = tiny_agent(stag_hunt(), "Declared", learning_rate=1e-2, learning_rate_decay=True)
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
    with pytest.raises(ConfigError, match="max_epochs") as caught:
        agent.configure_optimizers()
    assert one_line(caught)


# Evaluation --------------------------------------------------------------------------------------------------------


def measured(episodes):
    """The same episodes with the field that evaluations add."""
    return episodes._replace(extras={**episodes.extras, "script_best": torch.ones_like(episodes.reward)})


def test_validation_adds_up_to_metrics():
    game = stag_hunt()
    agent = tiny_agent(game, "Subgoal")
    episodes = measured(play_with(agent, game, ["learner", "nearest_hare"], 8))
    agent.validation_step(episodes, 0)
    found = agent.returns.compute()
    assert float(found["return/episodes"]) == 8
    assert float(found["return/team_mean"]) == pytest.approx(float(episodes.reward.sum((0, 2)).mean()))
    samples = int(agent.predictions.confusion.sum())
    assert samples == int(episodes.active[..., 1].sum()), "the learner's own steps are no predictions"


def test_padding_is_never_read_in_validation():
    game = TokenGame(3)
    agent = tiny_agent(game, "Subgoal")
    episodes = measured(play_with(agent, game, ["learner", "random", "random"]))
    fields = ("observation", "legal", "action", "goal", "achieved_goal", "extras")
    found = []
    for each in (episodes, spoil(episodes, fields=fields)):
        agent.validation_step(each, 0)
        found.append({**agent.predictions.compute()})
        agent.predictions.reset()
        agent.returns.reset()
    assert same(*found)


# Checkpoints -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A trained agent, and its checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    data = tiny_data(offline={"rounds": 1})
    agent = tiny_agent(data.env)
    trainer = fit(data, agent, folder, epochs=2)
    path = folder / "agent.ckpt"
    trainer.save_checkpoint(path)
    return agent, str(path)


def test_a_loaded_checkpoint_plays_the_same_actions(checkpoint):
    agent, path = checkpoint
    loaded = restore_agent(path)
    assert same(dict(loaded.state_dict()), dict(agent.state_dict()))
    assert not any(p.requires_grad for p in loaded.parameters())
    assert dict(loaded.hparams) == dict(agent.hparams)
    assert (loaded.algorithm.trees, loaded.algorithm.simulations) == (1, 2)
    assert loaded.opponent.selector == agent.opponent.selector
    env = tiny_data().env
    one, two = (play_with(each, env, ["learner", "random"]).tensors() for each in (loaded, agent))
    assert same(one, two)


def test_a_checkpoint_restores_the_count_of_environment_steps_and_the_seed_of_its_weights(checkpoint):
    agent, path = checkpoint
    other = tiny_agent(tiny_data().env, seed=5)
    other.on_load_checkpoint(torch.load(path, weights_only=True))
    assert other.env_steps == agent.env_steps > 0
    assert (other.seed, other.trained_seed) == (5, 0)
    assert torch.equal(other.noise.get_state(), agent.noise.get_state())


def test_a_checkpoint_of_a_users_own_class_is_loaded_and_a_missing_class_is_named(checkpoint, tmp_path):
    agent = tiny_agent(stag_hunt(), Bonus)
    saved = {"state_dict": agent.state_dict(), "hyper_parameters": dict(agent.hparams)}
    torch.save(saved, tmp_path / "own.ckpt")
    assert isinstance(restore_agent(str(tmp_path / "own.ckpt")).opponent, Bonus)
    saved["hyper_parameters"]["opponent"] = {"class_path": "nowhere.Bonus", "init_args": {}}
    torch.save(saved, tmp_path / "own.ckpt")
    with pytest.raises(ConfigError, match=r"cannot find nowhere.Bonus") as caught:
        restore_agent(str(tmp_path / "own.ckpt"))
    assert one_line(caught)


def test_a_checkpoint_with_other_networks_is_refused_in_one_line(checkpoint, tmp_path):
    agent, path = checkpoint
    old = torch.load(path, weights_only=True)
    whole = old["state_dict"]
    name = "opponent.inference.mix"
    damages = {
        rf"{name}.weight is \[2, 3\], but": {**whole, f"{name}.weight": torch.zeros(2, 3)},
        rf"{name}.bias is nothing, but": {key: value for key, value in whole.items() if key != f"{name}.bias"},
        r"opponent.gone is \[1\], but this run has nothing": {**whole, "opponent.gone": torch.zeros(1)},
    }
    for says, weights in damages.items():
        old["state_dict"] = weights
        torch.save(old, tmp_path / "old.ckpt")
        for load in (lambda: restore_agent(tmp_path / "old.ckpt"), lambda: agent.on_load_checkpoint(old)):
            with pytest.raises(ConfigError, match=f"the checkpoint's {says}.*train a new agent") as caught:
                load()
            assert one_line(caught)


def test_a_checkpoint_with_another_opponent_model_can_play_with_a_learner(checkpoint):
    _, path = checkpoint
    data = attached(tiny_data(seats=["learner", f"checkpoint:{path}"], offline={"rounds": 0}), "Declared")
    episodes = data.refresh()[0].episodes
    assert episodes.learner[..., 0].any()
    assert not episodes.learner[..., 1].any()


@pytest.mark.parametrize("change", [{"num_players": 3}, {"height": 5}, {"max_steps": 9}])
def test_a_checkpoint_of_another_game_is_refused(checkpoint, change):
    _, path = checkpoint
    other = tiny_agent(stag_hunt(**change))
    with pytest.raises(ConfigError, match="checkpoint was trained with") as caught:
        other.load_actor(path)
    assert one_line(caught)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"opponent_args": {"goal_dim": 4}},
            r"weight is \[32, 3\], but this run has \[32, 4\]: .*model.opponent.goal_dim",
        ),
        ({"hidden": 8}, r"model.networks"),
        ({"sharing": "roles"}, r"model.networks"),
        ({"opponent": "Declared"}, r"model.opponent Subgoal, but this run has Declared"),
        ({"encoder": Conv}, r"model.encoder MLP, but this run has Conv"),
        ({"algorithm": partial(PPO, clip=0.1)}, r"model.algorithm BestResponseSearch, but this run has PPO"),
    ],
)
def test_a_run_with_other_networks_cannot_resume(checkpoint, change, says):
    _, path = checkpoint
    other = tiny_agent(tiny_data().env, **change)
    with pytest.raises(ConfigError, match=says) as caught:
        other.on_load_checkpoint(torch.load(path, weights_only=True))
    assert one_line(caught)


def test_a_file_that_is_not_a_checkpoint_is_refused(tmp_path):
    text, other, empty = tmp_path / "a.ckpt", tmp_path / "b.ckpt", tmp_path / "c.ckpt"
    text.write_text("no tensor in here")
    torch.save({"weights": torch.zeros(3)}, other)
    empty.touch()
    for path in (text, other, empty, tmp_path / "none.ckpt"):
        with pytest.raises(ConfigError, match=path.name) as caught:
            restore_agent(str(path))
        assert one_line(caught)


class StopAt(Callback):
    """Saves a checkpoint after some epochs, as if the run had ended there."""

    def __init__(self, epoch, path):
        self.epoch, self.path = epoch, path

    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.current_epoch + 1 == self.epoch:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("opponent", ["Subgoal", "Declared", "Codebook"])
@pytest.mark.parametrize("stop", [1, 3])
def test_a_resumed_run_ends_with_the_same_weights(opponent, stop, tmp_path):
    """Everything goes on bit by bit, from the offline into the online phase and within it."""
    path = tmp_path / "stop.ckpt"
    whole, trees = tiny_agent(stag_hunt(), opponent), {0: 1, 60: 2}
    fit(tiny_data(), whole, tmp_path, StopAt(stop, path), TreeCount(trees))
    again, data = tiny_agent(stag_hunt(), opponent, seed=5), tiny_data()
    fit(data, again, tmp_path, TreeCount(trees), ckpt_path=str(path), weights_only=True)
    assert data.rounds == 4
    assert again.env_steps == whole.env_steps > 0
    assert again.trained_seed == 0, "in statistics a resumed run counts as the seed that it was trained with"
    assert same(dict(again.state_dict()), dict(whole.state_dict()))


def test_a_run_that_diverges_saves_no_nan(tmp_path):
    # The last step before a checkpoint has no next loss that would tell.
    data = tiny_data(offline={"rounds": 0}, training={"steps_per_epoch": 1})
    agent = tiny_agent(data.env, "Direct")
    agent.algorithm.policy.net.out.weight.register_hook(lambda gradient: gradient * float("nan"))
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, limit_val_batches=0, default_root_dir=tmp_path,
        callbacks=[BufferRefresh(), RunCheckpoint(last_every=1)],
    )  # fmt: skip
    with pytest.raises(ConfigError, match="not finite") as caught:
        trainer.fit(agent, data)
    assert one_line(caught)
    assert not (tmp_path / "last.ckpt").exists()
