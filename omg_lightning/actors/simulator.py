"""The environment model of a search: the rules of the game, and co-players that act by predicted policies."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from omg_lightning.draws import pick, spread
from omg_lightning.games.base import Game
from omg_lightning.losses import masked_logits
from omg_lightning.search import ModelOutput, Root
from omg_lightning.types import GoalModel, View, ego_order


class Node(NamedTuple):
    """What the search stores at a node."""

    game: Any  # state of the game, leading T
    coplayers: Tensor  # int64 [T, P-1] the co-players' actions at this node, in ego order
    goals: Tensor  # float [T, P, D] in seat order if goals change; [T, 0] if they are fixed


class Networks(NamedTuple):
    """The networks that a search queries."""

    opponent: GoalModel
    policy: Any  # (observation, time, condition) -> logits [M, A], value [M]; see `omg_lightning.algorithms.Policy`
    sparse: bool  # both also read views as indices of their ones, see `omg_lightning.encoders.Encoder`
    distances: bool  # the sparse views must include walking distances


def wants_board(game: Game, networks: Networks) -> bool:
    """Return whether a search reads sparse views with distances, for which it needs the game's board."""
    return networks.distances and networks.sparse and game.sparse_views and game.has_board


class Simulator:
    """Steps a batch of trees for one search, each from its ego's perspective.

    Only the ego's actions branch. Co-players act by `pi_j(. | o_j, t, g_j)`, sampled once per node and shared by all of
    the ego's actions there (HOP, ICML 2024). Fixed goals are constant in a tree, and all values that depend on them
    alone are computed once. Changing goals (`goals_change`) are part of a node. A search starts with `root`, which
    finds the active seats; `step` follows it. The first actions of co-players are stratified over the trees of a
    decision, because independent samples have a larger variance.

    Args:
        game: the rules.
        networks: the learner's.
        ego: int64 `[T]` the ego's seat in each tree.
        goals: float `[T, P, D]` goal of every seat in each tree, in seat order; the ego's own is not used.
        generator: samples the co-players' actions, and changing goals.
        each: K, trees of a decision, which are adjacent rows.
    """

    def __init__(
        self, game: Game, networks: Networks, ego: Tensor, goals: Tensor, generator: torch.Generator, each: int = 1
    ) -> None:
        self.game, self.networks, self.generator, self.each = game, networks, generator, each
        self.ego = ego
        trees, seats = goals.shape[:2]
        every = torch.arange(seats, device=ego.device).expand(trees, -1)
        self.back = ego_order(every, (seats - ego) % seats)  # [T, P] rolls ego order back to seat order
        order = ego_order(every, ego) + seats * torch.arange(trees, device=ego.device)[:, None]
        self.own, self.others = order[:, 0], order[:, 1:].flatten()  # rows of [T * P]: the egos, and their co-players
        self.goals, self.changing = goals, networks.opponent.goals_change
        self.policy_condition = self._policy_condition(goals)
        self.maps = wants_board(game, networks)
        # Networks that need distances read whole views if the game's sparse views have none.
        self.sparse = networks.sparse and game.sparse_views and (self.maps or not networks.distances)
        self.board: Any = None

    def root(self, state: Any, board: Any = None) -> Root:
        """Return the roots of the trees, at the true states (leading T) with their hidden part resampled.

        Args:
            state: of the game.
            board: that of the game, if it is known already.
        """
        state = self.game.reshuffle(state, self.generator)
        if self.maps:
            self.board = self.game.board(state) if board is None else board
        # A seat that has left before the search is never queried again.
        self.asked = self.game.active(state).flatten().index_select(0, self.others).nonzero()[:, 0]
        self.rows = self.others[self.asked]
        self.trees, self.seats = self.rows // self.game.num_players, self.rows % self.game.num_players
        self.coplayer_condition = self._coplayer_condition(self.goals)
        kept = self.goals if self.changing else self.goals.new_zeros(len(self.ego), 0)
        output, node = self._look(state, torch.zeros_like(self.ego, dtype=torch.float32), kept, root=True)
        return Root(output.prior_logits, output.value, output.legal, node)

    def step(self, node: Node, actions: Tensor) -> tuple[ModelOutput, Node]:
        """Play the egos' `actions` `[T]` with the co-players' sampled ones: the model function of the search."""
        joint = torch.cat([actions[:, None], node.coplayers], dim=1).gather(1, self.back)  # [T, P] in seat order
        state, rewards = self.game.step(node.game, joint)
        goals = self._next_goals(node, state, joint, rewards) if self.changing else node.goals
        return self._look(state, rewards.flatten().index_select(0, self.own), goals)

    def _next_goals(self, node: Node, state: Any, joint: Tensor, rewards: Tensor) -> Tensor:
        """Sample the goals `[T, P, D]` after a step, from the opponent model's own transition."""
        game = self.game
        achieved, active = game.realised(node.game, joint), game.active(state)
        view = View(game.observe(state), game.legal(state), state.time / game.max_steps, active, rewards)
        goals = self.networks.opponent.next_goal(node.goals, view, achieved, self.generator)
        return torch.where(active[..., None], goals, 0.0)

    def _look(self, state: Any, reward: Tensor, goals: Tensor, root: bool = False) -> tuple[ModelOutput, Node]:
        game = self.game
        views = game.observe_sparse(state, self.board) if self.sparse else game.observe(state)
        views = views.flatten(0, 1)  # [T * P, ...] until rows are selected
        legal, active = game.legal(state).flatten(0, 1), game.active(state)
        here = active.flatten().index_select(0, self.own)
        # A seat that shares the others' rewards still earns after it has left; its value there is unknown, so use 0.
        going = active.any(-1) if game.prosocial else here
        time = state.time / game.max_steps
        if self.changing:
            self.policy_condition, self.coplayer_condition = (
                self._policy_condition(goals),
                self._coplayer_condition(goals),
            )
        logits, value = self.networks.policy(views.index_select(0, self.own), time, self.policy_condition)
        output = ModelOutput(
            prior_logits=logits,  # the search reads only those of legal actions
            value=value * here,
            reward=reward,
            discount=going.to(reward.dtype),
            legal=legal.index_select(0, self.own),
        )
        return output, Node(state, self._draw(views, legal, time, root), goals)

    def _policy_condition(self, goals: Tensor) -> Tensor:
        """Return the policy's goal inputs from goals `[T, P, D]` in seat order."""
        return self.networks.policy.condition(ego_order(goals, self.ego)[:, 1:], self.ego)

    def _coplayer_condition(self, goals: Tensor) -> Tensor:
        """Return the co-player model's goal inputs from goals `[T, P, D]`, for the queried seats."""
        return self.networks.opponent.condition(goals.flatten(0, 1)[self.rows], self.seats)

    def _draw(self, views: Tensor, legal: Tensor, time: Tensor, root: bool) -> Tensor:
        """Sample the co-players' actions `[T, P-1]`, given all seats' views and legal actions, `[T * P, ...]`."""
        actions = torch.full_like(self.others, self.game.noop)
        if len(self.rows):
            time = time.index_select(0, self.trees)
            observation = views.index_select(0, self.rows)
            logits = self.networks.opponent.predict(observation, time, self.coplayer_condition)
            logits = masked_logits(logits, legal.index_select(0, self.rows))
            if root:
                count = len(self.ego) // self.each
                uniform = spread(count, self.each, self.game.num_players - 1, self.generator).flatten()
                actions[self.asked] = pick(logits.softmax(-1), uniform[self.asked])
                return actions.view(len(self.ego), -1)
            # The argmax of logits plus Gumbel noise is a sample of their softmax.
            noise = torch.rand(logits.shape, generator=self.generator, dtype=logits.dtype, device=logits.device)
            noise.clamp_min_(torch.finfo(noise.dtype).tiny).log_().neg_().log_()
            actions[self.asked] = (logits - noise).max(-1).indices  # several times faster than `argmax` on a CPU
        return actions.view(len(self.ego), self.game.num_players - 1)
