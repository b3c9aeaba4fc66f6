"""What sits in a seat: a `Player` is told when an episode starts and then acts on what its seat sees."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from omg_lightning.games.base import Game
from omg_lightning.types import NO_GOAL, ConfigError


@runtime_checkable
class Player(Protocol):
    """A player of one seat in B episodes at once. Any class with these two methods is one; nothing to inherit.

    A whole new player is a few lines, named in a seat by its dotted path (`my_package.players.Idler`):

        class Idler:
            def reset(self, batch_size, seat, game, generator):
                self.noop = game.noop

            def act(self, observation, legal):
                return torch.full((len(legal),), self.noop, device=legal.device)

    It sees what a learner in that seat would see, and nothing else: the observation planes, ego first, named by
    `game.plane_names`, and the mask of legal actions, named by `game.action_names`. It is asked in PyTorch's inference
    mode; one that learns leaves it for that, with `torch.inference_mode(False)` and `torch.enable_grad()`.

    It may say what it is after, for the record, for what measures beliefs and for an oracle: with an attribute `goal`,
    one of `game.goal_names`; or, where that differs between episodes or steps, with `goals`, int64 `[B]`, the goals
    of its next action as places in `game.goal_names`, or NO_GOAL (-1).
    """

    def reset(self, batch_size: int, seat: int, game: Game, generator: torch.Generator) -> None:
        """Gets ready for new episodes.

        Args:
            batch_size: B, how many episodes start together.
            seat: the seat to be played, 0 .. P-1.
            game: the rules, for names and sizes; the state is not in it.
            generator: the only source of randomness to be used, on the observations' device.
        """

    def act(self, observation: Tensor, legal: Tensor) -> Tensor:
        """Chooses an action in every episode.

        Args:
            observation: `[B, C, h, w]` the seat's own view, 0/1, uint8 or float. Empty player plane 0: has left.
            legal: bool `[B, A]`.

        Returns:
            int64 `[B]`. What a player does after it has left, or an illegal action, counts as `game.noop`.
        """


def goals_of(player: Player, game: Game, batch_size: int, device: torch.device) -> Tensor:
    """What a player says that it pursues with its next action: int64 `[B]`, or NO_GOAL.

    Raises:
        ConfigError: its `goals` are something else.
    """
    goals = getattr(player, "goals", None)
    if goals is None:
        goal = getattr(player, "goal", None)
        known = game.goal_names.index(goal) if goal in game.goal_names else NO_GOAL
        return torch.full((batch_size,), known, device=device)
    if not isinstance(goals, Tensor) or goals.dtype != torch.int64 or goals.shape != (batch_size,):
        raise ConfigError(f"{type(player).__name__}.goals must be an int64 tensor of shape [{batch_size}]")
    if len(goals) and (goals.min() < NO_GOAL or goals.max() >= len(game.goal_names)):
        raise ConfigError(f"{type(player).__name__}.goals must be places in {list(game.goal_names)}, or {NO_GOAL}")
    return goals


_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def actions_of(player: Player, observation: Tensor, legal: Tensor) -> Tensor:
    """What a player does, `[B]`, given `[B, C, h, w]` and bool `[B, A]`.

    Raises:
        ConfigError: it returns something else than actions.
    """
    choice, name, (rows, num_actions) = player.act(observation, legal), type(player).__name__, legal.shape
    if not isinstance(choice, Tensor) or choice.shape != (rows,) or choice.dtype not in _INTEGERS:
        got = f"{choice.dtype} {list(choice.shape)}" if isinstance(choice, Tensor) else type(choice).__name__
        raise ConfigError(f"{name}.act returned {got}: it must return an int64 tensor of shape [{rows}]")
    if len(choice) and (choice.min() < 0 or choice.max() >= num_actions):
        raise ConfigError(f"{name}.act returned actions outside 0..{num_actions - 1}: see game.action_names")
    return choice


def best_chance(player: Player, observation: Tensor, legal: Tensor) -> Tensor:
    """The largest probability in the player's own action distribution: float `[B]`, 0 where it does not know it.

    Args:
        player: about to act; asking it changes nothing.
        observation: `[B, C, h, w]`.
        legal: bool `[B, A]`.
    """
    asked = (player, *getattr(player, "scripts", ()))  # a switcher knows what its scripts know
    if not all(hasattr(each, "action_probabilities") for each in asked):
        return torch.zeros(len(legal), device=legal.device)
    return player.action_probabilities(observation, legal).amax(-1)  # type: ignore[attr-defined]
