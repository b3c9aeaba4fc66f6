"""Which game is played: a name, a preset and changes to it."""

import importlib
from dataclasses import dataclass, field
from typing import Any

from omg_lightning.games import Game, Snowdrift, StagHunt
from omg_lightning.types import ConfigError

GAMES: dict[str, type] = {"stag_hunt": StagHunt, "snowdrift": Snowdrift}


@dataclass(frozen=True)
class GameConfig:
    """Names a game.

    Args:
        name: `stag_hunt`, `snowdrift`, or the dotted path of a class that follows `omg_lightning.games.Game`.
        preset: of the game: `2h1s_4x4`, `4h1s_4x4`, `4h1s_6x6`, `4h1s` or `4h2s` of stag_hunt, `msg` of snowdrift;
            none for the plain class.
        options: arguments of the game's constructor, over the preset's, such as `max_steps`.
    """

    name: str = "stag_hunt"
    preset: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def build(self) -> Game:
        """Makes the game.

        Raises:
            ConfigError: there is no such game, preset or option, or the game refuses an option's value.
        """
        kind = GAMES.get(self.name) or _import(self.name)
        make = getattr(kind, "preset", None) if self.preset else kind
        if make is None:
            raise ConfigError(f"game {self.name} has no presets: leave data.game.preset out")
        try:
            game = make(self.preset, **self.options) if self.preset else make(**self.options)
        except TypeError as error:
            raise ConfigError(f"data.game.options {self.options} do not fit {self.name}: {error}") from error
        if not isinstance(game, Game):
            raise ConfigError(f"{self.name} does not follow omg_lightning.games.Game: see its documentation")
        return game


def _import(name: str) -> type:
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        known = ", ".join(GAMES)
        raise ConfigError(f"unknown game {name!r}: expected {known} or the dotted path of a class ({error})") from error
