"""The state VAE: the code of a goal is the code of a state, as the co-player in question sees it."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from lightning import LightningModule
from torch import Tensor, nn

from omg_lightning.losses import gaussian_kl, masked_logits, reconstruction, squared_error
from omg_lightning.training.checks import GAME_KEYS, NETWORK_KEYS, check_match
from omg_lightning.samples import NO_ACTION, Futures, Samples
from omg_lightning.training.settings import VAEConfig
from omg_lightning.encoders.networks import GoalNet, PlaneDecoder
from omg_lightning.training.runs import read_checkpoint
from omg_lightning.encoders.trunk import Trunk, TrunkKind, for_codes
from omg_lightning.types import ConfigError, PlaneLogits


class GoalVAE(LightningModule):
    """Encoder q(z | s) and decoder p(s | z) with prior N(0, I) (OMG, NeurIPS 2024; beta-VAE loss).

    What a code has to keep is a choice, and the choices can be mixed: the view itself (`reconstruction`), or what its
    seat did on the way there. For the latter a code is read as a goal: z is the code of a view that the seat came to,
    and from z and the view s_t before it the actor predicts a_t (`action`) or a_t and the ones after it
    (`next_actions`).

    Args:
        observation_shape: `(C, h, w)`.
        num_players: P, how many of the planes are players.
        num_actions: A.
        goal_dim: D, size of the code.
        hidden: width of the networks.
        trunk: kind of `Trunk`.
        config: objectives, and the weight of the KL.
    """

    def __init__(
        self,
        observation_shape: tuple[int, int, int],
        num_players: int,
        num_actions: int,
        goal_dim: int = 16,
        hidden: int = 128,
        trunk: TrunkKind = "mlp",
        config: VAEConfig = VAEConfig(),
    ) -> None:
        super().__init__()
        self.config, self.num_actions = config, num_actions
        self.trunk = Trunk(observation_shape, hidden, for_codes(trunk))
        self.posterior = nn.Linear(hidden, 2 * goal_dim)
        self.decoder = PlaneDecoder(goal_dim, observation_shape, num_players, hidden)
        outputs = config.next_steps * num_actions
        self.actor = GoalNet(observation_shape, goal_dim, outputs, hidden, trunk) if config.acts else None
        self.slow = nn.ModuleList([deepcopy(self.trunk), deepcopy(self.posterior)]).requires_grad_(False)

    def encode(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance `[M, D]` of the code of views `[M, C, h, w]`. Codes know no time."""
        return _encode(self.trunk, self.posterior, observation)

    def codes(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """The same by the slow encoder: the codes that others learn from, which do not move under their feet."""
        return _encode(self.slow[0], self.slow[1], observation)

    @torch.no_grad()
    def track(self, decay: float) -> None:
        """Moves the slow encoder towards the one in training: `slow <- decay * slow + (1 - decay) * encoder`."""
        fast = nn.ModuleList([self.trunk, self.posterior])
        for slow, weight in zip(self.slow.parameters(), fast.parameters(), strict=True):
            slow.lerp_(weight, 1 - decay)

    def decode(self, code: Tensor) -> PlaneLogits:
        """Plane logits of codes `[M, D]`."""
        return self.decoder(code)

    def loss(
        self, samples: Samples, generator: torch.Generator, futures: Futures | None = None, warmth: float = 1.0
    ) -> dict[str, Tensor]:
        """The loss `vae`, and its parts `vae_<objective>` and `vae_kl`, averaged over samples.

        Every active seat's view at every step is a sample; padding never is one.

        Args:
            samples: the n samples.
            generator: draws the codes.
            futures: what became of them; needed for the objectives `action` and `next_actions`.
            warmth: share of the KL's weight that is in force.
        """
        config = self.config
        mean, log_var = self.encode(samples.observation)
        code = draw_gaussian(mean, log_var, generator)
        parts: dict[str, Tensor] = {}
        if config.reconstruction:
            error = reconstruction if config.error == "planes" else squared_error
            parts["reconstruction"] = error(self.decode(code), samples.observation).mean()
        if self.actor is not None and futures is not None:
            parts |= self._action_losses(self.actor, samples, code, futures)
        kl = gaussian_kl(mean, log_var, torch.zeros_like(mean), torch.zeros_like(mean)).mean(0)  # [D]
        total = warmth * config.kl_weight * kl.clamp(min=config.free_bits).sum()
        total = total + sum(getattr(config, name) * value for name, value in parts.items())
        return {"vae": total, "vae_kl": kl.sum().detach()} | {f"vae_{k}": v.detach() for k, v in parts.items()}

    def _action_losses(self, actor: GoalNet, samples: Samples, code: Tensor, futures: Futures) -> dict[str, Tensor]:
        """Cross entropy of the actions on the way to the view that each code stands for."""
        condition = actor.condition(code[futures.goal], futures.goal)
        logits = actor(samples.observation, samples.time, condition).unflatten(-1, (-1, self.num_actions))
        logits = masked_logits(logits, futures.legal).transpose(1, 2)  # [n, A, S]
        error = F.cross_entropy(logits, futures.action, ignore_index=NO_ACTION, reduction="none")  # [n, S]
        played = (futures.action != NO_ACTION).sum(1)  # at least 1: a sample is a step that was played
        losses = {"action": error[:, 0].mean(), "next_actions": (error.sum(1) / played).mean()}
        return {name: loss for name, loss in losses.items() if getattr(self.config, name)}


def load_vae(vae: GoalVAE, path: str, hparams: Mapping[str, Any]) -> None:
    """Gives a state VAE the weights of another run's; an actor that it lacks stays untrained.

    Args:
        vae: to be changed.
        path: of the other run's checkpoint.
        hparams: of the agent whose `vae` it is.

    Raises:
        ConfigError: there is no such checkpoint, it has no VAE, or it is of another game or size.
    """
    checkpoint = read_checkpoint(path)
    check_match(checkpoint["hyper_parameters"], hparams, (*GAME_KEYS, *NETWORK_KEYS))
    weights = {key[4:]: value for key, value in checkpoint["state_dict"].items() if key.startswith("vae.")}
    own = vae.state_dict()
    if any(own[key].shape != value.shape for key, value in weights.items() if key in own):
        raise ConfigError(f"the VAE of {path} predicts other actions: set model.vae.next_steps as it was there")
    vae.load_state_dict({**own, **{key: value for key, value in weights.items() if key in own}})


def _encode(trunk: nn.Module, posterior: nn.Module, observation: Tensor) -> tuple[Tensor, Tensor]:
    mean, log_var = posterior(trunk(observation, observation.new_zeros(len(observation)))).chunk(2, dim=-1)
    return mean, log_var.clamp(-8, 4)


def draw_gaussian(mean: Tensor, log_var: Tensor, generator: torch.Generator) -> Tensor:
    """Draws from diagonal Gaussians by reparametrisation: same shape as `mean` `[..., D]`."""
    noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
    return mean + (0.5 * log_var).exp() * noise
