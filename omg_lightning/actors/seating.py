"""Who sits where: line-ups of seat names, spread over the environments of a batch."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from omg_lightning.games.base import Game
from omg_lightning.actors import Player, ScriptedPlayer, goals_of, make_player, scripts_of
from omg_lightning.types import NO_GOAL, ConfigError

LEARNER = "learner"
CHECKPOINT = "checkpoint:"
PAST = "past"  # the learner as it was some rounds ago


class Seated(NamedTuple):
    """One player object, which plays one seat in some of the environments."""

    player: Player
    seat: int
    rows: Tensor  # int64 [R] its environments


class Seats(NamedTuple):
    """Who sits where in each of B environments."""

    who: Tensor  # int64 [B, P] index into `names`
    names: tuple[str, ...]
    seated: tuple[Seated, ...]  # everyone who is not a learner or a checkpoint

    def held_by(self, name: str) -> Tensor:
        """Says which seats `name` holds, bool `[B, P]`; none where it does not play."""
        return self.who == (self.names.index(name) if name in self.names else -1)

    def start(self, game: Game, generator: torch.Generator) -> Tensor:
        """Tells all players that an episode starts. Returns what `truth` does."""
        for player, seat, rows in self.seated:
            player.reset(len(rows), seat, game, generator)
        return self.truth(game)

    def keep(self, index: Tensor) -> "Seats":
        """The same players in the environments `index` alone, int64 `[R]`, in this order."""
        place = torch.full_like(self.who[:, 0], -1)
        place[index] = torch.arange(len(index), device=index.device)
        kept = (each._replace(rows=place[each.rows][place[each.rows] >= 0]) for each in self.seated)
        return Seats(self.who[index], self.names, tuple(each for each in kept if len(each.rows)))

    def truth(self, game: Game) -> Tensor:
        """The goals that the players pursue with their next actions, int64 `[B, P]`, or NO_GOAL."""
        truth = torch.full_like(self.who, NO_GOAL)
        for player, seat, rows in self.seated:
            truth[rows, seat] = goals_of(player, game, len(rows), truth.device)
        return truth


def is_planner(name: str) -> bool:
    """Says whether a seat's name stands for networks that plan by search, not for a player class."""
    return name in (LEARNER, PAST) or name.startswith(CHECKPOINT)


def arrange(lineups: Sequence[Sequence[str]], batch: int, game: Game, device: torch.device) -> Seats:
    """Seats line-ups in `batch` environments, in turn: environment b gets line-up b mod len(lineups).

    Args:
        lineups: each a name for every seat: `learner`, `past`, `checkpoint:PATH`, a scripted player or a dotted path.
        batch: B.
        game: for the number of seats, and for what a script can play.
        device: of the indices.

    Raises:
        ConfigError: a line-up has the wrong number of seats, a name stands for nobody, or a script for another game.
    """
    if not lineups:
        raise ConfigError("no line-up given: name who sits in each seat, such as [learner, nearest_stag]")
    for lineup in lineups:
        if len(lineup) != game.num_players:
            raise ConfigError(
                f"seats {list(lineup)} name {len(lineup)} players, but the game has {game.num_players} seats: "
                "give one name for each seat, such as learner, nearest_stag, nearest_hare or random"
            )
    names = tuple(dict.fromkeys(name for lineup in lineups for name in lineup))
    table = torch.tensor([[names.index(name) for name in lineup] for lineup in lineups], device=device)
    who = table[torch.arange(batch, device=device) % len(lineups)]
    seated = []
    for index, name in enumerate(names):
        for seat in () if is_planner(name) else range(game.num_players):
            rows = (who[:, seat] == index).nonzero()[:, 0]
            if len(rows):
                seated.append(Seated(_player(name, game), seat, rows))
    return Seats(who, names, tuple(seated))


def scripted_lineups(game: Game) -> list[list[str]]:
    """The line-ups with k of the first of a game's scripts beside P-k of the second, k = 0..P, and all random.

    In Stag-Hunt these are the published 0NS..PNS: k nearest-stag beside P-k nearest-hare hunters. A game without
    `scripts` has the random line-up alone.
    """
    seats, mixed = game.num_players, []
    if scripts := scripts_of(game):
        mixed = [[scripts[0]] * k + [scripts[1]] * (seats - k) for k in range(seats + 1)]
    return [*mixed, ["random"] * seats]


def _player(name: str, game: Game) -> Player:
    """Makes a player of one seat, once it is clear that it can play this game."""
    player = make_player(name)
    if isinstance(player, ScriptedPlayer):
        player.check(game)
    return player
