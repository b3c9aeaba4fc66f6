"""One decision: the search over the learner's own model, and the root policy made of it."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from omg_lightning.games.base import Game
from omg_lightning.losses import masked_logits
from omg_lightning.search import SearchConfig, search
from omg_lightning.actors.simulator import Simulator
from omg_lightning.types import Estimate, Learner, PlannerConfig, take


class Decision(NamedTuple):
    """What M egos decide."""

    policy: Tensor  # float [M, A] root policy, see `PlannerConfig.policy`
    action: Tensor  # int64 [M]
    value: Tensor  # float [M] what the root policy is expected to earn


def plan(
    game: Game,
    learner: Learner,
    state: Any,
    estimate: Estimate,
    rows: Tensor,
    ego: Tensor,
    generator: torch.Generator,
    greedy: bool,
    board: Any = None,
) -> Decision:
    """Plans one decision of each ego: K trees, each with its own goals, whose answers are averaged.

    Args:
        game: the rules.
        learner: networks and budget.
        state: of the game, leading L.
        estimate: goals of all seats, leading L.
        rows: int64 `[M]` environment of each decision.
        ego: int64 `[M]` seat of each decision.
        generator: draws goals, co-players' actions and, unless greedy, the action itself.
        greedy: take the best action.
        board: that of the game, leading L, if it is known yet.
    """
    trees, config = learner.trees, learner.planner
    goals = estimate.draw(trees, generator)[rows].flatten(0, 1)  # [M*K, P, D]
    simulator = Simulator(game, learner, ego.repeat_interleave(trees), goals, generator)
    each = rows.repeat_interleave(trees)
    root = simulator.root(take(state, each), take(board, each))
    settings = SearchConfig(
        num_simulations=learner.simulations, c_puct=config.c_puct, rule=config.rule, discount=config.discount
    )
    result = search(root, simulator.step, settings, generator)
    q, policy = (x.view(len(rows), trees, -1).mean(1) for x in (result.q, result.policy))
    if config.policy == "search":
        score, policy = policy, sharpened(policy, config.temperature)
    else:
        legal = root.legal.view(len(rows), trees, -1)[:, 0]
        score, policy = masked_logits(q, legal), root_policy(q, legal, config)
    action = score.argmax(-1) if greedy else torch.multinomial(policy, 1, generator=generator)[:, 0]
    return Decision(policy, action, (policy * q).sum(-1))


def sharpened(policy: Tensor, temperature: float) -> Tensor:
    """`policy ** (1 / temperature)` `[M, A]`, made to sum to 1 (AlphaGo Zero, https://doi.org/10.1038/nature24270)."""
    if temperature == 1:
        return policy
    power = (policy / policy.amax(-1, keepdim=True)) ** (1 / temperature)  # so that the best never underflows
    return power / power.sum(-1, keepdim=True)


def root_policy(q: Tensor, legal: Tensor, config: PlannerConfig) -> Tensor:
    """Softmax(beta * Q), 0 where illegal (HOP, ICML 2024).

    Args:
        q: float `[M, A]` root values.
        legal: bool `[M, A]`.
        config: beta, and whether Q is rescaled to [0, 1] over the legal actions before.

    Returns:
        float `[M, A]`.
    """
    if config.rescale:
        low = q.masked_fill(~legal, torch.inf).amin(-1, keepdim=True)
        span = q.masked_fill(~legal, -torch.inf).amax(-1, keepdim=True) - low
        q = (q - low) / span.clamp(min=1e-6)
    return masked_logits(config.beta * q, legal).softmax(-1) * legal
