import json
import math
import os
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from threading import Barrier
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_search import slow_search, wanted_visits
from table_game import STATES, TableGame, seeded
from torch.utils._python_dispatch import TorchDispatchMode

from omg_lightning.search import ModelOutput, Root, SearchConfig, greedy_action, search
from omg_lightning.search.policy import completed_q, halving_schedule
from omg_lightning.search.tree import Arena
from omg_lightning.types import ConfigError

GOLDEN = Path(__file__).parent / "golden"
RULES = ("puct", "gumbel")
NEEDS_A_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def bandit(rewards, trees=1):
    """Every action ends the episode with its reward, a float32 or what the tensor `rewards` holds."""
    rewards = torch.as_tensor(rewards)
    zeros = torch.zeros(trees, len(rewards), dtype=rewards.dtype)

    def model(state, action):
        nan = torch.full_like(zeros, math.nan)
        return ModelOutput(nan, nan[:, 0], rewards[action], zeros[:, 0], zeros == 0), state

    return Root(zeros, zeros[:, 0], zeros == 0, zeros[:, 0]), model


def in_new_thread(function):
    """Run a function in a thread of its own, whose searches start without spare memory, and return its result."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


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


def test_config_discount_multiplies_the_discount_of_the_model():
    root = Root(torch.zeros(1, 1), torch.full((1,), 8.0), torch.ones(1, 1, dtype=torch.bool), torch.zeros(1))
    result = search(root, chain_model, SearchConfig(num_simulations=3, discount=0.5), seeded())
    assert result.q.item() == pytest.approx((1 + 0.25 * 8 + 2 * (1 + 0.25 * 2)) / 3)
    myopic = search(root, chain_model, SearchConfig(num_simulations=3, discount=0.0), seeded())
    assert myopic.q.item() == 1


def test_gumbel_bandit_by_hand():
    config = SearchConfig(num_simulations=16, rule="gumbel", gumbel_scale=0)
    result = search(*bandit([0.0, 3.0, 1.0, 2.0]), config)
    assert result.visits.tolist() == [
        [2, 6, 2, 6]
    ]  # 16 / (2 rounds * 4) = 2 each, then 16 / (2 * 2) = 4 for the best two
    assert result.action.tolist() == [1]
    scale = (50 + 6) * 0.1  # c_visit, most visits, c_scale; q is rescaled to [0, 1]
    expected = torch.tensor([[0.0, 1.0, 1 / 3, 2 / 3]]).mul(scale).softmax(-1)
    torch.testing.assert_close(result.policy, expected)


@pytest.mark.parametrize(
    ("least", "expected"), [(0.5, [0.0, 1.0, 0.5]), (2.0, [0.0, 1.0, 0.5]), (8.0, [0.0, 0.25, 0.125])]
)
def test_values_that_differ_by_less_than_the_least_span_are_rescaled_by_it(least, expected):
    config = SearchConfig(num_simulations=12, rule="gumbel", gumbel_scale=0, least_span=least)
    result = search(*bandit([0.0, 2.0, 1.0]), config)
    scale = (50 + result.visits.max()) * 0.1
    torch.testing.assert_close(result.policy, torch.tensor([expected]).mul(scale).softmax(-1))


def test_v_mix_by_hand():
    visits = torch.tensor([[2.0], [1.0], [0.0]])
    total = torch.tensor([[6.0], [1.0], [0.0]])
    prior = torch.tensor([[0.5], [0.25], [0.25]])
    q = completed_q(visits, total, prior.log(), torch.tensor([1.0]))
    mean = (0.5 * 3 + 0.25 * 1) / 0.75
    torch.testing.assert_close(q[:, 0], torch.tensor([3.0, 1.0, (1 + 3 * mean) / 4]))


@pytest.mark.parametrize("considered", range(1, 17))
def test_halving_schedule_equals_the_reference(considered):
    for simulations in (0, 1, 2, 7, 16, 50, 200):
        assert list(halving_schedule(considered, simulations)) == wanted_visits(considered, simulations)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("actions", [1, 2, 5])
@pytest.mark.parametrize("seed", range(4))
def test_every_simulation_equals_the_reference_search(rule, actions, seed):
    game = TableGame(seed, actions)
    root, trees = game.root(6), 6
    least = 2.0 * (seed % 2)  # of some nodes the values differ by more, of others by less
    config = SearchConfig(
        num_simulations=30,
        rule=rule,
        c_puct=1.5,
        discount=0.95,
        max_num_considered_actions=4,
        least_span=least,
        gumbel_scale=0.7,
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
    """A TableGame whose tables come from a formula, so that the golden trees do not depend on torch's generator."""
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
def test_a_large_batch_equals_a_small_batch(rule):
    # for large batches the padding of short paths is removed first: the result must not change
    game = TableGame(2, 3)
    root = game.root(3000)
    config = SearchConfig(num_simulations=12, rule=rule, gumbel_scale=0)
    whole = search(root, game.model, config)
    part = search(Root(*(x[:50] for x in root)), game.model, config)
    assert torch.equal(whole.visits[:50], part.visits)
    assert torch.equal(whole.q[:50], part.q)


@pytest.mark.parametrize("rule", RULES)
def test_search_is_a_pure_function(rule):
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
    assert all(map(torch.equal, kept, first))  # the second search does not write to the results of the first


class Again:
    """Stands for a recording on a machine without a GPU: runs everything again."""

    made = 0

    def __init__(self, run, generator):
        self.run = run
        Again.made += 1

    def __call__(self):
        self.run()


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_A_GPU)])
@pytest.mark.parametrize(
    ("simulations", "actions"), [(1, 3), (2, 3), (3, 3), (60, 2), (100, 5)]
)  # deep for few actions
def test_a_cuda_graph_changes_no_result(simulations, actions, device, monkeypatch):
    if device == "cpu":
        module = import_module("omg_lightning.search.search")
        monkeypatch.setattr(module, "Replay", Again)
        monkeypatch.setattr(module, "can_replay", lambda like: True)
        monkeypatch.setattr(Again, "made", 0)
    random = torch.Generator("cpu").manual_seed(3)
    states, trees = 400, 7
    after = torch.randint(states, (states, actions), generator=random).to(device)
    reward, value, logits = (torch.rand(states, actions, generator=random).to(device) for _ in range(3))
    ends = (torch.rand(states, generator=random) < 0.05).to(device)

    def model(state, action):
        now = after[state, action]
        discount = torch.where(ends[now], 0.0, 0.9)
        return ModelOutput(logits[now], value[now, 0], reward[state, action], discount, logits[now] > 0.2), now

    start = torch.arange(trees, device=device)
    root = Root(logits[start], value[start, 0], torch.ones_like(logits[start], dtype=torch.bool), start)
    plain, graph = (
        search(root, model, SearchConfig(num_simulations=simulations, cuda_graph=on), return_tree=True)
        for on in (False, True)
    )
    assert all(torch.equal(x, y) for x, y in zip(plain[0], graph[0], strict=True))
    assert torch.equal(plain[1].child, graph[1].child)
    if device == "cpu":
        assert (Again.made > 0) == (simulations > 2)  # the first and the last simulation are not recorded


@NEEDS_A_GPU
def test_the_random_numbers_of_a_cuda_graph_are_new_in_each_simulation_and_follow_the_generator():
    def drawn(seed):
        random, found = torch.Generator("cuda").manual_seed(seed), torch.zeros(41, 3, device="cuda")
        calls = torch.zeros((), dtype=torch.int64, device="cuda")

        def model(state, action):
            calls.add_(1)
            uniform = torch.rand(3, generator=random, device="cuda")
            found.index_copy_(0, calls[None], uniform[None])
            logits = state[:, None].expand(3, 2)
            return ModelOutput(logits, state, uniform, state + 0.9, logits == 0), state

        zeros = torch.zeros(3, 2, device="cuda")
        root = Root(zeros, zeros[:, 0], zeros == 0, zeros[:, 0])
        search(root, model, SearchConfig(num_simulations=40, cuda_graph=True), random)
        return found[1:]

    first = drawn(0)
    assert len(first.flatten().unique()) > 100  # 120 numbers
    assert torch.equal(first, drawn(0))
    assert not torch.equal(first, drawn(1))


def test_a_search_inside_the_model_changes_nothing():
    game = TableGame(4, 3)
    root, config = game.root(6), SearchConfig(num_simulations=9)
    expected = search(root, game.model, config)

    def model(state, action):
        search(root, game.model, config)
        return game.model(state, action)

    assert all(map(torch.equal, expected, search(root, model, config)))


def test_gumbel_noise_depends_on_the_generator():
    root, model = bandit([0.0] * 6, trees=50)
    config = SearchConfig(num_simulations=2, rule="gumbel")
    actions = {tuple(search(root, model, config, seeded(seed)).action.tolist()) for seed in range(3)}
    assert len(actions) == 3
    assert len(set(next(iter(actions)))) == 6  # uniform prior, equal arms: every arm wins somewhere


def test_memory_allocated_in_inference_mode_is_reused_outside_it():
    game = TableGame(4, 3)
    root, config = game.root(6), SearchConfig(num_simulations=9)
    expected = search(root, game.model, config)

    def check():
        for mode in (True, True, False, False):
            with torch.inference_mode(mode):
                assert all(map(torch.equal, expected, search(root, game.model, config)))

    in_new_thread(check)


@pytest.mark.parametrize("rule", RULES)
def test_rows_without_a_legal_action_return_zeros_and_leave_other_rows_alone(rule):
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
def test_a_single_legal_action_gets_all_visits(rule):
    game = TableGame(6, 4)
    root = game.root(5)
    only = torch.arange(4).eq(2).expand(5, 4)
    result = search(root._replace(legal=only), game.model, SearchConfig(10, rule=rule), seeded())
    assert result.action.tolist() == [2] * 5
    assert torch.equal(result.policy, only.double())
    assert torch.equal(result.visits, 10 * only.long())


@pytest.mark.parametrize("rule", RULES)
def test_zero_simulations_return_the_prior_and_the_network_value(rule):
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
def test_an_empty_batch_returns_an_empty_result(rule):
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
def test_nested_states_reach_the_model_unchanged(rule):
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
    """Count the operations that make a GPU wait."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func)
        self.count += "_local_scalar_dense" in name or "nonzero" in name
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("rule", RULES)
def test_search_stays_on_the_input_device_and_reads_it_at_most_once_per_simulation(rule):
    game = TableGame(12, 4, dtype=torch.float32)
    root = game.root(5)
    config = SearchConfig(10, rule=rule)
    expected = search(root, game.model, config, seeded())

    def check():
        # a tensor made without the device of the inputs would be on "meta", and torch would refuse to mix the two
        with torch.device("meta"), CountLooks() as looks:
            result = search(root, game.model, config, seeded())
        assert all(map(torch.equal, expected, result))
        assert looks.count <= 10

    in_new_thread(check)


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
        ("least_span", -1.0),
        ("gumbel_scale", -1.0),
    ],
)
def test_config_refuses_invalid_values(field, value):
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


def address_of_memory():
    with Arena() as arena:
        return arena.empty(torch.zeros(1), 1000).data_ptr()


def test_each_thread_reuses_memory_of_its_own():
    address_of_memory()  # its end makes the block that the next search takes
    ours = address_of_memory()
    theirs = in_new_thread(lambda: (address_of_memory(), address_of_memory())[1])
    assert theirs != ours
    assert address_of_memory() == ours


def test_nested_searches_do_not_share_memory():
    address_of_memory()
    with Arena() as outer:
        ours = outer.empty(torch.zeros(1), 1000).data_ptr()
        assert address_of_memory() != ours
        assert address_of_memory() != ours
    assert address_of_memory() == ours


def test_simultaneous_searches_in_threads_equal_a_search_alone():
    game = TableGame(4, 3)
    root, config = game.root(6), SearchConfig(num_simulations=9)
    expected = search(root, game.model, config)
    together = Barrier(3, timeout=60)

    def model(state, action):
        together.wait()  # all threads are in the same simulation
        return game.model(state, action)

    with ThreadPoolExecutor(3) as pool:
        for _ in range(3):
            for future in [pool.submit(search, root, model, config) for _ in range(3)]:
                assert all(map(torch.equal, expected, future.result()))


def gumbel_policy(rewards, simulations=32):
    """The root policy of a bandit under the Gumbel rule without noise, where the prior is uniform."""
    return search(*bandit(rewards), SearchConfig(simulations, rule="gumbel", gumbel_scale=0)).policy[0]


def one_ulp_apart(value, dtype):
    x = torch.tensor(value, dtype=dtype)
    return torch.stack([x, torch.nextafter(x, 2 * x), x])


@pytest.mark.parametrize("simulations", [3, 32])
@pytest.mark.parametrize(
    "rewards",
    [
        *(pytest.param(one_ulp_apart(x, torch.float32), id=f"float32 {x:g}") for x in (0.3, -0.3, 1.0, 1e6)),
        *(pytest.param(one_ulp_apart(x, torch.float64), id=f"float64 {x:g}") for x in (1e9, -1e9)),
        pytest.param(torch.tensor([0.1 + 0.2, 0.3], dtype=torch.float64), id="0.1 + 0.2"),
        pytest.param(torch.tensor([0.1 + 0.2, 0.3], dtype=torch.float64) * 1e9, id="1e9 * (0.1 + 0.2)"),
    ],
)
def test_values_equal_up_to_rounding_leave_the_gumbel_policy_at_the_prior(rewards, simulations):
    expected = torch.full_like(rewards, 1 / len(rewards))
    torch.testing.assert_close(gumbel_policy(rewards, simulations), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("simulations", [7, 50, 300, 1000])
@pytest.mark.parametrize("reward", [0.1, 0.7, -123.4])
def test_rounding_of_a_mean_over_many_visits_leaves_the_gumbel_policy_at_the_prior(reward, simulations):
    # the arms are visited unequally often, so W / N rounds differently
    policy = gumbel_policy([reward] * 5, simulations)
    torch.testing.assert_close(policy, torch.full((5,), 0.2), rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e-3, 1e3, 1e12])
def test_the_gumbel_policy_does_not_depend_on_the_unit_of_rewards(scale):
    rewards = torch.tensor([0.0, 3.0, 1.0, 2.0])
    torch.testing.assert_close(gumbel_policy(rewards * scale), gumbel_policy(rewards))


@pytest.mark.parametrize(
    ("base", "step", "dtype"),
    [(1e3, 0.25, torch.float32), (1e6, 64.0, torch.float32), (1.0, 1e-4, torch.float32), (1.0, 1e-12, torch.float64)],
)
def test_small_real_differences_are_rescaled_to_the_unit_interval(base, step, dtype):
    got = gumbel_policy(base + step * torch.tensor([0.0, 2.0, 1.0], dtype=dtype))
    expected = gumbel_policy(torch.tensor([0.0, 2.0, 1.0], dtype=dtype))
    torch.testing.assert_close(got, expected, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("rule", RULES)
def test_greedy_search_draws_no_random_number(rule):
    game, generator = TableGame(3, 4), seeded(7)
    before = generator.get_state()
    search(game.root(5), game.model, SearchConfig(15, rule=rule, gumbel_scale=0), generator)
    assert torch.equal(generator.get_state(), before)


def test_puct_takes_the_first_of_equals_by_default():
    result = search(*bandit([0.0] * 5, trees=1000), SearchConfig(7), seeded())
    assert result.visits.tolist() == [[2, 2, 1, 1, 1]] * 1000
    assert not result.action.any()


def test_random_ties_spread_visits_evenly_over_equal_actions():
    result = search(*bandit([0.0] * 5, trees=1000), SearchConfig(7, random_ties=True), seeded())
    assert result.visits.sort(-1).values.tolist() == [[1, 1, 1, 2, 2]] * 1000
    second = (result.visits == 2).sum(0)  # 400 expected, with a standard deviation of 15.5
    assert second.min() > 340
    assert second.max() < 460


def test_random_ties_choose_every_action_equally_often_where_the_first_try_beats_the_network_value():
    # the network says 0 and every action earns 1, so PUCT returns to the action that it tried first
    root, model = bandit([1.0] * 5, trees=1000)
    assert not search(root, model, SearchConfig(7)).action.any()
    counts = search(root, model, SearchConfig(7, random_ties=True), seeded()).action.bincount(minlength=5)
    assert counts.min() > 150  # 200 expected, with a standard deviation of 12.6
    assert counts.max() < 250


@pytest.mark.parametrize("rule", RULES)
def test_random_ties_hold_inside_the_tree(rule):
    trees, actions, calls = 1000, 5, []
    zeros = torch.zeros(trees, actions)

    def model(state, action):
        calls.append(action.tolist())
        return ModelOutput(zeros, zeros[:, 0], zeros[:, 0], zeros[:, 0] + 1, zeros == 0), state

    root = Root(zeros, zeros[:, 0], torch.arange(actions).eq(3).expand(trees, actions), zeros[:, 0])
    search(root, model, SearchConfig(2, rule=rule, gumbel_scale=0, random_ties=True), seeded())
    first, second = calls
    assert first == [3] * trees  # the only legal action of the root
    counts = torch.tensor(second).bincount(minlength=actions)  # 200 expected, with a standard deviation of 12.6
    assert counts.min() > 150
    assert counts.max() < 250


@pytest.mark.parametrize("rule", RULES)
def test_random_ties_keep_preferences(rule):
    root, model = bandit([1.0] * 3, trees=1000)
    preferred = torch.tensor([0.0, 0.01, 0.0])  # a logit that is higher by a little
    config = SearchConfig(1, rule=rule, gumbel_scale=0, random_ties=True)
    result = search(root._replace(prior_logits=root.prior_logits + preferred), model, config, seeded())
    assert result.visits.tolist() == [[0, 1, 0]] * 1000


def test_random_ties_depend_on_the_generator_alone():
    root, model = bandit([1.0] * 5, trees=50)
    config = SearchConfig(3, random_ties=True)
    first, second, other = (search(root, model, config, seeded(seed)).visits for seed in (7, 7, 8))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    with pytest.raises(ConfigError, match=r"generator=None; random_ties=True expects"):
        search(root, model, config)


def test_greedy_action_breaks_ties_evenly_with_a_generator():
    legal = torch.tensor([True, False, True, True, True]).expand(1000, 5)
    actions = greedy_action(torch.full((1000, 5), 0.3), legal, seeded())
    counts = actions.bincount(minlength=5)
    assert counts[1] == 0
    others = counts[legal[0]]  # 250 expected, with a standard deviation of 13.7
    assert others.min() > 195
    assert others.max() < 305
    assert torch.equal(actions, greedy_action(torch.full((1000, 5), 0.3), legal, seeded()))


def test_greedy_action_takes_the_first_of_equals_without_a_generator():
    legal = torch.tensor([False, True, True, True]).expand(1000, 4)
    assert greedy_action(torch.zeros(1000, 4), legal).tolist() == [1] * 1000


@pytest.mark.parametrize("generator", [None, seeded()])
def test_greedy_action_takes_the_legal_action_with_the_highest_score(generator):
    scores = torch.tensor([[0.0, 2.0, 1.0], [9.0, -2.0, -1.0], [0.0, -1e-6, 1e-6], [1.0, 1.001, 1.0], [5.0, 5.0, 5.0]])
    legal = torch.tensor([[1, 1, 1], [0, 1, 1], [1, 1, 1], [1, 1, 1], [0, 0, 0]]).bool()
    assert greedy_action(scores, legal, generator).tolist() == [1, 2, 2, 1, 0]


def test_greedy_action_treats_scores_equal_up_to_rounding_as_ties():
    scores = torch.tensor([[0.3, 0.1 + 0.2]], dtype=torch.float64).expand(1000, 2)
    legal = torch.ones(1000, 2, dtype=torch.bool)
    assert scores[0, 0] < scores[0, 1]
    assert not greedy_action(scores, legal).any()
    assert 400 < greedy_action(scores, legal, seeded()).sum() < 600


@settings(max_examples=50, deadline=None)
@given(
    scores=st.lists(st.sampled_from([math.nan, -math.inf, -1e30, -1.0, 0.0, 1e-30, 1.0, 1e30]), min_size=1, max_size=5),
    mask=st.integers(1, 31),
    random=st.booleans(),
)
def test_greedy_action_is_legal_whatever_the_scores(scores, mask, random):
    legal = torch.tensor([[bool(mask >> a & 1) for a in range(len(scores))]])
    action = greedy_action(torch.tensor([scores]), legal, seeded() if random else None)
    assert legal[0, action] or (not legal.any() and action == 0)


@pytest.mark.parametrize(
    ("scores", "legal"),
    [
        (torch.zeros(3, 4).long(), torch.ones(3, 4).bool()),
        (torch.zeros(3, 4), torch.ones(3, 4)),
        (torch.zeros(3, 4), torch.ones(3, 5).bool()),
    ],
)
def test_greedy_action_refuses_wrong_inputs(scores, legal):
    with pytest.raises(ConfigError, match=r"greedy_action got .*; expected .*: "):
        greedy_action(scores, legal)


@pytest.mark.parametrize("rule", RULES)
def test_the_returned_tree_of_a_chain_by_hand(rule):
    root = Root(torch.zeros(1, 1), torch.full((1,), 8.0), torch.ones(1, 1, dtype=torch.bool), torch.zeros(1))
    config = SearchConfig(num_simulations=3, rule=rule, gumbel_scale=0)
    _, tree = search(root, chain_model, config, return_tree=True)
    # root -> node 1 -> node 2, which ends; the third simulation visits node 2 again and leaves its slot unused
    assert tree.visits[0].tolist() == [3, 2, 0, 0]
    assert tree.total[0].tolist() == [5 + 2 + 2, 2 + 2, 0, 0]
    assert tree.child.tolist()[:3] == [1, 2, 2]
    assert tree.nodes[:, :3].tolist() == [[8, 8, 0], [0, 1, 2], [1, 0.5, 0]]  # value, reward, discount
    assert tree.ended.tolist()[:3] == [False, False, True]
    assert tree.state.tolist() == [0, 1, 2]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("simulations", [0, 1, 25])
def test_the_returned_tree_is_consistent_and_kept(rule, simulations):
    game = TableGame(5, 3)
    root = game.root(4)
    config = SearchConfig(simulations, rule=rule, gumbel_scale=0)
    expected = search(root, game.model, config)
    result, tree = search(root, game.model, config, return_tree=True)
    search(game.root(4), game.model, config)  # must not write to the tree of the search before
    assert all(map(torch.equal, expected, result))
    assert torch.equal(tree.visits[:, :4].t().long(), result.visits)
    assert torch.equal(tree.state[:4], root.state)
    visits, total, size, nodes = tree.visits.reshape(-1), tree.total.reshape(-1), len(tree.parent), 0
    for row in range(4, size):
        edge, parent = tree.into[row].item(), tree.parent[row].item()
        if tree.child[edge] != row:
            continue
        nodes += 1
        value, reward, discount = tree.nodes[:, row].tolist()
        count, below = visits[edge].item(), tree.visits[:, row].sum().item()
        if tree.ended[row]:
            assert below == 0
            rest = count * value
        else:
            assert count == 1 + below
            rest = value + tree.total[:, row].sum().item()
        assert total[edge].item() == pytest.approx(count * reward + discount * rest)
        if row < len(tree.state):
            assert tree.state[row] == (tree.state[parent] * 3 + edge // size + 1) % STATES
    assert nodes >= simulations
