"""Stratified sampling over the trees of a decision, so that few trees represent the distribution."""

import torch
from torch import Tensor


def spread(rows: int, trees: int, columns: int, generator: torch.Generator) -> Tensor:
    """Draw uniform numbers, one in each K-th of [0, 1) over the K trees (stratified sampling).

    Returns:
        float32 `[rows, K, columns]`; columns are independent of each other, and so are rows.
    """
    shape, device = (rows, trees, columns), generator.device
    order = torch.rand(shape, generator=generator, device=device).argsort(1)
    drawn = (order + torch.rand(shape, generator=generator, device=device)) / trees
    return drawn.clamp_(max=1 - torch.finfo(drawn.dtype).eps)  # rounding can turn a sum just below 1 into 1


def pick(probability: Tensor, uniform: Tensor) -> Tensor:
    """Map uniform numbers `[...]` to indices by probabilities `[..., A]`: int64 `[...]`, never one of probability 0."""
    ends = probability.cumsum(-1)
    ends = ends / ends[..., -1:]
    return (ends <= uniform[..., None]).sum(-1)
