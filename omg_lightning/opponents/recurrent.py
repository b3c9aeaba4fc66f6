"""A recurrent memory that predicts co-players without goals: the baseline for every belief."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omg_lightning.encoders import ModelSpec
from omg_lightning.opponents.base import OpponentModel, Targets
from omg_lightning.samples import TrainingBatch
from omg_lightning.types import ConfigError, Episodes, Estimate, View


class Context(NamedTuple):
    """The memory of each seat within an episode; leading L."""

    hidden: Tensor  # float [L, P, hidden] of its history before this step
    last: Tensor  # float [L, P, A] its own last action as a one-hot; 0 before the first step


class Pairs(NamedTuple):
    """All pairs of an observer and another seat that are both active at a step: m pairs."""

    t: Tensor  # int64 [m]
    row: Tensor  # int64 [m] the environment
    ego: Tensor  # int64 [m] the observer
    other: Tensor  # int64 [m] the observed seat
    sample: Tensor  # int64 [T, B, P] the index of each active step among the batch's samples


class Recurrent(OpponentModel):
    """Predicts co-players from their observations and from a recurrent embedding of the ego's own views and actions.

    There are no goals, labels or beliefs: it is `Direct` with a memory of the episode. It is the baseline that shows
    whether a belief over goals is better than a memory of the last steps. The memory is trained by the
    prediction of the co-players' actions alone (the loss `coplayer`). The policy observes the detached embedding; a
    search keeps the embedding of the root, because the ego's observations deeper in a tree are unknown.

    An embedding describes all co-players of a seat, and only that seat uses it (`as_seen`).

    Args:
        spec: the game and the networks.
        embedding: size of the embedding.
        online: train the co-player policies, and with them the memory, in the online phase, too.

    Raises:
        ConfigError: the embedding has no entries.
    """

    given: ClassVar[int] = 1  # policy inputs per entry of the embedding
    loss_weights: ClassVar[Mapping[str, float]] = {"coplayer": 1.0}

    def __init__(self, spec: ModelSpec, embedding: int = 16, online: bool = True) -> None:
        if embedding < 1:
            raise ConfigError(f"model.opponent.embedding is {embedding}: it must be at least 1")
        super().__init__(spec, self.given * embedding, online)
        self.encoder = spec.make_encoder()
        self.history = nn.GRU(spec.hidden + spec.game.num_actions, spec.hidden)
        self.head = nn.Linear(spec.hidden, self.size)

    def embed(self, hidden: Tensor) -> Tensor:
        """Return the policy's input, `[..., D]`, from the encoder's states `[..., hidden]`."""
        return self.head(hidden)

    # Acting ---------------------------------------------------------------------------------------------------------

    def start(self, prior: Tensor, true_goal: Tensor) -> Context:
        """Return an empty history."""
        lead = prior.shape[:2]
        return Context(prior.new_zeros(*lead, self.spec.hidden), prior.new_zeros(*lead, self.spec.game.num_actions))

    def infer(self, memory: Context, view: View) -> Estimate:
        """Return each seat's embedding of its own history, including this view."""
        embedded = self.embed(self._advance(memory, view))
        return Estimate(embedded, lambda trees, generator: embedded[:, None].expand(-1, trees, -1, -1))

    def update(self, memory: Context, view: View, actions: Tensor, achieved: Tensor) -> Context:
        """Add the view and each seat's own action to its memory; `actions` are int64 `[L, P]`."""
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
        """Return actions `[..., P]` as one-hot vectors; 0 for seats that have left."""
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
        """Return the loss of the co-player policies, if it is due; its gradient also trains the memory."""
        pairs = pairs_of(batch.episodes)
        return self.prediction_losses(batch, pairs, batch.targets.cache[pairs.t, pairs.row, pairs.ego])

    def prediction_losses(self, batch: TrainingBatch, pairs: Pairs, embedded: Tensor) -> dict[str, Tensor]:
        """Return the prediction loss of the co-players' actions given the observers' embeddings `[m, D]`, if due."""
        if not self.trains("coplayer") or not (batch.offline or self.online):
            return {}
        where, rows = self._watched(pairs), self._rows(pairs)
        view, time = batch.view[rows], batch.samples.time[rows]
        legal, action = batch.episodes.legal[where], batch.episodes.action[where]
        return self.predictor.loss(view, time, embedded, pairs.other, legal, action)

    @staticmethod
    def _watched(pairs: Pairs) -> tuple[Tensor, Tensor, Tensor]:
        return pairs.t, pairs.row, pairs.other

    @staticmethod
    def _rows(pairs: Pairs) -> Tensor:
        """Return the index of each co-player's step among the batch's samples."""
        return pairs.sample[pairs.t, pairs.row, pairs.other]


def pairs_of(episodes: Episodes) -> Pairs:
    """Return all pairs of observer and co-player; observers are the learners, or all seats if there is no learner."""
    active, learners = episodes.active, episodes.learner.any(0)
    watches = active & (learners | ~learners.any(-1, keepdim=True))
    different = ~torch.eye(active.shape[-1], dtype=torch.bool, device=active.device)
    both = watches[..., None] & active[:, :, None] & different  # [T, B, P, P]
    sample = (active.flatten().cumsum(0) - 1).view(active.shape)
    t, row, ego, other = both.nonzero(as_tuple=True)
    return Pairs(t, row, ego, other, sample)
