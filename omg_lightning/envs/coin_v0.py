"""The coin game as a PettingZoo environment: `parallel_env()`, and `env()` for one agent at a time."""

from typing import Any, ClassVar

from pettingzoo import AECEnv
from pettingzoo.utils.conversions import parallel_to_aec

from omg_lightning.envs.parallel import GameParallelEnv, checked_kwargs
from omg_lightning.games import CoinGame

__all__ = ["CoinEnv", "env", "parallel_env"]


class CoinEnv(GameParallelEnv):
    """Players `player_0` and `player_1` collect coins, of which half are the other's; see `CoinGame`.

    `reset(options={"players": [(row, column), ...], "my_coin": [(row, column)], "their_coin": []})` sets an exact
    initial state, with a coin of player_0's colour; in the other list it has player_1's. `max_steps` truncates both.
    """

    metadata: dict[str, Any] = {**GameParallelEnv.metadata, "name": "coin_v0"}  # noqa: RUF012, as in the parent
    layout_needs: ClassVar[tuple[str, ...]] = ("players", "my_coin", "their_coin")


def parallel_env(render_mode: str | None = None, *, max_cycles: int | None = None, **game_kwargs: Any) -> CoinEnv:
    """Make the environment in which both players act at once.

    Args:
        render_mode: see `GameParallelEnv`.
        max_cycles: PettingZoo's name for `max_steps`.
        **game_kwargs: parameters of `CoinGame`.

    Raises:
        ConfigError: a parameter is unknown, contradictory or impossible.
    """
    return CoinEnv(CoinGame(**checked_kwargs(CoinGame, max_cycles, game_kwargs)), render_mode)


def env(render_mode: str | None = None, **kwargs: Any) -> AECEnv:
    """Make the same environment with PettingZoo's one-agent-at-a-time (AEC) interface; arguments as above."""
    return parallel_to_aec(parallel_env(render_mode, **kwargs))
