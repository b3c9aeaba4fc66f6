"""PettingZoo environments, registered there: `pettingzoo.make("parallel", "omg_lightning/stag_hunt_v0")`."""

import pettingzoo

from omg_lightning.envs import snowdrift_v0, stag_hunt_v0
from omg_lightning.envs.parallel import GameParallelEnv

__all__ = ["GameParallelEnv", "snowdrift_v0", "stag_hunt_v0"]


def _register(name: str) -> None:
    """Registers a module of this folder, once: PettingZoo warns about a second time, such as after a reload."""
    path = f"{__name__}.{name}"
    identity = pettingzoo.EnvSpec(f"omg_lightning/{name}").id
    if identity not in pettingzoo.aec_registry:
        pettingzoo.register("aec", identity, f"{path}:env")
    if identity not in pettingzoo.parallel_registry:
        pettingzoo.register("parallel", identity, f"{path}:parallel_env")


_register("snowdrift_v0")
_register("stag_hunt_v0")
