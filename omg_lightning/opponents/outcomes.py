"""Learned kinds of outcomes, for observations that are not a grid: the changes at a player's reward events."""

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from omg_lightning.opponents.quantiser import VectorQuantiser
from omg_lightning.types import NO_GOAL


class Outcomes(VectorQuantiser):
    """Encodes the changes of a view at an event.

    A code is a set of entries of a view that change at the next step, restricted to entries that change
    more often at events than at other steps. If these explain few events, as in matrix games, where an action is an
    event whether or not it is new, a code is the view at the next step, each entry in units of its standard deviation
    in the first batch. The last step of an episode has no next one, so an event there has no code.

    Args:
        num_codes: G, the largest number of kinds.
        shape: of a view.
    """

    lasting: ClassVar[bool] = False  # a goal ends with each reward

    changes: Tensor
    steps: Tensor
    scale: Tensor

    def __init__(self, num_codes: int, shape: tuple[int, ...]) -> None:
        size = math.prod(shape)
        super().__init__(num_codes, 2 * size)
        self.register_buffer(
            "changes", torch.zeros(2, size)
        )  # number of changes of each entry, at other steps and at events
        self.register_buffer("steps", torch.zeros(2))  # number of other steps, and of events
        self.register_buffer("scale", torch.zeros(size))  # 0: unknown yet

    def there(self, observation: Tensor) -> Tensor:
        """Return ones, bool `[G]`: these views do not show which changes are possible."""
        return torch.ones(len(self.codes), dtype=torch.bool, device=observation.device)

    def vectors(self, before: Tensor, after: Tensor) -> Tensor:
        """Return the vectors to quantise from views `[M, *shape]` before and after a step: float `[M, size]`."""
        before, after = self._flat(before), self._flat(after)
        telling = self.telling()
        changed = (before != after) * telling
        outcome = after / torch.where(self.scale > 0, self.scale, 1.0) * ~telling.any()
        return torch.cat([changed, outcome], -1)

    def telling(self) -> Tensor:
        """Return the entries that change more often at events than elsewhere (by 3 standard errors): bool `[size]`.

        No entry is, unless events change `_EXTRA` more of these entries on average than other steps do.
        """
        count = self.steps[:, None] + 2
        share = (self.changes + 1) / count
        error = (share * (1 - share) / count).sum(0).sqrt()
        more = share[1] - share[0]
        often = (more > 3 * error) & self.steps.all()
        return often & ((more * often).sum() > _EXTRA)

    @torch.no_grad()
    def kind(self, before: Tensor, after: Tensor, known: Tensor) -> Tensor:
        """Return the codes of events, int64 `[M]`; NO_GOAL without a next step.

        Args:
            before: `[M, *shape]` the views of the players.
            after: `[M, *shape]` the views at the next step.
            known: bool `[M]` whether there is a next step.
        """
        return torch.where(known, self(self.vectors(before, after)), NO_GOAL)

    @torch.no_grad()
    def learn(
        self, events: tuple[Tensor, ...], ordinary: Callable[[], tuple[Tensor, ...]], generator: torch.Generator
    ) -> None:
        """Update the codes with events and with ordinary steps: each is `(before, after, known)`, see `kind`."""
        changes_tell = self.telling().any()
        self.changes.mul_(self.decay)
        self.steps.mul_(self.decay)
        for row, (before, after, known) in enumerate((ordinary(), events)):
            self.changes[row] += (self._flat(before[known]) != self._flat(after[known])).sum(0)
            self.steps[row] += known.sum()
        if self.telling().any() != changes_tell:
            self.count.zero_()  # vectors have another meaning now, so codes start anew
        before, after = before[known], after[known]
        if not bool(self.scale.any()) and len(after) > 1:
            deviation = self._flat(after).std(0)
            self.scale.copy_(torch.where(deviation > 0, deviation, 1.0))
        self.update(self.vectors(before, after), generator)

    def _flat(self, views: Tensor) -> Tensor:
        return views.reshape(len(views), len(self.scale)).float()


_EXTRA = 0.5  # an event that changes its own entries has at least one extra change
