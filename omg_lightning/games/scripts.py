"""Scripted players: the `Player` contract, and players with a known action distribution."""

from collections.abc import Sequence
from inspect import getattr_static
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from omg_lightning.types import NO_GOAL, ConfigError, has_own


@runtime_checkable
class Player(Protocol):
    """A player of one seat in B parallel episodes. Any class with these two methods is a player; it need not inherit.

    A whole new player is a few lines, named in a seat by its dotted path (`my_package.players.Idler`):

        class Idler:
            def reset(self, batch_size, seat, game, generator):
                self.noop = game.noop

            def act(self, observation, legal):
                return torch.full((len(legal),), self.noop, device=legal.device)

    A player gets the same inputs as a learner in that seat: its observation, with values of `game.observation_space`,
    and the mask of legal actions, named by `game.action_names`. Bits come as float. `game.layout.plane_names` names the
    first axis of a grid's observations, ego first. Calls run in PyTorch's inference mode; a player that learns leaves
    it with `torch.inference_mode(False)` and `torch.enable_grad()`.

    A player may have a method `restart(index)`: start new episodes in the rows `index`, int64 `[R]`, while the others
    go on. Without it `test` makes one player for each relationship, which then keeps what it knows between episodes.

    A player may report its goal, for metrics of beliefs and for `Oracle`, in one of three ways: an attribute `goal`,
    one of `game.goal_names`; an attribute `goals`, int64 `[B]`, with the goals of its next action as indices in
    `game.goal_names`, or NO_GOAL (-1); or a method `pursues(observation, legal)` that returns the same for the
    observation at which it acts next.
    """

    def reset(self, batch_size: int, seat: int, game: Any, generator: torch.Generator) -> None:
        """Prepare for new episodes.

        Args:
            batch_size: B, number of parallel episodes.
            seat: index of the seat, 0 .. P-1.
            game: names and sizes, see `omg_lightning.envs.VectorEnv`; without the state.
            generator: the only source of randomness to use, on the observations' device.
        """

    def act(self, observation: Tensor, legal: Tensor) -> Tensor:
        """Choose an action in every episode.

        Args:
            observation: `[B, *shape]` the seat's own view; arbitrary once the seat has left.
            legal: bool `[B, A]`.

        Returns:
            int64 `[B]`. An illegal action, or one after the player has left, counts as `game.noop`.
        """


def goals_of(player: Player, game: Any, observation: Tensor, legal: Tensor) -> Tensor:
    """Return the goal that a player reports for its next action: int64 `[B]`, or NO_GOAL.

    Args:
        player: before its action; this call does not change it.
        game: names of goals.
        observation: `[B, *shape]` its view.
        legal: bool `[B, A]`.

    Raises:
        ConfigError: its goals have another type or range.
    """
    pursues, batch_size, device = _optional(player, "pursues"), len(legal), legal.device
    goals = _optional(player, "goals") if pursues is None else pursues(observation, legal)
    if goals is None:
        goal = _optional(player, "goal")
        known = game.goal_names.index(goal) if goal in game.goal_names else NO_GOAL
        return torch.full((batch_size,), known, device=device)
    said = "goals" if pursues is None else "pursues(...)"
    if not isinstance(goals, Tensor) or goals.dtype != torch.int64 or goals.shape != (batch_size,):
        raise ConfigError(f"{type(player).__name__}.{said} must be an int64 tensor of shape [{batch_size}]")
    if len(goals) and (goals.min() < NO_GOAL or goals.max() >= len(game.goal_names)):
        raise ConfigError(f"{type(player).__name__}.{said} must be indices in {list(game.goal_names)}, or {NO_GOAL}")
    return goals


def _optional(player: Player, name: str) -> Any:
    """Return an attribute, or None if it does not exist; an error within a property is raised."""
    try:
        return getattr(player, name)
    except AttributeError:
        if getattr_static(player, name, None) is None:
            return None
        raise


def can_restart(player: Player) -> bool:
    """Return whether a player has a `restart` that fits its `reset`, and so have the players that it follows."""
    return has_own("restart", "reset", type(player)) and all(map(can_restart, getattr(player, "scripts", ())))


_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def actions_of(player: Player, observation: Tensor, legal: Tensor) -> Tensor:
    """Return a player's actions, `[B]`, given views `[B, *shape]` and legal actions, bool `[B, A]`.

    Raises:
        ConfigError: the result is not a tensor of actions.
    """
    choice, name, (rows, num_actions) = player.act(observation, legal), type(player).__name__, legal.shape
    if not isinstance(choice, Tensor) or choice.shape != (rows,) or choice.dtype not in _INTEGERS:
        got = f"{choice.dtype} {list(choice.shape)}" if isinstance(choice, Tensor) else type(choice).__name__
        raise ConfigError(f"{name}.act returned {got}: it must return an int64 tensor of shape [{rows}]")
    if len(choice) and (choice.min() < 0 or choice.max() >= num_actions):
        raise ConfigError(f"{name}.act returned actions outside 0..{num_actions - 1}: see game.action_names")
    return choice


def best_chance(player: Player, observation: Tensor, legal: Tensor) -> Tensor:
    """Return the largest probability in the player's own action distribution: float `[B]`, 0 if it is unknown.

    Args:
        player: before its action; this call does not change it.
        observation: `[B, *shape]`.
        legal: bool `[B, A]`.
    """
    asked = (player, *getattr(player, "scripts", ()))  # a switcher knows its distribution if its scripts do
    if not all(hasattr(each, "action_probabilities") for each in asked):
        return torch.zeros(len(legal), device=legal.device)
    return player.action_probabilities(observation, legal).amax(-1)  # type: ignore[attr-defined]


class ScriptedPlayer:
    """A player whose action distribution is known exactly; `act` samples from it.

    Attributes:
        goal: the declared goal (`game.goal_names`) that the script pursues, or None.
    """

    goal: str | None = None

    def needs(self) -> tuple[str, ...]:
        """Return the names of view parts and actions without which the script cannot play a game."""
        return ()

    def check(self, game: Any) -> None:
        """Raise ConfigError unless `game` has what the script needs."""
        layout, actions = game.layout, list(game.action_names)
        parts = [] if layout is None else list(layout.plane_names)
        if missing := [name for name in self.needs() if name not in parts + actions]:
            has = f"views {parts}, actions {actions}" if parts else f"actions {actions}"
            raise ConfigError(
                f"{type(self).__name__} needs {', '.join(missing)}, which {game.name} lacks ({has}); choose "
                "another player"
            )

    def reset(self, batch_size: int, seat: int, game: Any, generator: torch.Generator) -> None:
        """Start new episodes; see `Player.reset`.

        Raises:
            ConfigError: the script does not fit the game.
        """
        self.check(game)
        self._game = game
        self._generator = generator

    def restart(self, index: Tensor) -> None:
        """Start new episodes in the rows `index`, int64 `[R]`, while the others go on.

        A script that decides by its view alone has nothing to do. A subclass that overrides `reset` and keeps
        something else during an episode overrides this method, too, or it plays one row at a time in `test`.
        """

    def act(self, observation: Tensor, legal: Tensor) -> Tensor:
        """Sample from `action_probabilities`: int64 `[B]`."""
        probabilities = self.action_probabilities(observation, legal)
        return torch.multinomial(probabilities, 1, generator=self._generator)[:, 0]

    def action_probabilities(self, observation: Tensor, legal: Tensor) -> Tensor:
        """Return the script's exact action distribution: float32 `[B, A]`, 0 where illegal."""
        raise NotImplementedError


class RandomPlayer(ScriptedPlayer):
    """Plays uniformly at random over the legal actions."""

    def action_probabilities(self, observation: Tensor, legal: Tensor) -> Tensor:
        """Return `[B, A]`: one over the number of legal actions."""
        return uniform(legal)


def scripts_of(game: Any) -> tuple[str, ...]:
    """Return the names of the game's two `scripts`, or an empty tuple.

    Raises:
        ConfigError: the game has another number of scripts.
    """
    scripts = tuple(game.scripts)
    if len(scripts) not in (0, 2):
        raise ConfigError(f"{game.name}.scripts is {scripts}: name two players, the cooperator first, or none")
    return scripts


def goal_scripts(game: Any) -> tuple[Player, ...] | None:
    """Return a player of the game for each of its declared goals, in their order.

    It is one of the game's two scripts, or the player with the goal's name (such as `food_0`).

    Returns:
        `None` if the game declares no goals, or if no script with a known action distribution pursues one of them.

    Raises:
        ConfigError: one of these players cannot play the game.
    """

    def make(name: str) -> Player:
        player = game.players[name]()
        if isinstance(player, ScriptedPlayer):
            player.check(game)
        return player

    pursuing = {getattr(player, "goal", None): player for player in map(make, scripts_of(game))}
    bearing = {name: make(name) for name in game.goal_names if name in game.players}
    chosen = [pursuing.get(name) or bearing.get(name) for name in game.goal_names]
    known = [player for player in chosen if player is not None and hasattr(player, "action_probabilities")]
    return tuple(known) if known and len(known) == len(chosen) else None


def likelihoods(scripts: Sequence[Player], game: Any, observation: Tensor, legal: Tensor, seat: int) -> Tensor:
    """Return the action probabilities of each script, float `[B, G, A]`.

    Args:
        scripts: G players with a known action distribution.
        game: names and sizes, see `Player.reset`.
        observation: `[B, *shape]` views of a seat, float.
        legal: bool `[B, A]`.
        seat: index of the seat.
    """
    each = []
    for script in scripts:
        script.reset(len(observation), seat, game, torch.Generator(observation.device))
        each.append(script.action_probabilities(observation, legal))  # type: ignore[attr-defined]
    return torch.stack(each, 1)


def uniform(wanted: Tensor) -> Tensor:
    """Return the uniform distribution over the True entries of bool `[B, A]`."""
    return wanted.float() / wanted.sum(-1, keepdim=True)
