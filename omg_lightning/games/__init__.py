"""Games: pure batched rules. `Game` is the contract; the other classes implement it."""

from omg_lightning.games.axelrod_player import AxelrodPlayer
from omg_lightning.games.base import Game
from omg_lightning.games.grid.coin import CoinGame, CoinState
from omg_lightning.games.grid.foraging import ForagingState, LevelBasedForaging
from omg_lightning.games.grid.overcooked import Overcooked, OvercookedState
from omg_lightning.games.grid.snowdrift import Snowdrift, SnowdriftState
from omg_lightning.games.grid.stag_hunt import StagHunt, StagHuntState
from omg_lightning.games.matrix import MatrixGame, MatrixState
from omg_lightning.games.scripts import Player, ScriptedPlayer, uniform

__all__ = [
    "AxelrodPlayer",
    "CoinGame",
    "CoinState",
    "ForagingState",
    "Game",
    "LevelBasedForaging",
    "MatrixGame",
    "MatrixState",
    "Overcooked",
    "OvercookedState",
    "Player",
    "ScriptedPlayer",
    "Snowdrift",
    "SnowdriftState",
    "StagHunt",
    "StagHuntState",
    "uniform",
]
