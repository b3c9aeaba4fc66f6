"""Overcooked as a PettingZoo environment: `parallel_env()`, and `env()` for one agent at a time."""

from typing import Any, ClassVar

from pettingzoo import AECEnv
from pettingzoo.utils.conversions import parallel_to_aec

from omg_lightning.envs.parallel import GameParallelEnv, checked_kwargs
from omg_lightning.games import Overcooked

__all__ = ["OvercookedEnv", "env", "parallel_env"]


class OvercookedEnv(GameParallelEnv):
    """Cooks `cook_0` and `cook_1` make soups in one kitchen; see `Overcooked` for the rules.

    `reset(options={"players": [(1, 3, "north", "onion"), ...], "objects": [(0, 0, "dish")], "pots": [(0, 2, 3, 20)]})`
    sets where the players are, where they face, what they hold, and what is on counters and in pots; see
    `Overcooked.place`. `max_steps` truncates all players.
    """

    metadata: dict[str, Any] = {**GameParallelEnv.metadata, "name": "overcooked_v0"}  # noqa: RUF012, as in the parent
    layout_needs: ClassVar[tuple[str, ...]] = ("players", "objects", "pots")
    layout_entry: ClassVar[str] = "(row, column, ...)"


def parallel_env(render_mode: str | None = None, *, max_cycles: int | None = None, **game_kwargs: Any) -> OvercookedEnv:
    """Make the environment in which all players act at once.

    Args:
        render_mode: see `GameParallelEnv`.
        max_cycles: PettingZoo's name for `max_steps`.
        **game_kwargs: parameters of `Overcooked`, such as `preset="coord_ring"`.

    Raises:
        ConfigError: a parameter is unknown or impossible.
    """
    return OvercookedEnv(Overcooked(**checked_kwargs(Overcooked, max_cycles, game_kwargs)), render_mode)


def env(render_mode: str | None = None, **kwargs: Any) -> AECEnv:
    """Make the same environment with PettingZoo's one-agent-at-a-time (AEC) interface; arguments as above."""
    return parallel_to_aec(parallel_env(render_mode, **kwargs))
