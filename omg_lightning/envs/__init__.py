"""Environments: `VectorEnv` and its kinds; our games as PettingZoo environments, registered there.

`pettingzoo.make("parallel", "omg_lightning/stag_hunt_v0")` makes one of them.
"""

import pettingzoo

from omg_lightning.envs import matrix_v0, snowdrift_v0, stag_hunt_v0
from omg_lightning.envs.base import RulesEnv, Step, VectorEnv, as_env
from omg_lightning.envs.parallel import GameParallelEnv

__all__ = ["GameParallelEnv", "RulesEnv", "Step", "VectorEnv", "as_env", "matrix_v0", "snowdrift_v0", "stag_hunt_v0"]


def _register(name: str) -> None:
    """Register a module of this folder, once: PettingZoo warns about a second time, such as after a reload."""
    path = f"{__name__}.{name}"
    identity = pettingzoo.EnvSpec(f"omg_lightning/{name}").id
    if identity not in pettingzoo.aec_registry:
        pettingzoo.register("aec", identity, f"{path}:env")
    if identity not in pettingzoo.parallel_registry:
        pettingzoo.register("parallel", identity, f"{path}:parallel_env")


_register("matrix_v0")
_register("snowdrift_v0")
_register("stag_hunt_v0")
