"""Scripted players of Overcooked: each has a task at every step, and reports the goal of the task."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from omg_lightning.games.grid.kitchen import (
    COOK,
    DELIVER,
    FULL,
    INTERACT,
    POT_ONION,
    STAY,
    STEPS,
    TAKE_DISH,
    TAKE_SOUP,
)
from omg_lightning.games.grid.paths import UNREACHABLE, distance_to, grow
from omg_lightning.games.scripts import Player, ScriptedPlayer, uniform
from omg_lightning.types import NO_GOAL

_STROLLS = 0.2  # share of random steps if another player could reach the same cell
_FACING = tuple(f"facing_{name}" for name in ("north", "south", "east", "west"))


class Kitchen(NamedTuple):
    """A cook's reading of its view; maps are bool `[B, h, w]`, other fields `[B]`."""

    own: Tensor  # its cell
    others: Tensor  # cells of the others
    floor: Tensor
    facing: Tensor  # bool [B, 4]
    onion: Tensor  # it holds one
    dish: Tensor
    soup: Tensor
    dishes_held: Tensor  # int64, by the others
    begun: Tensor  # pots with 1 onion or more
    open: Tensor  # pots that take another onion
    waiting: Tensor  # full pots that a player must start
    cooking: Tensor  # pots on the fire, not ready
    ready: Tensor
    onions: Tensor  # sources of onions
    dishes: Tensor
    hatches: Tensor
    shelves: Tensor  # empty counters


class Task(NamedTuple):
    """The next task of a cook."""

    target: Tensor  # bool [B, h, w] cells to interact with, any of them
    goal: Tensor  # int64 [B] the declared goal of the task, or NO_GOAL


class Cook(ScriptedPlayer):
    """Goes to the nearest cell of its task by a shortest path around the others, faces it and interacts.

    Ties are broken at random at each step, uniformly over the moves that bring it one step closer. If it has no task,
    or another player blocks all paths, it strolls: a random move, or none. It also does so in
    one step of five while it walks and another player could reach the same cell: otherwise two players with the same
    target cell would block each other for ever. A subclass defines the task with empty hands.
    """

    def needs(self) -> tuple[str, ...]:
        """Return the names of the planes and of the action that the script needs."""
        return ("pots", "onion_dispensers", "dish_dispensers", "hatches", "interact")

    def reset(self, batch_size: int, seat: int, game: Any, generator: torch.Generator) -> None:
        """Start new episodes, and look up the planes; see `Player.reset`."""
        super().reset(batch_size, seat, game, generator)
        self._planes = {name: index for index, name in enumerate(game.layout.plane_names)}

    restart = ScriptedPlayer.restart  # it keeps nothing of an episode

    def pursues(self, observation: Tensor, legal: Tensor) -> Tensor:
        """Return the goal of its task at a view `[B, C, h, w]`, int64 `[B]`, or NO_GOAL; see `Player`."""
        return self.task(self._read(observation)).goal

    def action_probabilities(self, observation: Tensor, legal: Tensor) -> Tensor:
        """Return `[B, 6]`: uniform over the moves that come closer, on turning or interacting, mixed with a stroll."""
        seen = self._read(observation)
        target = self.task(seen).target
        free = seen.floor & ~seen.others
        distance = distance_to(grow(target, free), free)
        here, near = _around(distance, seen.own, UNREACHABLE)
        beside = _around(target, seen.own, 0)[1] > 0
        arrived = here == 0
        wanted = torch.zeros_like(legal)
        wanted[:, :STAY] = torch.where(arrived[:, None], beside, near < here[:, None])
        does = arrived & (beside & seen.facing).any(1)
        wanted[does] = False
        wanted[:, INTERACT] = does
        stroll = torch.zeros_like(legal)
        stroll[:, : STAY + 1] = True
        wanted |= stroll & ~wanted.any(1, keepdim=True)
        everywhere = torch.ones_like(free)
        meets = _around(grow(grow(seen.others, everywhere), everywhere), seen.own, 0)[0] * ~arrived
        share = (_STROLLS * meets)[:, None]
        return (1 - share) * uniform(wanted & legal) + share * uniform(stroll & legal)

    def task(self, seen: Kitchen) -> Task:
        """Return the next task; with an object in its hands it is the same for every cook."""
        some = _some(seen.open)
        none, target, goal = torch.zeros_like(seen.floor), *self.idle(seen)
        hot = torch.where(_some(seen.ready)[:, None, None], seen.ready, seen.cooking)
        for holds, cells, aim in (
            (seen.onion, torch.where(some[:, None, None], seen.open, none), POT_ONION),
            (seen.dish, hot, TAKE_SOUP),
            (seen.soup, seen.hatches, DELIVER),
        ):
            target = torch.where(holds[:, None, None], cells, target)
            goal = torch.where(holds, aim, goal)
        return Task(target, goal)

    def idle(self, seen: Kitchen) -> Task:
        """Return the task with empty hands."""
        raise NotImplementedError

    def _read(self, observation: Tensor) -> Kitchen:
        view, planes = observation > 0, self._planes
        players = len([name for name in planes if name == "self" or name.startswith("other_")])
        own, others = view[:, 0], view[:, 1:players].any(1)

        def plane(name: str) -> Tensor:
            return view[:, planes[name]]

        def held(name: str, who: Tensor) -> Tensor:
            return (plane(name) & who).flatten(1).any(1)

        pots, counters = plane("pots"), plane("counters")
        static = [plane(name) for name in ("counters", "pots", "onion_dispensers", "dish_dispensers", "hatches")]
        things = torch.stack([plane(name) for name in ("onions", "dishes", "soups")], 1).any(1)
        full, fire = plane(f"pots_level_{FULL}"), plane("cooking") | plane("ready")
        return Kitchen(
            own=own.flatten(1).byte().argmax(1),
            others=others,
            floor=~torch.stack(static, 1).any(1),
            facing=torch.stack([held(name, own) for name in _FACING], 1),
            onion=held("onions", own),
            dish=held("dishes", own),
            soup=held("soups", own),
            dishes_held=(plane("dishes") & others).flatten(1).sum(1),
            begun=torch.stack([plane(f"pots_level_{k}") for k in range(1, FULL + 1)], 1).any(1),
            open=pots & ~full & ~fire,
            waiting=full & ~fire & ("cook" in self._game.goal_names),
            cooking=plane("cooking"),
            ready=plane("ready"),
            onions=plane("onion_dispensers") | (plane("onions") & counters),
            dishes=plane("dish_dispensers") | (plane("dishes") & counters),
            hatches=plane("hatches"),
            shelves=counters & ~things,
        )


class OnionCarrier(Cook):
    """Brings onions to the pots, one after the other, and starts full pots. It never takes a dish."""

    def idle(self, seen: Kitchen) -> Task:
        """Start a full pot, or fetch an onion."""
        return _first((seen.waiting, seen.waiting, COOK), (torch.ones_like(seen.own), seen.onions, POT_ONION))


class DishCarrier(Cook):
    """Fetches a dish as soon as a pot can be served, takes the soup and serves it. It never takes an onion."""

    def idle(self, seen: Kitchen) -> Task:
        """Start a full pot, or fetch a dish if more pots have onions than dishes are in hands."""
        return _first((seen.waiting, seen.waiting, COOK), (_pots_left(seen, seen.begun), seen.dishes, TAKE_DISH))


class Independent(Cook):
    """Does all tasks itself, as if it were alone: onions, dish and soup; it puts useless objects down.

    It does not fetch a dish for a soup if the other player has one already.
    """

    def idle(self, seen: Kitchen) -> Task:
        """Start a full pot, fetch a dish for a cooking one, or an onion for one with room."""
        return _first(
            (seen.waiting, seen.waiting, COOK),
            (_pots_left(seen, seen.cooking | seen.ready), seen.dishes, TAKE_DISH),
            (seen.open, seen.onions, POT_ONION),
        )

    def task(self, seen: Kitchen) -> Task:
        """Put down an onion without a free pot, or a dish without a soup."""
        found = super().task(seen)
        soups = _some(seen.cooking) | _some(seen.ready)
        useless = (seen.onion & ~_some(seen.open)) | (seen.dish & ~soups)
        return Task(
            torch.where(useless[:, None, None], seen.shelves, found.target), torch.where(useless, NO_GOAL, found.goal)
        )


COOKS: Mapping[str, Callable[[], Player]] = {
    "onion_carrier": OnionCarrier,
    "dish_carrier": DishCarrier,
    "independent": Independent,
}


def _some(cells: Tensor) -> Tensor:
    """Return whether a map `[B, h, w]` has any cell: bool `[B]`."""
    return cells.flatten(1).any(1)


def _pots_left(seen: Kitchen, pots: Tensor) -> Tensor:
    """Return whether these pots are more than the dishes in the hands of the others: bool `[B]`."""
    return pots.flatten(1).sum(1) > seen.dishes_held


def _first(*choices: tuple[Tensor, Tensor, int]) -> Task:
    """Return the first task whose condition, bool `[B]` or a map with any cell, holds; else no task."""
    shape = choices[0][1].shape
    target = torch.zeros(shape, dtype=torch.bool, device=choices[0][1].device)
    goal = torch.full(shape[:1], NO_GOAL, device=target.device)
    for condition, cells, aim in reversed(choices):
        holds = _some(condition) if condition.dim() == 3 else condition > 0
        target, goal = torch.where(holds[:, None, None], cells, target), torch.where(holds, aim, goal)
    return Task(target, goal)


def _around(values: Tensor, cell: Tensor, beyond: int) -> tuple[Tensor, Tensor]:
    """Return the entries of `values` `[B, h, w]` at cells `[B]`, int64 `[B]`, and beside them, `[B, 4]`."""
    width = values.shape[2]
    padded = F.pad(values.long(), (1, 1, 1, 1), value=beyond).flatten(1)
    at = (cell // width + 1) * (width + 2) + cell % width + 1
    steps = torch.tensor([0] + [row * (width + 2) + column for row, column in STEPS], device=cell.device)
    found = padded.gather(1, at[:, None] + steps)
    return found[:, 0], found[:, 1:]
