"""The numbers about goals that an evaluation logs, from evaluations of small agents."""

import pytest
import torch
from lightning import Trainer
from toys import tiny_agent, tiny_data

from callbacks import GoalQuality
from omg_lightning.evaluation.exact import exact_observer
from omg_lightning.events import watched
from omg_lightning.metrics import BeliefMetrics


def evaluated(opponent, seats=("learner", "switcher"), **settings):
    """Numbers of a `validate`, and the data module."""
    data = tiny_data(seats=list(seats), evaluation={"episodes": 10}, **settings)
    agent = tiny_agent(data.env, opponent)
    if opponent == "Codebook":  # kinds of stags and hares, under the player
        things = agent.opponent.quantiser
        things.codes[0, 1] = things.codes[1, 2] = 1.0
        things.count[:2], things.places[len(things.places) // 2] = 1.0, 100.0
    trainer = Trainer(
        accelerator="cpu",
        callbacks=[GoalQuality()],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    (found,) = trainer.validate(agent, data, verbose=False)
    return found, data


def test_an_evaluation_logs_belief_and_prediction_metrics():
    found, data = evaluated("Declared")
    env = data.env
    metrics = BeliefMetrics(2, 2, True, env.max_steps)
    best, bayes, counts = [], [], torch.zeros(env.num_actions)
    for episodes in data.evaluate(data.lineups, 10):
        who = watched(episodes)
        exact = exact_observer(env, episodes)
        metrics.update(episodes, who, exact.belief)
        bayes.append(exact.best[who])
        best.append(episodes.extras["script_best"][who])
        counts += torch.bincount(episodes.action[who], minlength=env.num_actions)
    expected = metrics.compute()
    assert {"goal/belief_accuracy_1", "goal/belief_calibration_5", "goal/belief_decided_5"} <= set(expected)
    assert {name: found[name] for name in expected} == pytest.approx({n: float(x) for n, x in expected.items()})
    assert found["goal/action_best"] == pytest.approx(float(torch.cat(best).mean()))
    assert found["goal/action_share"] == pytest.approx(found["goal/action_top1"] / found["goal/action_best"])
    assert found["goal/action_bayes"] == pytest.approx(float(torch.cat(bayes).mean()))
    assert found["goal/action_bayes_share"] == pytest.approx(found["goal/action_top1"] / found["goal/action_bayes"])
    assert found["goal/action_bayes"] < found["goal/action_best"], "it has to find out the goal"
    named = {f"goal/action_recall_{name}" for name, n in zip(env.action_names, counts, strict=True) if n}
    assert named == {name for name in found if "action_recall" in name}
    assert not [name for name in found if "code_" in name]


def test_an_evaluation_logs_code_metrics():
    found, _ = evaluated("Codebook", seats=["switcher", "switcher"])
    assert found["goal/code_nmi_realised"] == pytest.approx(1)
    assert 1 < found["goal/code_perplexity"] <= 2 + 1e-6
    assert {"goal/code_nmi_true", "goal/belief_nmi_5"} <= set(found)


@pytest.mark.parametrize("opponent", ["Direct", "Subgoal", "Oracle"])
def test_without_an_explicit_belief_only_actions_are_measured(opponent):
    found, _ = evaluated(opponent)
    assert any("action_recall" in name for name in found)
    assert not [name for name in found if "belief" in name or "code" in name]


def test_beside_players_without_known_probabilities_or_goals_there_is_no_best():
    found, _ = evaluated("Direct", seats=["learner", "learner"])
    assert "goal/action_top1" in found
    assert "goal/action_best" not in found
    assert "goal/action_bayes" not in found
    found, _ = evaluated("Direct", seats=["learner", "random"])
    assert "goal/action_best" in found
    assert "goal/action_bayes" not in found, "it pursues no goal"
