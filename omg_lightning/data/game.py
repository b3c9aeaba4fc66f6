"""Which game is played: a name, a preset and changes to it."""

import importlib
import json
from dataclasses import dataclass, field
from inspect import signature
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

    def describe(self, game: Game) -> dict[str, Any]:
        """The name and every option of a game that `build` made, as plain values: equal only for equal games.

        An option is read from the game's attribute of the same name, or else from what the user gave.
        """
        known = {option: getattr(game, option) for option in signature(type(game)).parameters if hasattr(game, option)}
        given = {"preset": self.preset, **self.options} if not known else self.options
        return {"name": self.name, **json.loads(json.dumps({**given, **known}, default=str))}


def _import(name: str) -> type:
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        known = ", ".join(GAMES)
        raise ConfigError(f"unknown game {name!r}: expected {known} or the dotted path of a class ({error})") from error
