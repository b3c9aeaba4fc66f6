import io

import numpy as np
import pytest
from PIL import Image, ImageColor

from omg_lightning.games.grid import icons
from omg_lightning.games.grid.render import Capture, board_only, captures_of, frame, gif_bytes, text, write_gif
from omg_lightning.types import ConfigError

NAMES = ("self", "other_1", "other_2", "blocks", "stags", "hares")
CELL = 40


def board(**where):
    planes = np.zeros((len(NAMES), 3, 4), dtype=np.uint8)
    for name, cells in where.items():
        for row, column in cells:
            planes[NAMES.index(name), row, column] = 1
    return planes


def square(picture, row, column):
    """Return the pixels of one cell."""
    top, left = round((0.6 + row) * CELL), round((0.25 + column) * CELL)
    return picture[top : top + CELL, left : left + CELL].astype(int)


def amount(pixels, colour):
    """Return the share of pixels of a colour."""
    return float((np.abs(pixels - ImageColor.getrgb(colour)).sum(-1) < 12).mean())


def test_players_and_blocks_are_drawn_on_their_cells():
    picture = frame(board(self=[(0, 0)], other_2=[(2, 3)], blocks=[(1, 1)]), NAMES, cell=CELL)
    assert picture.dtype == np.uint8
    assert picture.shape == (round(4.3 * CELL), round(4.5 * CELL), 3)
    assert amount(square(picture, 0, 0), icons.SEAT_COLOURS[0]) > 0.2
    assert amount(square(picture, 2, 3), icons.SEAT_COLOURS[2]) > 0.2
    assert amount(square(picture, 1, 1), "#4A5160") > 0.6
    assert amount(square(picture, 2, 0), icons.TILE) > 0.8
    assert amount(square(picture, 0, 0), icons.SEAT_COLOURS[2]) == 0


def test_all_players_on_one_cell_are_visible():
    everyone = board(self=[(1, 1)], other_1=[(1, 1)], other_2=[(1, 1)])
    for planes in (everyone, everyone + board(stags=[(1, 1)])):
        shares = [amount(square(frame(planes, NAMES, cell=CELL), 1, 1), colour) for colour in icons.SEAT_COLOURS[:3]]
        assert min(shares) > 0.015


def test_stag_and_hare_look_different():
    stag = square(frame(board(stags=[(1, 1)]), NAMES, cell=CELL), 1, 1)
    hare = square(frame(board(hares=[(1, 1)]), NAMES, cell=CELL), 1, 1)
    assert (np.abs(stag - hare).sum(-1) > 60).mean() > 0.2


def test_a_capture_is_highlighted_and_shows_its_seats():
    captures = [(0, 2, "stag", (0, 1)), (2, 0, "hare")]
    picture = frame(board(other_2=[(1, 1)]), NAMES, captures=captures, cell=CELL)
    assert amount(square(picture, 0, 2), icons.GLOW) > 0.2
    assert amount(square(picture, 2, 0), icons.GLOW) > 0.2
    assert min(amount(square(picture, 0, 2), colour) for colour in icons.SEAT_COLOURS[:2]) > 0.02
    assert amount(picture.astype(int), icons.GLOW) < 0.15


def test_all_pictures_of_an_episode_have_one_size():
    plain = frame(board(), NAMES, cell=CELL)
    busy = frame(board(self=[(0, 0)]), NAMES, title="step 9", returns=[1, 2, 30], captures=[(0, 0, "hare")], cell=CELL)
    assert plain.shape == busy.shape


def test_board_only_keeps_the_rows_of_the_board():
    picture = board_only(
        frame(board(blocks=[(0, 0), (2, 3)]), NAMES, title="step 1", returns=[1, 2, 3], cell=CELL), CELL
    )
    assert picture.shape == (3 * CELL, round(4.5 * CELL), 3)
    left = round(0.25 * CELL)
    assert amount(picture[:CELL, left : left + CELL].astype(int), "#4A5160") > 0.6
    assert amount(picture[-CELL:, -left - CELL : -left].astype(int), "#4A5160") > 0.6


def test_captures_follow_from_goal_names_and_are_shared_on_a_cell():
    players = board(self=[(0, 1)], other_1=[(2, 3)], other_2=[(0, 1)])[:3]
    assert captures_of(players, [0, 1, 0], ("stag", "hare"), NAMES) == [
        Capture(0, 1, "stag", (0, 2)),
        Capture(2, 3, "hare", (1,)),
    ]
    drifts = ("self", "other_1", "other_2", "drifts")
    assert captures_of(players, [-1, 1, 0], ("drift_0", "drift_12"), drifts) == [
        Capture(2, 3, "drift", (1,)),
        Capture(0, 1, "drift", (2,)),
    ]
    assert captures_of(players, [0, -1, 1], ("wait", "drift_x"), drifts) == []
    coins = ("self", "other_1", "my_coin", "their_coin")
    view = np.zeros((4, 3, 4))
    view[3, 2, 1] = 1  # theirs in the view of seat 0: the own coin of seat 1
    assert captures_of(view, [-1, 0], ("my_coin", "their_coin"), coins) == [Capture(2, 1, "my_coin", (1,))]
    assert captures_of(np.zeros((3, 3, 4)), [-1, -1, -1], ("stag", "hare"), NAMES) == []


def test_a_drift_has_its_own_painter():
    planes = np.zeros((2, 2, 2))
    planes[1, 0, 1] = 1
    picture = square(frame(planes, ("self", "drifts"), cell=CELL), 0, 1)
    assert amount(picture, "#8A919C") < 0.02, "the diamond of a thing without a painter"
    assert amount(picture, "#FFFFFF") > 0.15


def test_a_game_can_add_a_painter(monkeypatch):
    planes = np.zeros((2, 2, 2))
    planes[1, 0, 1] = 1
    stand_in = frame(planes, ("self", "pearls"), cell=CELL)
    assert amount(square(stand_in, 0, 1), "#8A919C") > 0.1
    monkeypatch.setitem(icons.PAINTERS, "pearls", lambda pen: pen.ellipse(0.5, 0.5, 0.4, 0.3, "#112233"))
    assert amount(square(frame(planes, ("self", "pearls"), cell=CELL), 0, 1), "#112233") > 0.2


def test_text_joins_the_marks_of_a_cell():
    planes = board(self=[(0, 1)], other_1=[(2, 0)], other_2=[(0, 1)], blocks=[(1, 2)], stags=[(0, 1)], hares=[(2, 3)])
    assert text(planes, NAMES) == ".   S02 .   .\n.   .   #   .\n1   .   .   H"


@pytest.mark.parametrize("planes", [np.zeros((5, 3, 4)), np.zeros((1, 6, 3, 4))])
def test_planes_that_are_not_one_view_are_refused(planes):
    with pytest.raises(ConfigError, match=r"expected \[C, h, w\] with C = 6"):
        frame(planes, NAMES)
    with pytest.raises(ConfigError, match=r"expected \[C, h, w\]"):
        text(planes, NAMES)


def test_gif_holds_all_frames_and_shows_the_last_one_longer(tmp_path):
    frames = [frame(board(self=[(0, column)]), NAMES, cell=CELL) for column in range(4)]
    write_gif(frames, tmp_path / "film.gif", fps=4)
    data = (tmp_path / "film.gif").read_bytes()
    assert data == gif_bytes(frames, fps=4)
    film = Image.open(io.BytesIO(data))
    assert (film.format, film.n_frames, film.info["loop"]) == ("GIF", 4, 0)
    assert film.size == frames[0].shape[1::-1]
    durations = []
    for k, original in enumerate(frames):
        film.seek(k)
        durations.append(film.info["duration"])
        shown = np.asarray(film.convert("RGB")).astype(int)
        assert np.abs(shown - original).mean() < 4
    assert durations == [250, 250, 250, 750]


@pytest.mark.parametrize(
    ("frames", "fps", "says"),
    [
        ([], 3, "expected one size for a GIF"),
        ([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8)], 3, "expected one size for a GIF"),
        ([np.zeros((4, 4, 3), np.uint8)], 0, "fps=0"),
        ([np.zeros((4, 4, 3), np.uint8)], 99, "fps=99"),
    ],
)
def test_wrong_frames_or_speed_raise_one_line(frames, fps, says):
    with pytest.raises(ConfigError, match=says) as caught:
        gif_bytes(frames, fps)
    assert "\n" not in str(caught.value)
