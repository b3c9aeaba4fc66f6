"""The state VAE: a goal's code is the code of a state in the co-player's observation."""

import math
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from lightning import LightningModule
from torch import Tensor, nn

from omg_lightning.encoders import GoalNet, ModelSpec, SeatNets
from omg_lightning.losses import draw_gaussian, gaussian_kl, masked_logits
from omg_lightning.opponents.futures import NO_ACTION, Futures
from omg_lightning.samples import Samples
from omg_lightning.types import ConfigError


@dataclass(frozen=True)
class VAEConfig:
    """Losses of the state VAE with their weights, and training settings.

    Args:
        reconstruction: weight of the reconstruction of the observation.
        action: weight of the seat's action, predicted from its observation and the code of an observation that it
            reaches within `horizon` steps.
        next_actions: weight of the seat's next `next_steps` actions, predicted from the same.
        error: loss of the reconstruction: `likelihood` of the observation space (grid, bits or reals), or `mse`, the
            published squared error.
        next_steps: number of actions that `next_actions` predicts.
        horizon: largest number of steps to the observation whose code conditions the actions.
        kl_weight: weight of KL(q || prior), 0.001 as published.
        kl_warmup: training batches over which this weight rises from 0.
        free_bits: nats per dimension below which the KL has no gradient.
        slowness: decay of the EMA encoder that labels subgoals while the VAE trains online; 0 for the encoder itself.
    """

    reconstruction: float = 1.0
    action: float = 0.0
    next_actions: float = 0.0
    error: Literal["likelihood", "mse"] = "likelihood"
    next_steps: int = 5
    horizon: int = 5
    kl_weight: float = 0.001
    kl_warmup: int = 0
    free_bits: float = 0.0
    slowness: float = 0.99

    def __post_init__(self) -> None:
        if not 0 <= self.slowness < 1:
            raise ConfigError(f"vae.slowness is {self.slowness}: it must be at least 0 and less than 1")
        weights = (self.reconstruction, self.action, self.next_actions)
        if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
            raise ConfigError(
                f"vae.reconstruction, action and next_actions are {weights}: weights must be at least 0 and finite, "
                "and one of them positive"
            )
        if not all(0 <= value < math.inf for value in (self.kl_weight, self.free_bits, self.kl_warmup)):
            raise ConfigError(
                f"vae.kl_weight is {self.kl_weight}, kl_warmup {self.kl_warmup} and free_bits {self.free_bits}: all "
                "must be at least 0 and finite"
            )
        if min(self.next_steps, self.horizon) < 1:
            raise ConfigError(
                f"vae.next_steps is {self.next_steps} and horizon {self.horizon}: both must be at least 1"
            )

    @property
    def acts(self) -> bool:
        """Whether actions are predicted from codes."""
        return self.action > 0 or self.next_actions > 0


class GoalVAE(LightningModule):
    """Encoder q(z | s) and decoder p(s | z) with prior N(0, I) (OMG, NeurIPS 2024; beta-VAE loss).

    A weighted sum of losses decides what a code keeps: the observation itself (`reconstruction`), or the seat's actions
    on the way to it. For the latter a code acts as a goal: z is the code of an observation that the seat reaches. From
    z and an earlier observation s_t an action decoder predicts a_t (`action`), or a_t and the following actions
    (`next_actions`).

    Args:
        spec: description of the game, and the networks.
        goal_dim: D, size of the code.
        config: losses and their weights.
    """

    def __init__(self, spec: ModelSpec, goal_dim: int = 16, config: VAEConfig = VAEConfig()) -> None:
        super().__init__()
        self.config, self.num_actions = config, spec.game.num_actions
        self.encoder = spec.make_state_encoder()
        self.posterior = nn.Linear(spec.hidden, 2 * goal_dim)
        self.decoder = spec.make_decoder(goal_dim)
        outputs = config.next_steps * self.num_actions
        self.actor = spec.make_goal_net(goal_dim, outputs, shared=True) if config.acts else None
        self.slow = nn.ModuleList([deepcopy(self.encoder), deepcopy(self.posterior)]).requires_grad_(False)

    def encode(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance `[M, D]` of codes of observations `[M, *shape]`. Codes ignore the time."""
        return _encode(self.encoder, self.posterior, observation)

    def codes(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance by the EMA encoder: stable targets."""
        return _encode(self.slow[0], self.slow[1], observation)

    @torch.no_grad()
    def track(self, decay: float) -> None:
        """Update the EMA encoder: `slow <- decay * slow + (1 - decay) * encoder`."""
        fast = nn.ModuleList([self.encoder, self.posterior])
        for slow, weight in zip(self.slow.parameters(), fast.parameters(), strict=True):
            slow.lerp_(weight, 1 - decay)

    def loss(
        self, samples: Samples, generator: torch.Generator, futures: Futures | None = None, warmth: float = 1.0
    ) -> dict[str, Tensor]:
        """Return the loss `vae`, and its parts `vae_<objective>` and `vae_kl`, averaged over samples.

        Samples are the observations of active seats, without padding.

        Args:
            samples: the n samples.
            generator: samples the codes.
            futures: their futures; needed for the losses `action` and `next_actions`.
            warmth: factor of the KL weight, 0 to 1.
        """
        config = self.config
        mean, log_var = self.encode(samples.observation)
        code = draw_gaussian(mean, log_var, generator)
        parts: dict[str, Tensor] = {}
        if config.reconstruction:
            error = self.decoder.reconstruction if config.error == "likelihood" else self.decoder.squared_error
            parts["reconstruction"] = error(code, samples.observation).mean()
        if self.actor is not None and futures is not None:
            parts |= self._action_losses(self.actor, samples, code, futures)
        kl = gaussian_kl(mean, log_var, torch.zeros_like(mean), torch.zeros_like(mean)).mean(0)  # [D]
        total = warmth * config.kl_weight * kl.clamp(min=config.free_bits).sum()
        total = total + sum(getattr(config, name) * value for name, value in parts.items())
        return {"vae": total, "vae_kl": kl.sum().detach()} | {f"vae_{k}": v.detach() for k, v in parts.items()}

    def _action_losses(
        self, actor: GoalNet | SeatNets, samples: Samples, code: Tensor, futures: Futures
    ) -> dict[str, Tensor]:
        """Return the cross entropy of the actions on the way to the observation of each code."""
        condition = actor.condition(code[futures.goal], futures.goal)
        logits = actor(samples.observation, samples.time, condition).unflatten(-1, (-1, self.num_actions))
        logits = masked_logits(logits, futures.legal).transpose(1, 2)  # [n, A, S]
        error = F.cross_entropy(logits, futures.action, ignore_index=NO_ACTION, reduction="none")  # [n, S]
        played = (futures.action != NO_ACTION).sum(1)  # at least 1: a sample is a played step
        losses = {"action": error[:, 0].mean(), "next_actions": (error.sum(1) / played).mean()}
        return {name: loss for name, loss in losses.items() if getattr(self.config, name)}


def _encode(encoder: nn.Module, posterior: nn.Module, observation: Tensor) -> tuple[Tensor, Tensor]:
    mean, log_var = posterior(encoder(observation, observation.new_zeros(len(observation)))).chunk(2, dim=-1)
    return mean, log_var.clamp(-8, 4)
