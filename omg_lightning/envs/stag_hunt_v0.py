"""Markov Stag-Hunt as a PettingZoo environment: `parallel_env()`, and `env()` for one agent at a time."""

from typing import Any, ClassVar

from pettingzoo import AECEnv
from pettingzoo.utils.conversions import parallel_to_aec

from omg_lightning.envs.parallel import GameParallelEnv, checked_kwargs
from omg_lightning.games import StagHunt

__all__ = ["StagHuntEnv", "env", "parallel_env"]

DEFAULT_PRESET = "4h1s"


class StagHuntEnv(GameParallelEnv):
    """Hunters `hunter_0`, ... take hares alone or stags together; see `StagHunt` for the rules.

    `reset(options={"hunters": [(row, column), ...], "stags": [...], "hares": [...], "blocks": [...]})` sets the exact
    layout; by default without `blocks`.
    """

    metadata: dict[str, Any] = {**GameParallelEnv.metadata, "name": "stag_hunt_v0"}  # noqa: RUF012, as in the parent
    layout_needs: ClassVar[tuple[str, ...]] = ("hunters", "stags", "hares")
    layout_may_have: ClassVar[tuple[str, ...]] = ("blocks",)


def parallel_env(
    render_mode: str | None = None, *, preset: str = DEFAULT_PRESET, max_cycles: int | None = None, **game_kwargs: Any
) -> StagHuntEnv:
    """Make the environment in which all hunters act at once.

    Args:
        render_mode: see `GameParallelEnv`.
        preset: the game to start from, see `StagHunt.preset`.
        max_cycles: PettingZoo's name for `max_steps`.
        **game_kwargs: parameters of `StagHunt` that replace the preset's.

    Raises:
        ConfigError: a parameter is unknown, contradictory or impossible.
    """
    game = StagHunt.preset(preset, **checked_kwargs(StagHunt, max_cycles, game_kwargs))
    return StagHuntEnv(game, render_mode)


def env(render_mode: str | None = None, **kwargs: Any) -> AECEnv:
    """Make the same environment with PettingZoo's one-agent-at-a-time (AEC) interface; arguments as above."""
    return parallel_to_aec(parallel_env(render_mode, **kwargs))
