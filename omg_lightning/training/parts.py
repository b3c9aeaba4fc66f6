"""The networks of an agent, and what others get of them: the goal source of a rollout, the optimiser."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from omg_lightning.opponents import (
    BeliefConfig,
    Codebook,
    CodebookGoals,
    DeclaredGoals,
    GoalKind,
    NoGoals,
    OracleGoals,
    PlaceGoals,
    Subgoals,
)
from omg_lightning.opponents.goal_vae import GoalVAE
from omg_lightning.algorithms.policy import PolicyModule
from omg_lightning.opponents.subgoal_predictor import SubgoalPredictor
from omg_lightning.types import GoalSource, View


class Parts(NamedTuple):
    """The networks of one agent."""

    vae: GoalVAE | None  # where goals are latent
    codebook: Codebook | None  # where they are learned and discrete
    predictor: SubgoalPredictor
    policy: PolicyModule


def goal_source(
    goals: GoalKind,
    parts: Parts,
    belief: BeliefConfig,
    encode: Callable[[Tensor], Tensor],
    ending_codes: bool = False,
    places: tuple[int, int] | None = None,
) -> GoalSource:
    """The goal source that `goals` names.

    Args:
        goals: where goals come from.
        parts: the networks that infer them.
        belief: settings of the explicit belief.
        encode: learned codes, int64 `[M]`, of views `[M, C, h, w]`; only asked where there is a codebook.
        ending_codes: of a codebook: to end with nothing is a goal, too.
        places: where declared goals are places: how many of them there are, and the action that realises one.
    """
    predictor, book = parts.predictor, parts.codebook
    size = predictor.goal_size
    if goals == "declared" and places is not None:
        return PlaceGoals(size - 1, *places, predictor.likelihood, belief)
    if goals == "declared":
        return DeclaredGoals(size, predictor.likelihood, belief)
    if goals == "oracle":
        return OracleGoals(size)
    if book is not None:
        return CodebookGoals(size, predictor.likelihood, belief, encode, book.count > 0, ending_codes)
    if parts.vae is not None:
        return Subgoals(size, predictor.start, partial(_infer, parts.vae, predictor), predictor.advance)
    return NoGoals()


def _infer(vae: GoalVAE, predictor: SubgoalPredictor, context: Tensor, view: View) -> tuple[Tensor, Tensor]:
    """Mean and log variance `[L, P, D]` of each seat's subgoal, given contexts `[L, P, hidden]`."""
    code, _ = vae.codes(view.observation.flatten(0, 1))
    return predictor.infer(context, view, code.unflatten(0, view.active.shape))


def adam(parts: Parts, learning_rate: float) -> torch.optim.Adam:
    """One Adam with a parameter group for each module that trains: `global_step` then counts batches."""
    trained = {"vae": parts.vae, "predictor": parts.predictor, "policy": parts.policy}
    groups: list[dict[str, Any]] = [
        {"params": [weight for weight in part.parameters() if weight.requires_grad], "name": name}
        for name, part in trained.items()
        if part is not None
    ]
    return torch.optim.Adam(groups, lr=learning_rate)
