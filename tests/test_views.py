"""Views are shown to players, stored and trained on with the values that the game gives them, whatever their dtype."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from number_games import VIEWS, Countdown, NumberGame
from test_actors import Witness
from toys import Fixed, TokenGame, attached, tiny_agent, training_batch

from omg_lightning.actors import PlayerActor, arrange
from omg_lightning.algorithms import PPO
from omg_lightning.data import AdaptationConfig, EpisodeBuffer, EpisodeDataModule, OfflineConfig, TrainingConfig
from omg_lightning.envs import as_env
from omg_lightning.games import Game
from omg_lightning.rollout import play
from omg_lightning.spaces import dtype_of, is_binary, plain_space, space_of
from omg_lightning.types import ConfigError

DEVICE = torch.Generator().device  # the CPU, or that of `pytest --device`
STORED = {
    "reals": torch.float32,
    "doubles": torch.float64,
    "counts": torch.int32,
    "long counts": torch.int64,
    "unsigned counts": torch.int32,
    "negative": torch.int8,
    "bytes": torch.uint8,
    "truth values": torch.uint8,
    "bits": torch.uint8,
    "a number": torch.float32,
    "a whole number": torch.int16,
    "a table": torch.float32,
}
BITS = ("truth values", "bits")


def equal(one, two):
    """Whether two tensors hold the same numbers, whatever their dtype."""
    return torch.equal(one.double(), two.double())


def replayed(game, state, episodes):
    """What the game itself shows at each step, `[T, B, P, *shape]`, and where environments still run, `[T, B]`."""
    views, live = [], []
    for actions in episodes.action:
        views.append(game.observe(state))
        live.append(game.active(state).any(-1))
        state, _ = game.step(state, actions)
    return torch.stack(views), torch.stack(live)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("kind", VIEWS)
def test_episodes_contain_the_games_own_views(kind, workers):
    game = NumberGame(kind)
    env = as_env(game)
    random = torch.Generator().manual_seed(0)
    episodes = play(env, arrange([["random"] * 2], 12, env, DEVICE), {}, random, workers=workers).episodes
    assert episodes.observation.dtype == STORED[kind] == dtype_of(game.observation_space)
    assert episodes.observation.shape[3:] == game.observation_space.shape
    shares = torch.arange(12).tensor_split(workers)
    seeds = [0] if workers == 1 else torch.randint(2**62, (2,), generator=torch.Generator().manual_seed(0)).tolist()
    for rows, seed in zip(shares, seeds, strict=True):
        state = game.reset(len(rows), torch.Generator().manual_seed(seed))
        own = episodes.map(lambda field, rows=rows: field[:, rows])
        views, live = replayed(game, state, own)
        assert equal(own.observation[live], views[live])
        assert not own.observation[~live].any(), "padding is 0"
        assert len(own.observation[live].unique(dim=0)) > 2, "and the views differ"


@pytest.mark.parametrize("kind", VIEWS)
def test_players_observe_the_games_own_views(kind):
    game, witness = NumberGame(kind), Witness()
    state = game.reset(8, torch.Generator().manual_seed(1))
    env = Fixed(game, state)
    seating = arrange([["random"] * 2], 8, env, DEVICE)
    first, second = seating.scripted["random"].seated
    seating = seating._replace(scripted={"random": PlayerActor((first, second._replace(player=witness)))})
    episodes = play(env, seating, {}, torch.Generator().manual_seed(0)).episodes
    views, live = replayed(game, state, episodes)
    for t, (seen, _) in enumerate(witness.shown):
        assert equal(seen[live[t]], views[t, live[t], 1])
        assert seen.dtype == (torch.float32 if kind in BITS else STORED[kind])
        assert seen.shape[1:] == game.observation_space.shape


@pytest.mark.parametrize("kind", VIEWS)
def test_the_buffer_and_the_losses_get_the_games_own_views(kind):
    game = NumberGame(kind)
    state = game.reset(8, torch.Generator().manual_seed(1))
    env = Fixed(game, state)
    agent = tiny_agent(game, "Direct")
    seating = arrange([["learner", "random"]], 8, env, DEVICE)
    episodes = play(env, seating, {"learner": agent.actor()}, torch.Generator().manual_seed(0)).episodes
    views, live = replayed(game, state, episodes)
    for b in range(8):
        buffer = EpisodeBuffer(1, game.max_steps)
        buffer.add(episodes.map(lambda field, b=b: field[:, b : b + 1]), 0)
        drawn, here = buffer.sample(1, torch.Generator()).observation[:, 0], live[:, b]
        assert drawn.dtype == STORED[kind]
        assert equal(drawn, views[here, b])
    batch = training_batch(agent, episodes)
    assert torch.equal(batch.samples.observation, views[episodes.active].float())
    given = batch.view if batch.view.dtype.is_floating_point else None  # bits may be given as the indices of their ones
    assert given is None or torch.equal(given, views[episodes.active].float())


@pytest.mark.parametrize("opponent", ["Direct", "Codebook", "Subgoal"])
@pytest.mark.parametrize("algorithm", ["search", "PPO"])
@pytest.mark.parametrize("kind", [kind for kind in VIEWS if kind not in ("doubles", "long counts")])
def test_games_of_any_view_are_learned(kind, algorithm, opponent):
    """Views of 1e12 are left out: they overflow the squares of a reconstruction, in any network."""
    settings = {"algorithm": PPO} if algorithm == "PPO" else {}
    game = NumberGame(kind)
    training = TrainingConfig(batch_size=4, steps_per_epoch=1, capacity=8)
    data = EpisodeDataModule(game, ["learner", "random"], num_envs=8, training=training, offline=OfflineConfig(1))
    agent = tiny_agent(game, opponent, **settings)
    data.attach(agent.actor, agent.load_actor, agent.copy_weights, agent.algorithm.on_policy)
    optimizer = agent.optimizer()
    for _ in range(2):
        data.refresh(1)
        for batch in data.train_dataloader():
            loss = agent.weigh(agent.losses(batch))
            if loss is not None:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    assert all(weight.isfinite().all() for weight in agent.parameters())


def test_an_environment_without_rules_shows_and_stores_its_own_views():
    env, shown = Countdown(2), []

    class Spied(Countdown):
        def _step(self, *args):
            step = super()._step(*args)
            shown.append(step)
            return step

    spied = Spied(2)
    random = torch.Generator().manual_seed(0)
    episodes = play(spied, arrange([["random"] * 2], 6, spied, DEVICE), {}, random).episodes
    assert torch.equal(episodes.observation[0], shown[0].observation)
    assert episodes.observation.dtype == torch.float32 == dtype_of(env.observation_space)
    for t in range(len(episodes.active)):
        live = episodes.active[t].any(-1)
        step = shown[t]
        here = step.active.any(-1)
        assert torch.equal(episodes.observation[t, live], step.observation[here])


class Careless(NumberGame):
    """Gives counts as float32."""

    def observe(self, state):
        return super().observe(state).float()


def test_views_are_shown_in_the_dtype_of_the_space_also_where_a_game_gives_another():
    game, witness = Careless("counts"), Witness()
    env = as_env(game)
    seating = arrange([["random"] * 2], 4, env, DEVICE)
    first, second = seating.scripted["random"].seated
    seating = seating._replace(scripted={"random": PlayerActor((first._replace(player=witness), second))})
    episodes = play(env, seating, {}, torch.Generator().manual_seed(0)).episodes
    assert witness.shown[0][0].dtype == episodes.observation.dtype == torch.int32


# Spaces -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", VIEWS)
def test_a_space_survives_as_plain_values(kind):
    space = VIEWS[kind][0]
    again = space_of(plain_space(space))
    assert again.shape == space.shape
    assert is_binary(again) == is_binary(space) == (kind in BITS)
    assert dtype_of(again) == dtype_of(space)
    assert again.dtype == space.dtype or is_binary(space)
    assert all(isinstance(value, list | str | bool) for value in plain_space(space).values())


@pytest.mark.parametrize(
    ("space", "says"),
    [
        (spaces.Discrete(3), r"observation_space is Discrete\(3\); expected gymnasium\.spaces\.Box or MultiBinary"),
        (spaces.Dict({"a": spaces.Discrete(2)}), r"use gymnasium\.spaces\.flatten_space"),
        (None, "observation_space is None"),
        (spaces.Box(0, 1, (2, 0), np.float32), r"has shape \(2, 0\); expected at least one entry"),
    ],
)
def test_a_space_that_cannot_be_stored_is_refused_in_one_line(space, says):
    game = NumberGame("reals")
    game.observation_space = space
    with pytest.raises(ConfigError, match=f"NumberGame.*{says}") as caught:
        EpisodeDataModule(game, ["learner", "random"], num_envs=2)
    assert "\n" not in str(caught.value)


# Games of one player, environments without rules ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "game", [TokenGame(1), NumberGame("reals", 1), Countdown(1)], ids=["grid", "reals", "no rules"]
)
@pytest.mark.parametrize("opponent", ["Direct", "Codebook", "Subgoal"])
def test_one_player_plays_and_learns(game, opponent):
    algorithms = {"PPO": {"algorithm": PPO}} | ({"search": {}} if isinstance(game, Game) else {})
    for settings in algorithms.values():
        data = EpisodeDataModule(
            game, ["learner"], num_envs=6, offline=OfflineConfig(1), training=TrainingConfig(4, 2, capacity=12)
        )
        agent = tiny_agent(game, opponent, **settings)
        data.attach(agent.actor, agent.load_actor, agent.copy_weights, agent.algorithm.on_policy)
        offline, online = data.refresh(1)[0].episodes, data.refresh(1)[0].episodes
        assert not offline.learner.any()
        assert torch.equal(online.learner, online.active)
        batch = next(iter(data.train_dataloader()))
        before = agent.copy_weights()
        agent.weigh(agent.losses(batch)).backward()
        agent.optimizer().step()
        after = agent.state_dict()
        assert any(not torch.equal(after[name], before[name]) for name in before if name.startswith("algorithm"))
        assert all(value.isfinite().all() for value in after.values())
        evaluation = next(iter(data.val_dataloader()))
        assert evaluation.learner.any()
        agent.validation_step(evaluation, 0)


def test_an_environment_without_rules_goes_through_the_whole_data_module():
    env = Countdown(3)
    seats, adaptation = ["learner", "random", "past"], AdaptationConfig(relationships=2, steps=8, score_steps=4)
    data = EpisodeDataModule(env, seats, num_envs=4, offline=OfflineConfig(1), adaptation=adaptation)
    data = attached(data, "Subgoal", algorithm=PPO)
    assert data.game is data.env is env
    assert data.partners == ["random"]
    offline, online = data.refresh()[0], data.refresh()[0]
    assert offline.env_steps + online.env_steps == data.env_steps
    assert torch.equal(online.episodes.learner, online.episodes.active & torch.tensor([True, False, False]))
    assert online.episodes.extras["bootstrap"][online.episodes.truncated & online.episodes.learner].any()
    assert sum(int(segment.length.sum()) for segment in data.test_dataloader()) >= 2 * 8
