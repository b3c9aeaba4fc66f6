"""Repeated matrix games as a PettingZoo environment: `parallel_env()`, and `env()` for one agent at a time."""

from typing import Any

from pettingzoo import AECEnv
from pettingzoo.utils.conversions import parallel_to_aec

from omg_lightning.envs.parallel import GameParallelEnv, checked_kwargs
from omg_lightning.games import MatrixGame

__all__ = ["MatrixEnv", "env", "parallel_env"]

DEFAULT_PRESET = "prisoners_dilemma"


class MatrixEnv(GameParallelEnv):
    """Players `player_0`, ... choose at the same time, again and again; see `MatrixGame` for the rules."""

    metadata: dict[str, Any] = {**GameParallelEnv.metadata, "name": "matrix_v0"}  # noqa: RUF012, as in the parent


def parallel_env(render_mode: str | None = None, *, max_cycles: int | None = None, **game_kwargs: Any) -> MatrixEnv:
    """Make the environment in which all players act at once.

    Args:
        render_mode: see `GameParallelEnv`.
        max_cycles: PettingZoo's name for `max_steps`.
        **game_kwargs: parameters of `MatrixGame`, such as `preset` or `payoff`. With neither of these two it is the
            prisoner's dilemma.

    Raises:
        ConfigError: a parameter is unknown, contradictory or impossible.
    """
    if not {"preset", "payoff"} & set(game_kwargs):
        game_kwargs["preset"] = DEFAULT_PRESET
    return MatrixEnv(MatrixGame(**checked_kwargs(MatrixGame, max_cycles, game_kwargs)), render_mode)


def env(render_mode: str | None = None, **kwargs: Any) -> AECEnv:
    """Make the same environment with PettingZoo's one-agent-at-a-time (AEC) interface; arguments as above."""
    return parallel_to_aec(parallel_env(render_mode, **kwargs))
