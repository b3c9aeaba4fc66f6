"""Learning with opponent-learning awareness: gradients through the other learners' next step (LOLA-DiCE)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from lightning import LightningModule
from torch import Tensor, nn
from torch.func import functional_call

from omg_lightning.actors import PolicyActor
from omg_lightning.algorithms.base import Algorithm, OnPolicy
from omg_lightning.encoders import ModelSpec
from omg_lightning.losses import masked_logits, td_lambda
from omg_lightning.samples import TrainingBatch
from omg_lightning.spaces import is_binary
from omg_lightning.types import ConfigError, Episodes, GoalModel

Weights = dict[str, Tensor]


class LOLA(Algorithm):
    """LOLA-DiCE: policy gradients through the learning steps of the other learners.

    Foerster et al. 2018 (LOLA, arXiv 1709.04326; DiCE, arXiv 1802.05098). Each learner i maximises its return after the
    next learning steps of the others,

        V_i(theta_i, theta_j + rate * grad_j V_j(theta_i, theta_j) for all other learners j),

    and differentiates through these steps: the actions of i change what j learns. One agent trains all learners, each
    with its own policy. All learners know each other's weights and rewards, as in the papers. Seats without a learner
    have no learning step.

    All estimates use one round of episodes. An expected reward is the mean reward of the round, weighted by the
    probability ratio of all actions up to that step. At the weights that played the round this is DiCE's objective,
    whose derivatives of all orders are unbiased. At the others' next weights it is importance sampling, where the paper
    plays new episodes. The baseline is a value of each seat's observation.

    The objective is the discounted return of an episode; a time limit counts as its end. Play does not depend on the
    opponent model.

    Args:
        spec: description of the game, and the networks.
        goal_size: D; not used.
        discount: per step.
        lookahead: learning rate of the others' expected learning steps; 0 for naive policy gradients.
        steps: number of such steps.
        hidden: units of each seat's network; 0 for a table over the last joint action, for matrix games.

    Raises:
        ConfigError: a setting is out of range, or a table does not fit the game.
    """

    loss_weights: ClassVar[Mapping[str, float]] = {"policy": 1.0, "value": 0.5}
    on_policy = OnPolicy(epochs=1, minibatches=1)

    def __init__(
        self,
        spec: ModelSpec,
        goal_size: int,
        discount: float = 0.9,
        lookahead: float = 1.0,
        steps: int = 1,
        hidden: int = 0,
    ) -> None:
        if not 0 <= discount <= 1:
            raise ConfigError(f"model.algorithm.discount is {discount}: it must lie between 0 and 1")
        if not 0 <= lookahead < float("inf"):
            raise ConfigError(f"model.algorithm.lookahead is {lookahead}: it must be at least 0 and finite")
        if steps < 1 or hidden < 0:
            raise ConfigError(f"model.algorithm.steps is {steps} and hidden {hidden}: expected >= 1 and >= 0")
        super().__init__(spec, goal_size)
        self.discount, self.lookahead, self.steps = discount, lookahead, steps
        self.policy = SeatPolicies(spec, hidden)

    def actor(self, opponent: GoalModel) -> PolicyActor:
        """Return an actor that samples from each seat's policy."""
        return PolicyActor(opponent, self.policy, self.spec.game.num_actions)

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Return `policy`, the negative objectives of all learners, and `value`, the error of the baseline."""
        episodes = batch.episodes
        if batch.offline or not bool(episodes.learner.any()):
            return {}
        features = self.policy.features(episodes.observation, episodes.active)
        reward = torch.where(episodes.active, batch.reward, 0.0)
        returns = td_lambda(reward, reward, episodes.learner, self.discount, 1.0)
        value = self.policy.baseline(features)
        error = torch.where(episodes.learner, value - returns, 0.0).square().sum() / episodes.learner.sum()
        objective = Objective(self.policy, episodes, features, reward, value.detach(), self.discount)
        seats = [seat for seat in range(reward.shape[-1]) if bool(episodes.learner[..., seat].any())]
        own: list[Weights] = [dict(net.named_parameters()) for net in self.policy.nets]
        policy = [-objective(self.after_others(objective, own, seat, seats))[seat] for seat in seats]
        return {"policy": torch.stack(policy).sum(), "value": error}

    def after_others(self, objective: Objective, own: list[Weights], ego: int, seats: list[int]) -> list[Weights]:
        """Return all seats' weights after the others' next steps, as functions of the ego's weights.

        The others' current weights are constants here: the ego's loss must not train them.
        """
        others = [seat for seat in seats if seat != ego]
        now = list(own)
        for seat in range(len(now)):
            if seat != ego:
                now[seat] = {name: weight.detach().requires_grad_() for name, weight in own[seat].items()}
        for _ in range(self.steps if self.lookahead else 0):
            values = objective(now)
            moved: dict[int, Weights] = {}
            for seat in others:
                weights = list(now[seat].values())
                slopes = torch.autograd.grad(values[seat], weights, create_graph=True)
                steps = zip(now[seat].items(), slopes, strict=True)
                moved[seat] = {name: weight + self.lookahead * slope for (name, weight), slope in steps}
            for seat, weights_after in moved.items():
                now[seat] = weights_after
        return now


class Objective:
    """The learners' expected discounted returns, as differentiable functions of their weights.

    With `W_t` the ratio of the current to the recorded probabilities of all learners' actions up to step t, and b
    the baseline, a seat's return is the mean over episodes of `sum over t of d^t (W_t (r_t - b_t) + W_(t-1) b_t)`.
    The terms of b have the mean 0 for any function of the view (DiCE, arXiv 1802.05098, section 4, for all orders).

    Args:
        policy: of all seats.
        episodes: `[T, B, P, ...]`, with the recorded `log_probability`.
        features: float `[T, B, P, n]` of their views.
        reward: float `[T, B, P]`; 0 where padded.
        baseline: float `[T, B, P]`.
        discount: per step.
    """

    def __init__(
        self,
        policy: SeatPolicies,
        episodes: Episodes,
        features: Tensor,
        reward: Tensor,
        baseline: Tensor,
        discount: float,
    ) -> None:
        self.policy, self.features, self.reward = policy, features, reward
        self.learner, self.legal, self.action = episodes.learner, episodes.legal, episodes.action
        self.baseline = torch.where(episodes.active, baseline, 0.0)
        self.before = torch.where(episodes.learner, episodes.extras["log_probability"], 0.0)
        self.weight = discount ** torch.arange(len(reward), device=reward.device, dtype=reward.dtype)

    def __call__(self, weights: list[Weights]) -> Tensor:
        """Return the returns of all seats under these weights of their policies, float `[P]`."""
        ratios = []
        for seat, own in enumerate(weights):
            here = self.learner[..., seat]
            logits = functional_call(self.policy.nets[seat], dict(own), (self.features[:, :, seat],))
            log_policy = masked_logits(logits, self.legal[:, :, seat]).log_softmax(-1)
            action = torch.where(here, self.action[..., seat], 0)
            chosen = log_policy.gather(-1, action[..., None])[..., 0]
            ratios.append(torch.where(here, chosen - self.before[..., seat], 0.0))
        upto = torch.stack(ratios).sum(0).cumsum(0).exp()[..., None]  # [T, B, 1]
        earlier = torch.cat([torch.ones_like(upto[:1]), upto[:-1]])
        terms = upto * (self.reward - self.baseline) + earlier * self.baseline
        return (self.weight[:, None, None] * terms).sum(0).mean(0)


class SeatPolicies(LightningModule):
    """A small policy and a baseline for each seat, with the interface that `PolicyActor` calls.

    Args:
        spec: the game.
        hidden: units of each network; 0 for tables.

    Raises:
        ConfigError: tables do not fit the game's views.
    """

    def __init__(self, spec: ModelSpec, hidden: int) -> None:
        super().__init__()
        game = spec.game
        self.seats, self.actions, self.hidden = game.num_players, game.num_actions, hidden
        shape = tuple(game.observation_space.shape or ())
        self.rank = len(shape)
        if not hidden and (shape != (self.seats * self.actions,) or not is_binary(game.observation_space)):
            raise ConfigError(
                "LOLA with hidden 0 needs views of the last joint action, as in a MatrixGame with memory 1, "
                f"but {game.name} has views of shape {list(shape)}: set --model.algorithm.hidden 32"
            )
        inputs = 1 + self.actions**self.seats if not hidden else int(torch.tensor(shape).prod())

        def make(outputs: int) -> nn.Module:
            if not hidden:
                return nn.Linear(inputs, outputs, bias=False)
            return nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, outputs))

        self.nets = nn.ModuleList([make(self.actions) for _ in range(self.seats)])
        self.values = nn.ModuleList([make(1) for _ in range(self.seats)])
        if not hidden:
            for net in self.nets:
                nn.init.zeros_(next(net.parameters()))  # play is uniform at first

    def features(self, observation: Tensor, active: Tensor) -> Tensor:
        """Return inputs `[..., n]` of views `[..., *shape]`; 0 for seats that are not active, bool `[...]`."""
        flat = observation.flatten(-self.rank) if self.rank else observation[..., None]
        flat = flat.to(next(self.nets.parameters()).dtype)
        flat = torch.where(active[..., None], flat, 0.0)
        if self.hidden:
            return flat
        each = flat.unflatten(-1, (self.seats, self.actions))
        place = self.actions ** torch.arange(self.seats, device=flat.device)
        index = torch.where(each.sum((-1, -2)) > 0, 1 + (each.argmax(-1) * place).sum(-1), 0)  # 0: no action yet
        return F.one_hot(index, 1 + self.actions**self.seats).to(flat.dtype)

    def baseline(self, features: Tensor) -> Tensor:
        """Return values `[..., P]` of features `[..., P, n]`."""
        return torch.cat([net(features[..., seat, :]) for seat, net in enumerate(self.values)], -1)

    def condition(self, goals: Tensor, seat: Tensor) -> Tensor:
        """Return the seats `[M, 1]`; goals are ignored."""
        return seat[:, None]

    def forward(self, observation: Tensor, time: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits `[M, A]` and values `[M]` of views `[M, ...]` from the seats in `condition`."""
        features = self.features(observation, torch.ones_like(time, dtype=torch.bool))
        rows = torch.arange(len(time), device=time.device)
        logits = torch.stack([net(features) for net in self.nets], 1)[rows, condition[:, 0]]
        return logits, torch.cat([net(features) for net in self.values], -1)[rows, condition[:, 0]]
