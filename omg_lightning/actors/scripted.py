"""Scripted players as actors, and the construction of a player from a seat name."""

import importlib
from typing import Any, NamedTuple

import torch
from torch import Tensor

from omg_lightning.actors.base import Actor, Choice, Scene
from omg_lightning.envs.base import VectorEnv
from omg_lightning.games.axelrod_player import PREFIX, AxelrodPlayer
from omg_lightning.games.scripts import (
    Player,
    RandomPlayer,
    ScriptedPlayer,
    actions_of,
    best_chance,
    can_restart,
    goals_of,
)
from omg_lightning.games.switcher import HANDOVER, SWITCHER, Handover, Switcher, parse_handover, parse_steps
from omg_lightning.types import NO_GOAL, ConfigError, View

ANYWHERE = {"random": RandomPlayer}  # players of every game; a game's own players are in `players`


class Seated(NamedTuple):
    """One player object, which plays one seat in some environments."""

    player: Player
    seat: int
    rows: Tensor  # int64 [R] its environments, among those that started


class Places(NamedTuple):
    """Where players sit now; leading L."""

    started: Tensor  # int64 [L] the running environments, among those that started
    mine: Tensor  # bool [L, P] the seats that they play


class PlayerActor(Actor):
    """Actor for player objects. A player always acts in all environments in which it started.

    Args:
        seated: the players. In environments where another actor has the seat, a player's actions are ignored.
    """

    def __init__(self, seated: tuple[Seated, ...]) -> None:
        self.seated = seated

    def start(self, env: VectorEnv, mine: Tensor, prior: Tensor | None, generator: torch.Generator) -> Places:
        """Reset all players for a new episode."""
        for player, seat, rows in self.seated:
            player.reset(len(rows), seat, rules_of(env), generator)
        return Places(torch.arange(len(mine), device=mine.device), mine)

    def restart(
        self,
        memory: Places,
        index: Tensor,
        env: VectorEnv,
        mine: Tensor,
        prior: Tensor | None,
        generator: torch.Generator,
    ) -> Places:
        """Start new episodes in the environments `index`, int64 `[R]`.

        A player that cannot restart some of its episodes is reset: `seat` gave it a single environment.
        """
        memory = memory._replace(mine=mine)
        fresh = torch.zeros_like(memory.started, dtype=torch.bool).index_fill(0, index, True)
        for player, seat, rows in self.seated:
            here, at = self._places(memory, seat, rows)
            here = here[fresh[at]]
            if len(here) and can_restart(player):
                player.restart(here)  # type: ignore[attr-defined]
            elif len(here):
                player.reset(len(rows), seat, rules_of(env), generator)
        return memory

    def act(self, memory: Places, scene: Scene) -> Choice:
        """Query every player; its actions in finished episodes are ignored."""
        view = scene.view
        action = torch.zeros_like(view.active, dtype=torch.int64)
        mine, best = torch.zeros_like(view.active), torch.zeros_like(view.active, dtype=torch.float32)
        for player, seat, rows in self.seated:
            here, at = self._places(memory, seat, rows)
            observation, legal = _shown(view, seat, len(rows), here, at, scene.env.noop)
            if scene.measure:
                best[at, seat] = best_chance(player, observation, legal)[here]
            action[at, seat] = actions_of(player, observation, legal)[here].to(action)
            mine[at, seat] = True
        return Choice(mine, action, extras={"script_best": best} if scene.measure else {})

    def true_goal(self, env: VectorEnv, memory: Places, view: View) -> Tensor:
        """Return the goals that the players pursue with their next actions, int64 `[L, P]`, or NO_GOAL."""
        found = torch.full((len(memory.started), env.num_players), NO_GOAL, device=memory.started.device)
        for player, seat, rows in self.seated:
            here, at = self._places(memory, seat, rows)
            shown = _shown(view, seat, len(rows), here, at, env.noop)
            found[at, seat] = goals_of(player, rules_of(env), *shown)[here]
        return found

    def among(self, index: Tensor, batch_size: int) -> "PlayerActor":
        """Return these players for the environments `index`, int64 `[R]`, of a batch, in this order."""
        place = torch.full((batch_size,), -1, device=index.device)
        place[index] = torch.arange(len(index), device=index.device)
        kept = (each._replace(rows=place[each.rows][place[each.rows] >= 0]) for each in self.seated)
        return PlayerActor(tuple(each for each in kept if len(each.rows)))

    @staticmethod
    def _places(memory: Places, seat: int, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return in which of a player's `rows` it has the seat now, and their indices among the running ones."""
        at = torch.searchsorted(memory.started, rows).clamp(max=max(len(memory.started) - 1, 0))
        here = ((memory.started[at] == rows) & memory.mine[at, seat]).nonzero()[:, 0]
        return here, at[here]


def _shown(view: View, seat: int, rows: int, here: Tensor, at: Tensor, noop: int) -> tuple[Tensor, Tensor]:
    """Return the views and legal actions of a seat in all of a player's `rows`, of which `here` still run.

    In finished episodes the view is empty and only `noop` is legal.
    """
    observation, legal = view.observation[at, seat], view.legal[at, seat]
    if len(at) == rows:
        return observation, legal
    observation = observation.new_zeros(rows, *observation.shape[1:]).index_copy_(0, here, observation)
    only = legal.new_zeros(rows, legal.shape[1])
    only[:, noop] = True
    return observation, only.index_copy_(0, here, legal)


def rules_of(env: VectorEnv) -> Any:
    """Return the object that describes the game to a player: the `Game` if it exists, else the environment."""
    return env if env.game is None else env.game


def make_player(name: str, game: Any) -> Player:
    """Make a player from the name that a user gave for a seat.

    Args:
        name: `random`; a name of `game.players`; `switcher`, with the steps at which it changes, such as
            `switcher:5:12`; `handover:LATEST:FIRST:OTHER`, see `Handover`; a strategy of the package axelrod, such as
            `axelrod.TitForTat`; or the dotted path of a class that follows `Player` and needs no arguments.
        game: a `Game` or a `VectorEnv`.

    Raises:
        ConfigError: the player does not exist, cannot be imported, built or used, or does not support this game.
    """
    player = _made(name, game)
    if isinstance(player, ScriptedPlayer | AxelrodPlayer):
        player.check(game)
    return player


def _made(name: str, game: Any) -> Player:
    known = {**ANYWHERE, **game.players}
    words = f"{', '.join(known)}, {SWITCHER}, or a dotted path such as 'my_package.players.MyPlayer'"
    if isinstance(name, str) and name in known:
        return known[name]()
    if isinstance(name, str) and name.partition(":")[0] == SWITCHER:
        return Switcher(lambda script: make_player(script, game), parse_steps(name))
    if isinstance(name, str) and name.partition(":")[0] == HANDOVER:
        return Handover(lambda kind: make_player(kind, game), *parse_handover(name))
    if isinstance(name, str) and (name == "learner" or name.startswith("checkpoint:")):
        raise ConfigError(f"'{name}' needs trained networks: use it in `data.seats`; expected a player: {words}")
    if isinstance(name, str) and name.startswith(PREFIX):
        return AxelrodPlayer(name)
    if not isinstance(name, str) or "." not in name.strip("."):
        raise ConfigError(f"unknown player {name!r} in {game.name}: use {words}, 'learner' or 'checkpoint:PATH'")
    return _build(name, _import(name, words))


def _import(path: str, words: str) -> Any:
    """Import the object at a dotted path."""
    module, _, attribute = path.rpartition(".")
    try:
        found = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # a user's module may fail in any way: report it in one line
        raise ConfigError(
            f"player '{path}': importing '{module}' failed with {_one_line(error)}; run from its folder, "
            f"install it, or use {words}"
        ) from error
    if not hasattr(found, attribute):
        raise ConfigError(f"player '{path}': module '{module}' has no '{attribute}'; correct the class name")
    return getattr(found, attribute)


def _build(path: str, found: Any) -> Player:
    """Check that a user's class is a player, and make one."""
    if not isinstance(found, type):
        raise ConfigError(f"player '{path}' is a {type(found).__name__}, not a class; give the class itself")
    missing = [method for method in ("reset", "act") if not callable(getattr(found, method, None))]
    if missing:
        raise ConfigError(
            f"player '{path}' has no method {' and no '.join(missing)}; a player has reset(batch_size, seat, game, "
            "generator) and act(observation, legal), see omg_lightning.games.Player"
        )
    try:
        player: Player = found()
    except (Exception, SystemExit) as error:
        raise ConfigError(f"player '{path}': {path.rpartition('.')[2]}() failed with {_one_line(error)}") from error
    return player


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
