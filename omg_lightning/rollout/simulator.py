"""The model that a search plans with: the game's own rules, and co-players that act by their predicted policies."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from omg_lightning.games.base import Game
from omg_lightning.losses import masked_logits
from omg_lightning.planning import ModelOutput, Root
from omg_lightning.types import Learner, ego_order


class Node(NamedTuple):
    """What the search stores at a node."""

    game: Any  # state of the game, leading T
    coplayers: Tensor  # int64 [T, P-1] what the co-players do at this node, in ego order


class Simulator:
    """Steps a batch of trees, each from its ego's point of view, for one search.

    Only the ego's actions branch. Co-players act by `pi_j(. | o_j, t, g_j)`, drawn once for each node and shared by
    all of the ego's actions there (HOP, ICML 2024). Goals are fixed for each tree, so what depends on them alone is
    computed once, here.

    Args:
        game: the rules.
        learner: the networks.
        ego: int64 `[T]` the ego's seat in each tree.
        goals: float `[T, P, D]` goal of every seat in each tree, in seat order; the ego's own is not used.
        generator: draws the co-players' actions.
    """

    def __init__(self, game: Game, learner: Learner, ego: Tensor, goals: Tensor, generator: torch.Generator) -> None:
        self.game, self.learner, self.generator = game, learner, generator
        self.ego = ego
        self.seat_order = (game.num_players - ego) % game.num_players  # rolls ego order back to seat order
        others = ego_order(goals, ego)[:, 1:]  # [T, P-1, D]
        self.policy_condition = learner.policy_condition(others)
        self.coplayer_condition = learner.coplayer_condition(others.flatten(0, 1))

    def root(self, state: Any) -> Root:
        """The roots of the trees, at the true states (leading T)."""
        output, node = self._look(state, torch.zeros_like(self.ego, dtype=torch.float32))
        return Root(output.prior_logits, output.value, output.legal, node)

    def step(self, node: Node, actions: Tensor) -> tuple[ModelOutput, Node]:
        """The model function of the search: plays the egos' `actions` `[T]` against the co-players' drawn ones."""
        joint = torch.cat([actions[:, None], node.coplayers], dim=1)  # [T, P] in ego order
        state, rewards = self.game.step(node.game, ego_order(joint, self.seat_order))
        return self._look(state, rewards.gather(1, self.ego[:, None])[:, 0])

    def _look(self, state: Any, reward: Tensor) -> tuple[ModelOutput, Node]:
        observation = ego_order(self.game.observe(state), self.ego)  # [T, P, C, h, w]
        legal = ego_order(self.game.legal(state), self.ego)  # [T, P, A]
        active = self.game.active(state)
        here = active.gather(1, self.ego[:, None])[:, 0]
        # Who shares the others' rewards goes on earning after it has left; its own value there is not known, so 0.
        going = active.any(-1) if getattr(self.game, "prosocial", False) else here
        time = state.time / self.game.max_steps
        logits, value = self.learner.policy(observation[:, 0], time, self.policy_condition)
        output = ModelOutput(
            prior_logits=masked_logits(logits, legal[:, 0]),
            value=value * here,
            reward=reward,
            discount=going.to(reward.dtype),
            legal=legal[:, 0],
        )
        return output, Node(state, self._draw(observation[:, 1:], legal[:, 1:], time))

    def _draw(self, observation: Tensor, legal: Tensor, time: Tensor) -> Tensor:
        """Draws actions `[T, P-1]` of the co-players who see `observation` `[T, P-1, C, h, w]`."""
        trees, others = observation.shape[:2]
        time = time.repeat_interleave(others)
        logits = self.learner.coplayer(observation.flatten(0, 1), time, self.coplayer_condition)
        logits = masked_logits(logits, legal.flatten(0, 1))
        # The largest of logits plus Gumbel noise is a draw from their softmax.
        noise = torch.empty_like(logits).exponential_(generator=self.generator)
        return (logits - noise.log()).argmax(-1).view(trees, others)
