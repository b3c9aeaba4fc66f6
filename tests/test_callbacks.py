"""Callbacks that steer a run: trees by environment steps, new episodes by epochs, checkpoints."""

from types import SimpleNamespace

import pytest
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from toys import model_spec, stag_hunt, tiny_agent, tiny_data

from callbacks import BufferRefresh, RunCheckpoint, TreeCount
from omg_lightning.algorithms import PPO, BestResponseSearch
from omg_lightning.types import ConfigError


def fit(data, agent, folder, callbacks, epochs, **settings):
    trainer = Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, default_root_dir=folder, callbacks=callbacks, **settings,
    )  # fmt: skip
    trainer.fit(agent, data)
    return trainer


def test_the_number_of_trees_follows_environment_steps_and_evaluations_have_the_models_own(tmp_path):
    seen = []

    class Spy(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            seen.append((trainer.datamodule.env_steps, pl_module.actor().trees))

        def on_validation_epoch_start(self, trainer, pl_module):
            seen.append(("validation", pl_module.actor().trees))

    data = tiny_data(num_envs=2, training={"capacity": 8}, evaluation={"episodes": 2, "val_episodes": 2})
    agent = tiny_agent(data.env, "Direct", search_args={"trees": 3})
    fit(data, agent, tmp_path, [TreeCount({20: 1, 30: 2}), Spy(), BufferRefresh(max_age=3)], 4)
    assert ("validation", 3) in seen
    steps = [entry for entry in seen if entry[0] != "validation"]
    assert len(steps) == 4
    for env_steps, trees in steps:
        assert trees == (3 if env_steps < 20 else 1 if env_steps < 30 else 2)
    assert agent.algorithm.trees == 3, "the model is left with its own number"


@pytest.mark.parametrize("schedule", [{-1: 2}, {0: 0}])
def test_a_tree_schedule_out_of_range_is_refused(schedule):
    with pytest.raises(ConfigError, match="TreeCount") as caught:
        TreeCount(schedule)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("env_steps", "trees"), [(0, 3), (19, 3), (20, 1), (29, 1), (30, 2), (39, 2), (40, 3)])
def test_the_number_of_trees_changes_at_the_very_step(env_steps, trees):
    callback = TreeCount({30: 2, 20: 1, 40: None})  # none stands for the model's own
    trainer = SimpleNamespace(datamodule=SimpleNamespace(env_steps=env_steps))
    algorithm = BestResponseSearch(model_spec(stag_hunt()), 0, trees=3)
    module = SimpleNamespace(algorithm=algorithm, log=lambda *args, **kwargs: None)
    callback.on_fit_start(trainer, module)
    callback.on_train_epoch_start(trainer, module)
    assert algorithm.trees == trees


def test_a_tree_schedule_leaves_an_algorithm_without_search_alone(tmp_path):
    data = tiny_data(offline={"rounds": 0})
    agent = tiny_agent(data.env, "Direct", algorithm=PPO)
    trainer = fit(data, agent, tmp_path, [TreeCount({0: 1}), BufferRefresh()], 1, limit_val_batches=0)
    assert "search/trees" not in trainer.callback_metrics


def test_the_buffer_is_refreshed_every_interval_and_what_was_dropped_is_logged(tmp_path):
    seen = []

    class Spy(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            metrics = trainer.callback_metrics
            seen.append(tuple(int(metrics.get(f"buffer/{name}", -1)) for name in ("episodes", "dropped", "oldest_age")))

    data = tiny_data(num_envs=2, training={"capacity": 8})
    agent = tiny_agent(data.env, "Direct")
    fit(data, agent, tmp_path, [BufferRefresh(max_age=2, interval=2), Spy()], 5, limit_val_batches=0)
    assert data.rounds == 3  # at epochs 0, 2, 4
    assert (seen[0], seen[2], seen[4]) == ((2, 0, 0), (4, 0, 1), (4, 2, 1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BufferRefresh(max_age=0), "BufferRefresh"),
        (lambda: BufferRefresh(interval=0), "BufferRefresh"),
        (lambda: RunCheckpoint(last_every=0), "last_every"),
    ],
)
def test_intervals_below_one_are_refused(make, message):
    with pytest.raises(ConfigError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
