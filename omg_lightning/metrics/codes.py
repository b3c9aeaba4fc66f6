"""Metrics of learned goal codes against declared goals."""

from collections.abc import Callable

import torch
from torch import Tensor
from torchmetrics import Metric

from omg_lightning.metrics.information import entropy, informative, normalised_information
from omg_lightning.types import NO_GOAL, Episodes


class CodeMetrics(Metric):
    """Agreement of learned codes with declared goals, which their training does not use.

    `compute` returns `goal/code_nmi_realised`, the mutual information (over the mean entropy) of the code at an event
    and the declared goal achieved there, over all events with an achieved goal: an event is a step that has a code;
    `goal/code_nmi_true`, that of the goal that the script pursued and the code at the seat's last event, over
    the seats with an event; and `goal/code_perplexity`, the effective number of codes in use: the
    exponential of the entropy of their shares of the events. A mutual information is omitted if only one goal
    occurs.

    Args:
        num_codes: G.
        num_goals: number of goals that the game declares.
        label: returns the codes of whole episodes, int64 `[T, B, P]`; NO_GOAL at steps without an event.

    Attributes:
        usage: `[G, num_goals + 1]` events for each code and goal achieved; the last column is for none.
    """

    usage: Tensor
    pursued: Tensor
    full_state_update = False

    def __init__(self, num_codes: int, num_goals: int, label: Callable[[Episodes], Tensor]) -> None:
        super().__init__()
        self.label = label
        self.add_state("usage", default=torch.zeros(num_codes, num_goals + 1), dist_reduce_fx="sum")
        self.add_state("pursued", default=torch.zeros(num_codes, num_goals + 1), dist_reduce_fx="sum")

    def update(self, episodes: Episodes, who: Tensor, exact: Tensor | None = None) -> None:
        """Add whole episodes: the seats in bool `[T, B, P]`, while they are active; `exact` is not used."""
        codes = self.label(episodes)
        event = (codes != NO_GOAL) & who
        _count(self.usage, codes[event], episodes.achieved_goal[event])
        step = torch.arange(len(who), device=who.device)[:, None, None]
        last = (step * event).amax(0)  # [B, P]
        b, p = event.any(0).nonzero(as_tuple=True)
        _count(self.pursued, codes[last[b, p], b, p], episodes.true_goal[last[b, p], b, p])

    def compute(self) -> dict[str, Tensor]:
        """Return scalars by flat name; none before the first event."""
        found: dict[str, Tensor] = {}
        for name, table in (("realised", self.usage), ("true", self.pursued)):
            known = table[:, :-1].T
            if informative(known):
                found[f"goal/code_nmi_{name}"] = normalised_information(known / known.sum())
        if self.usage.sum() > 0:
            found["goal/code_perplexity"] = entropy(self.usage.sum(1) / self.usage.sum()).exp()
        return found


def _count(table: Tensor, codes: Tensor, goals: Tensor) -> None:
    """Add one to `table` `[G, num_goals + 1]` for each pair of a code and a goal `[m]`; NO_GOAL is the last column."""
    columns = table.shape[1]
    column = torch.where(goals == NO_GOAL, columns - 1, goals)
    table += torch.bincount(codes * columns + column, minlength=table.numel()).view_as(table)
