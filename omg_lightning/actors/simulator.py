"""The model that a search plans with: the game's own rules, and co-players that act by their predicted policies."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from omg_lightning.games.base import Game
from omg_lightning.losses import masked_logits
from omg_lightning.search import ModelOutput, Root
from omg_lightning.types import Learner, ego_order


class Node(NamedTuple):
    """What the search stores at a node."""

    game: Any  # state of the game, leading T
    coplayers: Tensor  # int64 [T, P-1] what the co-players do at this node, in ego order


def wants_board(game: Game, learner: Learner) -> bool:
    """Whether a search of this learner looks at sparse views that tell distances, for which it needs the board."""
    return learner.paths and learner.sparse and getattr(game, "sparse_views", False) and hasattr(game, "board")


class Simulator:
    """Steps a batch of trees, each from its ego's point of view, for one search.

    Only the ego's actions branch. Co-players act by `pi_j(. | o_j, t, g_j)`, drawn once for each node and shared by
    all of the ego's actions there (HOP, ICML 2024). Goals are fixed for each tree, so what depends on them alone is
    computed once. A search starts with `root`, which says who is there to be asked; `step` follows it.

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
        trees, seats = goals.shape[:2]
        every = torch.arange(seats, device=ego.device).expand(trees, -1)
        self.back = ego_order(every, (seats - ego) % seats)  # [T, P] rolls ego order back to seat order
        order = ego_order(every, ego) + seats * torch.arange(trees, device=ego.device)[:, None]
        self.own, self.others = order[:, 0], order[:, 1:].flatten()  # rows of [T * P]: the egos, and who is beside them
        self.goals = ego_order(goals, ego)[:, 1:]  # [T, P-1, D]
        self.policy_condition = learner.policy_condition(self.goals, ego)
        self.maps = wants_board(game, learner)
        # Networks that want distances read planes where a game cannot tell them in a sparse view.
        sparse = learner.sparse and getattr(game, "sparse_views", False) and (self.maps or not learner.paths)
        observe: Callable[..., Tensor] = game.observe
        self.look = partial(observe, sparse=True) if sparse else observe

    def root(self, state: Any, board: Any = None) -> Root:
        """The roots of the trees, at the true states (leading T); `board` is that of the game, if it is known yet."""
        if self.maps:
            self.look = partial(self.look, board=self.game.board(state) if board is None else board)  # type: ignore[attr-defined]
        # Who has left before the search is never asked again.
        self.asked = self.game.active(state).flatten().index_select(0, self.others).nonzero()[:, 0]
        self.rows = self.others[self.asked]
        self.trees, seats = self.rows // self.game.num_players, self.rows % self.game.num_players
        self.coplayer_condition = self.learner.coplayer_condition(self.goals.flatten(0, 1)[self.asked], seats)
        output, node = self._look(state, torch.zeros_like(self.ego, dtype=torch.float32))
        return Root(output.prior_logits, output.value, output.legal, node)

    def step(self, node: Node, actions: Tensor) -> tuple[ModelOutput, Node]:
        """The model function of the search: plays the egos' `actions` `[T]` against the co-players' drawn ones."""
        joint = torch.cat([actions[:, None], node.coplayers], dim=1)  # [T, P] in ego order
        state, rewards = self.game.step(node.game, joint.gather(1, self.back))
        return self._look(state, rewards.flatten().index_select(0, self.own))

    def _look(self, state: Any, reward: Tensor) -> tuple[ModelOutput, Node]:
        views = self.look(state).flatten(0, 1)  # [T * P, ...] until rows are picked
        legal, active = self.game.legal(state).flatten(0, 1), self.game.active(state)
        here = active.flatten().index_select(0, self.own)
        # Who shares the others' rewards goes on earning after it has left; its own value there is not known, so 0.
        going = active.any(-1) if getattr(self.game, "prosocial", False) else here
        time = state.time / self.game.max_steps
        logits, value = self.learner.policy(views.index_select(0, self.own), time, self.policy_condition)
        output = ModelOutput(
            prior_logits=logits,  # the search reads those of legal actions only
            value=value * here,
            reward=reward,
            discount=going.to(reward.dtype),
            legal=legal.index_select(0, self.own),
        )
        return output, Node(state, self._draw(views, legal, time))

    def _draw(self, views: Tensor, legal: Tensor, time: Tensor) -> Tensor:
        """Draws the co-players' actions `[T, P-1]`, given all seats' views and legal actions, `[T * P, ...]`."""
        actions = torch.full_like(self.others, self.game.noop)
        if len(self.rows):
            time = time.index_select(0, self.trees)
            logits = self.learner.coplayer(views.index_select(0, self.rows), time, self.coplayer_condition)
            logits = masked_logits(logits, legal.index_select(0, self.rows))
            # The largest of logits plus Gumbel noise is a draw from their softmax.
            noise = torch.rand(logits.shape, generator=self.generator, dtype=logits.dtype, device=logits.device)
            noise.clamp_min_(torch.finfo(noise.dtype).tiny).log_().neg_().log_()
            actions[self.asked] = (logits - noise).max(-1).indices  # several times faster than `argmax` on a CPU
        return actions.view(-1, self.game.num_players - 1)
