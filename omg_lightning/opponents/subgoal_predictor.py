"""Infers a co-player's subgoal online."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from lightning import LightningModule
from torch import Tensor, nn

from omg_lightning.encoders import ModelSpec
from omg_lightning.losses import draw_gaussian, gaussian_kl
from omg_lightning.samples import TrainingBatch
from omg_lightning.types import View, ego_order


class Inference(NamedTuple):
    """The posterior q(g | tau_t, s_t) of m samples, and its context."""

    mean: Tensor  # float [m, D]
    log_var: Tensor  # float [m, D]
    context: Tensor  # float [m, hidden]


class SubgoalPredictor(LightningModule):
    """Infers a Gaussian over each co-player's subgoal from the state and the history.

    The inputs are a recurrent context over (previous observation, all previous actions), the current observations of
    all seats, encoded by one network, and the code of the current state, to which the output is added. The observations
    of all seats matter because a future state depends on all players. A decoder reconstructs the current observation
    from subgoal and context (OMG, NeurIPS 2024, CVAE). `ActionPredictor` predicts the next action.

    Args:
        spec: description of the game, and the networks.
        goal_size: D, length of the goal vector.
        alpha: weight of KL(q(g | tau, s) || q_vae(g_bar | s_g)), 0.001 as published.
    """

    def __init__(self, spec: ModelSpec, goal_size: int, alpha: float = 0.001) -> None:
        super().__init__()
        hidden, num_players, num_actions = spec.hidden, spec.game.num_players, spec.game.num_actions
        self.alpha, self.hidden, self.num_actions, self.goal_size = alpha, hidden, num_actions, goal_size
        self.encoder = spec.make_encoder()
        self.mix = nn.Linear(hidden, hidden)
        self.history = nn.GRU(hidden + num_players * num_actions, hidden)
        known = hidden + num_players * hidden + goal_size  # the context, all seats' features, the state's code
        self.posterior = nn.Sequential(
            nn.Linear(known, 4 * hidden),
            nn.ReLU(),
            nn.Linear(4 * hidden, 2 * hidden),
            nn.ReLU(),
            nn.Linear(2 * hidden, 2 * goal_size),
        )
        self.decoder = spec.make_decoder(goal_size + hidden)

    def start(self, batch: int, seats: int, device: torch.device) -> Tensor:
        """Return the empty context, float `[B, P, hidden]`: no history yet."""
        return torch.zeros(batch, seats, self.hidden, device=device)

    def infer(self, context: Tensor, view: View, code: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance `[L, P, D]` of each seat's subgoal.

        Args:
            context: float `[L, P, hidden]`.
            view: of all seats.
            code: float `[L, P, D]` the VAE's codes of these views.
        """
        around = _in_every_order(self._features(view)).flatten(0, 1)  # [L*P, P, hidden]
        mean, log_var = self._posterior(context.flatten(0, 1), around, code.flatten(0, 1))
        return mean.view_as(code), log_var.view_as(code)

    def advance(self, context: Tensor, view: View, actions: Tensor) -> Tensor:
        """Return the next contexts `[L, P, hidden]`, after `actions` `[L, P]` in seat order were played at `view`."""
        inputs = torch.cat([self._features(view), self._actions(actions, view.active)], -1)  # [L, P, hidden + P*A]
        moved, _ = self.history(inputs.flatten(0, 1)[None], context.flatten(0, 1)[None])
        return moved[0].view_as(context)

    def infer_episodes(self, batch: TrainingBatch, code: Tensor, who: Tensor) -> Inference:
        """Return the posterior at the m requested samples; each episode starts without history.

        Args:
            batch: whole episodes, with n samples.
            code: float `[n, D]` the VAE's codes of the samples' views.
            who: bool `[T, B, P]` active seats whose subgoals are requested; all steps of a seat or none.
        """
        episodes, samples = batch.episodes, batch.samples
        table = samples.spread(self._read(batch.view, samples.time))  # [T, B, P, hidden]
        played = self._actions(episodes.action.flatten(0, 1), episodes.active.flatten(0, 1))
        played = played.view(*episodes.action.shape, -1)
        rows = who.any(0).flatten()  # [B*P]: the history of the others is not needed
        inputs = torch.cat([table, played], -1).flatten(1, 2)[:-1, rows]  # [T-1, r, hidden + P*A]
        context = table.new_zeros(len(who), inputs.shape[1], self.hidden)
        if inputs.numel():
            context[1:] = self.history(inputs)[0]
        context = context[who.flatten(1)[:, rows]]  # [m, hidden]
        t, b, ego = who.nonzero(as_tuple=True)
        asked = who[samples.mask]
        return Inference(*self._posterior(context, ego_order(table[t, b], ego), code[asked]), context)

    def subgoal_loss(
        self,
        inference: Inference,
        observation: Tensor,
        label: tuple[Tensor, Tensor],
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Return the reconstruction of the current view from (g, tau), plus alpha times the KL to the selected code.

        Args:
            inference: of `infer_episodes`, at m samples.
            observation: float `[m, *shape]` the views there.
            label: mean and log variance `[m, D]` of the VAE's code of the selected subgoal, detached.
            generator: samples g.

        Returns:
            The loss `subgoal`, and its parts `subgoal_reconstruction` and `subgoal_kl`, averaged over samples.
        """
        drawn = draw_gaussian(inference.mean, inference.log_var, generator)
        count = max(len(drawn), 1)  # the mean of no samples is NaN
        error = self.decoder.reconstruction(torch.cat([drawn, inference.context], -1), observation).sum() / count
        kl = gaussian_kl(inference.mean, inference.log_var, *label).sum() / count
        return {
            "subgoal": error + self.alpha * kl,
            "subgoal_reconstruction": error.detach(),
            "subgoal_kl": kl.detach(),
        }

    def _features(self, view: View) -> Tensor:
        """Return the features of each seat's view, `[L, P, hidden]`; 0 for seats that have left."""
        time = view.time.repeat_interleave(view.observation.shape[1])
        features = self._read(view.observation.flatten(0, 1), time).view(*view.active.shape, -1)
        return torch.where(view.active[..., None], features, 0.0)

    def _read(self, observation: Tensor, time: Tensor) -> Tensor:
        return F.relu(self.mix(self.encoder(observation, time)))

    def _posterior(self, context: Tensor, around: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance `[m, D]` of the subgoal.

        Args:
            context: float `[m, hidden]`.
            around: float `[m, P, hidden]` all seats' features, in ego order.
            code: float `[m, D]`.
        """
        change, log_var = self.posterior(torch.cat([context, around.flatten(1), code], -1)).chunk(2, dim=-1)
        return code + change, log_var.clamp(-8, 4)

    def _actions(self, actions: Tensor, active: Tensor) -> Tensor:
        """Return one-hot vectors of all actions in the ego order of every seat; 0 for seats that have left.

        `[M, P]` and bool `[M, P]` -> `[M, P, P * A]`.
        """
        played = F.one_hot(actions * active, self.num_actions).float() * active[..., None]  # [M, P, A]
        return _in_every_order(played).flatten(2)


def _in_every_order(x: Tensor) -> Tensor:
    """Return values per seat in the ego order of every seat: `[M, P, ...]` -> `[M, P, P, ...]`."""
    rows, seats = x.shape[:2]
    ego = torch.arange(seats, device=x.device).repeat(rows)
    return ego_order(x.repeat_interleave(seats, 0), ego).unflatten(0, (rows, seats))
