"""The numbers about goals that an evaluation logs, from evaluations of small agents."""

import pytest
import torch
from lightning import Trainer
from toys import tiny_agent, tiny_data

from callbacks import GoalQuality
from omg_lightning.metrics.exact import exact_observer
from omg_lightning.metrics import BeliefMetrics
from omg_lightning.opponents.targets import watched


def evaluated(goals, callbacks, seats=("learner", "switcher"), **settings):
    """Numbers of a `validate`, and the data module."""
    data = tiny_data(seats=list(seats), eval_episodes=10, **settings)
    agent = tiny_agent(data.game, goals)
    if agent.codebook is not None:  # codes of an own cell with a stag, and with a hare
        agent.codebook.codes[:2], agent.codebook.count[:2] = 0.0, 1.0
        own = agent.codebook.codes.shape[1] // 3
        agent.codebook.codes[0, own + own // 2] = agent.codebook.codes[1, 2 * own + own // 2] = 1.0
    trainer = Trainer(
        accelerator="cpu", callbacks=callbacks, logger=False, enable_progress_bar=False, enable_model_summary=False
    )
    (found,) = trainer.validate(agent, data, verbose=False)
    return found, agent, data


def test_what_an_evaluation_says_of_declared_goals_and_actions():
    found, _, data = evaluated("declared", [GoalQuality()])
    metrics = BeliefMetrics(2, 2, True, data.max_steps)
    best, bayes, counts = [], [], torch.zeros(data.num_actions)
    for episodes in data.evaluate(data.lineups, 10):
        who = watched(episodes)
        exact = exact_observer(data.game, episodes)
        metrics.update(episodes.goal, episodes.truth, who, exact.belief)
        bayes.append(exact.best[who])
        best.append(episodes.script_best[who])
        counts += torch.bincount(episodes.action[who], minlength=data.num_actions)
    expected = metrics.compute()
    assert {"goal/belief_accuracy_1", "goal/belief_calibration_5", "goal/belief_decided_5"} <= set(expected)
    assert {name: found[name] for name in expected} == pytest.approx({n: float(x) for n, x in expected.items()})
    assert found["goal/action_best"] == pytest.approx(float(torch.cat(best).mean()))
    assert found["goal/action_share"] == pytest.approx(found["goal/action_top1"] / found["goal/action_best"])
    assert found["goal/action_bayes"] == pytest.approx(float(torch.cat(bayes).mean()))
    assert found["goal/action_bayes_share"] == pytest.approx(found["goal/action_top1"] / found["goal/action_bayes"])
    assert found["goal/action_bayes"] < found["goal/action_best"], "it has to find out the goal"
    named = {f"goal/action_recall_{name}" for name, n in zip(data.game.action_names, counts, strict=True) if n}
    assert named == {name for name in found if "action_recall" in name}
    assert not [name for name in found if "code_" in name]


def test_what_an_evaluation_says_of_codes_that_mean_something():
    found, *_ = evaluated("codebook", [GoalQuality()], seats=["switcher", "switcher"])
    assert found["goal/code_nmi_realised"] == pytest.approx(1)
    assert 1 < found["goal/code_perplexity"] <= 2 + 1e-6
    assert {"goal/code_nmi_true", "goal/belief_nmi_5"} <= set(found)


@pytest.mark.parametrize("goals", ["none", "subgoal", "oracle"])
def test_without_an_explicit_belief_there_are_actions_alone(goals):
    found, *_ = evaluated(goals, [GoalQuality()])
    assert any("action_recall" in name for name in found)
    assert not [name for name in found if "belief" in name or "code" in name]


def test_beside_players_without_chances_or_goals_there_is_no_best():
    found, *_ = evaluated("none", [GoalQuality()], seats=["learner", "learner"])
    assert "goal/action_top1" in found
    assert "goal/action_best" not in found
    assert "goal/action_bayes" not in found
    found, *_ = evaluated("none", [GoalQuality()], seats=["learner", "random"])
    assert "goal/action_best" in found
    assert "goal/action_bayes" not in found, "it pursues no goal"
