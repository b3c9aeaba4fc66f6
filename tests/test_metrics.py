"""Metrics of returns, predicted actions, beliefs and codes, by hand."""

import math

import pytest
import torch

from omg_lightning.metrics import (
    BeliefMetrics,
    CodeMetrics,
    PredictionMetrics,
    ReturnMetrics,
    normalised_information,
    recalls,
)
from omg_lightning.metrics.belief import match_codes, waiting
from omg_lightning.types import NO_GOAL, Episodes


def episodes(reward, active, **fields):
    """Episodes of which only reward and active `[T][B][P]`, and what is given, matter."""
    known = {"reward": torch.tensor(reward), "active": torch.tensor(active)}
    return Episodes(**{**dict.fromkeys(Episodes._fields), **known, **fields})


def believed(belief, truth):
    """Episodes of which only a belief `[T, B, P, G]` and the true goals `[T, B, P]` matter."""
    return Episodes(**{**dict.fromkeys(Episodes._fields), "goal": belief, "true_goal": truth})


FIRST = episodes([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 2.0], [0.0, 0.0]]], [[[True] * 2] * 2, [[False, True], [False] * 2]])
SECOND = episodes([[[5.0, 5.0]]], [[[True, True]]])


def test_returns_by_hand():
    metrics = ReturnMetrics(discount=0.5)
    metrics.update(FIRST)  # team returns 3 and 0, lengths 2 and 1
    metrics.update(SECOND)  # team return 10, length 1
    found = {name: float(value) for name, value in metrics.compute().items()}
    mean, half = (
        13 / 3,
        4.302653 * math.sqrt(((3 - 13 / 3) ** 2 + (13 / 3) ** 2 + (10 - 13 / 3) ** 2) / 2) / math.sqrt(3),
    )
    assert found == pytest.approx(
        {
            "return/team_mean": mean,
            "return/team_low": mean - half,
            "return/team_high": mean + half,
            "return/team_discounted": (1 + 2 * 0.5 + 0 + 10) / 3,
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
    assert float(found["return/team_mean"]) == 10
    assert not {"return/team_low", "return/team_high"} & found.keys()
    metrics.reset()
    assert metrics.compute() == {}


def test_predictions_by_hand():
    metrics = PredictionMetrics(5)
    logits = torch.tensor([[5.0, 4, 3, 2, 1], [5.0, 4, 3, 2, 1], [5.0, 4, 3, 2, 1]])
    metrics.update(logits, torch.tensor([0, 2, 3]))
    metrics.update(logits[:1], torch.tensor([3]))
    found = {name: float(value) for name, value in metrics.compute().items()}
    assert found == {"goal/action_top1": 0.25, "goal/action_top3": 0.5, "goal/action_majority": 0.5}


def test_confusion_and_recall_by_hand():
    metrics = PredictionMetrics(3)
    logits = torch.tensor([[2.0, 1, 0], [2.0, 1, 0], [0.0, 1, 2], [0.0, 2, 1]])
    metrics.update(logits, torch.tensor([0, 1, 1, 1]))
    assert metrics.confusion.tolist() == [[1, 0, 0], [1, 1, 1], [0, 0, 0]]  # played in rows, predicted in columns
    found = {name: float(value) for name, value in recalls(metrics.confusion, ("up", "stay", "hunt")).items()}
    assert found == pytest.approx({"goal/action_recall_up": 1, "goal/action_recall_stay": 1 / 3})


def test_top1_against_the_best_possible_by_hand():
    metrics = PredictionMetrics(2)
    logits = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    metrics.update(logits, torch.tensor([0, 1]), torch.tensor([0.5, 1.0]))
    found = metrics.compute()
    assert float(found["goal/action_best"]) == 0.75
    assert float(found["goal/action_share"]) == pytest.approx(0.5 / 0.75)
    metrics.update(logits, torch.tensor([0, 1]), torch.tensor([0.5, 0.0]))  # the second player does not know
    assert not {"goal/action_best", "goal/action_share"} & set(metrics.compute())


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_predictions_of_few_actions_or_of_no_player():
    metrics = PredictionMetrics(2)
    metrics.update(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))
    assert metrics.compute() == {}
    metrics.update(torch.tensor([[1.0, 0.0]]), torch.tensor([1]))
    assert float(metrics.compute()["goal/action_top3"]) == 1.0


def test_beliefs_by_hand():
    metrics = BeliefMetrics(num_goals=2, size=2, same=True, max_steps=5)
    belief = torch.tensor([[0.5, 0.5], [0.8, 0.2], [1.0, 0.0]])[:, None, None].expand(3, 2, 1, 2).clone()
    belief[:, 1] = belief[:, 1].flip(-1)  # the second episode's player has the other goal
    truth = torch.tensor([[0], [1]]).expand(3, 2, 1)
    who = torch.tensor([[1, 1], [1, 1], [1, 0]]).bool()[..., None]  # the second episode has two steps
    metrics.update(believed(belief, truth), who)
    found = {name: float(value) for name, value in metrics.compute().items()}
    assert found["goal/belief_true_1"] == pytest.approx(0.8)
    assert found["goal/belief_true_3"] == pytest.approx((1.0 + 0.8) / 2)  # its last belief stands for the ended one
    assert found["goal/belief_true_all"] == found["goal/belief_true_10"] == found["goal/belief_true_3"]
    noise = -(0.8 * math.log(0.8) + 0.2 * math.log(0.2))
    assert found["goal/belief_nmi_1"] == pytest.approx((math.log(2) - noise) / math.log(2), abs=1e-6)


def seen(true, *probabilities):
    """Belief `[T, 1, 1, 2]` in goal 0 at each step, its truth, and who is there."""
    steps = len(probabilities)
    belief = torch.tensor(probabilities)[:, None, None, None]
    truth = torch.tensor(true if isinstance(true, list) else [true] * steps)[:, None, None]
    return torch.cat([belief, 1 - belief], -1), truth, torch.ones(steps, 1, 1).bool()


def measured(*rows, exact=None, **settings):
    metrics = BeliefMetrics(**{"num_goals": 2, "size": 2, "same": True, "max_steps": 8, **settings})
    for k, (belief, truth, who) in enumerate(rows):
        metrics.update(believed(belief, truth), who, None if exact is None else exact[k])
    return {name.removeprefix("goal/"): float(value) for name, value in metrics.compute().items()}


def test_accuracy_and_calibration_by_hand():
    found = measured(seen(0, 0.5, 0.8), seen(1, 0.5, 0.8), seen(1, 0.5, 0.3))
    assert found["belief_accuracy_1"] == pytest.approx(2 / 3)
    # Said 0.8 twice and was right once; said 0.7 once and was right.
    assert found["belief_calibration_1"] == pytest.approx(2 / 3 * (0.8 - 0.5) + 1 / 3 * (1 - 0.7), abs=1e-6)
    perfect = measured(seen(0, 0.5, 1.0), seen(1, 0.5, 0.0))
    assert (perfect["belief_accuracy_1"], perfect["belief_calibration_1"]) == (1, 0)


def test_the_true_goal_is_that_of_the_step():
    found = measured(seen([0, 0, 1, 1], 0.5, 0.9, 0.9, 0.2))
    assert found["belief_true_1"] == pytest.approx(0.9)
    assert found["belief_true_3"] == pytest.approx(0.8)
    assert found["belief_accuracy_3"] == 1


def test_steps_until_the_belief_is_sure_by_hand():
    found = measured(seen(0, 0.5, 0.95, 0.5), seen(0, 0.5, 0.6, 0.7, 0.91), seen(1, 0.5, 0.95), seen(1, 0.05))
    assert found["belief_reached_90"] == 3 / 4  # the third never
    assert found["belief_steps_to_90"] == pytest.approx((1 + 3 + 0) / 3)
    assert found["belief_steps_to_90_median"] == 1


def test_steps_to_90_of_a_changed_goal_count_from_the_change():
    truth = torch.tensor([[0, 0, 1, 1, 1, 0]])
    probability = torch.tensor([[0.95, 0.95, 0.1, 0.1, 0.95, 0.99]])
    found = waiting(probability, truth, torch.tensor([5]))  # what comes after the end does not count
    assert float(found["goal/belief_reached_90"]) == 1
    assert float(found["goal/belief_steps_to_90"]) == pytest.approx((0 + 2) / 2)
    alone = waiting(probability, truth, torch.tensor([4]))
    assert float(alone["goal/belief_reached_90"]) == 0.5


def test_beliefs_three_steps_after_a_change_by_hand():
    # The first goal changes at step 1, the second at step 2 and again at 4, before three steps were seen.
    rows = [seen([0, 1, 1, 1, 1, 1], 0.9, 0.5, 0.4, 0.3, 0.2, 0.1), seen([1, 1, 0, 0, 1], 0.9, 0.9, 0.9, 0.9, 0.9)]
    exact = [seen(0, *[0.05] * 6)[0], seen(0, *[0.5] * 5)[0]]
    found = measured(*rows, exact=exact)
    assert found["belief_true_after_3"] == pytest.approx(0.8)
    assert found["belief_exact_after_3"] == pytest.approx(0.95)
    assert "belief_exact_after_3" not in measured(*rows)
    assert "belief_true_after_3" not in measured(seen(0, 0.5, 0.9, 0.9, 0.9, 0.9)), "a goal that stays does not count"
    cut = (rows[0][0], rows[0][1], rows[0][2].clone())
    cut[2][4:] = False  # the episode is over before three steps were seen
    assert "belief_true_after_3" not in measured(cut)


def test_decidable_and_decided_beliefs_by_hand():
    rows = [seen(0, 0.5, 0.95), seen(0, 0.5, 0.6), seen(1, 0.5, 0.01)]
    exact = [seen(0, 0.5, p)[0] for p in (0.92, 0.99, 0.5)]  # nobody can know of the third
    found = measured(*rows, exact=exact)
    assert found["belief_decidable_1"] == pytest.approx(2 / 3)
    assert found["belief_decided_1"] == 1 / 2
    assert found["belief_exact_1"] == pytest.approx((0.92 + 0.99 + 0.5) / 3)
    assert "belief_decided_1" not in measured(*rows), "without the scripts' probabilities it is not known"


def test_codes_are_matched_to_the_true_goal_with_most_of_their_belief():
    assert match_codes(torch.tensor([[3.0, 0, 1], [1.0, 2, 2]])).tolist() == [[1, 0], [0, 1], [0, 1]]

    def codes(true, *last):
        belief = torch.tensor([[1 / 3] * 3, last])[:, None, None]
        return belief, torch.tensor([true, true])[:, None, None], torch.ones(2, 1, 1).bool()

    # Codes 0 and 2 go with goal 1, code 1 with goal 0.
    rows = [codes(1, 0.5, 0.1, 0.4), codes(0, 0.0, 1.0, 0.0), codes(1, 0.1, 0.3, 0.6)]
    found = measured(*rows, size=3, same=False)
    assert found["belief_true_1"] == pytest.approx((0.9 + 1 + 0.7) / 3)
    assert found["belief_accuracy_1"] == 1
    assert found["belief_reached_90"] == pytest.approx(2 / 3)
    alone = measured(codes(1, 0.5, 0.1, 0.4), size=3, same=False)
    assert alone == {}, "one goal fits any codes"


def test_codes_against_goals_by_hand():
    # Four episodes of one seat: an event at step 1, 0, 1 and never. The last has two steps, too.
    reward = [[[0.0], [5.0], [0.0], [0.0]], [[1.0], [0.0], [5.0], [0.0]]]
    active = [[[True]] * 4, [[True], [False], [True], [True]]]
    achieved = torch.tensor([[[-1], [1], [-1], [-1]], [[0], [-1], [1], [-1]]])
    truth = torch.tensor([[[0], [1], [1], [0]]] * 2)
    codes = torch.tensor([[[-1], [2], [-1], [-1]], [[0], [-1], [2], [-1]]])
    metrics = CodeMetrics(num_codes=4, num_goals=2, label=lambda episodes: codes)
    played = episodes(reward, active, achieved_goal=achieved, true_goal=truth)
    metrics.update(played, played.active)
    assert metrics.usage.tolist() == [[1, 0, 0], [0, 0, 0], [0, 2, 0], [0, 0, 0]]
    assert metrics.pursued.tolist() == [[1, 0, 0], [0, 0, 0], [0, 2, 0], [0, 0, 0]]
    found = {name: float(value) for name, value in metrics.compute().items()}
    third = -(1 / 3 * math.log(1 / 3) + 2 / 3 * math.log(2 / 3))
    assert found == pytest.approx(
        {
            "goal/code_nmi_realised": 1,
            "goal/code_nmi_true": 1,
            "goal/code_perplexity": math.exp(third),
        },
        abs=1e-5,
    )


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_codes_without_events_or_with_one_goal_only():
    metrics = CodeMetrics(2, 2, lambda episodes: torch.tensor([[[0], [1]]]))
    assert metrics.compute() == {}
    nobody = torch.full((1, 2, 1), NO_GOAL)
    played = episodes([[[1.0], [1.0]]], [[[True], [True]]], achieved_goal=nobody, true_goal=nobody)
    metrics.update(played, played.active)
    assert {name: float(value) for name, value in metrics.compute().items()} == {"goal/code_perplexity": 2}


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_beliefs_about_no_player_or_without_a_declared_goal():
    metrics = BeliefMetrics(2, 8, same=False, max_steps=3)
    assert metrics.compute() == {}
    nobody = torch.full((3, 2, 1), -1)
    metrics.update(believed(torch.ones(3, 2, 1, 8), nobody), torch.ones(3, 2, 1).bool())
    assert metrics.compute() == {}


def test_normalised_information_of_perfect_permuted_and_no_knowledge():
    assert float(normalised_information(torch.eye(3) / 3)) == pytest.approx(1)
    assert float(normalised_information(torch.eye(3)[[2, 0, 1]] / 3)) == pytest.approx(1)
    assert float(normalised_information(torch.full((2, 4), 1 / 8))) == pytest.approx(0, abs=1e-6)
    assert float(normalised_information(torch.tensor([[1.0, 0.0]]))) == 0
