"""How much one thing tells of another."""

import torch
from torch import Tensor


def entropy(p: Tensor) -> Tensor:
    """Entropy in nats of a distribution of any shape."""
    return -torch.special.xlogy(p, p).sum()


def normalised_information(joint: Tensor) -> Tensor:
    """Mutual information over the mean of the entropies, of a joint distribution `[X, Y]`; 0 where nothing varies."""
    rows, columns = entropy(joint.sum(1)), entropy(joint.sum(0))
    total = rows + columns
    return torch.where(total > 1e-9, 2 * (total - entropy(joint)) / total.clamp(min=1e-9), 0.0)


def informative(counts: Tensor) -> bool:
    """Whether more than one row of a table of counts `[X, Y]` occurs: else there is nothing to be known of X."""
    return int((counts.sum(1) > 0).sum()) > 1
