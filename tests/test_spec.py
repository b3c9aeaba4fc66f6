"""What is stored of a game with a checkpoint."""

import pytest

from omg_lightning.envs import RulesEnv
from omg_lightning.games import StagHunt
from omg_lightning.spec import GameSpec
from omg_lightning.training.checks import check_match
from omg_lightning.types import ConfigError


def test_a_description_of_an_older_version_fits_where_only_newer_fields_are_missing():
    spec = GameSpec.of(RulesEnv(StagHunt("2h1s_4x4"))).plain()
    older = {**spec, "layout": {name: value for name, value in spec["layout"].items() if name != "goal_planes"}}
    check_match({"spec": older}, {"spec": spec}, networks=False)
    assert GameSpec.from_plain(older) == GameSpec.from_plain(spec)
    other = {**spec, "layout": {**spec["layout"], "goal_planes": [2]}}
    with pytest.raises(ConfigError, match="layout"):
        check_match({"spec": older}, {"spec": other}, networks=False)
