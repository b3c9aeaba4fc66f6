"""The last screen of a run: a few lines for people, and where TensorBoard keeps what they say."""

import logging
from pathlib import Path

import pytest
import torch
from command_line import TINY, numbers, run, trained_smoke
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toys import attached, tiny_data

from callbacks.report import random_play
from omg_lightning.evaluation.summary import About, summary

ABOUT = About("StagHunt", ["learner", "nearest_stag"], Path("runs/a"), "runs/a/last.ckpt", 39_083, 151.6)
NUMBERS = {
    "return/episodes": 500.0, "return/team_mean": 10.0, "return/team_low": 9.93, "return/team_high": 10.0,
    "return/team_random": 1.2345, "return/team_most": 12.0, "return/seat_0_mean": 6.0, "return/seat_1_mean": 4.0,
    "goal/action_top1": 0.8818, "goal/action_share": 0.9976, "goal/action_majority": 0.414,
    "goal/return_inferred": 9.0, "goal/return_none": 6.0,
    "goal/return_gain": 3.0, "goal/return_gain_low": 2.25, "goal/return_gain_high": 3.75,
}  # fmt: skip


def test_every_line_of_the_summary_by_hand(tmp_path):
    for name in ("config.yaml", "last.ckpt", "metrics.json"):
        (tmp_path / name).touch()
    rest = f"--config {tmp_path}/config.yaml --ckpt_path {tmp_path}/last.ckpt"
    about = ABOUT._replace(folder=tmp_path)
    lines = summary(NUMBERS, about).splitlines()
    assert lines == [
        "StagHunt: learner, nearest_stag",
        "team return   10.00 (95%: 9.93 to 10.00) in 500 episodes; random play 1.23; best possible 12.00",
        "seats         6.00 learner, 4.00 nearest_stag",
        "prediction    88.2% of co-players' actions, 99.8% of the best possible; "
        "41.4% if always the most frequent action",
        "goals         raise the return by 3.00 (95%: 2.25 to 3.75): "
        "team return 9.00 with inferred goals, 6.00 with random goals",
        "training      39,083 environment steps in 152 s",
        f"files         {tmp_path}: metrics.json, last.ckpt",
        f"next          python -m omg_lightning replay {tmp_path}   # episodes and beliefs in the browser",
        f"              python -m omg_lightning play --agent {tmp_path}   # play with the agent",
        f"              tensorboard --logdir {tmp_path.parent}   # curves",
        f"              python -m omg_lightning test {rest}   # measure adaptation to other partners",
    ]
    assert summary(NUMBERS, about._replace(playable=False)).splitlines()[7:] == [
        f"next          tensorboard --logdir {tmp_path.parent}   # curves",
        lines[-1],
    ]


@pytest.mark.parametrize(
    ("none", "low", "high", "words"),
    [
        (9.0, 0.0, 0.0, "goals         change nothing: team return 9.00 with"),
        (8.9, -0.25, 0.45, "goals         no clear difference, 0.10 (95%: -0.25 to 0.45): team return 9.00 with"),
        (11.0, -3.5, -0.5, "goals         lower the return by 2.00 (95%: 0.50 to 3.50): team return 9.00 with"),
        (8.0, None, None, "goals         team return 9.00 with inferred goals, 8.00"),  # one episode has no interval
    ],
)
def test_goals_change_play_only_if_the_interval_of_the_difference_excludes_zero(none, low, high, words):
    gain = {"goal/return_gain": 9.0 - none, "goal/return_gain_low": low, "goal/return_gain_high": high}
    found = NUMBERS | {"goal/return_none": none} | gain
    assert words in summary({name: value for name, value in found.items() if value is not None}, ABOUT)


def test_unknown_numbers_are_omitted():
    few = {"return/episodes": 1.0, "return/team_mean": 10.0, "goal/action_top1": float("nan")}
    lines = summary(few, ABOUT._replace(fit_s=0.0)).splitlines()
    assert lines[1:3] == [
        "team return   10.00 in 1 episodes",
        "training      39,083 environment steps; evaluated runs/a/last.ckpt",
    ]
    assert len(lines) == 4


def test_fit_ends_with_the_summary(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        folder = run("fit", tmp_path, *TINY, "--trainer.max_epochs=3")
    (text,) = [record.getMessage() for record in caplog.records if "team return " in record.getMessage()]
    lines = text.strip().splitlines()
    assert len(lines) <= 12
    assert lines[1].startswith(f"team return   {numbers(folder)['return/team_mean']:.2f} (95%: ")
    assert f"random play {numbers(folder)['return/team_random']:.2f}" in lines[1]


def test_random_play_is_in_every_seat_with_networks_alone(monkeypatch):
    seen = []

    def played(env, lineup, learners, episodes, batch, generator):
        seen.append((lineup, learners, episodes))
        return torch.ones(episodes, 2)

    data = attached(tiny_data(seats=[["learner", "nearest_stag"], ["learner", "learner"]]))
    assert random_play(data) == random_play(data) > 0
    monkeypatch.setattr("callbacks.report.match", played)
    assert random_play(data) == 2.0
    assert seen == [(["random", "nearest_stag"], {}, 3), (["random", "random"], {}, 3)]  # five episodes, shared out
    assert random_play(attached(tiny_data(seats=["random", "nearest_stag"]))) is None


@pytest.mark.slow
def test_the_last_evaluation_has_tags_of_its_own_and_the_layout_shows_returns_first(tmp_path_factory):
    folder = trained_smoke(tmp_path_factory)
    log = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    steps = [event.step for event in log.Scalars("return/team_mean")]
    assert len(steps) == len(set(steps)) == 2  # two evaluations within training
    (last,) = log.Scalars("final/return/team_mean")
    assert last.value == pytest.approx(numbers(folder)["return/team_mean"])
    assert "final/goal/action_top1" in log.Tags()["scalars"]
    layout = log.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0].decode(errors="ignore")
    assert layout.index("return/team_mean") < layout.index("goal/action_") < layout.index("loss/")
