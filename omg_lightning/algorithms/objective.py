"""What an agent is trained on: every loss on a batch of whole episodes."""

from collections.abc import Callable
from dataclasses import asdict

import torch
from torch import Tensor

from omg_lightning.opponents.goal_vae import GoalVAE
from omg_lightning.opponents.targets import Hindsight, watched
from omg_lightning.training.parts import Parts
from omg_lightning.samples import Samples, flatten, futures
from omg_lightning.training.settings import LossWeights, SelectorConfig
from omg_lightning.types import Batch, ConfigError, Episodes, ego_order

Label = Callable[[Batch, Samples, torch.Generator], tuple[Hindsight, dict[str, Tensor]]]


class Objective:
    """The losses of an agent.

    Args:
        parts: the networks.
        label: gives the goals of all seats in a batch, and the losses of what infers them; see `Labels`.
        weights: a loss of weight 0 is not computed.
        selector: says how often to train on a selected goal.
        max_steps: scales the time.
        vae_online: train the VAE in the online phase, too.
        coplayer_online: train the co-player model in the online phase, too.
        offline_value: train the value in the offline phase, too.
    """

    def __init__(
        self,
        parts: Parts,
        label: Label,
        weights: LossWeights,
        selector: SelectorConfig,
        max_steps: int,
        vae_online: bool,
        coplayer_online: bool,
        offline_value: bool,
    ) -> None:
        self.parts, self.label, self.weights, self.selector = parts, label, weights, selector
        self.max_steps, self.vae_online, self.coplayer_online = max_steps, vae_online, coplayer_online
        self.offline_value = offline_value

    def losses(self, batch: Batch, step: int, noise: torch.Generator) -> dict[str, Tensor]:
        """Every loss that has a positive weight, and parts of them for the log, by name.

        Args:
            batch: whole episodes.
            step: batches trained on before; the KL of the VAE warms up with it.
            noise: all randomness.
        """
        episodes, samples = batch.episodes, flatten(batch.episodes, self.max_steps)
        weights, vae = self.weights, self.parts.vae
        losses: dict[str, Tensor] = {}
        if vae is not None and weights.vae and (batch.offline or self.vae_online):
            losses |= vae_loss(vae, episodes, samples, step, noise)
        if not any(weight for name, weight in asdict(weights).items() if name != "vae"):
            return losses
        samples = samples._replace(view=self.parts.policy.places(samples.observation))
        hindsight, parts = self.label(batch, samples, noise)
        losses |= parts
        # The goals of those who have left are 0, here as in the search.
        inferred = torch.where(episodes.active[..., None], hindsight.inferred, 0.0)
        share = self.selector.share(batch.env_steps)
        chosen = torch.rand(hindsight.known.shape, generator=noise, device=noise.device) < share
        known = hindsight.known & episodes.active
        mixed = torch.where((chosen & known)[..., None], hindsight.label, inferred)
        if weights.coplayer and (batch.offline or self.coplayer_online):
            # Explicit beliefs need the likelihood of an action under each pure goal; latent goals are met as inferred.
            losses |= self.coplayer_loss(episodes, samples, hindsight.label if vae is None else mixed, known)
        if batch.offline and self.offline_value and weights.value:
            losses |= self.offline_value_loss(episodes, samples, mixed)
        if not batch.offline and (weights.policy or weights.value):
            losses |= self.policy_loss(episodes, samples, mixed)
        return losses

    def coplayer_loss(self, episodes: Episodes, samples: Samples, goal: Tensor, known: Tensor) -> dict[str, Tensor]:
        """Trains the action head on those whom a learner has to predict, given goals `[T, B, P, D]` that are known."""
        who = watched(episodes) & known
        rows, seat = who[samples.mask], who.nonzero()[:, 2]
        view, time = samples.view[rows], samples.time[rows]
        return self.parts.predictor.coplayer_loss(
            view, time, goal[who], seat, episodes.legal[who], episodes.action[who]
        )

    def offline_value_loss(self, episodes: Episodes, samples: Samples, goal: Tensor) -> dict[str, Tensor]:
        """Trains the value alone, on what the scripts earned: there is no root policy to learn from yet."""
        t, b, ego = episodes.active.nonzero(as_tuple=True)
        others = ego_order(goal[t, b], ego)[:, 1:]
        return self.parts.policy.value_loss(samples.view, samples.time, others, ego, episodes.value[t, b, ego])

    def policy_loss(self, episodes: Episodes, samples: Samples, goal: Tensor) -> dict[str, Tensor]:
        """Trains the policy on every planned step."""
        t, b, ego = where = episodes.planned.nonzero(as_tuple=True)
        others = ego_order(goal[t, b], ego)[:, 1:]
        rows = episodes.planned[samples.mask]
        return self.parts.policy.loss(
            samples.view[rows],
            samples.time[rows],
            others,
            ego,
            episodes.legal[where],
            episodes.policy[where],
            episodes.value[where],
        )


def vae_loss(
    vae: GoalVAE, episodes: Episodes, samples: Samples, step: int, noise: torch.Generator
) -> dict[str, Tensor]:
    """The losses of the state VAE, with the share of the KL that is due at `step`."""
    config, later = vae.config, None
    if config.acts:
        later = futures(episodes, samples, config.horizon, config.next_steps, noise)
    warmth = min(1.0, step / config.kl_warmup) if config.kl_warmup else 1.0
    return vae.loss(samples, noise, later, warmth)


def weigh(losses: dict[str, Tensor], weights: LossWeights) -> Tensor | None:
    """The weighted sum of `losses`, or None where nothing is to be trained.

    Raises:
        ConfigError: it is not finite.
    """
    due = [weight * losses[name] for name, weight in asdict(weights).items() if name in losses]
    if not due:
        return None
    loss = torch.stack(due).sum()
    if not torch.isfinite(loss):
        values = ", ".join(f"{name} {float(value):.3g}" for name, value in losses.items())
        raise ConfigError(f"a loss is not finite ({values}): lower model.learning_rate")
    return loss
