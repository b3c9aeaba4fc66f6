"""Scripted players of Level-Based Foraging: each pursues one food at a time, and reports it.

The fixed orders, `Greedy` and `Entitled` are the held-out partners of jax-aht (arXiv 2609.13716). There they walk to
the food itself if another player blocks the path; here they also walk around other foods.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from omg_lightning.games.grid.paths import STEPS, UNREACHABLE, distance_to
from omg_lightning.games.scripts import Player, ScriptedPlayer, uniform
from omg_lightning.types import NO_GOAL, ConfigError, put

_MOVES = ("north", "south", "west", "east")  # in the order of `STEPS`
_LAST = 1 << 20  # a rank after that of any food


class Seen(NamedTuple):
    """A forager's reading of its view; cells are numbered row by row."""

    own: Tensor  # int64 [B] cell
    others: Tensor  # int64 [B, P - 1] cells
    foods: Tensor  # int64 [B, F] cell of food k; arbitrary once it is gone
    there: Tensor  # bool [B, F] whether food k is still there


class Forager(ScriptedPlayer):
    """Goes to the food that it pursues by a shortest path around foods and other players, and loads it beside it.

    Ties are broken at random at each step, uniformly over the moves that bring it one step closer. It keeps loading
    until the food is taken, and waits if there is no path. A subclass defines the food that it pursues.
    """

    def needs(self) -> tuple[str, ...]:
        """Return the names of the game's actions."""
        return (*_MOVES, "load")

    def check(self, game: Any) -> None:
        """Raise ConfigError unless the game has foods, and shows all of them."""
        super().check(game)
        if not game.players:
            raise ConfigError(
                f"{type(self).__name__} must observe all foods, but the sight in this {game.name} is limited: remove "
                "`sight`, or choose another player"
            )

    def reset(self, batch_size: int, seat: int, game: Any, generator: torch.Generator) -> None:
        """Start new episodes; see `Player.reset`."""
        super().reset(batch_size, seat, game, generator)
        high = (
            game.observation_space.high[:2] if game.layout is None else (game.layout.height - 1, game.layout.width - 1)
        )
        self._size, self._foods = (int(high[0]) + 1, int(high[1]) + 1), len(game.goal_names)
        self._load = game.action_names.index("load")
        self._moves = [game.action_names.index(name) for name in _MOVES]
        self._start: Seen | None = None  # first views of the episodes
        self._new: Tensor | None = None  # rows whose first view comes next

    def restart(self, index: Tensor) -> None:
        """Start new episodes in the rows `index`, int64 `[R]`: their next views are first ones."""
        self._new = index if self._new is None else torch.cat([self._new, index]).unique()

    def _draw(self, count: int) -> Tensor:
        """Draw numbers from 0 to 1, one for each food of `count` episodes: `[count, F]`."""
        return torch.rand(count, self._foods, generator=self._generator, device=self._generator.device)

    def pursues(self, observation: Tensor, legal: Tensor) -> Tensor:
        """Return the food that it pursues at a view `[B, *shape]`, int64 `[B]`, or NO_GOAL; see `Player`."""
        return self.choose(self._read(observation))

    def action_probabilities(self, observation: Tensor, legal: Tensor) -> Tensor:
        """Return `[B, A]`: uniform over the moves that come closer, or all on loading, or all on waiting."""
        seen = self._read(observation)
        goal = self.choose(seen)
        target = seen.foods.gather(1, goal.clamp(min=0)[:, None])[:, 0]
        here, near = self._distances(seen, target)
        wanted = torch.zeros_like(legal)
        wanted[:, self._moves] = (near < here[:, None]) & (here > 1)[:, None]
        wanted[:, self._load] = here == 1
        wanted &= legal & (goal != NO_GOAL)[:, None]
        wanted[:, self._game.noop] |= ~wanted.any(1)
        return uniform(wanted)

    def choose(self, seen: Seen) -> Tensor:
        """Return the food that it pursues, int64 `[B]`, or NO_GOAL."""
        raise NotImplementedError

    def _distances(self, seen: Seen, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the distance to cells `[B]` from the own cell, `[B]`, and from its four neighbours, `[B, 4]`."""
        height, width = self._size
        blocked = torch.zeros(len(target), height * width + 1, dtype=torch.bool, device=target.device)
        cells = torch.where(seen.there, seen.foods, height * width)
        blocked = blocked.scatter(1, torch.cat([cells, seen.others], 1), True).scatter(1, target[:, None], False)
        goal = torch.zeros_like(blocked).scatter(1, target[:, None], True)
        free, aim = (~blocked[:, :-1]).view(-1, height, width), goal[:, :-1].view(-1, height, width)
        distance = F.pad(distance_to(aim, free), (1, 1, 1, 1), value=UNREACHABLE).flatten(1)
        cell = (seen.own // width + 1) * (width + 2) + seen.own % width + 1
        steps = torch.tensor([0] + [row * (width + 2) + column for row, column in STEPS], device=cell.device)
        found = distance.gather(1, cell[:, None] + steps)
        # A cell shared with another player counts as blocked.
        here = torch.minimum(found[:, 0], found[:, 1:].min(1).values + 1)
        return here, found[:, 1:]

    def _read(self, observation: Tensor) -> Seen:
        """Read a view, and store the first one of an episode."""
        if self._start is None:
            self._start = self._parse(observation, None)
        elif self._new is not None:
            self._start = put(self._start, self._new, self._parse(observation[self._new], None))
        self._new = None
        return self._parse(observation, self._start)

    def _parse(self, observation: Tensor, start: Seen | None) -> Seen:
        if self._game.layout is None:
            return _read_vector(observation, self._foods, self._size[1], start)
        return _read_planes(observation, self._game)


class FixedOrder(Forager):
    """Takes the foods in an order that is fixed from the start of an episode.

    Args:
        order: returns the ranks of the foods, int64 `[B, F]`, lowest first, from the first view, and the
            height and the width of the grid.
    """

    def __init__(self, order: Callable[[Seen, int, int], Tensor]) -> None:
        self._order = order

    def choose(self, seen: Seen) -> Tensor:
        """Return the first food of the order that is left."""
        return first_left(self._order(self._start or seen, *self._size), seen.there)


class SecretOrder(Forager):
    """Takes the foods in a random order for each episode, which it does not reveal."""

    def reset(self, batch_size: int, seat: int, game: Any, generator: torch.Generator) -> None:
        """Draw the orders; see `Player.reset`."""
        super().reset(batch_size, seat, game, generator)
        self._rank = self._draw(batch_size).argsort(1)

    def restart(self, index: Tensor) -> None:
        """Start new episodes in the rows `index`, int64 `[R]`, with new orders."""
        super().restart(index)
        self._rank[index] = self._draw(len(index)).argsort(1)

    def choose(self, seen: Seen) -> Tensor:
        """Return the first food of the order that is left."""
        return first_left(self._rank, seen.there)


class Greedy(Forager):
    """Goes to the food with the smallest Manhattan distance; the first one in ties."""

    def choose(self, seen: Seen) -> Tensor:
        """Return the nearest food."""
        return first_left(_by_distance(seen, *self._size), seen.there)


class Single(Forager):
    """Goes to one food, and after that is gone to the nearest one.

    A player whose food is gone pursues another one: exact Bayes over foods, see
    `omg_lightning.evaluation.exact`, makes no other assumption about a player.

    Args:
        goal: the food, such as `food_0`.
    """

    def __init__(self, goal: str) -> None:
        self.food = goal

    def choose(self, seen: Seen) -> Tensor:
        """Return its food, or the nearest one."""
        food = self._game.goal_names.index(self.food)
        rank = _by_distance(seen, *self._size) + 1
        rank[:, food] = 0
        return first_left(rank, seen.there)


class Entitled(Forager):
    """Waits until another player is beside a food, then goes there and helps.

    The other player must stand on one of two opposite sides of a food: north and south, or west and east, drawn for
    each food at the start of an episode. It pursues no goal while it waits.
    """

    def reset(self, batch_size: int, seat: int, game: Any, generator: torch.Generator) -> None:
        """Draw the sides; see `Player.reset`."""
        super().reset(batch_size, seat, game, generator)
        self._upright = self._draw(batch_size) < 0.5

    def restart(self, index: Tensor) -> None:
        """Start new episodes in the rows `index`, int64 `[R]`, with new sides."""
        super().restart(index)
        self._upright[index] = self._draw(len(index)) < 0.5

    def choose(self, seen: Seen) -> Tensor:
        """Return the nearest food beside which another player stands on one of the two sides, or NO_GOAL."""
        width = self._size[1]
        away = (seen.others[:, :, None] - seen.foods[:, None]).abs()  # [B, P - 1, F]; no food lies on the border
        met = (away == torch.where(self._upright, width, 1)[:, None]).any(1) & seen.there
        return first_left(_by_distance(seen, *self._size), met)


def first_left(rank: Tensor, there: Tensor) -> Tensor:
    """Return the food of the lowest rank `[B, F]` among those `there` `[B, F]`: int64 `[B]`, NO_GOAL for none."""
    return torch.where(there.any(1), rank.masked_fill(~there, _LAST).argmin(1), NO_GOAL)


def forager_kinds(goal_names: Sequence[str]) -> Mapping[str, Callable[[], Player]]:
    """Return the scripted players of a game with these foods, by name."""
    orders = {name: partial(FixedOrder, order) for name, order in ORDERS.items()}
    others: dict[str, Callable[[], Player]] = {"greedy": Greedy, "entitled": Entitled, "secret_order": SecretOrder}
    return orders | others | {name: partial(Single, name) for name in goal_names}


def _by_row(seen: Seen, height: int, width: int) -> Tensor:
    return seen.foods


def _by_column(seen: Seen, height: int, width: int) -> Tensor:
    return seen.foods % width * height + seen.foods // width


def _by_distance(seen: Seen, height: int, width: int) -> Tensor:
    """Rank foods by Manhattan distance, and equal ones by their number."""
    own, count = seen.own[:, None], seen.foods.shape[1]
    away = (seen.foods // width - own // width).abs() + (seen.foods % width - own % width).abs()
    return away * count + torch.arange(count, device=own.device)


def _by_distance_down(seen: Seen, height: int, width: int) -> Tensor:
    """Rank the farthest first, and equal ones by their number."""
    count = seen.foods.shape[1]
    numbers = torch.arange(count, device=seen.own.device)
    return numbers - (_by_distance(seen, height, width) - numbers)


def _reversed(order: Callable[[Seen, int, int], Tensor]) -> Callable[[Seen, int, int], Tensor]:
    return lambda seen, height, width: -order(seen, height, width)


ORDERS: dict[str, Callable[[Seen, int, int], Tensor]] = {
    "lexicographic": _by_row,  # from the top row down, in a row from the left
    "reverse_lexicographic": _reversed(_by_row),
    "column_major": _by_column,  # from the left column on, in a column from the top
    "reverse_column_major": _reversed(_by_column),
    "nearest": _by_distance,  # from where it stands at the start
    "farthest": _by_distance_down,
}


def _read_planes(observation: Tensor, game: Any) -> Seen:
    """Read planes `[B, C, h, w]`."""
    view, players = observation.flatten(2), game.num_players
    foods = view[:, list(game.layout.goal_planes)]
    cells = view[:, :players].argmax(-1)
    return Seen(cells[:, 0], cells[:, 1:], foods.argmax(-1), foods.amax(-1) > 0)


def _read_vector(observation: Tensor, count: int, width: int, start: Seen | None) -> Seen:
    """Read vectors `[B, 3 (F + P)]`; foods are numbered by their initial cells, row by row."""
    triples = observation.unflatten(1, (-1, 3)).long()
    cells = triples[..., 0] * width + triples[..., 1]
    slots, shown = cells[:, :count], triples[:, :count, 2] > 0
    own, others = cells[:, count].clamp(min=0), cells[:, count + 1 :].clamp(min=0)
    if start is None:
        return Seen(own, others, slots.clamp(min=0), shown)
    there = ((start.foods[:, :, None] == slots[:, None]) & shown[:, None]).any(2) & start.there
    return Seen(own, others, start.foods, there)
