"""Losses as pure functions of tensors, each with its source. Each returns one number per sample by default."""

import torch
from torch import Tensor


def td_lambda(reward: Tensor, value: Tensor, known: Tensor, discount: float, lam: float) -> Tensor:
    """Return TD(lambda) targets, `G_t = r_t + discount * ((1 - lam) V_{t+1} + lam G_{t+1})`.

    Sutton and Barto 2018, section 12.1. At steps without an estimate of `V_{t+1}`, `G_{t+1}` replaces it.

    Args:
        reward: float `[T, ...]`, 0 where padded.
        value: float `[T, ...]` estimates V_t.
        known: bool `[T, ...]` where there is an estimate.
        discount: per step.
        lam: 1 for the discounted return, 0 for one step ahead.

    Returns:
        float `[T, ...]`.
    """
    ahead = torch.zeros_like(reward[0])
    returns = torch.empty_like(reward)
    for t in reversed(range(reward.shape[0])):
        returns[t] = reward[t] + discount * ahead
        ahead = returns[t] if lam == 1 else torch.where(known[t], torch.lerp(value[t], returns[t], lam), returns[t])
    return returns


def discounted_return(reward: Tensor, discount: float) -> Tensor:
    """Return the discounted return from the first step, float `[...]`, of rewards `[T, ...]`."""
    weight = discount ** torch.arange(len(reward), device=reward.device, dtype=reward.dtype)
    return (reward * weight.view(-1, *[1] * (reward.dim() - 1))).sum(0)


def gaussian_kl(mean: Tensor, log_var: Tensor, other_mean: Tensor, other_log_var: Tensor) -> Tensor:
    """Return KL(N(mean, var) || N(other_mean, other_var)) of diagonal Gaussians, in nats per dimension.

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


def draw_gaussian(mean: Tensor, log_var: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from diagonal Gaussians by reparametrisation: same shape as `mean` `[..., D]`."""
    noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
    return mean + (0.5 * log_var).exp() * noise


def soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return the cross entropy `[M]` of targets `[M, A]` (0 where illegal) under masked logits `[M, A]`."""
    log_policy = logits.log_softmax(-1)
    return -torch.where(target > 0, target * log_policy, 0.0).sum(-1)


def masked_logits(logits: Tensor, legal: Tensor) -> Tensor:
    """Return logits `[..., A]` with a large negative number, not -inf, where `legal` is False: no NaN ever."""
    return torch.where(legal, logits, torch.finfo(logits.dtype).min / 2)
