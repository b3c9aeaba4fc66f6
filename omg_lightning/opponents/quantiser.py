"""Vector quantisation: learned discrete codes that keep their meaning while training updates them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omg_lightning.types import ConfigError


class VectorQuantiser(nn.Module):
    """Vector quantisation with moving averages (van den Oord et al. 2017, arXiv 1711.00937, appendix A.1).

    Codes move slowly, so code k keeps its meaning during training, and so do beliefs about it. The
    first batch initialises them far from each other (k-means++). A dead code, or one that has met
    another, moves to the vector with the largest quantisation error, if the error exceeds `tolerance`: smaller
    differences do not make another goal, and unneeded codes stay unused.

    Args:
        num_codes: G, the largest number of goals.
        size: length of the vectors.
        decay: of the moving averages.
        dead: share of the samples, relative to an even split, below which a code is dead.
        tolerance: squared distance to the nearest code below which a vector needs no code of its own, as a share of the
            variance (the mean squared distance of vectors from their mean).
    """

    codes: Tensor
    count: Tensor
    total: Tensor
    variance: Tensor

    def __init__(
        self, num_codes: int, size: int, decay: float = 0.99, dead: float = 0.02, tolerance: float = 0.05
    ) -> None:
        super().__init__()
        if num_codes < 2:
            raise ConfigError(f"num_codes is {num_codes}: expected at least 2 codes")
        self.decay, self.dead, self.tolerance = decay, dead, tolerance
        self.register_buffer("codes", torch.full((num_codes, size), _NOWHERE))
        self.register_buffer("count", torch.zeros(num_codes))  # moving average of samples for each code
        self.register_buffer("variance", torch.zeros(()))  # moving average
        self.register_buffer("total", torch.zeros(num_codes, size))  # moving average of their sums

    def forward(self, vectors: Tensor) -> Tensor:
        """Return the nearest code of each vector `[M, size]`: int64 `[M]`; the first one in ties."""
        return torch.cdist(vectors, self.codes).argmin(-1)

    @torch.no_grad()
    def update(self, vectors: Tensor, generator: torch.Generator) -> None:
        """Move the codes towards their nearest vectors `[M, size]`; revive dead codes."""
        if len(vectors) == 0:
            return
        variance = ((vectors - vectors.mean(0)) ** 2).sum(-1).mean()
        self.variance.lerp_(variance, 1 - self.decay if self.count.any() else 1.0)
        if not self.count.any():
            for code in range(len(self.codes)):
                self._put(code, vectors, generator)
        hits = F.one_hot(self(vectors), len(self.codes)).to(vectors.dtype)  # [M, G]
        self.count.mul_(self.decay).add_(hits.sum(0), alpha=1 - self.decay)
        self.total.mul_(self.decay).add_(hits.T @ vectors, alpha=1 - self.decay)
        alive = self.count > self.dead * self.count.sum() / len(self.codes)
        self.codes[alive] = self.total[alive] / self.count[alive, None]
        near = torch.cdist(self.codes, self.codes) ** 2 < self.tolerance * self.variance
        alive &= ~near.tril(-1).any(-1)  # if two codes have met, the later one is free again
        for code in (~alive).nonzero()[:, 0].tolist():
            self._put(code, vectors, generator)

    def _put(self, code: int, vectors: Tensor, generator: torch.Generator) -> None:
        """Place a code on a vector sampled by its squared distance to the codes; remove it if no code is needed."""
        self.codes[code], self.count[code], self.total[code] = _NOWHERE, 0.0, 0.0
        distance = (torch.cdist(vectors, self.codes).min(-1).values ** 2).clamp(max=1e6)
        distance = torch.where(distance > self.tolerance * self.variance, distance, 0.0)
        if not distance.any():
            return
        chosen = int(torch.multinomial(distance, 1, generator=generator))
        self.codes[code] = vectors[chosen]
        fair = float(self.count.sum()) / len(self.codes) or 1.0  # a revived code starts with an even share
        self.count[code], self.total[code] = fair, vectors[chosen] * fair


_NOWHERE = 1e4  # an unused code is far from every vector
