"""Learned kinds of objects on a grid: the objects that disappear at a player's reward events."""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from omg_lightning.games.grid.layout import GridLayout
from omg_lightning.types import NO_GOAL


class Things(nn.Module):
    """Learns for which objects players are rewarded, from the objects that disappear, and encodes them by kind.

    Each event has one object in the player's view as its cause. Its probability depends on the offset: with `q` the
    share of events whose object is at an offset (rows, columns) from the player, and `u` that of any object, object `c`
    is the cause of an event with probability proportional to `q(c) / u(c)`. Each batch is an EM step for `q`. Only
    objects that are gone at the next step can be the cause; if the episode ends with the event, all objects in view
    can.

    A kind is the set of features that all its objects have. An object with other features is of the same kind if it has
    features in common with it and no view shows two objects with these; otherwise it is of a new kind. So levels or
    colours do not define kinds if the other features distinguish an object from all others in view.

    Args:
        num_codes: G, the largest number of kinds.
        layout: of the views.
        decay: of the moving averages.
        dead: share of the events, relative to an even split, below which a kind is dropped.
    """

    lasting: ClassVar[bool] = True  # a goal remains as long as an object of its kind is in view

    codes: Tensor
    count: Tensor
    places: Tensor
    chance: Tensor

    def __init__(self, num_codes: int, layout: GridLayout, decay: float = 0.99, dead: float = 0.02) -> None:
        super().__init__()
        self.layout, self.decay, self.dead = layout, decay, dead
        self.register_buffer("codes", torch.zeros(num_codes, layout.features))
        self.register_buffer("count", torch.zeros(num_codes))  # moving average of events for each kind
        self.register_buffer("places", torch.zeros(layout.offsets))  # of events whose object is at each offset
        self.register_buffer("chance", torch.zeros(layout.offsets))  # of objects at each offset, one for each event

    def there(self, observation: Tensor) -> Tensor:
        """Return the kinds with an object in views `[..., C, h, w]`: bool `[..., G]`."""
        return self._of_kind(self.layout.shown(observation)).any(-1)

    def lift(self) -> Tensor:
        """Return `q / u` of each offset, float `[n]`."""
        return _lift(self.places, self.chance)

    def typical(self) -> Tensor:
        """Return the offsets with `q > u`, by three standard errors if there are any such: bool `[n]`."""
        lift = self.lift()
        sure = lift * (1 - 3 / self.places.clamp(min=1).sqrt()) > 1
        return sure if bool(sure.any()) else lift > 1

    @torch.no_grad()
    def kind(self, before: Tensor, after: Tensor, known: Tensor) -> Tensor:
        """Return the kinds of the objects that cause events: int64 `[M]`.

        If one player's action rewards all players, the object can be anywhere for the others. So an event is a player's
        own only if its object is at a `typical` offset; other events have no kind, NO_GOAL.

        Args:
            before: `[M, C, h, w]` the views of the players.
            after: `[M, C, h, w]` the views at the next step.
            known: bool `[M]` whether there is a next step.
        """
        thing, own = self._cause(self._candidates(before, after, known), self.layout.offset(before))
        return torch.where(own, self._overlap(thing).argmax(-1), NO_GOAL)

    @torch.no_grad()
    def learn(
        self,
        events: tuple[Tensor, Tensor, Tensor],
        ordinary: Callable[[], tuple[Tensor, ...]],
        generator: torch.Generator,
    ) -> None:
        """Update the kinds with events `(before, after, known)`, see `kind`; other steps and randomness are unused."""
        before, after, known = events
        if len(before) == 0:
            return
        shown, places = self.layout.shown(before), self.layout.offset(before)  # [M, F, S], [M, S]
        gone = self._candidates(before, after, known)
        self._locate(places, gone.any(1), shown.any(1))
        thing, own = self._cause(gone, places)
        self._sort(thing[own], shown)

    def _candidates(self, before: Tensor, after: Tensor, known: Tensor) -> Tensor:
        """Return possible causes of events, bool `[M, F, S]`: objects that are gone; all without a next view."""
        shown = self.layout.shown(before)
        gone = shown & ~self.layout.shown(after) & known[:, None, None]
        return torch.where(gone.flatten(1).any(1)[:, None, None], gone, shown)

    def _cause(self, gone: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Return the most probable object `[M, F]` of candidates `[M, F, S]`, and whether the event is the player's."""
        # An object without a kind counts as one event (a Chinese restaurant process).
        weight = (self._of_kind(gone) * self.count[:, None]).amax(1).clamp(min=1.0)
        score = self.lift()[places] * gone.any(1)  # [M, S]
        chosen = (score * weight).argmax(-1, keepdim=True)
        own = self.typical()[places.gather(-1, chosen)[:, 0]] & gone.flatten(1).any(1)
        thing = gone.gather(2, chosen[:, None].expand(-1, gone.shape[1], 1))[..., 0]
        return thing, own

    def _locate(self, places: Tensor, cells: Tensor, things: Tensor) -> None:
        """Take an EM step for the offsets of the objects that cause events.

        Args:
            places: int64 `[M, S]` the offset of each cell.
            cells: bool `[M, S]` possible cells of the cause.
            things: bool `[M, S]` cells with any object.
        """
        found, chance = torch.zeros_like(self.places), torch.zeros_like(self.chance)
        for _ in range(1 if self.places.any() else _FIRST_STEPS):
            lift = _lift(self.places + found, self.chance + chance)
            cause = _normal(lift[places] * cells)
            other = _normal(things * (1 - cause))
            found = torch.zeros_like(found).scatter_add_(0, places.flatten(), cause.flatten())
            chance = torch.zeros_like(chance).scatter_add_(0, places.flatten(), other.flatten())
        self.places.mul_(self.decay).add_(found)
        self.chance.mul_(self.decay).add_(chance)

    def _sort(self, things: Tensor, shown: Tensor) -> None:
        """Count the kinds of objects `[m, F]`; extend kinds or add new ones; drop kinds that no longer occur."""
        distinct, counts = things.unique(dim=0, return_counts=True)
        hits = torch.zeros_like(self.count)
        for row in counts.argsort(descending=True, stable=True).tolist():
            hits[self._kind(distinct[row].float(), shown)] += counts[row]
        self.count.mul_(self.decay).add_(hits)
        self.count[self.count < self.dead * self.count.sum() / len(self.count)] = 0
        self.codes[self.count == 0] = 0

    def _kind(self, thing: Tensor, shown: Tensor) -> int:
        """Return the kind of an object `[F]`, possibly a new one."""
        used = self.codes.any(-1)
        if (same := (self.codes == thing).all(-1)).any():
            return int(same.long().argmax())
        common = self.codes * thing
        for kind in self._overlap(thing).argsort(descending=True, stable=True).tolist():
            if common[kind].any() and bool((_contains(common[kind : kind + 1], shown).sum(-1) <= 1).all()):
                self.codes[kind] = common[kind]
                return kind
        if not used.all():
            kind = int(used.long().argmin())
            self.codes[kind] = thing
            return kind
        return int(self._overlap(thing).argmax())

    def _overlap(self, thing: Tensor) -> Tensor:
        """Return how well objects `[..., F]` fit each kind, float `[..., G]`: the share of features in common."""
        thing = thing.float()
        common = thing @ self.codes.t()
        return common / (thing.sum(-1, keepdim=True) + self.codes.sum(-1) - common).clamp(min=1)

    def _of_kind(self, shown: Tensor) -> Tensor:
        """Return the cells with an object of each kind, bool `[..., G, S]`, of `[..., F, S]`."""
        return _contains(self.codes, shown) & self.codes.any(-1)[:, None]


def _contains(codes: Tensor, shown: Tensor) -> Tensor:
    """Return the cells of `[..., F, S]` with all features of codes `[G, F]`: bool `[..., G, S]`."""
    return codes @ shown.to(codes.dtype) == codes.sum(-1)[:, None]


def _lift(places: Tensor, chance: Tensor) -> Tensor:
    """Return `q / u` of counts `[n]`, with a pseudo-count of one event over all offsets and one object at each."""
    n = len(places)
    return (places + 1 / n) / (places.sum() + 1) * (chance.sum() + n) / (chance + 1)


def _normal(weight: Tensor) -> Tensor:
    """Return weights `[M, S]` as probabilities; 0 if all are 0."""
    return weight / weight.sum(-1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)


_FIRST_STEPS = 10  # of EM, on the first batch
