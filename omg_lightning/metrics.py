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
        return return_statistics(dim_zero_cat(self.returns), dim_zero_cat(self.lengths))


def return_statistics(returns: Tensor, lengths: Tensor) -> dict[str, Tensor]:
    """What `ReturnMetrics` gives, of returns `[B, P]` and lengths `[B]` of at least one episode."""
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


class BeliefMetrics(Metric):
    """What an explicit belief says of the goals that scripted co-players really pursue, after so many steps seen.

    `compute` gives, for n = 1, 3, 5 and 10 steps and all, `goal/belief_nmi_<n>`: the mutual information of the true
    goal and a goal drawn from the belief, over the mean of their entropies; it asks for no names of the goals, so it
    suits learned codes as well. Where the belief is about the declared goals themselves, `goal/belief_true_<n>` is the
    mean probability of the true one. Episodes that end earlier count with their last belief. Nothing is given where
    no script declares a goal.

    Args:
        num_goals: how many goals the game declares.
        size: G, how many goals the belief is over.
        same: the belief is over the declared goals.
    """

    joint: Tensor
    full_state_update = False
    steps = (1, 3, 5, 10, None)

    def __init__(self, num_goals: int, size: int, same: bool) -> None:
        super().__init__()
        self.same = same
        self.add_state("joint", default=torch.zeros(len(self.steps), num_goals, size), dist_reduce_fx="sum")

    def update(self, belief: Tensor, truth: Tensor, who: Tensor) -> None:
        """Adds beliefs `[T, B, P, G]` about true goals `[T, B, P]` of the seats in bool `[T, B, P]`, while active."""
        last = who.sum(0) - 1  # [B, P] the last step at which the seat is there
        b, p = ((last >= 0) & (truth[0] >= 0)).nonzero(as_tuple=True)
        for k, step in enumerate(self.steps):
            t = last[b, p] if step is None else last[b, p].clamp(max=step)
            self.joint[k].index_add_(0, truth[0][b, p], belief[t, b, p])

    def compute(self) -> dict[str, Tensor]:
        """Flat names to scalars; empty before the first script with a goal."""
        found: dict[str, Tensor] = {}
        for step, joint in zip(self.steps, self.joint, strict=True):
            if joint.sum() == 0:
                continue
            name = "all" if step is None else str(step)
            joint = joint / joint.sum()
            if (joint.sum(1) > 0).sum() > 1:  # where all have the same goal there is nothing to be known
                found[f"goal/belief_nmi_{name}"] = normalised_information(joint)
            if self.same:
                found[f"goal/belief_true_{name}"] = joint.diagonal().sum()
        return found


def normalised_information(joint: Tensor) -> Tensor:
    """Mutual information over the mean of the entropies, of a joint distribution `[X, Y]`; 0 where nothing varies."""

    def entropy(p: Tensor) -> Tensor:
        return -torch.special.xlogy(p, p).sum()

    rows, columns = entropy(joint.sum(1)), entropy(joint.sum(0))
    total = rows + columns
    return torch.where(total > 1e-9, 2 * (total - entropy(joint)) / total.clamp(min=1e-9), 0.0)
