"""A linear probe (Alain and Bengio 2017, arXiv 1610.01644): how well a linear map reads a label from vectors."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_DECAY = 1e-3  # weight decay: without it separable classes have no optimal weights


def linear_probe(vectors: Tensor, labels: Tensor, test_vectors: Tensor, test_labels: Tensor) -> float:
    """Return the share of test labels that multinomial logistic regression on the other vectors predicts.

    Args:
        vectors: float `[n, D]` training vectors; they are standardised to mean 0 and deviation 1.
        labels: int64 `[n]`.
        test_vectors: float `[m, D]`.
        test_labels: int64 `[m]`.
    """
    mean, deviation = vectors.mean(0), vectors.std(0).clamp(min=1e-6)
    x, y = ((each - mean) / deviation for each in (vectors, test_vectors))
    count = int(torch.cat([labels, test_labels]).max()) + 1
    with torch.enable_grad():
        weight = x.new_zeros(x.shape[1] + 1, count, requires_grad=True)
        optimizer = torch.optim.LBFGS([weight], max_iter=200, line_search_fn="strong_wolfe")

        def closure() -> Any:
            optimizer.zero_grad()
            loss = F.cross_entropy(x @ weight[:-1] + weight[-1], labels) + _DECAY * weight[:-1].square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
    with torch.no_grad():
        found = (y @ weight[:-1] + weight[-1]).argmax(-1)
    return float((found == test_labels).float().mean())
