"""Mutual information of discrete variables."""

import torch
from torch import Tensor


def entropy(p: Tensor) -> Tensor:
    """Return the entropy in nats of a distribution of any shape."""
    return -torch.special.xlogy(p, p).sum()


def normalised_information(joint: Tensor) -> Tensor:
    """Return the mutual information of a joint distribution `[X, Y]` over the mean entropy; 0 if nothing varies."""
    rows, columns = entropy(joint.sum(1)), entropy(joint.sum(0))
    total = rows + columns
    return torch.where(total > 1e-9, 2 * (total - entropy(joint)) / total.clamp(min=1e-9), 0.0)


def informative(counts: Tensor) -> bool:
    """Return whether more than one row of a table of counts `[X, Y]` occurs; else X carries no information."""
    return int((counts.sum(1) > 0).sum()) > 1
