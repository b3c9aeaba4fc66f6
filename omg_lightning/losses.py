"""Losses as pure functions of tensors, each with its source. All return one number per sample unless said."""

import torch
import torch.nn.functional as F
from torch import Tensor

from omg_lightning.types import PlaneLogits


def traced_returns(reward: Tensor, value: Tensor, known: Tensor, discount: float, trace: float) -> Tensor:
    """The return that looks ahead by estimates, `G_t = r_t + discount * ((1 - trace) V_{t+1} + trace G_{t+1})`.

    TD(lambda) with lambda = `trace` (Sutton and Barto 2018, section 12.1). Where nothing is estimated, `G_{t+1}` alone.

    Args:
        reward: float `[T, ...]`, 0 where padded.
        value: float `[T, ...]` estimates V_t.
        known: bool `[T, ...]` where there is an estimate.
        discount: per step.
        trace: 1 for the discounted return, 0 for one step ahead.

    Returns:
        float `[T, ...]`.
    """
    ahead = torch.zeros_like(reward[0])
    returns = torch.empty_like(reward)
    for t in reversed(range(reward.shape[0])):
        returns[t] = reward[t] + discount * ahead
        ahead = torch.where(known[t], torch.lerp(value[t], returns[t], trace), returns[t])
    return returns


def gaussian_kl(mean: Tensor, log_var: Tensor, other_mean: Tensor, other_log_var: Tensor) -> Tensor:
    """KL(N(mean, var) || N(other_mean, other_var)) of diagonal Gaussians, in nats per dimension.

    Args:
        mean: float `[..., D]`.
        log_var: float `[..., D]` logarithm of the variance.
        other_mean: float `[..., D]`.
        other_log_var: float `[..., D]`.

    Returns:
        float `[..., D]`; sum over the last dimension for the divergence itself.
    """
    gap = (mean - other_mean) ** 2
    return 0.5 * (other_log_var - log_var + (log_var.exp() + gap) / other_log_var.exp() - 1)


def player_targets(observation: Tensor, num_players: int) -> Tensor:
    """Cell index of each player, int64 `[M, P]`; `h * w` where a player is absent. Views are `[M, C, h, w]`."""
    planes = observation[:, :num_players].flatten(2)  # [M, P, h*w]
    absent = 1 - planes.sum(-1, keepdim=True).clamp(max=1)
    return torch.cat([planes, absent], dim=-1).argmax(-1)


def reconstruction(logits: PlaneLogits, observation: Tensor) -> Tensor:
    """Negative log likelihood of a view: cross entropy for players, class-balanced for the other planes.

    A player is one pixel against a static majority: under a plain squared error it vanishes from the decoded picture
    while the error looks small. So each player plane is one choice among the cells and 'absent', and in the other
    planes ones and zeros weigh one half each, whatever their number. Balance alone would make rare ones look likely;
    the logarithm of zeros over ones is added to the log odds here, so that outside of the loss they are those of a 1
    (logit adjustment, Menon et al. 2021, arXiv 2007.07314).

    Args:
        logits: of a `PlaneDecoder`.
        observation: float `[M, C, h, w]` the view to be reconstructed.

    Returns:
        float `[M]`, summed over planes.
    """
    players = logits.players.shape[1]
    where = player_targets(observation, players)
    who = F.cross_entropy(logits.players.flatten(0, 1), where.flatten(), reduction="none").view(where.shape).sum(-1)
    target = observation[:, players:].flatten(2)
    ones, zeros = target.sum(-1).clamp(min=1), (1 - target).sum(-1).clamp(min=1)
    odds = logits.objects.flatten(2) + (zeros / ones).log()[..., None]
    error = F.binary_cross_entropy_with_logits(odds, target, reduction="none")
    balanced = (error * target).sum(-1) / ones + (error * (1 - target)).sum(-1) / zeros
    return who + 0.5 * balanced.sum(-1)


def squared_error(logits: PlaneLogits, observation: Tensor) -> Tensor:
    """Mean squared error of the decoded probabilities, float `[M]`: the published choice (OMG), kept for comparison."""
    players, shape = logits.players.shape[1], observation.shape
    cells = logits.players.softmax(-1)[..., :-1].reshape(shape[0], players, *shape[2:])
    decoded = torch.cat([cells, logits.objects.sigmoid()], dim=1)
    return ((decoded - observation) ** 2).flatten(1).mean(-1)


def soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross entropy `[M]` of a target distribution `[M, A]` (0 where illegal) under masked logits `[M, A]`."""
    log_policy = logits.log_softmax(-1)
    return -torch.where(target > 0, target * log_policy, 0.0).sum(-1)


def masked_logits(logits: Tensor, legal: Tensor) -> Tensor:
    """Logits `[..., A]` with a large negative number, not -inf, where `legal` `[..., A]` is False: no NaN ever."""
    return torch.where(legal, logits, torch.finfo(logits.dtype).min / 2)
