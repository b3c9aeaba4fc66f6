"""Returns of episodes."""

from torch import Tensor, tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from omg_lightning.losses import discounted_return
from omg_lightning.metrics.intervals import Bounds, of_episodes
from omg_lightning.types import Episodes


class ReturnMetrics(Metric):
    """Returns over episodes: mean, 95% interval, per seat, and length.

    `compute` returns `return/team_mean`, `return/team_low` and `return/team_high` (the 95% interval of the mean, see
    `omg_lightning.metrics.intervals`; omitted for a single episode), `return/seat_<p>_mean`, `return/length_mean` in
    steps, and `return/episodes`; all returns are undiscounted.
    `return/team_discounted` is the mean of the returns discounted from the first step, with the algorithm's discount:
    two teams that catch the same prey may need more or less time for it.

    Args:
        discount: per step.
        bounds: the least and the greatest possible team return, if known.
    """

    returns: list[Tensor]
    discounted: list[Tensor]
    lengths: list[Tensor]
    full_state_update = False

    def __init__(self, discount: float = 1.0, bounds: Bounds | None = None) -> None:
        super().__init__()
        self.discount, self.bounds = discount, bounds
        for name in ("returns", "discounted", "lengths"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, episodes: Episodes) -> None:
        """Add whole episodes, `[T, B, P, ...]`."""
        self.returns.append(episodes.reward.sum(0))  # [B, P]
        self.discounted.append(discounted_return(episodes.reward, self.discount).sum(-1))  # [B]
        self.lengths.append(episodes.active.any(-1).sum(0))  # [B]

    def compute(self) -> dict[str, Tensor]:
        """Return scalars by flat name; none before the first episode."""
        if len(self.returns) == 0:  # a list of batches or, gathered from several processes, one tensor
            return {}
        discounted = dim_zero_cat(self.discounted).mean()
        found = return_statistics(dim_zero_cat(self.returns), dim_zero_cat(self.lengths), self.bounds)
        return found | {"return/team_discounted": discounted}


def return_statistics(returns: Tensor, lengths: Tensor, bounds: Bounds | None = None) -> dict[str, Tensor]:
    """Return the statistics of undiscounted returns `[B, P]` and lengths `[B]` of at least one episode.

    A single episode has no interval. `bounds` are those of the team's return.
    """
    team = returns.sum(-1)
    ends = zip(("low", "high"), of_episodes(team.cpu().numpy(), bounds), strict=True) if len(team) > 1 else ()
    seats = {f"return/seat_{p}_mean": returns[:, p].mean() for p in range(returns.shape[1])}
    return {
        "return/team_mean": team.mean(),
        **{f"return/team_{name}": team.new_tensor(float(end)) for name, end in ends},
        **seats,
        "return/length_mean": lengths.float().mean(),
        "return/episodes": tensor(float(len(team))),
    }
