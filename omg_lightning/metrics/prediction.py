"""Accuracy of predicted co-players' actions."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import multiclass_confusion_matrix


class PredictionMetrics(Metric):
    """Top-1 and top-3 accuracy of the co-players' predicted next actions, compared with the best possible one.

    `compute` returns `goal/action_top1`, `goal/action_top3` and `goal/action_majority` (always the most frequent
    action), as shares of the samples. If every co-player is a script with a known action distribution,
    `goal/action_best` is the mean, over the same samples, of its largest probability: no predictor without the script's
    random numbers is better; and `goal/action_share` is top-1 as a share of that.

    Attributes:
        confusion: `[A, A]` counts, rows are the actions played, columns those predicted.
    """

    confusion: Tensor
    top3: Tensor
    best: Tensor
    told: Tensor
    full_state_update = False

    def __init__(self, num_actions: int) -> None:
        super().__init__()
        self.add_state("confusion", default=torch.zeros(num_actions, num_actions), dist_reduce_fx="sum")
        for name in ("top3", "best", "told"):
            self.add_state(name, default=torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, logits: Tensor, action: Tensor, best: Tensor | None = None) -> None:
        """Add predictions, masked logits `[m, A]`, of actions, int64 `[m]`.

        Args:
            logits: predicted, masked.
            action: played.
            best: float `[m]` the largest probability in the player's own action distribution, or 0 if unknown.
        """
        if len(action) == 0:
            return
        first = logits.topk(min(3, logits.shape[-1]), dim=-1).indices
        self.confusion += multiclass_confusion_matrix(first[:, 0], action, num_classes=len(self.confusion))
        self.top3 += (first == action[:, None]).any(-1).sum()
        if best is not None:
            self.best += best.sum()
            self.told += (best > 0).sum()

    def compute(self) -> dict[str, Tensor]:
        """Return scalars by flat name; none before the first sample."""
        total = self.confusion.sum()
        if total == 0:
            return {}
        found = {
            "goal/action_top1": self.confusion.trace() / total,
            "goal/action_top3": self.top3 / total,
            "goal/action_majority": self.confusion.sum(1).max() / total,
        }
        if self.told == total:
            found["goal/action_best"] = self.best / total
            found["goal/action_share"] = self.confusion.trace() / self.best
        return found


def recalls(confusion: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """Return `goal/action_recall_<name>`: of the times an action was played, the share in which it was predicted.

    Args:
        confusion: `[A, A]` counts, rows are the actions played, columns those predicted.
        names: A names of actions. Actions that were never played are omitted.
    """
    played = confusion.sum(1)
    return {
        f"goal/action_recall_{name}": confusion[action, action] / played[action]
        for action, name in enumerate(names)
        if played[action] > 0
    }
