"""The Markov Snowdrift Game as a PettingZoo environment: `parallel_env()`, and `env()` for one agent at a time."""

from typing import Any, ClassVar

from pettingzoo import AECEnv
from pettingzoo.utils.conversions import parallel_to_aec

from omg_lightning.envs.parallel import GameParallelEnv, checked_kwargs
from omg_lightning.games import Snowdrift

__all__ = ["SnowdriftEnv", "env", "parallel_env"]

DEFAULT_PRESET = "msg"


class SnowdriftEnv(GameParallelEnv):
    """Players `player_0`, ... clear drifts, which pays all players and costs the one that shovels; see `Snowdrift`.

    `reset(options={"players": [(row, column), ...], "drifts": [...]})` sets the exact layout. No player leaves early:
    the last drift terminates all players, and `max_steps` truncates all if a drift is left.
    """

    metadata: dict[str, Any] = {**GameParallelEnv.metadata, "name": "snowdrift_v0"}  # noqa: RUF012, as in the parent
    layout_needs: ClassVar[tuple[str, ...]] = ("players", "drifts")


def parallel_env(
    render_mode: str | None = None, *, preset: str = DEFAULT_PRESET, max_cycles: int | None = None, **game_kwargs: Any
) -> SnowdriftEnv:
    """Make the environment in which all players act at once.

    Args:
        render_mode: see `GameParallelEnv`.
        preset: the game to start from, see `Snowdrift.preset`.
        max_cycles: PettingZoo's name for `max_steps`.
        **game_kwargs: parameters of `Snowdrift` that replace the preset's.

    Raises:
        ConfigError: a parameter is unknown, contradictory or impossible.
    """
    game = Snowdrift.preset(preset, **checked_kwargs(Snowdrift, max_cycles, game_kwargs))
    return SnowdriftEnv(game, render_mode)


def env(render_mode: str | None = None, **kwargs: Any) -> AECEnv:
    """Make the same environment with PettingZoo's one-agent-at-a-time (AEC) interface; arguments as above."""
    return parallel_to_aec(parallel_env(render_mode, **kwargs))
