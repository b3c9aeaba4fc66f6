"""Embeddings of the ego's own history that tell what its co-players see and do (LIAM, NeurIPS 2021; MeLIBA)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omg_lightning.encoders import ModelSpec
from omg_lightning.losses import draw_gaussian, gaussian_kl, masked_logits
from omg_lightning.opponents.base import OpponentModel, Targets
from omg_lightning.samples import TrainingBatch
from omg_lightning.types import ConfigError, Episodes, Estimate, View


class Context(NamedTuple):
    """What each seat remembers of an episode; leading L."""

    hidden: Tensor  # float [L, P, hidden] of its history before this step
    last: Tensor  # float [L, P, A] its own last action as a one-hot; 0 before the first step


class Pairs(NamedTuple):
    """Every watcher and every other seat that are both active at a step: m of them."""

    t: Tensor  # int64 [m]
    row: Tensor  # int64 [m] the environment
    ego: Tensor  # int64 [m] who watches
    other: Tensor  # int64 [m] who is watched
    sample: Tensor  # int64 [T, B, P] the index of each active step among the batch's samples


class LIAM(OpponentModel):
    """Local information agent modelling (Papoudakis et al., NeurIPS 2021, arXiv 2006.09447).

    A recurrent encoder reads the ego's own views and own actions into an embedding. A decoder reconstructs from the
    embedding what each co-player sees and does at the same step: the losses `liam_view` and `liam_action`. So others'
    views and actions are needed in training alone. The policy sees the embedding, and the policy's gradient does not
    flow into the encoder.

    An embedding is about all co-players of a seat, and only that seat knows it (`as_seen`). Views are reconstructed
    with the likelihood of their space, where the paper has a squared error for all. Beside PPO, `Direct` is the paper's
    baseline without an opponent model, and `Oracle` an upper bound: it knows what scripts are after. A search has to
    predict co-players at views that are still to come: it asks the co-player policies (the loss `coplayer`), which are
    given the co-player's view and the embedding, detached.

    Args:
        spec: the game and the networks.
        embedding: size of the embedding.
        online: go on training the co-player policies in the online phase.

    Raises:
        ConfigError: the embedding has no entries.
    """

    loss_weights: ClassVar[Mapping[str, float]] = {"liam_view": 1.0, "liam_action": 1.0, "coplayer": 1.0}
    given: ClassVar[int] = 1  # numbers that the policy sees, for each entry of the embedding
    decoded: ClassVar[int] = 1  # numbers that the decoder sees

    def __init__(self, spec: ModelSpec, embedding: int = 16, online: bool = True) -> None:
        if embedding < 1:
            raise ConfigError(f"model.opponent.embedding is {embedding}: it must be at least 1")
        super().__init__(spec, self.given * embedding, online)
        hidden, game = spec.hidden, spec.game
        self.encoder = spec.make_encoder()
        self.history = nn.GRU(hidden + game.num_actions, hidden)
        self.head = nn.Linear(hidden, self.size)
        inputs = self.decoded * embedding + game.num_players - 1  # the code, and which co-player is asked about
        self.view_decoder = spec.make_decoder(inputs)
        self.action_decoder = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, game.num_actions))

    def embed(self, hidden: Tensor) -> Tensor:
        """Return what the policy sees, `[..., D]`, of the encoder's states `[..., hidden]`."""
        return self.head(hidden)

    def code(self, embedded: Tensor, noise: torch.Generator) -> Tensor:
        """Return what the decoder sees of embeddings `[m, D]`."""
        return embedded

    # Acting ---------------------------------------------------------------------------------------------------------

    def start(self, prior: Tensor, true_goal: Tensor) -> Context:
        """Start without a history."""
        lead = prior.shape[:2]
        return Context(prior.new_zeros(*lead, self.spec.hidden), prior.new_zeros(*lead, self.spec.game.num_actions))

    def infer(self, memory: Context, view: View) -> Estimate:
        """Return each seat's embedding of its own history, this view included."""
        embedded = self.embed(self._advance(memory, view))
        return Estimate(embedded, lambda trees, generator: embedded[:, None].expand(-1, trees, -1, -1))

    def update(self, memory: Context, view: View, actions: Tensor, achieved: Tensor) -> Context:
        """Let each seat remember the view and its own action; `actions` are int64 `[L, P]`."""
        return Context(self._advance(memory, view), self._one_hot(actions, view.active))

    def as_seen(self, goal: Tensor, ego: Tensor) -> Tensor:
        """Return the ego's own embedding for all seats: float `[M, P, D]`."""
        return goal[torch.arange(len(ego), device=ego.device), ego][:, None].expand_as(goal)

    def _advance(self, memory: Context, view: View) -> Tensor:
        """Return the encoder's states after this view, `[L, P, hidden]`."""
        time = view.time.repeat_interleave(view.active.shape[1])
        features = self.encoder(view.observation.flatten(0, 1), time).view_as(memory.hidden)
        features = torch.where(view.active[..., None], features, 0.0)
        inputs = torch.cat([features, memory.last], -1).flatten(0, 1)
        return self.history(inputs[None], memory.hidden.flatten(0, 1)[None])[0][0].view_as(memory.hidden)

    def _one_hot(self, actions: Tensor, active: Tensor) -> Tensor:
        """Return actions `[..., P]` as one-hots; 0 for seats that have left."""
        return F.one_hot(actions * active, self.spec.game.num_actions).float() * active[..., None]

    # Learning -------------------------------------------------------------------------------------------------------

    def targets(self, batch: TrainingBatch) -> Targets:
        """Return each seat's embedding at each step; `cache` holds the same with a gradient."""
        episodes, samples = batch.episodes, batch.samples
        features = samples.spread(self.encoder(batch.view, samples.time))  # [T, B, P, hidden]
        played = self._one_hot(episodes.action, episodes.active)
        last = torch.cat([torch.zeros_like(played[:1]), played[:-1]])
        hidden = self.history(torch.cat([features, last], -1).flatten(1, 2))[0]
        embedded = self.embed(hidden.view_as(features))
        inferred = embedded.detach()
        return Targets(inferred, inferred, episodes.active, cache=embedded)

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Return the losses of the decoder and of the co-player policies, as far as they are due."""
        pairs, found = pairs_of(batch.episodes), dict[str, Tensor]()
        embedded = batch.targets.cache[pairs.t, pairs.row, pairs.ego]
        if self.trains("liam_view") or self.trains("liam_action"):
            found |= self.decoder_losses(batch, pairs, self.code(embedded, batch.noise))
        if self.trains("coplayer") and (batch.offline or self.online):
            where, rows = self._watched(pairs), self._rows(pairs)
            view, time = batch.view[rows], batch.samples.time[rows]
            legal, action = batch.episodes.legal[where], batch.episodes.action[where]
            found |= self.predictor.loss(view, time, embedded.detach(), pairs.other, legal, action)
        return found

    def decoder_losses(self, batch: TrainingBatch, pairs: Pairs, code: Tensor) -> dict[str, Tensor]:
        """Return how badly views and actions of co-players are reconstructed from codes `[m, ...]`, on average."""
        episodes, where, count = batch.episodes, self._watched(pairs), max(len(code), 1)  # an empty mean is NaN
        seats = episodes.active.shape[-1]
        which = F.one_hot((pairs.other - pairs.ego) % seats - 1, max(seats - 1, 1))[:, : seats - 1]
        inputs = torch.cat([code, which.float()], -1)
        views = batch.samples.observation[self._rows(pairs)]
        logits = masked_logits(self.action_decoder(inputs), episodes.legal[where])
        return {
            "liam_view": self.view_decoder.reconstruction(inputs, views).sum() / count,
            "liam_action": F.cross_entropy(logits, episodes.action[where], reduction="sum") / count,
        }

    @staticmethod
    def _watched(pairs: Pairs) -> tuple[Tensor, Tensor, Tensor]:
        return pairs.t, pairs.row, pairs.other

    @staticmethod
    def _rows(pairs: Pairs) -> Tensor:
        """Return the index of each co-player's step among the batch's samples."""
        return pairs.sample[pairs.t, pairs.row, pairs.other]


class MeLIBA(LIAM):
    """A variant of LIAM with two Gaussian latents, one of which stays (Zintgraf et al. 2021, arXiv 2101.03864).

    The encoder gives a posterior over a permanent latent, for the kind of co-player, and over a temporal one, for what
    it is up to. The policy sees mean and variance of both. The decoder of LIAM reconstructs the step from a draw of
    both. From the permanent latent and a co-player's view alone, its action at a step to come is predicted, one drawn
    for each step (`meliba_later`). Each posterior is held to the one of the step before, the first to N(0, I)
    (`meliba_kl`). It is simpler than the paper's model: the temporal latent is not conditioned on the permanent one, no
    future is unrolled from it, and what a co-player sees at the step is reconstructed as well, as in LIAM.

    Args:
        spec: the game and the networks.
        embedding: size of each latent.
        online: go on training the co-player policies in the online phase.
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
        """Draw both latents, `[m, 2 * embedding]`."""
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


def pairs_of(episodes: Episodes) -> Pairs:
    """Return who watches whom: learners all their co-players; in an environment without a learner all seats do."""
    active, learners = episodes.active, episodes.learner.any(0)
    watches = active & (learners | ~learners.any(-1, keepdim=True))
    different = ~torch.eye(active.shape[-1], dtype=torch.bool, device=active.device)
    both = watches[..., None] & active[:, :, None] & different  # [T, B, P, P]
    sample = (active.flatten().cumsum(0) - 1).view(active.shape)
    t, row, ego, other = both.nonzero(as_tuple=True)
    return Pairs(t, row, ego, other, sample)
