import pytest
import torch

from omg_lightning.games import checks
from omg_lightning.games.grid import cells
from omg_lightning.types import ConfigError


@pytest.mark.parametrize("bad", [True, 2.0, "3", None, 0, -1])
def test_whole_refuses(bad):
    with pytest.raises(ConfigError, match="height="):
        checks.whole("height", bad, 1)


@pytest.mark.parametrize("bad", [True, float("nan"), float("inf"), "1", None])
def test_number_refuses(bad):
    with pytest.raises(ConfigError, match="stag_reward="):
        checks.number("stag_reward", bad)


@pytest.mark.parametrize("bad", [[(0, 3)], [(-1, 0)], [(0.0, 1)], [(True, 1)], [(1,)], [3], None])
def test_cell_indices_refuses(bad):
    with pytest.raises(ConfigError, match="hares"):
        cells.cell_indices("hares", bad, 2, 3)


def test_cell_indices_number_row_by_row():
    assert cells.cell_indices("hares", [(0, 2), [1, 0]], 2, 3) == [2, 3]


@pytest.mark.parametrize("bad", [1, 0, "True", None])
def test_flag_refuses(bad):
    with pytest.raises(ConfigError, match="prosocial="):
        checks.flag("prosocial", bad)


def test_checks_return_valid_values_unchanged():
    assert checks.whole("height", 3, 1) == 3
    assert checks.number("stag_reward", -2) == -2.0
    assert checks.flag("prosocial", False) is False
    cells.exactly("hares", [1, 2], "num_hares", 2)


def test_exactly_says_which_argument_is_meant():
    with pytest.raises(ConfigError, match="hares: got 1 positions; expected 2, this game's num_hares"):
        cells.exactly("hares", [1], "num_hares", 2)


def test_the_device_is_the_generators():
    assert checks.device_of(None) == checks.device_of(torch.Generator()) == torch.device("cpu")


PRESETS = {"small": {"height": 3, "width": 4}}


def test_sizes_are_the_given_ones_then_the_presets_then_the_defaults():
    given = {"height": None, "width": 7, "blocks": None}
    assert checks.sizes("Toy", PRESETS, "small", given, {"blocks": 2, "height": 9}) == [3, 7, 2]
    assert checks.sizes("Toy", PRESETS, None, {**given, "height": 5}, {"blocks": 2}) == [5, 7, 2]


@pytest.mark.parametrize(
    ("preset", "says"),
    [("large", r"preset='large': expected one of small"), (None, r"Toy got no height: give them, or a preset")],
)
def test_unknown_presets_and_missing_sizes_are_one_clear_line(preset, says):
    with pytest.raises(ConfigError, match=says) as caught:
        checks.sizes("Toy", PRESETS, preset, {"height": None}, {})
    assert "\n" not in str(caught.value)
