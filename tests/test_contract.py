"""The contract suite: every kind of game, every opponent model, both algorithms: checked, trained, or refused."""

from functools import partial

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from line_game import LineGame
from toys import same, stag_hunt, tiny_agent, tiny_data

from callbacks import BufferRefresh
from omg_lightning import opponents
from omg_lightning.algorithms import PPO, BestResponseSearch
from omg_lightning.envs import CopyableGame, PettingZooEnv
from omg_lightning.envs.base import as_env
from omg_lightning.games import CoinGame, MatrixGame, Snowdrift
from omg_lightning.games.scripts import scripts_of
from omg_lightning.testing import check_algorithm, check_opponent
from omg_lightning.types import ConfigError

ALGORITHMS = {
    "PPO": partial(PPO, epochs=2, minibatches=2),
    "BestResponseSearch": partial(BestResponseSearch, trees=1, simulations=2),
}
OPPONENTS = ("Direct", "Declared", "Locations", "Codebook", "Subgoal", "Oracle", "LIAM", "MeLIBA", "Recurrent")
GAMES = {
    "grid": lambda: stag_hunt(max_steps=4),
    "cells": lambda: Snowdrift(height=3, width=3, num_players=2, num_drifts=2, max_steps=4),
    "reals": lambda: LineGame(max_steps=4),
    "coins": lambda: CoinGame(max_steps=4),
    "bits": lambda: MatrixGame("prisoners_dilemma", max_steps=4),
    "particles": lambda: particles(PettingZooEnv),
}
CELLS, DECLARES = "opponent Locations needs goals that are objects in cells of a grid, but", "needs declared goals, but"
REFUSED = {  # an opponent model and a game that do not go together, and how it says so
    **{(game, "Locations"): CELLS for game in ("grid", "reals", "bits", "particles")},
    **{
        (game, name): f"opponent {name} {DECLARES}"
        for game in ("reals", "particles")
        for name in ("Declared", "Oracle")
    },
}
# The game of cells is there for `Locations`, and of coins for `LIAM`; others meet a grid already.
PAIRS = [(game, name) for game in GAMES for name in OPPONENTS if (game, name) not in REFUSED]
PAIRS = [pair for pair in PAIRS if pair[0] not in ("cells", "coins") and pair != ("particles", "MeLIBA")]
PAIRS = [pair for pair in PAIRS if pair[1] != "Recurrent" or pair[0] == "bits"]  # `LIAM` is one, and meets the others
PAIRS += [("cells", "Locations"), ("coins", "LIAM")]
TRIPLES = [(*pair, algorithm) for pair in PAIRS for algorithm in ALGORITHMS]


def particles(kind):
    """Two agents of a third-party environment, as the environment or as a game that can be searched."""
    pytest.importorskip("mpe2", reason="needs the extra [envs]")
    return kind("mpe2.simple_spread_v3.parallel_env", {"N": 2, "max_cycles": 3})


def game_for(name, algorithm):
    """Return the game of this name that the algorithm can play."""
    searches = name == "particles" and algorithm == "BestResponseSearch"
    return particles(CopyableGame) if searches else GAMES[name]()


def opponent_of(name):
    """Return an opponent model as a user gives it, with short codes."""
    small = {"Subgoal": {"goal_dim": 3}, "Codebook": {"num_codes": 3}}
    small |= {"LIAM": {"embedding": 3}, "MeLIBA": {"embedding": 2}, "Recurrent": {"embedding": 2}}
    return partial(getattr(opponents, name), **small.get(name, {}))


def tiny_run(game, opponent, algorithm, seed=0):
    """Return a data module of 2 offline rounds and an agent; two online rounds follow in a run of 4 epochs."""
    env = as_env(game_for(game, algorithm))
    scripts = scripts_of(env)
    seats = ["learner", scripts[0] if scripts else "random"]
    data = tiny_data(game=env, seats=seats, num_envs=3, training={"batch_size": 3, "capacity": 12})
    return data, tiny_agent(env, opponent_of(opponent), seed, hidden=8, algorithm=ALGORITHMS[algorithm])


class Watch(Callback):
    """Keeps the losses of each round; saves a checkpoint after some rounds, as if the run had ended there."""

    def __init__(self, path=None, after=3):
        self.path, self.after, self.rounds = path, after, []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if outputs is not None:
            self.rounds.append((batch.offline, float(outputs["loss"])))

    def on_train_epoch_end(self, trainer, pl_module):
        if self.path is not None and trainer.current_epoch + 1 == self.after:
            trainer.save_checkpoint(self.path)


def fit(data, agent, folder, *callbacks, **settings):
    trainer = Trainer(
        max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, limit_val_batches=0, default_root_dir=folder,
        callbacks=[*callbacks, BufferRefresh(max_age=3)],
    )  # fmt: skip
    trainer.fit(agent, data, **settings)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


@pytest.mark.parametrize(("game", "opponent"), PAIRS)
def test_every_opponent_model_keeps_the_contract(game, opponent):
    check_opponent(opponent_of(opponent), GAMES[game](), batch_size=4)


@pytest.mark.parametrize(("game", "opponent", "algorithm"), TRIPLES)
def test_every_algorithm_keeps_the_contract(game, opponent, algorithm):
    check_algorithm(ALGORITHMS[algorithm], game_for(game, algorithm), opponent_of(opponent), batch_size=4)


@pytest.mark.parametrize(("game", "opponent"), REFUSED)
def test_contradictory_settings_are_refused_in_one_line(game, opponent):
    made = GAMES[game]()
    for refuse in (
        lambda: check_opponent(opponent_of(opponent), made),
        lambda: check_algorithm(PPO, made, opponent_of(opponent)),
        lambda: tiny_run(game, opponent, "PPO"),
    ):
        with pytest.raises(ConfigError, match=REFUSED[game, opponent]) as caught:
            refuse()
        assert "\n" not in str(caught.value)
        assert ": use " in str(caught.value)


@pytest.mark.parametrize("opponent", ["Direct", "Codebook", "Subgoal"])
def test_a_search_in_an_environment_without_rules_is_refused_in_one_line(opponent):
    env = particles(PettingZooEnv)
    for refuse in (
        lambda: check_algorithm(ALGORITHMS["BestResponseSearch"], env, opponent_of(opponent)),
        lambda: tiny_agent(env, opponent_of(opponent)),
    ):
        with pytest.raises(ConfigError, match=r"cannot be stepped from a state: set --model\.algorithm PPO") as caught:
            refuse()
        assert "\n" not in str(caught.value)


def test_an_upper_bound_beside_scripts_without_goals_is_refused_in_one_line(tmp_path):
    with pytest.raises(
        ConfigError, match="needs each co-player's true goal, but cleaner declares no goal: seat a script"
    ) as caught:
        fit(*tiny_run("cells", "Oracle", "PPO"), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("game", "opponent", "algorithm"), TRIPLES)
def test_every_combination_learns_offline_and_online(game, opponent, algorithm, tmp_path):
    data, agent = tiny_run(game, opponent, algorithm)
    before, watch = agent.copy_weights(), Watch()
    logged = fit(data, agent, tmp_path, watch)
    assert (data.rounds, data.env_steps > 0) == (4, True)
    assert {offline for offline, _ in watch.rounds} == {True, False}
    assert all(torch.isfinite(torch.tensor(loss)) for _, loss in watch.rounds)
    assert {f"loss/{name}" for name in agent.loss_weights} <= set(logged)
    assert all(torch.isfinite(torch.tensor(value)) for value in logged.values())
    after = agent.state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value.cpu(), before[name])}
    trained = [name for name, weight in agent.named_parameters() if weight.requires_grad]
    parts = {".".join(name.split(".")[:2]) for name in trained}
    assert parts == {".".join(name.split(".")[:2]) for name in moved & set(trained)}
    assert all(value.isfinite().all() for value in after.values())


@pytest.mark.parametrize(
    ("game", "opponent", "algorithm"), [("bits", "Subgoal", "PPO"), ("reals", "Codebook", "BestResponseSearch")]
)
def test_a_resumed_run_is_bit_identical(game, opponent, algorithm, tmp_path):
    path, run = tmp_path / "stop.ckpt", partial(tiny_run, game, opponent, algorithm)
    data, whole = run()
    fit(data, whole, tmp_path, Watch(path))
    other, again = run(seed=5)
    fit(other, again, tmp_path, ckpt_path=str(path), weights_only=True)
    assert same(dict(again.state_dict()), dict(whole.state_dict()))
    assert same(other.buffer.state_dict(), data.buffer.state_dict())
