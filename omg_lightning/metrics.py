"""Torchmetrics of finished episodes: returns with intervals, and how well actions are predicted."""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from omg_lightning.types import Episodes


class ReturnMetrics(Metric):
    """Undiscounted returns over episodes: mean, 95% interval, per seat, and length.

    `compute` gives `return/team_mean`, `return/team_low` and `return/team_high` (the normal 95% interval of the
    mean), `return/seat_<p>_mean`, `return/length_mean` in steps, and `return/episodes`.
    """

    returns: list[Tensor]
    lengths: list[Tensor]
    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("returns", default=[], dist_reduce_fx="cat")
        self.add_state("lengths", default=[], dist_reduce_fx="cat")

    def update(self, episodes: Episodes) -> None:
        """Adds whole episodes, `[T, B, P, ...]`."""
        self.returns.append(episodes.reward.sum(0))  # [B, P]
        self.lengths.append(episodes.active.any(-1).sum(0))  # [B]

    def compute(self) -> dict[str, Tensor]:
        """Flat names to scalars; empty before the first episode."""
        if not self.returns:
            return {}
        returns, lengths = dim_zero_cat(self.returns), dim_zero_cat(self.lengths)
        team = returns.sum(-1)
        half = 1.96 * team.std(correction=1) / len(team) ** 0.5 if len(team) > 1 else torch.zeros_like(team[0])
        seats = {f"return/seat_{p}_mean": returns[:, p].mean() for p in range(returns.shape[1])}
        return {
            "return/team_mean": team.mean(),
            "return/team_low": team.mean() - half,
            "return/team_high": team.mean() + half,
            **seats,
            "return/length_mean": lengths.float().mean(),
            "return/episodes": torch.tensor(float(len(team))),
        }


class PredictionMetrics(Metric):
    """How often the co-players' next action is among the first 1 and 3 predicted, against always the commonest one.

    `compute` gives `goal/action_top1`, `goal/action_top3` and `goal/action_majority`, shares of the samples.
    """

    counts: Tensor
    hits: Tensor
    full_state_update = False

    def __init__(self, num_actions: int) -> None:
        super().__init__()
        self.add_state("counts", default=torch.zeros(num_actions), dist_reduce_fx="sum")
        self.add_state("hits", default=torch.zeros(2), dist_reduce_fx="sum")

    def update(self, logits: Tensor, action: Tensor) -> None:
        """Adds predictions, masked logits `[m, A]`, of actions, int64 `[m]`."""
        best = logits.topk(min(3, logits.shape[-1]), dim=-1).indices == action[:, None]
        self.hits += torch.stack([best[:, 0].sum(), best.any(-1).sum()])
        self.counts += torch.bincount(action, minlength=len(self.counts))

    def compute(self) -> dict[str, Tensor]:
        """Flat names to scalars; empty before the first sample."""
        total = self.counts.sum()
        if total == 0:
            return {}
        top1, top3 = self.hits / total
        return {
            "goal/action_top1": top1,
            "goal/action_top3": top3,
            "goal/action_majority": self.counts.max() / total,
        }
