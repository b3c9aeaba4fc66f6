"""Figures, pictures and animations, from real runs of a few rounds."""

import io
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image, ImageColor
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toys import tiny_agent, tiny_data

from callbacks import BufferRefresh, goal_pictures, replay
from callbacks.goal_pictures import GoalPictures, code_numbers, draw_examples, selected
from callbacks.replay import EpisodeAnimation, ReplayWriter, episode_frames
from callbacks.return_figure import ReturnFigure, return_figure, smooth
from callbacks.view_figure import Picture, belief_picture
from omg_lightning.data import EpisodeDataModule
from omg_lightning.games import MatrixGame, Snowdrift, StagHunt
from omg_lightning.games.grid.icons import SEAT_COLOURS
from omg_lightning.games.grid.render import Capture
from omg_lightning.training import Agent
from omg_lightning.types import NO_GOAL, ConfigError, Episodes

OFFLINE, EPOCHS = 1, 3


class Run(NamedTuple):
    trainer: Trainer
    agent: Agent
    data: EpisodeDataModule


def run(folder, callbacks: list[Callback], epochs: int = EPOCHS, ckpt_path=None, opponent="Subgoal", **settings) -> Run:
    groups = {
        "training": {"batch_size": 4, "steps_per_epoch": 2},
        "offline": {"rounds": OFFLINE},
        "evaluation": {"episodes": 6, "val_episodes": 6, "predict_episodes": 3},
    }
    data = tiny_data(num_envs=6, **groups, **settings)
    agent = tiny_agent(data.env, opponent)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        check_val_every_n_epoch=EPOCHS,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        logger=TensorBoardLogger(folder, name="", default_hp_metric=False),
        callbacks=[BufferRefresh(), *callbacks],
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(agent, data, ckpt_path=ckpt_path, weights_only=True)
    return Run(trainer, agent, data)


def events(trainer: Trainer) -> EventAccumulator:
    return EventAccumulator(trainer.log_dir, {"images": 0, "scalars": 0}).Reload()


@pytest.fixture(scope="module")
def pictured(tmp_path_factory) -> Run:
    everything = [ReturnFigure(2), GoalPictures(2), EpisodeAnimation(1), ReplayWriter()]
    return run(tmp_path_factory.mktemp("pictured"), everything)


def figure_of(result: Run) -> ReturnFigure:
    return next(c for c in result.trainer.callbacks if isinstance(c, ReturnFigure))


# ReturnFigure -------------------------------------------------------------------------------------------------------


def test_the_figure_shows_the_returns_that_were_logged(pictured):
    scalars, callback = events(pictured.trainer), figure_of(pictured)
    names = ["offline"] * OFFLINE + ["train"] * (EPOCHS - OFFLINE)
    logged = [{e.step: e.value for e in scalars.Scalars(f"return/{name}_team_mean")} for name in names]
    team, each = return_figure(callback.rounds, callback.evaluations, pictured.data.seats).axes[:2]
    points = team.lines[0].get_xydata()
    assert len(points) == EPOCHS
    assert points[-1, 0] == pictured.data.env_steps
    for (step, value), by_step in zip(points, logged, strict=True):
        assert value == pytest.approx(by_step[int(step)], abs=1e-5)
    seats = np.array([line.get_ydata() for line in each.lines if line.get_label() == "_rounds"])
    np.testing.assert_allclose(seats.sum(0), points[:, 1])
    assert [r[2] for r in callback.rounds] == [1.0] * OFFLINE + [0.0] * (EPOCHS - OFFLINE)
    assert team.lines[1].get_xydata()[0, 0] == callback.rounds[OFFLINE][0], "the curve starts with the online phase"


def test_the_evaluation_is_in_the_figure_with_its_interval(pictured):
    metrics, point = events(pictured.trainer), figure_of(pictured).evaluations[-1]
    names = ("return/team_mean", "return/team_low", "return/team_high")
    assert point == pytest.approx([pictured.data.env_steps, *(metrics.Scalars(name)[-1].value for name in names)])


def test_the_figure_is_in_tensorboard_once_for_each_state_and_in_the_run_folder(pictured, tmp_path):
    steps = [image.step for image in events(pictured.trainer).Images("figures/return")]
    assert steps == [int(figure_of(pictured).rounds[1][0]), pictured.data.env_steps]
    with Image.open(f"{pictured.trainer.log_dir}/return.png") as picture:
        assert picture.width > 1000


@pytest.mark.slow
def test_history_and_clock_survive_a_resume(pictured, tmp_path):
    path, before = tmp_path / "a.ckpt", figure_of(pictured)
    pictured.trainer.save_checkpoint(path)
    resumed = run(tmp_path, [ReturnFigure(9)], epochs=EPOCHS + 1, ckpt_path=path)
    after = figure_of(resumed)
    assert after.rounds[:-1] == before.rounds
    assert after.evaluations == before.evaluations
    assert after.rounds[-1][0] == resumed.data.env_steps > before.rounds[-1][0]
    seconds = [r[1] for r in after.rounds]
    assert seconds == sorted(seconds)


@pytest.mark.slow
def test_an_evaluation_after_fit_replaces_the_one_at_the_last_step(tmp_path):
    result = run(tmp_path, [ReturnFigure()])
    callback = figure_of(result)
    callback.evaluations[-1][1] = -1.0
    result.trainer.validate(result.agent, result.data, verbose=False)
    assert len(callback.evaluations) == 1
    assert callback.evaluations[0][1] >= 0


def test_smoothing_by_hand():
    assert smooth(np.arange(1.0, 7.0)).tolist() == [2.0, 2.5, 3.0, 4.0, 4.5, 5.0]
    assert smooth(np.array([1.0, 3.0])).tolist() == [2.0, 2.0]
    assert len(smooth(np.array([]))) == 0


def test_the_clock_has_a_tick_where_that_time_had_passed():
    rounds = [[100, 10.0, 0.0, 1.0], [400, 20.0, 0.0, 1.0], [500, 60.0, 0.0, 1.0]]
    top = return_figure(rounds, [], ["learner"]).axes[2]
    ticks = {label.get_text(): x for label, x in zip(top.get_xticklabels(), top.get_xticks(), strict=True)}
    assert ticks["10"] == 100
    assert ticks["20"] == 400
    assert "30" not in ticks, "it would run into 20"
    assert ticks["60"] == 500


def test_the_offline_phase_is_shaded_up_to_its_last_round():
    rounds = [[100, 1.0, 1.0, 1.0], [200, 2.0, 1.0, 1.0], [300, 3.0, 0.0, 1.0]]
    for axes in return_figure(rounds, [], ["learner"]).axes[:2]:
        (shade,) = axes.patches
        assert (shade.get_x(), shade.get_width()) == (0, 200)


def test_a_run_without_online_rounds_or_evaluations_has_a_return_figure():
    axes = return_figure([[10, 1.0, 1.0, 2.0, 3.0]], [], ["learner", "random"]).axes[0]
    assert axes.lines[0].get_ydata().tolist() == [5.0]


@pytest.mark.parametrize(("rounds", "words"), [(1, "one round"), (2, "mean of 2 rounds"), (9, "mean of 5 rounds")])
def test_the_legend_says_of_how_many_rounds_the_curve_is_a_mean_and_what_a_dot_is(rounds, words):
    axes = return_figure(
        [[10 * k, 1.0, 0.0, 2.0] for k in range(1, rounds + 1)], [[10, 2.0, 1.0, 3.0]], ["learner"]
    ).axes
    texts = [text.get_text() for text in axes[0].get_legend().get_texts()]
    assert texts[:2] == ["each round", f"training: {words}"]
    dots, evaluation = axes[0].lines[0], axes[0].containers[0]
    assert dots.get_zorder() > evaluation.lines[0].get_zorder()  # no dot is hidden


def test_a_legend_names_only_what_is_drawn():
    axes = return_figure([[10, 1.0, 1.0, 2.0, 3.0]], [], ["learner", "random"]).axes
    assert [text.get_text() for text in axes[0].get_legend().get_texts()] == ["each round"]
    assert [line.get_label() for line in axes[1].lines] == ["seat 0: learner", "seat 1: random"]
    assert all(line.get_marker() == "." for line in axes[1].lines)


def test_returns_below_zero_are_all_within_the_axes():
    rounds = [[10, 1.0, 0.0, -30.0, -20.0], [20, 2.0, 0.0, -25.0, -25.0]]
    for axes in return_figure(rounds, [], ["learner", "random"]).axes[:2]:
        low, high = axes.get_ylim()
        for line in axes.lines:
            assert low < line.get_ydata().min() <= line.get_ydata().max() < high


# GoalPictures -------------------------------------------------------------------------------------------------------


def test_recall_is_logged_for_the_latest_episodes_and_weights(pictured):
    with torch.no_grad():
        expected = code_numbers(pictured.agent.opponent, pictured.data.latest.episodes)
    assert {"goal/recall_self", "goal/recall_other", "goal/recall_stags", "goal/active_units"} <= set(expected)
    assert not [name for name in expected if "blocks" in name], "there are no blocks in this game"
    found = events(pictured.trainer)
    for name, value in expected.items():
        logged = found.Scalars(name)[-1]
        assert (logged.step, logged.value) == (pictured.data.env_steps, pytest.approx(float(value)))


def test_goal_figures_are_in_tensorboard(pictured):
    images = events(pictured.trainer).Images("figures/goals")
    assert [image.step for image in images] == [int(figure_of(pictured).rounds[1][0]), pictured.data.env_steps]
    assert Image.open(io.BytesIO(images[-1].encoded_image_string)).format == "PNG"


@torch.no_grad()
def test_examples_are_views_of_co_players_and_their_futures(pictured):
    episodes = pictured.data.latest.episodes
    opponent = pictured.agent.opponent
    examples = draw_examples(opponent, pictured.data, selected(pictured.agent, opponent, pictured.data)[1], 4)
    assert 1 <= len(examples) <= 4
    for example in examples:
        assert example.seat == 1, "no learner observes the learner in seat 0"
        b, t = (int(number) for number in re.findall(r"\d+", example.label.split("\n")[-1]))  # "episode b, t = 3"
        assert episodes.active[t + example.ahead, b, 1]
        assert 1 <= example.ahead <= opponent.selector.horizon
        torch.testing.assert_close(example.pictures[0].cells, episodes.observation[t, b, 1].float())
        torch.testing.assert_close(example.pictures[3].cells, episodes.observation[t + example.ahead, b, 1].float())
        for picture in example.pictures:
            total = picture.cells[:2].flatten(1).sum(1) + picture.absent
            torch.testing.assert_close(total, torch.ones(2))


def test_a_certain_player_is_a_full_disc_and_an_unlikely_one_a_small_one():
    cells = torch.zeros(3, 1, 2)
    cells[0, 0, 0], cells[0, 0, 1] = 0.9, 0.1
    picture = belief_picture(Picture(cells, torch.tensor([0.0, 1.0])), ("self", "other_1", "stags"), ego=1)
    own = (picture == ImageColor.getrgb(SEAT_COLOURS[1])).all(-1)  # the ego is seat 1
    half = picture.shape[1] // 2
    board = own[:half]  # without the line below it
    likely, unlikely = board[:, :half].sum(), board[:, half:].sum()
    assert likely / unlikely == pytest.approx(9, rel=0.35)  # the number on the disc takes some of it
    assert (picture == ImageColor.getrgb(SEAT_COLOURS[0])).all(-1)[half:].any(), "seat 0 has left: below the board"
    assert not (picture == ImageColor.getrgb(SEAT_COLOURS[0])).all(-1)[:half].any()


def test_pictures_change_nothing_in_a_run(pictured, tmp_path):
    plain = run(tmp_path, []).agent.state_dict()
    for name, weight in pictured.agent.state_dict().items():
        assert torch.equal(weight, plain[name]), name


def test_without_subgoals_there_are_no_goal_pictures_and_one_line_says_so(tmp_path, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(goal_pictures, "rank_zero_info", said.append)
    result = run(tmp_path, [GoalPictures(1)], opponent="Declared")
    assert len(said) == 1
    assert "Subgoal" in said[0]
    assert "figures/goals" not in events(result.trainer).Tags()["images"]


@pytest.mark.slow
def test_off_the_grid_returns_and_codes_are_logged_and_no_boards_drawn(tmp_path, capsys):
    game = MatrixGame("prisoners_dilemma", max_steps=6)
    everything = [ReturnFigure(2), GoalPictures(2), EpisodeAnimation(1), ReplayWriter()]
    result = run(tmp_path, everything, game=game, seats=["learner", "tit_for_tat"])
    found = events(result.trainer)
    assert found.Tags()["images"] == ["figures/return"]
    assert {"goal/active_units", "goal/collapsed"} <= set(found.Tags()["scalars"])
    assert not [name for name in found.Tags()["scalars"] if "recall" in name or "hit_ratio" in name]
    result.trainer.predict(result.agent, result.data)
    assert not list(tmp_path.rglob("*.gif"))
    assert "no replays written: MatrixGame is not a game on a grid, so it has no pictures" in capsys.readouterr().out


# Animations ---------------------------------------------------------------------------------------------------------


def frames_in(animation) -> int:
    with Image.open(animation) as picture:
        assert picture.format == "GIF"
        return picture.n_frames


def test_the_animation_in_tensorboard_has_a_frame_for_each_step_and_the_start(pictured):
    images = events(pictured.trainer).Images("episode")
    steps = [int(r[0]) for r in figure_of(pictured).rounds[OFFLINE:]]
    assert [image.step for image in images] == steps, "one at every online epoch, none offline, none twice"
    length = int(pictured.data.latest.episodes.active[:, 0].any(-1).sum())
    assert frames_in(io.BytesIO(images[-1].encoded_image_string)) == length + 1
    assert images[-1].width > 0


def test_predict_writes_a_replay_of_each_episode(pictured, capsys):
    outputs = pictured.trainer.predict(pictured.agent, pictured.data)
    lengths = [int(n) for episodes in outputs for n in episodes.active.any(-1).sum(0)]
    files = sorted(Path(pictured.trainer.log_dir, "replays").glob("*.gif"))
    assert [file.name for file in files] == ["episode_000.gif", "episode_001.gif", "episode_002.gif"]
    assert [frames_in(file) - 1 for file in files] == lengths
    assert f"3 replays written to {files[0].parent}; open its replay.html in a browser" in capsys.readouterr().out
    assert (files[0].parent / "replay.html").read_text().count('"over":true') == 3


def played(game, start, actions):
    """The states of an episode, and as much of its record as a replay needs."""
    states, rewards, achieved = [start], [], []
    for joint in actions:
        chosen = torch.tensor([joint])
        achieved.append(game.realised(states[-1], chosen))
        state, reward = game.step(states[-1], chosen)
        states, rewards = [*states, state], [*rewards, reward]
    blank = Episodes(*[torch.zeros(0)] * (len(Episodes._fields) - 1), extras={})
    return states, blank._replace(
        observation=torch.stack([game.observe(state) for state in states[:-1]]).to(torch.uint8),
        active=torch.stack([game.active(state) for state in states[:-1]]),
        reward=torch.stack(rewards),
        achieved_goal=torch.stack(achieved),
    )


def test_the_last_frame_shows_the_capture_on_the_board_as_it_came_to_be(monkeypatch):
    game = StagHunt.preset("2h1s_4x4")
    start = game.place(1, hunters=[(0, 0), (1, 2)], stags=[(1, 2)], hares=[(3, 3), (0, 3)])
    actions = [[3, 4], [3, 4], [1, 4], [5, 5]]  # right, right, down, and then both hunt
    states, episodes = played(game, start, actions)
    drawn = []
    monkeypatch.setattr(replay, "frame", lambda board, names, **words: drawn.append((board, words)))
    episode_frames(episodes, 0, game)
    assert len(drawn) == len(actions) + 1
    for (board, _), state in zip(drawn, states, strict=True):
        assert torch.equal(board.float(), game.observe(state)[0, 0])
    assert [words["title"] for _, words in drawn][-2:] == ["step 3 of 35", "end: step 4 of 35"]
    assert all(not words.get("captures") for _, words in drawn[:-1])
    assert drawn[-1][1]["captures"] == [Capture(1, 2, "stag", (0, 1))]
    assert drawn[-1][1]["returns"] == [5.0, 5.0]


def test_in_snowdrift_a_shovelling_player_stays_on_the_board_to_the_last_frame(monkeypatch):
    game = Snowdrift(num_players=2, num_drifts=2, height=2, width=2)
    start = game.place(1, players=[(0, 0), (1, 0)], drifts=[(0, 0), (1, 1)])
    states, episodes = played(game, start, [[5, 4], [4, 3], [4, 5]])  # shovel; the other goes right; shovels
    drawn = []
    monkeypatch.setattr(replay, "frame", lambda board, names, **words: drawn.append((board, words)))
    episode_frames(episodes, 0, game)
    for (board, _), state in zip(drawn, states, strict=True):
        assert torch.equal(board.float(), game.observe(state)[0, 0])
    captures = [words.get("captures", []) for _, words in drawn]
    assert captures == [[], [Capture(0, 0, "drift", (0,))], [], [Capture(1, 1, "drift", (1,))]]
    assert drawn[-1][1]["returns"] == [8.0, 8.0]


def test_single_frames_are_those_of_the_whole_animation(pictured):
    episodes, game = pictured.data.latest.episodes, pictured.data.game
    everything = episode_frames(episodes, 0, game, 16)
    last = len(everything) - 1
    chosen = episode_frames(episodes, 0, game, 16, [0, last])
    assert len(chosen) == 2
    for one, other in zip(chosen, (everything[0], everything[last]), strict=True):
        assert np.array_equal(one, other)


def test_padding_after_the_end_is_no_frame(pictured):
    episodes = pictured.data.latest.episodes
    longer = episodes.map(lambda field: torch.cat([field, torch.zeros_like(field[:2])]))
    longer.achieved_goal[-2:] = NO_GOAL
    assert len(episode_frames(longer, 0, pictured.data.game)) == len(episode_frames(episodes, 0, pictured.data.game))


@pytest.mark.parametrize("make", [lambda: ReturnFigure(0), lambda: GoalPictures(1, 0), lambda: EpisodeAnimation(0)])
def test_numbers_out_of_range_are_refused(make):
    with pytest.raises(ConfigError, match="at least 1"):
        make()
