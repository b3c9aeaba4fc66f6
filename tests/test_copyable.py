import copy
import pickle

import parallel_toys
import pytest
import torch

from omg_lightning.envs import CopyableGame, PettingZooEnv, RulesEnv
from omg_lightning.search import ModelOutput, Root, SearchConfig, search
from omg_lightning.testing import check_env, check_game
from omg_lightning.types import ConfigError, take

MPE = ["mpe2.simple_spread_v3.parallel_env", "mpe2.simple_tag_v3.parallel_env"]
CLASSIC = ["pettingzoo.classic.rps_v2.parallel_env", "pettingzoo.classic.connect_four_v3.env"]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def toy(name="Toy", max_steps=None, state_bytes=None, **kwargs):
    return CopyableGame(f"parallel_toys.{name}", kwargs, max_steps, state_bytes)


def third_party(make, **kwargs):
    pytest.importorskip("mpe2", reason="needs the extra [envs]")
    return CopyableGame(make, kwargs)


def random_actions(legal, generator):
    return torch.multinomial(legal.float().flatten(0, 1), 1, generator=generator).view(legal.shape[:2])


def refused(says, call, *args, **kwargs):
    with pytest.raises(ConfigError, match=says) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def advanced(game, steps, batch=2):
    """Play some random steps, and return the state."""
    state, random = game.reset(batch, seeded()), seeded(1)
    for _ in range(steps):
        state, _ = game.step(state, random_actions(game.legal(state), random))
    return state


@pytest.mark.parametrize("make", MPE + CLASSIC)
def test_a_game_played_by_copies_equals_the_environment_bit_for_bit(make):
    by_copies, original = RulesEnv(third_party(make)), PettingZooEnv(make)
    one, other, random = by_copies.reset(3, seeded()), original.reset(3, seeded()), seeded(2)
    assert same(one, other)
    steps = 0
    while one.active.any():
        actions = random_actions(one.legal, random)
        one, other = by_copies.step(actions), original.step(actions)
        assert same(one, other)
        steps += 1
    assert steps >= 7


@pytest.mark.parametrize("kwargs", [{}, {"leave": {"a": 1, "c": 4}}, {"max_cycles": 3}])
def test_the_contract_of_games_holds_for_toys(kwargs):
    check_game(toy(**kwargs), batch_size=4)
    check_env(RulesEnv(toy(**kwargs)))


@pytest.mark.parametrize("make", MPE)
def test_the_contract_of_games_holds_for_particles(make):
    check_game(third_party(make, max_cycles=5), batch_size=3)


@pytest.mark.parametrize("name", ["Masked", "Turns"])
def test_the_contracts_hold_for_masks_and_turns_where_noop_may_be_illegal(name):
    check_game(toy(name), batch_size=4)
    check_env(RulesEnv(toy(name)))


@pytest.mark.parametrize("make", MPE + CLASSIC[1:])
def test_a_search_through_copies_leaves_the_state_as_it_was(make):
    game = third_party(make)
    state, random = advanced(game, 4), seeded(3)
    kept = type(state)(*(field.clone() for field in state))
    actions = random_actions(game.legal(state), random)
    expected, rewards = game.step(state, actions)
    node = take(state, torch.tensor([1, 0, 0, 1]))  # as in a tree: rows in any order, more than once
    for _ in range(5):
        node, _ = game.step(node, random_actions(game.legal(node), random))
    assert same(state, kept)
    after, again = game.step(state, actions)
    assert same(after, expected)
    assert torch.equal(again, rewards)


def test_copies_keep_what_deepcopy_loses():
    env = parallel_toys.Toy()
    env.reset(seed=0)
    env.step({"a": 0, "b": 1, "c": 2})
    assert not hasattr(copy.deepcopy(env), "time")  # made anew from its arguments
    game = toy()
    state = advanced(game, 2)
    assert game.observe(state)[:, :, 1].tolist() == [[2.0] * 3] * 2
    assert game.observe(game.step(state, torch.zeros(2, 3).long())[0])[:, :, 1].tolist() == [[3.0] * 3] * 2


def test_a_search_finds_the_better_action_through_copies():
    game = toy(max_cycles=3)  # the last action of each agent pays most

    def model(state, action):
        joint = torch.zeros(len(action), 3, dtype=torch.int64)
        joint[:, 2] = action
        after, rewards = game.step(state, joint)
        going = game.active(after)[:, 2]
        zeros = torch.zeros(len(action), game.num_actions)
        reward = (rewards[:, 2] - 22) / 3  # c earns 20 + 2 + k by action k: 0, 1/3, 2/3, 1
        return ModelOutput(zeros, zeros[:, 0], reward, going.float(), game.legal(after)[:, 2]), after

    state = game.reset(2, seeded())
    zeros = torch.zeros(2, game.num_actions)
    result = search(Root(zeros, zeros[:, 0], game.legal(state)[:, 2], state), model, SearchConfig(num_simulations=40))
    assert result.visits.argmax(-1).tolist() == [3, 3]
    assert (result.q[:, 3] > result.q[:, 0] + 0.5).all()
    assert (result.q <= 3).all()  # three steps, each worth 1 at most


def test_chance_of_its_own_is_part_of_the_state():
    game = toy("Chance", source="own")
    state, actions = advanced(game, 1), torch.zeros(2, 3, dtype=torch.int64)
    one, _ = game.step(state, actions)
    other, _ = game.step(state, actions)
    assert same(one, other)
    assert not torch.equal(one.observation[:, :, 0], state.observation[:, :, 0])  # a number was drawn


@pytest.mark.parametrize(
    ("name", "kwargs", "says"),
    [
        ("Chance", {"source": "global"}, "Chance: a copy has another observation .* cannot be copied"),
        ("Chance", {"source": "hidden"}, "Chance: a copy has another observation .* cannot be copied"),
        ("Chance", {"source": "reset"}, "Chance: a second episode with the same seed has another observation"),
        ("Toy", {"comes": {"b": 1}}, "Toy: b is missing after reset"),
        ("Lock", {}, "Lock: its state cannot be copied"),
        ("Engine", {}, "Engine: the environment beside its copies has another observation"),
        ("Engine", {"max_cycles": 1}, "Engine: the environment beside its copies has another observation"),
        ("Table", {}, "Table: a copy has another observation"),
    ],
)
def test_an_environment_that_cannot_be_copied_is_refused_with_the_cure(name, kwargs, says):
    refused(says, toy, name, **kwargs)
    refused("play it with PettingZooEnv and --model.algorithm PPO", toy, name, **kwargs)
    assert PettingZooEnv(f"parallel_toys.{name}", kwargs).game is None


def test_a_window_that_every_reset_opens_is_no_part_of_the_state():
    game = toy("Window")
    for seed in range(3):
        state = game.reset(2, seeded(seed))
        assert game.step(state, torch.zeros(2, 3, dtype=torch.int64))[1].tolist() == [[0.0, 11.0, 22.0]] * 2


def test_objects_that_cannot_be_pickled_are_shared():
    game = toy("Tools")
    assert (game.observe(advanced(game, 3))[..., 0] == 15).all()


def test_a_seat_that_left_by_the_rules_stays_terminated():
    game = toy(leave={"b": 2})
    ended = [game.terminated(advanced(game, steps))[0].tolist() for steps in (1, 2, 4, 6)]
    assert ended == [[False] * 3, *[[False, True, False]] * 3]


def test_episodes_do_not_depend_on_those_before():
    lessons = toy("Lessons")
    for _ in range(2):
        numbers = lessons.reset(3, seeded()).observation[..., 0]
        assert (numbers == numbers[0, 0]).all()
    game = toy()
    first = game.reset(2, seeded())
    advanced(game, 3)
    assert same(game.reset(2, seeded()), first)
    assert not torch.equal(game.reset(2, seeded(1)).observation, first.observation)


def test_a_state_that_grows_too_large_says_which_argument_to_set():
    parallel_toys.Growing.after = 10**9
    game = toy("Growing")
    parallel_toys.Growing.after = 0
    state = game.reset(1, seeded())
    refused(
        r"Growing: a state has \d+ bytes; expected at most \d+.*set state_bytes",
        game.step,
        state,
        torch.zeros(1, 3, dtype=torch.int64),
    )
    state = (roomy := toy("Growing", state_bytes=100_000)).reset(1, seeded())
    assert state.data.shape == (1, 100_000)
    roomy.step(state, torch.zeros(1, 3, dtype=torch.int64))
    refused("state_bytes=0: expected a whole number", toy, state_bytes=0)


def test_a_game_can_be_pickled_and_copied():
    game = toy(leave={"a": 1}, max_steps=4)
    state = game.reset(1, seeded())
    for twin in (copy.deepcopy(game), pickle.loads(pickle.dumps(game))):
        assert twin.max_steps == 4
        assert same(twin.reset(1, seeded())[2:], state[2:])  # all but the bytes, whose room may differ
