import pytest
import torch

from omg_lightning.games import checks
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
        checks.cell_indices("hares", bad, 2, 3)


def test_cell_indices_number_row_by_row():
    assert checks.cell_indices("hares", [(0, 2), [1, 0]], 2, 3) == [2, 3]


@pytest.mark.parametrize("bad", [1, 0, "True", None])
def test_flag_refuses(bad):
    with pytest.raises(ConfigError, match="prosocial="):
        checks.flag("prosocial", bad)


def test_what_is_fine_comes_back():
    assert checks.whole("height", 3, 1) == 3
    assert checks.number("stag_reward", -2) == -2.0
    assert checks.flag("prosocial", False) is False
    checks.exactly("hares", [1, 2], "num_hares", 2)


def test_exactly_says_which_argument_is_meant():
    with pytest.raises(ConfigError, match="hares: got 1 positions; expected 2, this game's num_hares"):
        checks.exactly("hares", [1], "num_hares", 2)


def test_the_device_is_the_generators():
    assert checks.device_of(None) == checks.device_of(torch.Generator()) == torch.device("cpu")
