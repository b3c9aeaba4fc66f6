"""Checks for the user's own classes: each failure is one sentence that names the cure."""

from omg_lightning.testing.algorithms import check_algorithm
from omg_lightning.testing.encoders import check_encoder
from omg_lightning.testing.envs import check_env
from omg_lightning.testing.games import check_device, check_game, random_actions
from omg_lightning.testing.opponents import check_opponent
from omg_lightning.testing.report import CheckError
from omg_lightning.testing.rewards import check_reward

__all__ = [
    "CheckError",
    "check_algorithm",
    "check_device",
    "check_encoder",
    "check_env",
    "check_game",
    "check_opponent",
    "check_reward",
    "random_actions",
]
