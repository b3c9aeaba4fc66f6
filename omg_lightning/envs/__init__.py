"""Environments: `VectorEnv` and its kinds; our games as PettingZoo environments, registered there.

`pettingzoo.make("parallel", "omg_lightning/stag_hunt_v0")` makes one of them.
"""

from pettingzoo import EnvSpec, aec_registry, parallel_registry, register

from omg_lightning.envs import coin_v0, lbf_v0, matrix_v0, overcooked_v0, snowdrift_v0, stag_hunt_v0
from omg_lightning.envs.base import RulesEnv, Step, VectorEnv, as_env
from omg_lightning.envs.copyable import CopyableGame, CopyState
from omg_lightning.envs.parallel import GameParallelEnv
from omg_lightning.envs.pettingzoo import PettingZooEnv

__all__ = [
    "CopyState",
    "CopyableGame",
    "GameParallelEnv",
    "PettingZooEnv",
    "RulesEnv",
    "Step",
    "VectorEnv",
    "as_env",
    "coin_v0",
    "lbf_v0",
    "matrix_v0",
    "overcooked_v0",
    "snowdrift_v0",
    "stag_hunt_v0",
]


def _register(name: str) -> None:
    """Register a module of this folder once: PettingZoo warns about a second registration, such as after a reload."""
    path = f"{__name__}.{name}"
    identity = EnvSpec(f"omg_lightning/{name}").id
    if identity not in aec_registry:
        register("aec", identity, f"{path}:env")
    if identity not in parallel_registry:
        register("parallel", identity, f"{path}:parallel_env")


_register("coin_v0")
_register("lbf_v0")
_register("matrix_v0")
_register("overcooked_v0")
_register("snowdrift_v0")
_register("stag_hunt_v0")
