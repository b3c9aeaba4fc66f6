"""Embeddings of the learner's own history from which its co-players are reconstructed (LIAM, NeurIPS 2021; MeLIBA)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omg_lightning.encoders import ModelSpec
from omg_lightning.losses import draw_gaussian, gaussian_kl, masked_logits
from omg_lightning.opponents.recurrent import Pairs, Recurrent, pairs_of
from omg_lightning.samples import TrainingBatch


class LIAM(Recurrent):
    """Local information agent modelling (Papoudakis et al., NeurIPS 2021, arXiv 2006.09447).

    A recurrent encoder embeds the learner's own observations and actions. From the embedding a decoder reconstructs
    each co-player's observation and action at the same step (losses `liam_view` and `liam_action`). Co-players'
    observations and actions are therefore needed in training only. The policy observes the embedding; its gradient does
    not flow into the encoder.

    One embedding describes all co-players of a seat, and only this seat uses it (`as_seen`). The reconstruction loss is
    the likelihood of the observation space; the paper uses a squared error. With PPO, `Direct` is the paper's baseline
    without an opponent model, and `Oracle` an upper bound. A search has to predict co-players at future observations.
    For this it uses co-player policies (loss `coplayer`) on the co-player's observation and the detached embedding.

    Args:
        spec: description of the game, and the networks.
        embedding: size of the embedding.
        online: train the co-player policies in the online phase, too.

    Raises:
        ConfigError: the embedding has no entries.
    """

    loss_weights: ClassVar[Mapping[str, float]] = {"liam_view": 1.0, "liam_action": 1.0, "coplayer": 1.0}
    decoded: ClassVar[int] = 1  # decoder inputs per entry of the embedding

    def __init__(self, spec: ModelSpec, embedding: int = 16, online: bool = True) -> None:
        super().__init__(spec, embedding, online)
        hidden, game = spec.hidden, spec.game
        inputs = self.decoded * embedding + game.num_players - 1  # the code, and a one-hot of the co-player
        self.view_decoder = spec.make_decoder(inputs)
        self.action_decoder = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, game.num_actions))

    def code(self, embedded: Tensor, noise: torch.Generator) -> Tensor:
        """Return the decoder's input of embeddings `[m, D]`."""
        return embedded

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Return the current losses of the decoder and of the co-player policies."""
        pairs, found = pairs_of(batch.episodes), dict[str, Tensor]()
        embedded = batch.targets.cache[pairs.t, pairs.row, pairs.ego]
        if self.trains("liam_view") or self.trains("liam_action"):
            found |= self.decoder_losses(batch, pairs, self.code(embedded, batch.noise))
        found |= self.prediction_losses(batch, pairs, embedded.detach())
        return found

    def decoder_losses(self, batch: TrainingBatch, pairs: Pairs, code: Tensor) -> dict[str, Tensor]:
        """Return the mean reconstruction losses of co-players' observations and actions, from codes `[m, ...]`."""
        episodes, where, count = (
            batch.episodes,
            self._watched(pairs),
            max(len(code), 1),
        )  # the mean of no samples is NaN
        seats = episodes.active.shape[-1]
        which = F.one_hot((pairs.other - pairs.ego) % seats - 1, max(seats - 1, 1))[:, : seats - 1]
        inputs = torch.cat([code, which.float()], -1)
        views = batch.samples.observation[self._rows(pairs)]
        logits = masked_logits(self.action_decoder(inputs), episodes.legal[where])
        return {
            "liam_view": self.view_decoder.reconstruction(inputs, views).sum() / count,
            "liam_action": F.cross_entropy(logits, episodes.action[where], reduction="sum") / count,
        }


class MeLIBA(LIAM):
    """A variant of LIAM with a permanent and a temporal Gaussian latent (Zintgraf et al. 2021, arXiv 2101.03864).

    The encoder outputs a posterior over a permanent latent, for the kind of a co-player, and over a temporal latent,
    for its current behaviour. The policy observes mean and variance of both. LIAM's decoder reconstructs the step from
    a sample of both. A second decoder predicts the co-player's action at a random later step from the permanent latent
    and the co-player's observation (`meliba_later`). The loss `meliba_kl` is the KL divergence of each posterior from
    that of the step before, and of the first one from N(0, I). The model is simpler than the paper's: the temporal
    latent is not conditioned on the permanent one, it unrolls no future, and it also reconstructs the co-player's
    observation, as LIAM does.

    Args:
        spec: description of the game, and the networks.
        embedding: size of each latent.
        online: train the co-player policies in the online phase, too.
    """

    loss_weights: ClassVar[Mapping[str, float]] = {**LIAM.loss_weights, "meliba_later": 1.0, "meliba_kl": 0.01}
    given: ClassVar[int] = 4
    decoded: ClassVar[int] = 2

    def __init__(self, spec: ModelSpec, embedding: int = 8, online: bool = True) -> None:
        super().__init__(spec, embedding, online)
        self.later = spec.make_goal_net(embedding, spec.game.num_actions)

    def embed(self, hidden: Tensor) -> Tensor:
        """Return means of the permanent and of the temporal latent, then their variances, `[..., 4 * embedding]`."""
        mean, log_var = self.head(hidden).chunk(2, dim=-1)
        return torch.cat([mean, log_var.clamp(-8, 4).exp()], -1)

    def code(self, embedded: Tensor, noise: torch.Generator) -> Tensor:
        """Sample both latents, `[m, 2 * embedding]`."""
        mean, variance = embedded.chunk(2, dim=-1)
        return draw_gaussian(mean, variance.log(), noise)

    def decoder_losses(self, batch: TrainingBatch, pairs: Pairs, code: Tensor) -> dict[str, Tensor]:
        """Add the prediction of later actions, and the divergence of posteriors."""
        episodes, count = batch.episodes, max(len(code), 1)
        length = episodes.active.sum(0)[pairs.row, pairs.other]  # seats are active from the start until they leave
        drawn = torch.rand(len(code), generator=batch.noise, device=code.device)
        t = pairs.t + (drawn * (length - pairs.t)).long()
        rows, where = pairs.sample[t, pairs.row, pairs.other], (t, pairs.row, pairs.other)
        condition = self.later.condition(code.chunk(2, dim=-1)[0], pairs.other)
        logits = masked_logits(self.later(batch.view[rows], batch.samples.time[rows], condition), episodes.legal[where])
        embedded = batch.targets.cache
        half = torch.zeros_like(embedded[:1].chunk(2, dim=-1)[0])
        before = torch.cat([torch.cat([half, half + 1], -1), embedded[:-1]])  # N(0, I) before the first step
        (mean, variance), (mean_before, variance_before) = (
            each[pairs.t, pairs.row, pairs.ego].chunk(2, dim=-1) for each in (embedded, before)
        )
        return {
            **super().decoder_losses(batch, pairs, code),
            "meliba_later": F.cross_entropy(logits, episodes.action[where], reduction="sum") / count,
            "meliba_kl": gaussian_kl(mean, variance.log(), mean_before, variance_before.log()).sum() / count,
        }
