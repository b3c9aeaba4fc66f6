import math

import pytest
import torch

from omg_lightning.metrics import BeliefMetrics, PredictionMetrics, ReturnMetrics, normalised_information
from omg_lightning.types import Episodes


def episodes(reward, active):
    """Episodes of which only reward and active `[T][B][P]` matter."""
    fields = dict.fromkeys(Episodes._fields)
    return Episodes(**{**fields, "reward": torch.tensor(reward), "active": torch.tensor(active)})


FIRST = episodes([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 2.0], [0.0, 0.0]]], [[[True] * 2] * 2, [[False, True], [False] * 2]])
SECOND = episodes([[[5.0, 5.0]]], [[[True, True]]])


def test_returns_by_hand():
    metrics = ReturnMetrics()
    metrics.update(FIRST)  # team returns 3 and 0, lengths 2 and 1
    metrics.update(SECOND)  # team return 10, length 1
    found = {name: float(value) for name, value in metrics.compute().items()}
    mean, half = 13 / 3, 1.96 * math.sqrt(((3 - 13 / 3) ** 2 + (13 / 3) ** 2 + (10 - 13 / 3) ** 2) / 2) / math.sqrt(3)
    assert found == pytest.approx(
        {
            "return/team_mean": mean,
            "return/team_low": mean - half,
            "return/team_high": mean + half,
            "return/seat_0_mean": 2.0,
            "return/seat_1_mean": 7 / 3,
            "return/length_mean": 4 / 3,
            "return/episodes": 3.0,
        },
        rel=1e-5,
    )


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_one_episode_has_no_interval_and_none_has_no_numbers():
    metrics = ReturnMetrics()
    assert metrics.compute() == {}
    metrics.update(SECOND)
    found = metrics.compute()
    assert float(found["return/team_low"]) == float(found["return/team_high"]) == 10
    metrics.reset()
    assert metrics.compute() == {}


def test_predictions_by_hand():
    metrics = PredictionMetrics(5)
    logits = torch.tensor([[5.0, 4, 3, 2, 1], [5.0, 4, 3, 2, 1], [5.0, 4, 3, 2, 1]])
    metrics.update(logits, torch.tensor([0, 2, 3]))
    metrics.update(logits[:1], torch.tensor([3]))
    found = {name: float(value) for name, value in metrics.compute().items()}
    assert found == {"goal/action_top1": 0.25, "goal/action_top3": 0.5, "goal/action_majority": 0.5}


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_predictions_of_few_actions_or_of_nobody():
    metrics = PredictionMetrics(2)
    metrics.update(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))
    assert metrics.compute() == {}
    metrics.update(torch.tensor([[1.0, 0.0]]), torch.tensor([1]))
    assert float(metrics.compute()["goal/action_top3"]) == 1.0


def test_beliefs_by_hand():
    metrics = BeliefMetrics(num_goals=2, size=2, same=True)
    belief = torch.tensor([[0.5, 0.5], [0.8, 0.2], [1.0, 0.0]])[:, None, None].expand(3, 2, 1, 2).clone()
    belief[:, 1] = belief[:, 1].flip(-1)  # the second episode's player has the other goal
    truth = torch.tensor([[0], [1]]).expand(3, 2, 1)
    who = torch.tensor([[1, 1], [1, 1], [1, 0]]).bool()[..., None]  # the second episode has two steps
    metrics.update(belief, truth, who)
    found = {name: float(value) for name, value in metrics.compute().items()}
    assert found["goal/belief_true_1"] == pytest.approx(0.8)
    assert found["goal/belief_true_3"] == pytest.approx((1.0 + 0.8) / 2)  # its last belief stands for the ended one
    assert found["goal/belief_true_all"] == found["goal/belief_true_10"] == found["goal/belief_true_3"]
    noise = -(0.8 * math.log(0.8) + 0.2 * math.log(0.2))
    assert found["goal/belief_nmi_1"] == pytest.approx((math.log(2) - noise) / math.log(2), abs=1e-6)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_beliefs_about_nobody_or_without_a_declared_goal():
    metrics = BeliefMetrics(2, 8, same=False)
    assert metrics.compute() == {}
    nobody = torch.full((3, 2, 1), -1)
    metrics.update(torch.ones(3, 2, 1, 8), nobody, torch.ones(3, 2, 1).bool())
    assert metrics.compute() == {}


def test_normalised_information_of_perfect_permuted_and_no_knowledge():
    assert float(normalised_information(torch.eye(3) / 3)) == pytest.approx(1)
    assert float(normalised_information(torch.eye(3)[[2, 0, 1]] / 3)) == pytest.approx(1)
    assert float(normalised_information(torch.full((2, 4), 1 / 8))) == pytest.approx(0, abs=1e-6)
    assert float(normalised_information(torch.tensor([[1.0, 0.0]]))) == 0
