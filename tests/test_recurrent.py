"""A memory without goals: what it is trained by, and what it is worth where one step is not enough."""

import pytest
import torch
from toys import gradients, play_with, tiny_agent, training_batch

from omg_lightning.games import MatrixGame
from omg_lightning.types import ConfigError

GUESSING = MatrixGame(payoff=torch.eye(3).tolist(), max_steps=12)


def test_only_the_prediction_of_co_players_trains_the_memory():
    agent = tiny_agent(GUESSING, "Recurrent", opponent_args={"embedding": 3})
    episodes = play_with(agent, GUESSING, ["learner", "mostly_1"])
    batch = training_batch(agent, episodes)
    losses = agent.opponent.losses(batch)
    assert set(losses) == {"coplayer", "coplayer_top1"}
    reached = gradients(agent.opponent, losses["coplayer"])
    assert any(name.startswith("history.") for name in reached)
    assert any(name.startswith("encoder.") for name in reached)
    assert not batch.targets.inferred.requires_grad, "the policy's loss stays out of it"
    hidden = episodes._replace(true_goal=torch.full_like(episodes.true_goal, -1))
    assert torch.equal(agent.opponent.losses(training_batch(agent, hidden))["coplayer"], losses["coplayer"])
    frozen = tiny_agent(GUESSING, "Recurrent", opponent_args={"online": False})
    assert frozen.opponent.losses(training_batch(frozen, play_with(frozen, GUESSING, ["learner", "mostly_1"]))) == {}


@pytest.mark.slow
def test_it_remembers_more_than_the_last_step():
    """The partner plays its kind 4 times of 5: the best guess from the last action alone is right 2 times of 3."""
    agent = tiny_agent(GUESSING, "Recurrent", hidden=24, opponent_args={"embedding": 8})
    optimizer = torch.optim.Adam(agent.opponent.parameters(), lr=0.01)
    kinds = [play_with(agent, GUESSING, ["random", f"mostly_{k}"], batch=96, seed=k) for k in range(3)]
    episodes = [
        each._replace(learner=torch.tensor([True, False]).expand_as(each.active) & each.active) for each in kinds
    ]
    for _ in range(60):
        optimizer.zero_grad()
        sum(agent.opponent.losses(training_batch(agent, each))["coplayer"] for each in episodes).backward()
        optimizer.step()
    found = []
    for k in range(3):
        each = play_with(agent, GUESSING, ["random", f"mostly_{k}"], batch=96, seed=10 + k)
        each = each._replace(learner=torch.tensor([True, False]).expand_as(each.active) & each.active)
        batch = training_batch(agent, each)
        embedded = batch.targets.inferred[8:, :, 0].flatten(0, 1)
        view, seat = each.observation[8:, :, 1].flatten(0, 1).float(), torch.ones(len(embedded), dtype=torch.int64)
        time = torch.full((len(embedded),), 0.8)
        legal = each.legal[8:, :, 1].flatten(0, 1)
        forecast = agent.opponent.forecast(view, time, seat, legal, embedded).argmax(-1)
        found.append(float((forecast == each.action[8:, :, 1].flatten()).float().mean()))
    assert sum(found) / 3 > 0.73, "Bayes over eight steps is at 0.79, the last step alone at 0.66"


def test_an_empty_memory_is_refused():
    with pytest.raises(ConfigError, match="embedding is 0"):
        tiny_agent(GUESSING, "Recurrent", opponent_args={"embedding": 0})
