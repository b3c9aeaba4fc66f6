"""The figures about goals: what is in them, and where they go."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from lightning import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.colors import to_hex
from PIL import Image, ImageColor
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toys import stag_hunt, tiny_agent, tiny_data

from callbacks import GoalFigures, GoalQuality, goal_figures
from callbacks.belief_figure import Panel, belief_figure, frame_steps, named_parts
from callbacks.table_figures import GOAL_COLOURS, NOTHING, code_figure, code_picture, confusion_figure
from omg_lightning.games import MatrixGame, Snowdrift
from omg_lightning.types import NO_GOAL, ConfigError

STAG, HARE = GOAL_COLOURS[:2]
NAMES = ("stag", "hare")


# Confusion ----------------------------------------------------------------------------------------------------------


def test_the_confusion_figure_shows_shares_of_each_action_played():
    axes = confusion_figure(torch.tensor([[3.0, 1, 0], [0, 0, 0], [0, 2, 0]]), ("up", "stay", "hunt_stag")).axes[0]
    assert axes.images[0].get_array().tolist() == [[0.75, 0.25, 0], [0, 0, 0], [0, 1, 0]]
    assert {(text.get_position(), text.get_text()) for text in axes.texts} == {
        ((0, 0), "75"),
        ((1, 0), "25"),
        ((1, 2), "100"),
    }
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "up  (n = 4)",
        "stay  (n = 0)",
        "hunt stag  (n = 2)",
    ]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["up", "stay", "hunt stag"]
    assert "0.500" in axes.get_title(), "top-1: 3 of 6"


# Codes --------------------------------------------------------------------------------------------------------------


def test_a_code_is_a_bar_of_its_share_of_events_stacked_by_goal():
    game = stag_hunt()
    usage = torch.tensor([[1.0, 1, 0], [0, 0, 0], [6, 0, 2]])
    pictures, axes = code_figure(torch.zeros(3, 3), usage, game).axes[:2]
    bars = {(round(p.get_x() + 0.35), to_hex(p.get_facecolor())): (p.get_y(), p.get_height()) for p in axes.patches}
    expected = {  # place 0 is code 2, which is at more events
        (0, STAG): (0, 0.6),
        (0, NOTHING): (0.6, 0.2),
        (1, STAG): (0, 0.1),
        (1, HARE): (0.1, 0.1),
    }
    for key, value in expected.items():
        assert bars[key[0], key[1].lower()] == pytest.approx(value), key
    assert [label.get_text() for label in axes.get_xticklabels()] == ["code 2", "code 0"]
    assert axes.get_xlabel().startswith("1 of 3")
    assert len(pictures.child_axes) == 2, "a picture of each code in use"


def test_the_picture_of_a_code_shows_the_things_of_its_planes():
    game = stag_hunt()
    fur, grey = (ImageColor.getrgb(colour) for colour in ("#9A5B2E", "#A3A7AE"))  # of the painters
    for kind, shows in ((1, (True, False)), (2, (False, True))):
        picture = code_picture(torch.eye(3)[kind], game)
        assert picture.shape[0] == picture.shape[1]
        assert tuple(bool((picture == colour).all(-1).any()) for colour in (fur, grey)) == shows


# Belief -------------------------------------------------------------------------------------------------------------


def test_parts_are_goals_or_codes_by_the_goal_they_go_with():
    assert [part[:3] for part in named_parts(NAMES, 2, None)] == [(0, 0, "stag"), (1, 1, "hare")]
    usage = torch.tensor([[0.0, 3, 0], [0, 0, 5], [4, 1, 0], [9, 0, 0]])
    parts = named_parts(NAMES, 4, usage)
    assert [part[:3] for part in parts] == [
        (3, 0, "code 3 (stag)"),
        (2, 0, "code 2 (stag)"),
        (0, 1, "code 0 (hare)"),
        (1, NO_GOAL, "code 1"),
    ]
    assert parts[0].colour.lower() == STAG.lower()
    assert len({part.colour for part in parts}) == 4, "codes of one goal are shades of its colour"


@pytest.fixture
def drawn():
    """A belief over two steps, of a goal that changes."""
    frames = {k: np.full((8, 8, 3), 40 * k, dtype=np.uint8) for k in range(3)}
    panel = Panel(1, "switcher:1", np.array([[0.5, 0.5], [0.8, 0.2]]), [0, 1], np.array([[0.5, 0.5], [0.9, 0.1]]))
    return belief_figure(frames, [panel], named_parts(NAMES, 2, None), NAMES)


def corners(collection):
    """`(left, right, bottom, top)` of what a collection fills."""
    points = collection.get_paths()[0].vertices
    return (*points[:, 0].min(keepdims=True), points[:, 0].max(), points[:, 1].min(), points[:, 1].max())


def test_the_belief_is_stacked_under_the_true_goal(drawn):
    axes = drawn.axes[-1]
    stag, hare, *strip = axes.collections
    assert [to_hex(area.get_facecolor()[0]) for area in (stag, hare)] == [STAG.lower(), HARE.lower()]
    heights = {tuple(point) for point in stag.get_paths()[0].vertices.round(6).tolist()}
    assert {(0, 0.5), (1, 0.5), (1, 0.8), (2, 0.8)} <= heights, "0.5 until one step is seen, then 0.8"
    assert corners(hare)[3] == pytest.approx(1)
    assert [to_hex(area.get_facecolor()[0]) for area in strip] == [STAG.lower(), HARE.lower()], "the goal changes"
    assert [corners(area)[:2] for area in strip] == [(0, 1), (1, 2)]
    assert all(corners(area)[2] > 1 for area in strip)
    assert axes.lines[0].get_ydata().tolist() == [0.5, 0.9, 0.9], "exact Bayes: its probability of the first goal"
    assert "seat 1" in axes.get_ylabel()
    assert [(text.get_text(), text.get_position()[0]) for text in axes.texts[:2]] == [("stag", 0.5), ("hare", 1.5)]
    assert drawn.get_suptitle() == "What the learner believes about its partner in one evaluation episode"
    labels = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert labels == ["belief: stag", "belief: hare", "stag, by exact Bayes with known scripts"]


def test_the_bar_omits_the_name_of_a_short_goal():
    frames = {0: np.zeros((8, 8, 3), dtype=np.uint8), 35: np.zeros((8, 8, 3), dtype=np.uint8)}
    panel = Panel(1, "switcher:1", np.full((35, 2), 0.5), [0] + [1] * 34, None)
    axes = belief_figure(frames, [panel], named_parts(NAMES, 2, None), NAMES).axes[-1]
    assert [text.get_text() for text in axes.texts] == ["hare", "true goal"]


def test_frames_stand_over_their_steps(drawn):
    *pictures, panel = drawn.axes
    assert [axes.get_title() for axes in pictures] == ["t = 0", "t = 1", "end"]
    assert [int(axes.images[0].get_array()[0, 0, 0]) for axes in pictures] == [0, 40, 80]
    for step, axes in enumerate(pictures):
        middle = axes.get_position().x0 + axes.get_position().width / 2
        place = panel.get_position()
        left, right = panel.get_xlim()
        assert middle == pytest.approx(place.x0 + place.width * (step - left) / (right - left), abs=1e-3)


def test_a_long_episode_shows_the_first_the_last_and_some_frames_between():
    frames = dict.fromkeys(frame_steps(35, 4), np.zeros((8, 8, 3), dtype=np.uint8))
    panels = [Panel(p, "x", np.full((35, 2), 0.5), [NO_GOAL] * 35, None) for p in (1, 2)]
    figure = belief_figure(frames, panels, named_parts(NAMES, 2, None), NAMES)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["t = 0", "t = 12", "t = 23", "end", "", ""]
    assert frame_steps(3, 8) == [0, 1, 2, 3], "no more than there are"


def test_no_frame_hides_another():
    frames = dict.fromkeys(frame_steps(9, 8), np.zeros((8, 8, 3), dtype=np.uint8))  # 0, 1, 3, 4, 5, ...
    panel = Panel(1, "nearest_stag", np.full((9, 2), 0.5), [0] * 9, None)
    figure = belief_figure(frames, [panel], named_parts(NAMES, 2, None), NAMES)
    edges = sorted((axes.get_position().x0, axes.get_position().x1) for axes in figure.axes[: len(frames)])
    assert len(edges) == 8
    assert all(right < left for (_, right), (left, _) in pairwise(edges))


# Where they go ------------------------------------------------------------------------------------------------------


def evaluate(folder, opponent, callbacks, **settings):
    data = tiny_data(**{"seats": ["learner", "switcher"], **settings}, evaluation={"episodes": 6})
    agent = tiny_agent(data.env, opponent)
    if opponent == "Codebook":
        quantiser = agent.opponent.quantiser
        quantiser.codes[:2], quantiser.count[:2] = torch.eye(quantiser.codes.shape[1])[1:3], 1.0
        if data.game.layout is not None:
            quantiser.places[len(quantiser.places) // 2] = 100.0  # things lie under the player
    trainer = Trainer(
        accelerator="cpu",
        callbacks=callbacks,
        logger=TensorBoardLogger(folder, name="", default_hp_metric=False),
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.validate(agent, data, verbose=False)
    tags = EventAccumulator(trainer.log_dir, {"images": 0}).Reload().Tags()["images"]
    return trainer, {tag.removeprefix("figures/") for tag in tags}


@pytest.mark.parametrize(
    ("opponent", "expected"),
    [
        ("Codebook", {"confusion", "codes", "belief"}),
        ("Declared", {"confusion", "belief"}),
        ("Subgoal", {"confusion"}),
    ],
)
def test_figures_are_in_tensorboard_and_in_the_run_folder(opponent, expected, tmp_path):
    trainer, tags = evaluate(tmp_path, opponent, [GoalQuality(), GoalFigures()])
    assert tags == expected
    for name in expected:
        with Image.open(f"{trainer.log_dir}/{name}.png") as picture:
            assert min(picture.size) > 400


@pytest.mark.slow
def test_the_figure_of_a_belief_over_cells_uses_the_names_of_headings(tmp_path, monkeypatch):
    drawn = []
    keep = goal_figures.belief_figure
    monkeypatch.setattr(goal_figures, "belief_figure", lambda *args: drawn.append(args) or keep(*args))
    game = Snowdrift(num_players=2, num_drifts=2, height=2, width=3, max_steps=6)
    _, tags = evaluate(tmp_path, "Locations", [GoalQuality(), GoalFigures()], game=game, seats=["learner", "cleaner"])
    assert tags == {"confusion", "belief"}
    ((_, panels, parts, names),) = drawn
    assert panels[0].belief.shape[1] == len(parts) <= len(names)
    np.testing.assert_allclose(panels[0].belief.sum(1), 1, atol=1e-5)


def test_off_the_grid_there_are_figures_without_boards(tmp_path):
    game = MatrixGame("prisoners_dilemma", max_steps=6)
    for opponent, expected in (("Codebook", {"confusion", "codes"}), ("Declared", {"confusion"})):
        callbacks = [GoalQuality(), GoalFigures()]
        _, tags = evaluate(tmp_path, opponent, callbacks, game=game, seats=["learner", "tit_for_tat"])
        assert tags == expected


@pytest.mark.slow
@pytest.mark.parametrize(("wanted", "b"), [(0, 0), (5, 5), (99, 5)])
def test_the_episode_shown_is_the_chosen_one_or_the_last(wanted, b, tmp_path, monkeypatch):
    shown = []
    keep = goal_figures.episode_frames
    monkeypatch.setattr(goal_figures, "episode_frames", lambda *args: shown.append(args[0]) or keep(*args))
    trainer, _ = evaluate(tmp_path, "Declared", [GoalQuality(), GoalFigures(episode=wanted)])
    data = trainer.datamodule
    chunks = list(data.evaluate(data.lineups, 6))
    expected = chunks[b // data.num_envs]
    (episode,) = shown
    assert torch.equal(episode.action[:, 0], expected.action[:, b % data.num_envs])
    assert torch.equal(episode.observation[:, 0], expected.observation[:, b % data.num_envs])


def test_goal_figures_refuse_settings_out_of_range_and_a_missing_goal_quality():
    with pytest.raises(ConfigError, match="at least 2"):
        GoalFigures(frames=1)
    data = tiny_data()
    trainer = Trainer(accelerator="cpu", callbacks=[GoalFigures()], logger=False, enable_progress_bar=False)
    with pytest.raises(ConfigError, match="GoalQuality"):
        trainer.validate(tiny_agent(data.env, "Direct"), data, verbose=False)
