"""Checks for what users write: each failure is one sentence that names the cure."""

from omg_lightning.testing.envs import check_env
from omg_lightning.testing.games import check_device, check_game, random_actions
from omg_lightning.testing.report import CheckError

__all__ = ["CheckError", "check_device", "check_env", "check_game", "random_actions"]
