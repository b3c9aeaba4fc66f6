"""Level-Based Foraging as a PettingZoo environment: `parallel_env()`, and `env()` for one agent at a time."""

from typing import Any, ClassVar

from pettingzoo import AECEnv
from pettingzoo.utils.conversions import parallel_to_aec

from omg_lightning.envs.parallel import GameParallelEnv, checked_kwargs
from omg_lightning.games import LevelBasedForaging

__all__ = ["ForagingEnv", "env", "parallel_env"]

DEFAULT_PRESET = "8x8-2p-3f"


class ForagingEnv(GameParallelEnv):
    """Players `player_0`, ... load foods, together if one is too weak; see `LevelBasedForaging` for the rules.

    `reset(options={"players": [(row, column, level), ...], "foods": [...]})` sets the exact layout. No player leaves
    early: the last food terminates all players, and `max_steps` truncates all if a food is left. Pictures need
    the view `planes`.
    """

    metadata: dict[str, Any] = {**GameParallelEnv.metadata, "name": "lbf_v0"}  # noqa: RUF012, as in the parent
    layout_needs: ClassVar[tuple[str, ...]] = ("players", "foods")
    layout_entry: ClassVar[str] = "(row, column, level)"


def parallel_env(
    render_mode: str | None = None, *, preset: str = DEFAULT_PRESET, max_cycles: int | None = None, **game_kwargs: Any
) -> ForagingEnv:
    """Make the environment in which all players act at once.

    Args:
        render_mode: see `GameParallelEnv`.
        preset: the game to start from, by its name in the original; see `LevelBasedForaging`.
        max_cycles: PettingZoo's name for `max_steps`.
        **game_kwargs: parameters of `LevelBasedForaging` that replace the preset's.

    Raises:
        ConfigError: a parameter is unknown, contradictory or impossible.
    """
    game = LevelBasedForaging.preset(preset, **checked_kwargs(LevelBasedForaging, max_cycles, game_kwargs))
    return ForagingEnv(game, render_mode)


def env(render_mode: str | None = None, **kwargs: Any) -> AECEnv:
    """Make the same environment with PettingZoo's one-agent-at-a-time (AEC) interface; arguments as above."""
    return parallel_to_aec(parallel_env(render_mode, **kwargs))
