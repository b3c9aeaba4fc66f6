import json
import math
import os
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_search import slow_search, wanted_visits
from table_game import STATES, TableGame, seeded
from torch.utils._python_dispatch import TorchDispatchMode

from omg_lightning.search import ModelOutput, Root, SearchConfig, search
from omg_lightning.search.policy import completed_q, halving_schedule
from omg_lightning.search.tree import Arena
from omg_lightning.types import ConfigError

GOLDEN = Path(__file__).parent / "golden"
RULES = ("puct", "gumbel")


def bandit(rewards, trees=1):
    """Every action ends the episode with its reward."""

    def model(state, action):
        actions = len(rewards)
        reward = torch.tensor(rewards)[action]
        nan = torch.full((trees, actions), math.nan)
        return ModelOutput(nan, nan[:, 0], reward, torch.zeros(trees), torch.ones(trees, actions) > 0), state

    zeros = torch.zeros(trees, len(rewards))
    return Root(zeros, zeros[:, 0], zeros == 0, torch.zeros(trees)), model


def test_puct_bandit_by_hand():
    # scores before simulations 1..4, arm 0 against arm 1: .5 = .5, 1.354 > 1.207, 1.289 < 1.533, 1.333 > .5
    result = search(*bandit([1.0, 0.0]), SearchConfig(num_simulations=4), seeded())
    assert result.visits.tolist() == [[3, 1]]
    assert result.q.tolist() == [[1, 0]]
    assert result.policy.tolist() == [[0.75, 0.25]]
    assert result.value.item() == pytest.approx(3 / 5)  # the root's own 0 and four returns
    assert result.action.tolist() == [0]


def chain_model(state, action):
    """State s: +1 at each step, reward s + 1, discount .5; the second step ends it; the network says 8 everywhere."""
    ends = state == 1
    return ModelOutput(
        prior_logits=torch.zeros(1, 1),
        value=torch.full((1,), 8.0),
        reward=state + 1.0,
        discount=torch.where(ends, 0.0, 0.5),
        legal=torch.ones(1, 1, dtype=torch.bool),
    ), state + 1


@pytest.mark.parametrize("rule", RULES)
def test_chain_of_two_steps_by_hand(rule):
    # returns at the root: 1 + .5 * 8 = 5, then 1 + .5 * 2 = 2, and the end visited again gives 2 again
    root = Root(torch.zeros(1, 1), torch.full((1,), 8.0), torch.ones(1, 1, dtype=torch.bool), torch.zeros(1))
    result = search(root, chain_model, SearchConfig(num_simulations=3, rule=rule), seeded())
    assert result.visits.tolist() == [[3]]
    assert result.q.item() == pytest.approx((5 + 2 + 2) / 3)
    assert result.value.item() == pytest.approx((8 + 5 + 2 + 2) / 4)


def test_config_discount_multiplies_the_models():
    root = Root(torch.zeros(1, 1), torch.full((1,), 8.0), torch.ones(1, 1, dtype=torch.bool), torch.zeros(1))
    result = search(root, chain_model, SearchConfig(num_simulations=3, discount=0.5), seeded())
    assert result.q.item() == pytest.approx((1 + 0.25 * 8 + 2 * (1 + 0.25 * 2)) / 3)
    myopic = search(root, chain_model, SearchConfig(num_simulations=3, discount=0.0), seeded())
    assert myopic.q.item() == 1


def test_gumbel_halves_the_arms_and_the_best_wins():
    config = SearchConfig(num_simulations=16, rule="gumbel", gumbel_scale=0)
    result = search(*bandit([0.0, 3.0, 1.0, 2.0]), config)
    assert result.visits.tolist() == [
        [2, 6, 2, 6]
    ]  # 16 / (2 rounds * 4) = 2 each, then 16 / (2 * 2) = 4 for the best two
    assert result.action.tolist() == [1]
    scale = (50 + 6) * 0.1  # c_visit, most visits, c_scale; q is rescaled to [0, 1]
    expected = torch.tensor([[0.0, 1.0, 1 / 3, 2 / 3]]).mul(scale).softmax(-1)
    torch.testing.assert_close(result.policy, expected)


def test_v_mix_by_hand():
    visits = torch.tensor([[2.0], [1.0], [0.0]])
    total = torch.tensor([[6.0], [1.0], [0.0]])
    prior = torch.tensor([[0.5], [0.25], [0.25]])
    q = completed_q(visits, total, prior.log(), torch.tensor([1.0]))
    mean = (0.5 * 3 + 0.25 * 1) / 0.75
    torch.testing.assert_close(q[:, 0], torch.tensor([3.0, 1.0, (1 + 3 * mean) / 4]))


@pytest.mark.parametrize("considered", range(1, 17))
def test_halving_schedule_equals_the_slow_one(considered):
    for simulations in (0, 1, 2, 7, 16, 50, 200):
        assert list(halving_schedule(considered, simulations)) == wanted_visits(considered, simulations)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("actions", [1, 2, 5])
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_slow_search_simulation_by_simulation(rule, actions, seed):
    game = TableGame(seed, actions)
    root, trees = game.root(6), 6
    config = SearchConfig(
        num_simulations=30, rule=rule, c_puct=1.5, discount=0.95, max_num_considered_actions=4, gumbel_scale=0.7
    )
    result = search(root, game.model, config, seeded(seed))
    asked = game.calls[:]
    drawn = torch.empty(trees, actions, dtype=torch.float64).exponential_(generator=seeded(seed))
    noise = drawn.log() * -0.7
    for row in range(trees):
        expected, trace = slow_search(root, game.model, config, row, noise[row].tolist())
        assert [(state[row], action[row]) for state, action in asked] == trace
        for name, value in expected.items():
            got = getattr(result, name)[row]
            torch.testing.assert_close(
                got, torch.tensor(value, dtype=got.dtype), msg=lambda m, name=name: f"{name}: {m}"
            )


def golden_game(dtype=torch.float64):
    """A TableGame whose tables come from a formula: no change of torch's generator can move the golden trees."""
    game = TableGame(0, 4, dtype=dtype)
    i = torch.arange(STATES, dtype=torch.float64)
    game.logits = torch.sin(i[:, None] * torch.tensor([1.1, 2.3, 3.7, 4.9])).to(dtype)
    game.value, game.reward = torch.cos(i * 0.7).to(dtype), torch.sin(i * 1.3).to(dtype)
    game.discount = torch.where(i % 7 == 0, 0, 0.9).to(dtype)
    game.legal = (i[:, None] + torch.arange(4)) % 5 != 0
    state = torch.tensor([3, 14, 159])
    return game, Root(game.logits[state], game.value[state], game.legal[state], state)


@pytest.mark.parametrize("rule", RULES)
def test_golden_tree(rule):
    game, root = golden_game()
    config = SearchConfig(num_simulations=24, rule=rule, gumbel_scale=0, max_num_considered_actions=3)
    result = search(root, game.model, config)
    got = {name: x.tolist() for name, x in result._asdict().items()} | {"asked": [list(call) for call in game.calls]}
    path = GOLDEN / f"search_{rule}.json"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(json.dumps(got, indent=None).replace("], [[", "],\n[[") + "\n")
    golden = json.loads(path.read_text())
    for name in ("visits", "action", "asked"):
        assert got[name] == golden[name], name
    for name in ("q", "policy", "value"):
        torch.testing.assert_close(torch.tensor(got[name]), torch.tensor(golden[name]), rtol=1e-5, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    rule=st.sampled_from(RULES),
    actions=st.integers(1, 6),
    trees=st.integers(1, 5),
    simulations=st.integers(0, 20),
    considered=st.integers(1, 8),
    end=st.sampled_from([0.0, 0.3, 1.0]),
    illegal=st.sampled_from([0.0, 0.5, 0.95]),
    seed=st.integers(0, 99),
)
def test_invariants(rule, actions, trees, simulations, considered, end, illegal, seed):
    game = TableGame(seed, actions, end=end, illegal=illegal, dtype=torch.float32)
    root = game.root(trees)
    config = SearchConfig(simulations, rule=rule, max_num_considered_actions=considered)
    result = search(root, game.model, config, seeded(seed))
    assert result.visits.sum(-1).tolist() == [simulations] * trees
    torch.testing.assert_close(result.policy.sum(-1), torch.ones(trees))
    assert not result.visits[~root.legal].any()
    assert not result.policy[~root.legal].any()
    assert not result.q[~root.legal].any()
    assert root.legal.gather(1, result.action[:, None]).all()
    assert all(x.isfinite().all() for x in result)
    # a return is at most |reward| / (1 - 0.9) plus a value
    bound = 10 * game.reward.abs().max() + game.value.abs().max()
    assert result.q.abs().max() <= bound
    if rule == "gumbel":
        assert ((result.visits > 0).sum(-1) <= max(considered, 1)).all()


@pytest.mark.parametrize("rule", RULES)
def test_rows_are_independent(rule):
    game = TableGame(1, 4)
    root = game.root(40)
    config = SearchConfig(num_simulations=20, rule=rule, gumbel_scale=0)
    whole = search(root, game.model, config)
    rows = torch.tensor([30, 2, 17])
    part = search(Root(*(x[rows] for x in root)), game.model, config)
    for name, x in whole._asdict().items():
        assert torch.equal(x[rows], getattr(part, name)), name


@pytest.mark.parametrize("rule", RULES)
def test_many_trees_equal_few(rule):
    # beyond some size the padding of short paths is sorted out first: the answer must not change
    game = TableGame(2, 3)
    root = game.root(3000)
    config = SearchConfig(num_simulations=12, rule=rule, gumbel_scale=0)
    whole = search(root, game.model, config)
    part = search(Root(*(x[:50] for x in root)), game.model, config)
    assert torch.equal(whole.visits[:50], part.visits)
    assert torch.equal(whole.q[:50], part.q)


@pytest.mark.parametrize("rule", RULES)
def test_pure_function(rule):
    game = TableGame(3, 4)
    root = game.root(5)
    before = [x.clone() for x in root]
    config = SearchConfig(num_simulations=15, rule=rule)
    global_state = torch.get_rng_state()
    first = search(root, game.model, config, seeded(7))
    kept = [x.clone() for x in first]
    second = search(root, game.model, config, seeded(7))
    assert torch.equal(torch.get_rng_state(), global_state)
    assert all(map(torch.equal, before, root))
    assert all(map(torch.equal, first, second))
    assert all(map(torch.equal, kept, first))  # no memory of the first search is used again


def test_search_within_a_search():
    game = TableGame(4, 3)
    root, config = game.root(6), SearchConfig(num_simulations=9)
    expected = search(root, game.model, config)

    def model(state, action):
        search(root, game.model, config)
        return game.model(state, action)

    assert all(map(torch.equal, expected, search(root, model, config)))


def test_the_generator_decides_gumbel_noise():
    root, model = bandit([0.0] * 6, trees=50)
    config = SearchConfig(num_simulations=2, rule="gumbel")
    actions = {tuple(search(root, model, config, seeded(seed)).action.tolist()) for seed in range(3)}
    assert len(actions) == 3
    assert len(set(next(iter(actions)))) == 6  # uniform prior, equal arms: every arm wins somewhere


def test_memory_of_inference_mode_serves_outside_of_it():
    game = TableGame(4, 3)
    root, config = game.root(6), SearchConfig(num_simulations=9)
    expected = search(root, game.model, config)
    Arena._spare.clear()
    for mode in (True, True, False, False):
        with torch.inference_mode(mode):
            assert all(map(torch.equal, expected, search(root, game.model, config)))


@pytest.mark.parametrize("rule", RULES)
def test_nothing_legal_is_answered_with_zeros_and_disturbs_nobody(rule):
    game = TableGame(5, 4)
    root = game.root(3)
    config = SearchConfig(num_simulations=10, rule=rule, gumbel_scale=0)
    expected = search(root, game.model, config)
    dead = root._replace(legal=root.legal & torch.tensor([[True], [False], [True]]))

    def model(state, action):
        output, state = game.model(state, action)
        for x in output[:4]:
            x[1] = math.nan
        return output, state

    result = search(dead, model, config)
    for x in (result.q, result.visits, result.policy, result.action):
        assert not x[1].any()
    assert result.value[1] == root.value[1]
    for name, x in result._asdict().items():
        assert torch.equal(x[::2], getattr(expected, name)[::2]), name


@pytest.mark.parametrize("rule", RULES)
def test_one_legal_action_gets_everything(rule):
    game = TableGame(6, 4)
    root = game.root(5)
    only = torch.arange(4).eq(2).expand(5, 4)
    result = search(root._replace(legal=only), game.model, SearchConfig(10, rule=rule), seeded())
    assert result.action.tolist() == [2] * 5
    assert torch.equal(result.policy, only.double())
    assert torch.equal(result.visits, 10 * only.long())


@pytest.mark.parametrize("rule", RULES)
def test_no_simulations_answer_with_the_network(rule):
    game = TableGame(7, 4)
    root = game.root(5)
    result = search(root, game.model, SearchConfig(0, rule=rule, gumbel_scale=0))
    prior = root.prior_logits.masked_fill(~root.legal, -math.inf).softmax(-1)
    torch.testing.assert_close(result.policy, prior)
    assert torch.equal(result.value, root.value)
    assert torch.equal(result.action, prior.argmax(-1))
    torch.testing.assert_close(result.q, root.value[:, None] * root.legal)
    assert not game.calls
    assert not result.visits.any()


@pytest.mark.parametrize("rule", RULES)
def test_no_trees(rule):
    game = TableGame(7, 4)
    result = search(game.root(0), game.model, SearchConfig(5, rule=rule), seeded())
    assert [tuple(x.shape) for x in result] == [(0, 4), (0, 4), (0, 4), (0,), (0,)]


def test_dtypes_follow_the_inputs():
    for dtype in (torch.float32, torch.float64):
        game = TableGame(8, 4, dtype=dtype)
        result = search(game.root(5), game.model, SearchConfig(5, rule="gumbel"), seeded())
        assert [x.dtype for x in result] == [dtype, torch.int64, dtype, dtype, torch.int64]
    game = TableGame(8, 4, dtype=torch.bfloat16)
    assert search(game.root(5), game.model, SearchConfig(5)).q.dtype == torch.float32


class Board(NamedTuple):
    number: torch.Tensor
    history: torch.Tensor


class Nested(NamedTuple):
    board: Board
    steps: torch.Tensor


@pytest.mark.parametrize("rule", RULES)
def test_nested_state_reaches_the_model_as_it_left_it(rule):
    game = TableGame(9, 3)
    root = game.root(4)
    config = SearchConfig(num_simulations=12, rule=rule, gumbel_scale=0)
    expected = search(root, game.model, config)

    def model(state, action):
        assert isinstance(state.board, Board)
        # the history of numbers must be that of this very path, whatever other branches were visited in between
        filled = state.board.history[torch.arange(4), state.steps.long()]
        assert torch.equal(filled, state.board.number)
        output, number = game.model(state.board.number, action)
        steps = state.steps + 1
        history = state.board.history.index_put((torch.arange(4), steps.long()), number)
        return output, Nested(Board(number, history), steps)

    history = torch.zeros(4, 20, dtype=torch.int64).index_put((torch.arange(4), torch.zeros(4).long()), root.state)
    nested = Nested(Board(root.state, history), torch.zeros(4, dtype=torch.uint8))
    assert all(map(torch.equal, expected, search(root._replace(state=nested), model, config)))


class CountLooks(TorchDispatchMode):
    """Counts the operations that make a GPU wait."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func)
        self.count += "_local_scalar_dense" in name or "nonzero" in name
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("rule", RULES)
def test_no_hidden_device_and_one_look_per_simulation(rule):
    game = TableGame(12, 4, dtype=torch.float32)
    root = game.root(5)
    config = SearchConfig(10, rule=rule)
    expected = search(root, game.model, config, seeded())
    Arena._spare.clear()
    # a tensor made without naming the inputs' device would land on "meta" and mix with them
    with torch.device("meta"), CountLooks() as looks:
        result = search(root, game.model, config, seeded())
    assert all(map(torch.equal, expected, result))
    assert looks.count <= 10


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_simulations", -1),
        ("num_simulations", 2.5),
        ("rule", "ucb"),
        ("c_puct", -1.0),
        ("discount", 1.5),
        ("discount", math.nan),
        ("max_num_considered_actions", 0),
        ("c_visit", math.inf),
        ("c_scale", -0.1),
        ("gumbel_scale", -1.0),
    ],
)
def test_config_says_what_is_wrong(field, value):
    with pytest.raises(ConfigError, match=f"{field} is .*expected"):
        SearchConfig(**{field: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prior_logits": torch.zeros(4)}, "prior_logits"),
        ({"prior_logits": torch.zeros(3, 4).long()}, "floating point"),
        ({"value": torch.zeros(3, 1, dtype=torch.float64)}, r"value has shape \[3, 1\]; expected \[3\]"),
        ({"value": torch.zeros(3).long()}, "value is torch.int64"),
        ({"legal": torch.ones(4, 4).bool()}, "legal has shape"),
        ({"legal": torch.ones(3, 4)}, r"use \.bool\(\)"),
        ({"state": torch.zeros(2)}, r"state has shape \[2\]; expected \[3, \.\.\.\]"),
    ],
)
def test_a_wrong_root_is_refused(change, message):
    game = TableGame(10, 4)
    with pytest.raises(ConfigError, match=message):
        search(game.root(3)._replace(**change), game.model, SearchConfig(2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": torch.zeros(3, 1)}, "ModelOutput.value has shape"),
        ({"legal": torch.ones(3, 4)}, "ModelOutput.legal is torch.float32"),
        ({"prior_logits": torch.zeros(3, 5)}, "ModelOutput.prior_logits has shape"),
    ],
)
def test_a_wrong_model_is_refused(change, message):
    game = TableGame(10, 4)

    def model(state, action):
        output, state = game.model(state, action)
        return output._replace(**change), state

    with pytest.raises(ConfigError, match=message):
        search(game.root(3), model, SearchConfig(2))
    with pytest.raises(ConfigError, match=r"state of .*float32.* expected .*int64"):
        search(game.root(3), lambda s, a: (game.model(s, a)[0], s.float()), SearchConfig(2))


def test_gumbel_without_a_generator_is_refused():
    with pytest.raises(ConfigError, match="generator"):
        search(*bandit([0.0, 1.0]), SearchConfig(2, rule="gumbel"))
