"""Compare the search with mctx and OpenSpiel, if they are installed: `pip install mctx open_spiel`."""

import math
from types import SimpleNamespace

import pytest
import torch
from table_game import STATES, TableGame

from omg_lightning.search import SearchConfig, search


@pytest.mark.parametrize("rule", ["puct", "gumbel"])
def test_equals_mctx(rule):
    mctx, jax = pytest.importorskip("mctx"), pytest.importorskip("jax")
    jnp = jax.numpy
    game = TableGame(11, 4, illegal=0, dtype=torch.float32)
    root = game.root(50)
    names = {"reward": "reward", "discount": "discount", "logits": "prior_logits", "value": "value"}
    tables = {theirs: jnp.asarray(getattr(game, ours).numpy()) for ours, theirs in names.items()}

    def recurrent(params, key, action, state):
        state = (state * 4 + action + 1) % STATES
        return mctx.RecurrentFnOutput(**{name: table[state] for name, table in tables.items()}), state

    parts = {"prior_logits": root.prior_logits, "value": root.value, "embedding": root.state}
    start = mctx.RootFnOutput(**{name: jnp.asarray(x.numpy()) for name, x in parts.items()})
    key, common = jax.random.PRNGKey(0), {"num_simulations": 32}
    config = SearchConfig(32, rule=rule, gumbel_scale=0)
    result = search(root, game.model, config)
    if rule == "gumbel":
        out = mctx.gumbel_muzero_policy(None, key, start, recurrent, gumbel_scale=0.0, **common)
        assert out.action.tolist() == result.action.tolist()
    else:

        def raw_q(tree, node):  # mctx rescales Q by default; our PUCT uses raw Q
            visits = tree.children_visits[node]
            return jnp.where(visits > 0, tree.qvalues(node), tree.node_values[node])

        constants = {"pb_c_init": 1.0, "pb_c_base": 1e9, "dirichlet_fraction": 0.0, "qtransform": raw_q}
        out = mctx.muzero_policy(None, key, start, recurrent, temperature=0.0, **constants, **common)
    summary = out.search_tree.summary()
    assert summary.visit_counts.tolist() == result.visits.tolist()
    torch.testing.assert_close(torch.tensor(summary.value.tolist()), result.value, rtol=1e-4, atol=1e-4)
    weights = out.action_weights if rule == "gumbel" else summary.visit_probs
    torch.testing.assert_close(torch.tensor(weights.tolist()), result.policy, rtol=1e-3, atol=1e-4)


class SpielState:
    """A state of a `TableGame` of one player, with the interface that OpenSpiel's search needs."""

    def __init__(self, game, number):
        self.game, self.number = game, number

    def clone(self):
        return SpielState(self.game, self.number)

    def apply_action(self, action):
        self.number = (self.number * self.game.actions + action + 1) % STATES

    def current_player(self):
        return 0

    def is_chance_node(self):
        return False

    def is_terminal(self):
        return self.game.discount[self.number].item() == 0

    def returns(self):
        return [self.game.reward[self.number].item()]

    # OpenSpiel's `Evaluator`
    def evaluate(self, state):
        return [self.game.value[state.number].item()]

    def prior(self, state):
        legal = self.game.legal[state.number]
        prior = self.game.logits[state.number].masked_fill(~legal, -math.inf).softmax(0)
        return [(action, prior[action].item()) for action in legal.nonzero()[:, 0].tolist()]


@pytest.mark.parametrize("seed", range(5))
def test_puct_equals_open_spiel(seed, monkeypatch):
    mcts, pyspiel = pytest.importorskip("open_spiel.python.algorithms.mcts"), pytest.importorskip("pyspiel")
    game = TableGame(seed, 4, end=0.25)
    game.legal[:, 0] |= ~game.legal.any(-1)
    root = game.root(20)
    ends = game.discount == 0
    ends[root.state] = False
    game.discount, game.reward = (~ends).double(), game.reward * ends  # OpenSpiel pays at the end, and in full

    class Node(mcts.SearchNode):
        """Know the parent: its mean is the Q of an action without visits, which is 0 in OpenSpiel's own PUCT."""

        @property
        def children(self):
            return self.below

        @children.setter
        def children(self, nodes):
            self.below = nodes
            for node in nodes:
                node.parent = self

    def puct(node, parent_count, c):
        seen = node if node.explore_count else node.parent
        return seen.total_reward / seen.explore_count + c * node.prior * parent_count**0.5 / (node.explore_count + 1)

    monkeypatch.setattr(mcts, "SearchNode", Node)
    kind = SimpleNamespace(
        reward_model=pyspiel.GameType.RewardModel.TERMINAL, dynamics=pyspiel.GameType.Dynamics.SEQUENTIAL
    )
    rules = SimpleNamespace(get_type=lambda: kind, max_utility=lambda: math.inf)
    result = search(root, game.model, SearchConfig(60, c_puct=1.5))
    for row, number in enumerate(root.state.tolist()):
        state = SpielState(game, number)
        bot = mcts.MCTSBot(rules, 1.5, 60 + 1, state, solve=False, child_selection_fn=puct)  # its first is the root
        top = bot.mcts_search(state)
        visits = {node.action: node.explore_count for node in top.children}
        assert [visits.get(action, 0) for action in range(4)] == result.visits[row].tolist()
        assert top.total_reward / top.explore_count == pytest.approx(result.value[row].item())
        for node in top.children:
            if node.explore_count:
                assert node.total_reward / node.explore_count == pytest.approx(result.q[row, node.action].item())
