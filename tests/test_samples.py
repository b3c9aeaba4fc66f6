"""What losses are computed from: active steps as samples, goals to train on, and the one order of seats."""

from dataclasses import replace

import pytest
import torch
from toys import TokenGame, play_with, tiny_agent, training_batch

from omg_lightning.opponents import Targets
from omg_lightning.samples import active_steps
from omg_lightning.types import ego_order


@pytest.fixture(scope="module")
def ragged():
    """An agent and episodes of a three-seat game in which seats leave at different times."""
    game = TokenGame(3)
    agent = tiny_agent(game, "Declared")
    episodes = play_with(agent, game, ["learner", "random", "learner"])
    assert (episodes.active[-1].any(-1) != episodes.active[-1].all(-1)).any()
    return game, agent, episodes


def test_samples_are_the_active_steps_and_spread_puts_them_back(ragged):
    game, _, episodes = ragged
    samples = active_steps(episodes, game.max_steps)
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


def test_targets_of_a_batch_are_computed_once(ragged):
    _, agent, episodes = ragged
    batch, calls = training_batch(agent, episodes), []
    batch = replace(batch, find_targets=lambda given: calls.append(given) or agent.opponent.targets(given))
    assert batch.goals.shape == episodes.goal.shape
    assert batch.targets is batch.targets
    assert calls == [batch]


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_goals_to_train_on_are_inferred_ones_with_a_share_of_known_labels(ragged, share):
    _, agent, episodes = ragged
    inferred, label = torch.full_like(episodes.goal, 2.0), torch.full_like(episodes.goal, 3.0)
    known = torch.rand(episodes.active.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    targets = Targets(inferred, label, known, share)
    goals = replace(training_batch(agent, episodes), find_targets=lambda batch: targets).goals
    assert (goals == goals[..., :1]).all(), "a goal is taken as a whole"
    goal, active = goals[..., 0], episodes.active
    assert not goal[~active].any(), "goals of seats that have left are 0"
    assert (goal[active & ~known] == 2).all()
    assert float((goal[active & known] == 3).float().mean()) == pytest.approx(share, abs=0.2 if share == 0.5 else 0)


def test_ego_order_puts_the_ego_first_and_is_undone_by_the_other_seats_distance():
    x = torch.arange(12).view(4, 3)
    ego = torch.tensor([0, 1, 2, 1])
    assert ego_order(x, ego).tolist() == [[0, 1, 2], [4, 5, 3], [8, 6, 7], [10, 11, 9]]
    assert torch.equal(ego_order(ego_order(x, ego), (3 - ego) % 3), x)
