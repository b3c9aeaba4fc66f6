"""The state VAE: the code of a goal is the code of a state, as the co-player in question sees it."""

from typing import Literal

import torch
from lightning import LightningModule
from torch import Tensor, nn

from omg_lightning.losses import gaussian_kl, reconstruction, squared_error
from omg_lightning.modules.samples import Samples
from omg_lightning.networks import PlaneDecoder, Trunk, TrunkKind
from omg_lightning.types import PlaneLogits


class GoalVAE(LightningModule):
    """Encoder q(z | s) and decoder p(s | z) with prior N(0, I) (OMG, NeurIPS 2024; beta-VAE loss).

    Args:
        observation_shape: `(C, h, w)`.
        num_players: P, how many of the planes are players.
        goal_dim: D, size of the code.
        hidden: width of the networks.
        trunk: `mlp` or `conv`.
        kl_weight: weight of KL(q || prior), 0.001 as published.
        free_bits: nats for each dimension below which the KL is not pressed further.
        objective: `planes` is the likelihood of the planes, `mse` the published squared error.
    """

    def __init__(
        self,
        observation_shape: tuple[int, int, int],
        num_players: int,
        goal_dim: int = 16,
        hidden: int = 128,
        trunk: TrunkKind = "mlp",
        kl_weight: float = 0.001,
        free_bits: float = 0.0,
        objective: Literal["planes", "mse"] = "planes",
    ) -> None:
        super().__init__()
        self.kl_weight, self.free_bits, self.objective = kl_weight, free_bits, objective
        self.trunk = Trunk(observation_shape, hidden, trunk)
        self.posterior = nn.Linear(hidden, 2 * goal_dim)
        self.decoder = PlaneDecoder(goal_dim, observation_shape, num_players, hidden)

    def encode(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance `[M, D]` of the code of views `[M, C, h, w]`. Codes know no time."""
        features = self.trunk(observation, observation.new_zeros(len(observation)))
        mean, log_var = self.posterior(features).chunk(2, dim=-1)
        return mean, log_var.clamp(-8, 4)

    def decode(self, code: Tensor) -> PlaneLogits:
        """Plane logits of codes `[M, D]`."""
        return self.decoder(code)

    def loss(self, samples: Samples, generator: torch.Generator) -> dict[str, Tensor]:
        """The loss `vae`, and its parts `vae_reconstruction` and `vae_kl`, averaged over samples.

        Every active seat's view at every step is a sample; padding never is one.
        """
        mean, log_var = self.encode(samples.observation)
        logits = self.decode(draw_gaussian(mean, log_var, generator))
        error = (reconstruction if self.objective == "planes" else squared_error)(logits, samples.observation)
        kl = gaussian_kl(mean, log_var, torch.zeros_like(mean), torch.zeros_like(mean)).mean(0)  # [D]
        pressed = kl.clamp(min=self.free_bits).sum()
        return {
            "vae": error.mean() + self.kl_weight * pressed,
            "vae_reconstruction": error.mean().detach(),
            "vae_kl": kl.sum().detach(),
        }


def draw_gaussian(mean: Tensor, log_var: Tensor, generator: torch.Generator) -> Tensor:
    """Draws from diagonal Gaussians by reparametrisation: same shape as `mean` `[..., D]`."""
    noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
    return mean + (0.5 * log_var).exp() * noise
