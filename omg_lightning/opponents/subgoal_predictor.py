"""Infers a co-player's subgoal online, and predicts its next action from it."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from lightning import LightningModule
from torch import Tensor, nn

from omg_lightning.losses import gaussian_kl, masked_logits, reconstruction
from omg_lightning.opponents.goal_vae import draw_gaussian
from omg_lightning.samples import Samples
from omg_lightning.encoders.networks import PlaneDecoder, Sharing, goal_net
from omg_lightning.encoders.trunk import Trunk, TrunkKind
from omg_lightning.types import Episodes, View, ego_order


class Inference(NamedTuple):
    """The posterior q(g | tau_t, s_t) of every sample, and the context it came from."""

    mean: Tensor  # float [n, D]
    log_var: Tensor  # float [n, D]
    context: Tensor  # float [n, hidden]


class SubgoalPredictor(LightningModule):
    """State and history to subgoal, and subgoal and state to next action; for each co-player, in its own view.

    A recurrent context over (previous view, all previous actions) and the current state give a Gaussian over the
    subgoal; a decoder reconstructs the current view from subgoal and context (OMG, NeurIPS 2024, CVAE). A subgoal is a
    state to come, and that depends on what everybody does: so the current state is read from every seat's point of
    view, by one network, and its own code is where the subgoal's starts from. The action head
    `pi_j(a_j | o_j, t, g_j)` is conditioned on the goal by modulation.

    Args:
        observation_shape: `(C, h, w)`.
        num_players: P.
        num_actions: A.
        goal_size: D, length of the goal vector.
        infers: build the inference part; False where goals are not latent and only the action head is needed.
        hidden: width of the networks and of the context.
        trunk: kind of `Trunk`.
        alpha: weight of KL(q(g | tau, s) || q_vae(g_bar | s_g)), 0.001 as published.
        sharing: of the action head among the seats that it predicts.
        walls: see `Trunk`.
    """

    def __init__(
        self,
        observation_shape: tuple[int, int, int],
        num_players: int,
        num_actions: int,
        goal_size: int,
        infers: bool = True,
        hidden: int = 128,
        trunk: TrunkKind = "mlp",
        alpha: float = 0.001,
        sharing: Sharing = "shared",
        walls: int | None = None,
    ) -> None:
        super().__init__()
        self.alpha, self.hidden, self.num_actions, self.goal_size = alpha, hidden, num_actions, goal_size
        self.coplayer = goal_net(observation_shape, goal_size, num_actions, hidden, trunk, num_players, sharing, walls)
        if infers:
            self.trunk = Trunk(observation_shape, hidden, trunk, num_players, walls)
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
            self.decoder = PlaneDecoder(goal_size + hidden, observation_shape, num_players, hidden)

    def start(self, batch: int, seats: int, device: torch.device) -> Tensor:
        """The empty context, float `[B, P, hidden]`: no history yet."""
        return torch.zeros(batch, seats, self.hidden, device=device)

    def infer(self, context: Tensor, view: View, code: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance `[L, P, D]` of each seat's subgoal.

        Args:
            context: float `[L, P, hidden]`.
            view: of all seats.
            code: float `[L, P, D]` the VAE's codes of these views.
        """
        around = _in_every_order(self._features(view)).flatten(0, 1)  # [L*P, P, hidden]
        mean, log_var = self._posterior(context.flatten(0, 1), around, code.flatten(0, 1))
        return mean.view_as(code), log_var.view_as(code)

    def advance(self, context: Tensor, view: View, actions: Tensor) -> Tensor:
        """The next contexts `[L, P, hidden]`, after `actions` `[L, P]` in seat order were played at `view`."""
        inputs = torch.cat([self._features(view), self._actions(actions, view.active)], -1)  # [L, P, hidden + P*A]
        moved, _ = self.history(inputs.flatten(0, 1)[None], context.flatten(0, 1)[None])
        return moved[0].view_as(context)

    def infer_episodes(self, episodes: Episodes, samples: Samples, code: Tensor, who: Tensor) -> Inference:
        """The posterior at the samples of whole episodes that are asked for, 0 at others; each starts without history.

        Args:
            episodes: `[T, B, P, ...]`.
            samples: their n samples.
            code: float `[n, D]` the VAE's codes of the samples' views.
            who: bool `[T, B, P]` active seats whose subgoals are asked for, all steps of a seat alike.
        """
        table = samples.spread(self._read(samples.view, samples.time))  # [T, B, P, hidden]
        played = self._actions(episodes.action.flatten(0, 1), episodes.active.flatten(0, 1))
        played = played.view(*episodes.action.shape, -1)
        rows = who.any(0).flatten()  # [B*P]: the history of others need not be told
        inputs = torch.cat([table, played], -1).flatten(1, 2)[:-1, rows]  # [T-1, r, hidden + P*A]
        context = table.new_zeros(len(who), inputs.shape[1], self.hidden)
        if inputs.numel():
            context[1:] = self.history(inputs)[0]
        context = context[who.flatten(1)[:, rows]]  # [m, hidden]
        t, b, ego = who.nonzero(as_tuple=True)
        asked = who[samples.mask]
        found = (*self._posterior(context, ego_order(table[t, b], ego), code[asked]), context)
        return Inference(*(x.new_zeros(len(asked), x.shape[1]).masked_scatter(asked[:, None], x) for x in found))

    def subgoal_loss(
        self,
        inference: Inference,
        observation: Tensor,
        label: tuple[Tensor, Tensor],
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Reconstruction of the current view from (g, tau), plus alpha times the KL to the selected code.

        Args:
            inference: of `infer_episodes`, at n samples.
            observation: float `[n, C, h, w]` the views there.
            label: mean and log variance `[n, D]` of the VAE's code of the selected subgoal, detached.
            generator: draws g.

        Returns:
            The loss `subgoal`, and its parts `subgoal_reconstruction` and `subgoal_kl`, averaged over samples.
        """
        drawn = draw_gaussian(inference.mean, inference.log_var, generator)
        error = reconstruction(self.decoder(torch.cat([drawn, inference.context], -1)), observation).mean()
        kl = gaussian_kl(inference.mean, inference.log_var, *label).sum(-1).mean()
        return {
            "subgoal": error + self.alpha * kl,
            "subgoal_reconstruction": error.detach(),
            "subgoal_kl": kl.detach(),
        }

    def coplayer_loss(
        self, observation: Tensor, time: Tensor, goal: Tensor, seat: Tensor, legal: Tensor, action: Tensor
    ) -> dict[str, Tensor]:
        """Cross entropy of the co-players' actions, as `coplayer`, and the share predicted right, `coplayer_top1`.

        Args:
            observation: the co-player's own view, `[m, ...]` in either form that `Trunk` reads.
            time: float `[m]`.
            goal: float `[m, D]`.
            seat: int64 `[m]` the co-player's.
            legal: bool `[m, A]`.
            action: int64 `[m]`.
        """
        logits = masked_logits(self.coplayer(observation, time, self.coplayer.condition(goal, seat)), legal)
        count = max(len(action), 1)  # an empty mean is NaN
        return {
            "coplayer": F.cross_entropy(logits, action, reduction="sum") / count,
            "coplayer_top1": (logits.argmax(-1) == action).sum() / count,
        }

    def likelihood(self, view: View, actions: Tensor) -> Tensor:
        """Log probability `[L, P, G]` of `actions` `[L, P]` under each one-hot goal: `log pi_j(a_j | o_j, t, g)`."""
        rows, seats = actions.shape
        time = view.time.repeat_interleave(seats)
        seat = torch.arange(seats, device=actions.device).repeat(rows)
        each = self._under_each_goal(view.observation.flatten(0, 1), time, seat, view.legal.flatten(0, 1))
        index = actions.flatten()[:, None, None].expand(-1, self.goal_size, 1)
        return each.gather(-1, index).view(rows, seats, -1)

    def mixture(self, observation: Tensor, time: Tensor, seat: Tensor, legal: Tensor, belief: Tensor) -> Tensor:
        """Log of `sum_g b(g) pi_j(a | o_j, t, g)`, float `[m, A]`.

        Args:
            observation: float `[m, C, h, w]`.
            time: float `[m]`.
            seat: int64 `[m]`.
            legal: bool `[m, A]`.
            belief: float `[m, G]`.
        """
        return (self._under_each_goal(observation, time, seat, legal) + belief.log()[..., None]).logsumexp(1)

    def _under_each_goal(self, observation: Tensor, time: Tensor, seat: Tensor, legal: Tensor) -> Tensor:
        """Log policies `[m, G, A]` of views `[m, C, h, w]` under each one-hot goal; the view is read once."""
        rows, goals = len(observation), self.goal_size
        each = torch.eye(goals, device=observation.device).repeat(rows, 1)  # [m * G, G]
        condition = self.coplayer.condition(each, seat.repeat_interleave(goals)).unflatten(0, (rows, goals))
        logits = self.coplayer.under(observation, time, condition)
        return masked_logits(logits, legal[:, None]).log_softmax(-1)

    def _features(self, view: View) -> Tensor:
        """What each seat sees, `[L, P, hidden]`; 0 for those who have left."""
        time = view.time.repeat_interleave(view.observation.shape[1])
        features = self._read(view.observation.flatten(0, 1), time).view(*view.active.shape, -1)
        return torch.where(view.active[..., None], features, 0.0)

    def _read(self, observation: Tensor, time: Tensor) -> Tensor:
        return F.relu(self.mix(self.trunk(observation, time)))

    def _posterior(self, context: Tensor, around: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
        """Of contexts `[m, hidden]`, all seats' features in ego order `[m, P, hidden]` and codes `[m, D]`."""
        change, log_var = self.posterior(torch.cat([context, around.flatten(1), code], -1)).chunk(2, dim=-1)
        return code + change, log_var.clamp(-8, 4)

    def _actions(self, actions: Tensor, active: Tensor) -> Tensor:
        """Every seat's one-hot of all actions, in its own ego order; 0 for those who have left.

        `[M, P]` and bool `[M, P]` -> `[M, P, P * A]`.
        """
        played = F.one_hot(actions * active, self.num_actions).float() * active[..., None]  # [M, P, A]
        return _in_every_order(played).flatten(2)


def _in_every_order(x: Tensor) -> Tensor:
    """What there is of each seat, in the ego order of every seat: `[M, P, ...]` -> `[M, P, P, ...]`."""
    rows, seats = x.shape[:2]
    ego = torch.arange(seats, device=x.device).repeat(rows)
    return ego_order(x.repeat_interleave(seats, 0), ego).unflatten(0, (rows, seats))
