"""Latent subgoals, inferred by a recurrent network (OMG, HOP+)."""

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from omg_lightning.encoders import ModelSpec
from omg_lightning.events import watched
from omg_lightning.losses import draw_gaussian
from omg_lightning.opponents.base import MixtureConfig, OpponentModel, Targets
from omg_lightning.opponents.futures import futures
from omg_lightning.opponents.goal_vae import GoalVAE, VAEConfig
from omg_lightning.opponents.selector import SelectorConfig, select_subgoals, shift
from omg_lightning.opponents.subgoal_predictor import SubgoalPredictor
from omg_lightning.samples import TrainingBatch
from omg_lightning.types import ConfigError, Estimate, View


class Subgoal(OpponentModel):
    """Subgoals: codes of future states, one for each co-player (OMG, NeurIPS 2024). Memory is `[L, P, hidden]`.

    A state VAE encodes observations. In hindsight a selector picks the future state that is the subgoal of a step. A
    recurrent network learns to infer its code online. There are no explicit probabilities of goals.

    Args:
        spec: description of the game, and the networks.
        goal_dim: D, size of a subgoal's code.
        selector: how the subgoal is selected in hindsight.
        vae: settings of the state VAE.
        vae_online: train the VAE in the online phase, too; False freezes it after the offline phase.
        vae_checkpoint: a checkpoint whose state VAE initialises a `fit`; it needs the same game and sizes.
        online: train the co-player policies in the online phase, too.
        mixture: how often the policy trains on subgoals in hindsight.
    """

    loss_weights: ClassVar[Mapping[str, float]] = {"vae": 1.0, "subgoal": 1.0, "coplayer": 1.0}

    def __init__(
        self,
        spec: ModelSpec,
        goal_dim: int = 16,
        selector: SelectorConfig = SelectorConfig(),
        vae: VAEConfig = VAEConfig(),
        vae_online: bool = True,
        vae_checkpoint: str | None = None,
        online: bool = True,
        mixture: MixtureConfig = MixtureConfig(),
    ) -> None:
        if goal_dim < 1:
            raise ConfigError(f"model.opponent.goal_dim is {goal_dim}: it must be at least 1")
        made = GoalVAE(spec, goal_dim, vae)
        super().__init__(spec, goal_dim, online, mixture)
        self.vae, self.selector = made, selector
        self.vae_online, self.vae_checkpoint = vae_online, vae_checkpoint
        self.inference = SubgoalPredictor(spec, goal_dim, selector.alpha)

    def start(self, prior: Tensor, true_goal: Tensor) -> Tensor:
        """Return an empty context, `[B, P, hidden]`."""
        return self.inference.start(len(prior), self.spec.game.num_players, prior.device)

    def infer(self, memory: Tensor, view: View) -> Estimate:
        """Return the mean of the posterior and samples from it, given contexts `[L, P, hidden]`."""
        code, _ = self.vae.codes(view.observation.flatten(0, 1))
        mean, log_var = self.inference.infer(memory, view, code.unflatten(0, view.active.shape))

        def draw(trees: int, generator: torch.Generator) -> Tensor:
            shape = (mean.shape[0], trees, *mean.shape[1:])
            noise = torch.randn(shape, generator=generator, device=mean.device)
            return mean[:, None] + (0.5 * log_var[:, None]).exp() * noise

        return Estimate(mean, draw)

    def uninformed(self, memory: Tensor, view: View) -> Estimate:
        """Return samples from N(0, I), the prior of codes, with mean 0."""
        point = torch.zeros(*view.active.shape, self.size, device=view.active.device)

        def draw(trees: int, generator: torch.Generator) -> Tensor:
            shape = (len(point), trees, *point.shape[1:])
            return torch.randn(shape, generator=generator, device=point.device)

        return Estimate(point, draw)

    def update(self, memory: Tensor, view: View, actions: Tensor, achieved: Tensor) -> Tensor:
        """Update the context by the observations and all actions, `[L, P]`."""
        return self.inference.advance(memory, view, actions)

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Return the current losses of the state VAE, the inference network and the co-player policies."""
        found: dict[str, Tensor] = {}
        if self.trains("vae") and (batch.offline or self.vae_online):
            found |= self._vae_losses(batch)
        if self.trains("subgoal"):
            inference, asked, label = batch.targets.cache
            found |= self.inference.subgoal_loss(inference, batch.samples.observation[asked], label, batch.noise)
        if self.trains("coplayer"):
            # Latent goals are inferred while acting, so co-player policies train on the same mixture as the policy.
            found |= self.coplayer_losses(batch, batch.goals, batch.targets.known & batch.episodes.active)
        return found

    def targets(self, batch: TrainingBatch) -> Targets:
        """Return the codes of the subgoals selected in hindsight; `cache` stores the inputs of `losses`."""
        episodes, samples = batch.episodes, batch.samples
        with torch.no_grad():  # the codes are targets, and inputs of the inference
            mean, log_var = self.vae.codes(samples.observation)
        who = watched(episodes)  # the only learner is never inferred
        asked = who[samples.mask]
        inference = self.inference.infer_episodes(batch, mean, who)
        with torch.no_grad():  # no gradient flows from the selector to the value head
            codes = samples.spread(mean)
            inferred = torch.zeros_like(codes)
            inferred[who] = draw_gaussian(inference.mean, inference.log_var, batch.noise)
            ahead = select_subgoals(batch, codes, inferred, self.selector, batch.noise)
            label = shift(codes, ahead)
            selected = label[who], shift(samples.spread(log_var), ahead)[who]
        share = self.mixture.share(batch.env_steps)
        return Targets(inferred, label, episodes.active, share, (inference, asked, selected))

    def codes(self, observation: Tensor) -> Tensor:
        """Return codes of observations `[M, *shape]` by the EMA encoder, float `[M, D]`."""
        return self.vae.codes(observation.float())[0]

    def after_step(self, offline: bool) -> None:
        """Update the EMA encoder: a copy of the encoder offline, a slow average online to keep targets stable."""
        self.vae.track(0.0 if offline else self.vae.config.slowness)

    def before_fit(self, read: Callable[[str], Mapping[str, Tensor]]) -> None:
        """Load the state VAE from `vae_checkpoint`, if given; an action decoder that it lacks stays untrained.

        Raises:
            ConfigError: the checkpoint is missing, has no VAE, or belongs to another game or size.
        """
        if not self.vae_checkpoint:
            return
        prefix, own = "opponent.vae.", self.vae.state_dict()
        found = {
            name.removeprefix(prefix): x for name, x in read(self.vae_checkpoint).items() if name.startswith(prefix)
        }
        if not found:
            raise ConfigError(f"{self.vae_checkpoint} has no state VAE: give a run of the opponent model Subgoal")
        for name, value in found.items():
            if name in own and own[name].shape != value.shape:
                sizes = {"posterior": "model.opponent.goal_dim", "actor": "model.opponent.vae.next_steps"}
                raise ConfigError(
                    f"the VAE of {self.vae_checkpoint} has a {name} of size {list(value.shape)}, but this run's has "
                    f"{list(own[name].shape)}: set {sizes.get(name.partition('.')[0], 'model.encoder')} as there"
                )
        self.vae.load_state_dict({**own, **{name: value for name, value in found.items() if name in own}})

    def _vae_losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Return the losses of the state VAE, with the annealed KL weight of this step."""
        config, later = self.vae.config, None
        if config.acts:
            later = futures(batch.episodes, batch.samples, config.horizon, config.next_steps, batch.noise)
        warmth = min(1.0, batch.step / config.kl_warmup) if config.kl_warmup else 1.0
        return self.vae.loss(batch.samples, batch.noise, later, warmth)
