import importlib

import numpy as np
import parallel_toys
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from parallel_toys import AGENTS
from pettingzoo.utils import BaseParallelWrapper

from omg_lightning.envs import PettingZooEnv
from omg_lightning.games.base import replace_illegal
from omg_lightning.testing import check_env
from omg_lightning.types import ConfigError


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def toy(name="Toy", max_steps=None, **kwargs):
    return PettingZooEnv(f"parallel_toys.{name}", kwargs, max_steps)


def needs(package):
    pytest.importorskip(package, reason="needs the extra [envs]")


def random_actions(step, generator):
    legal = step.legal.float().flatten(0, 1)
    return torch.multinomial(legal, 1, generator=generator).view(step.legal.shape[:2])


def refused(says, call, *args, **kwargs):
    with pytest.raises(ConfigError, match=says) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)


def play(env, batch=2):
    """Play episodes with action 0 where it is legal, and return all steps."""
    steps = [env.reset(batch, seeded())]
    while steps[-1].active.any():
        steps.append(env.step(torch.zeros(batch, env.num_players, dtype=torch.int64)))
    return steps


def test_sizes_are_the_largest_of_all_agents():
    env = toy()
    assert (env.num_players, env.num_actions, env.max_steps, env.noop) == (3, 4, 6, 0)
    assert env.agent_names == ("a", "b", "c")
    assert env.observation_space.shape == (4,)
    assert env.observation_space.dtype == np.float32
    assert env.game is None
    assert env.goal_names == ()


def test_views_are_padded_with_zeros_and_masks_with_false():
    step = toy().reset(1, seeded())
    number = step.observation[0, 0, 0]
    assert 0 < number < 1
    assert step.observation[0].tolist() == [[number, 0, 0, 0], [number, 0, 0, 0], [number, 0, 0, 0]]
    assert step.legal[0].tolist() == [[True] * 2 + [False] * 2, [True] * 3 + [False], [True] * 4]


def test_actions_start_where_the_space_starts_and_rewards_are_the_environments():
    env = toy()
    env.reset(1, seeded())
    parallel_toys.CALLS.clear()
    step = env.step(torch.tensor([[1, 2, 3]]))
    assert parallel_toys.CALLS == [{"a": 1, "b": 3, "c": 5}]
    assert step.reward.tolist() == [[1, 13, 25]]
    assert step.reward.dtype == torch.float32
    assert step.observation[0, 2, 1:].tolist() == [1, 1, 3]  # the time, and what a and b played


def test_the_environment_gets_no_actions_of_agents_that_have_left():
    env = toy(leave={"a": 1, "b": 2})
    ones = torch.ones(1, 3, dtype=torch.int64)
    start = env.reset(1, seeded())
    parallel_toys.CALLS.clear()
    steps = [start, *(env.step(ones) for _ in range(6))]
    active = ["".join("abc"[seat] for seat in range(3) if step.active[0, seat]) for step in steps]
    assert active == ["abc", "bc", "c", "c", "c", "c", ""]
    assert steps[1].truncated.tolist() == [[True, False, False]]
    assert steps[2].terminated.tolist() == [[False, True, False]]
    assert steps[6].truncated.tolist() == [[False, False, True]]
    assert torch.stack([step.terminated | step.truncated for step in steps]).sum() == 3
    assert [list(call) for call in parallel_toys.CALLS] == [["a", "b", "c"], ["b", "c"], *[["c"]] * 4]
    assert steps[3].reward.tolist() == [[0, 0, 23]]
    assert steps[3].legal[0, :2].tolist() == [[True, False, False, False]] * 2
    assert torch.equal(steps[5].observation[0, 0], steps[1].observation[0, 0])  # the last that it saw
    parallel_toys.CALLS.clear()
    after = env.step(ones)  # the episode is over
    assert not parallel_toys.CALLS
    assert not any(field.any() for field in (after.reward, after.active, after.terminated, after.truncated))
    assert torch.equal(after.observation, steps[6].observation)


def test_an_agent_may_come_late():
    steps = play(toy(comes={"b": 2}))
    assert [step.active[0, 1].item() for step in steps] == [False, False, True, True, True, True, False]
    assert steps[0].legal[0, 1].tolist() == [True, False, False, False]
    assert [step.reward[0, 1].item() for step in steps] == [0, 0, 0, 11, 11, 11, 11]
    assert [step.truncated[0, 1].item() for step in steps] == [False] * 6 + [True]
    assert steps[0].observation[0, 1].tolist() == [0, 0, 0, 0]
    assert steps[2].observation[0, 1, 1] == 2


def test_max_steps_truncates_all_remaining_agents():
    steps = play(toy(leave={"a": 2}, max_steps=3))
    assert len(steps) == 4
    assert steps[2].terminated[0].tolist() == [True, False, False]
    assert steps[3].truncated[0].tolist() == [False, True, True]
    assert steps[3].reward[0].tolist() == [0, 11, 22]  # the last step still pays


def test_max_steps_by_default_is_the_environments_own():
    assert toy(max_cycles=4).max_steps == 4
    assert toy("Views", view="number").max_steps == 6  # an attribute
    assert toy("Turns").max_steps == 1000
    assert toy("Turns", max_cycles=4).max_steps == 8  # turns
    assert toy(max_cycles=4, max_steps=9).max_steps == 9
    assert len(play(toy(max_cycles=4, max_steps=9))) == 5


@pytest.mark.parametrize(
    ("view", "dtype", "expected"),
    [
        ("planes", torch.uint8, [[1, 0, 1], [0, 1, 0]]),
        ("boolean", torch.uint8, [[1, 0], [0, 1]]),
        ("number", torch.uint8, [0, 0, 1, 0]),
        ("numbers", torch.uint8, [0, 1, 0, 0, 1]),
        ("counts", torch.int32, [300, 70_000]),
        ("unsigned", torch.int32, [300, 65_535]),
        ("large", torch.int64, [2**53 - 1]),
        ("bytes", torch.uint8, [0, 255]),
        ("reals", torch.float64, [[0.1, -1 / 3]]),
        ("scalar", torch.float32, [0.25]),
        ("mixed", torch.float64, [0, 1, 0, 0.5, -2]),
        ("pair", torch.uint8, [0, 1, 0, 1]),
    ],
)
def test_views_of_any_space_keep_their_values(view, dtype, expected):
    env = toy("Views", view=view)
    step = env.step(torch.zeros(2, 3, dtype=torch.int64)) if env.reset(2, seeded()) else None
    assert step.observation.dtype == dtype
    assert step.observation.tolist() == [[expected] * 3] * 2
    assert env.observation_space.shape == step.observation.shape[2:]
    check_env(env)


@pytest.mark.parametrize(
    ("view", "says"),
    [
        ("list", r"Views: an observation_space is Sequence\(.*cannot flatten"),
        ("half", r"Views: a observes 1.5, outside of its observation_space"),
        ("beyond", r"Views: a observes 256, outside of its observation_space"),
        ("wide", r"Views: a observes an array of shape \(3,\); expected \(2,\)"),
    ],
)
def test_views_that_cannot_keep_their_values_are_refused(view, says):
    refused(says, toy, "Views", view=view)


@pytest.mark.parametrize("place", ["observation", "info"])
def test_masks_come_from_the_observation_or_the_info(place):
    env = toy("Masked", place=place)
    step = env.reset(1, seeded())
    assert env.observation_space.shape == (2, 2)
    assert step.legal.all()
    step = env.step(torch.tensor([[0, 1, 2]]))
    assert step.legal[0].tolist() == [[False, True, True], [False, False, True], [False, True, False]]


def test_an_illegal_action_is_replaced_by_noop_or_the_first_legal_one():
    env = toy("Masked")
    env.reset(1, seeded())
    parallel_toys.CALLS.clear()
    env.step(torch.tensor([[9, -1, 2]]))  # no actions: noop is legal
    env.step(torch.tensor([[0, 0, 2]]))  # now it is not, and c played 2 before
    assert parallel_toys.CALLS == [{"a": 0, "b": 0, "c": 2}, {"a": 1, "b": 1, "c": 1}]


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_replaced_actions_are_legal_and_legal_ones_stay(data):
    legal = torch.tensor(data.draw(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1)))
    legal[:, 3] |= ~legal.any(-1)
    actions = torch.tensor(data.draw(st.lists(st.integers(-2, 6), min_size=len(legal), max_size=len(legal))))
    found = replace_illegal(actions[None], legal[None], 1)[0]
    for action, mask, instead in zip(actions.tolist(), legal.tolist(), found.tolist(), strict=True):
        kept = 0 <= action < 4 and mask[action]
        assert instead == (action if kept else 1 if mask[1] else mask.index(True))


def test_seeds_are_drawn_from_the_generator_one_for_each_episode():
    env = toy("Recorded")
    parallel_toys.SEEDS.clear()
    first, again, other = env.reset(5, seeded()), env.reset(5, seeded()), env.reset(5, seeded(1))
    seeds = parallel_toys.SEEDS
    assert seeds[:5] == seeds[5:10]
    assert len(set(seeds)) == 10
    assert torch.equal(first.observation, again.observation)
    assert not torch.equal(first.observation, other.observation)
    generator = seeded()
    env.reset(5, generator)
    assert not torch.equal(env.reset(5, generator).observation, first.observation)


def test_copies_are_made_when_needed_and_used_again(monkeypatch):
    made = []
    monkeypatch.setattr(parallel_toys, "counted", lambda: made.append(1) or parallel_toys.Toy(), raising=False)
    env = toy("counted")
    assert len(made) == 1
    for batch in (3, 2, 3):
        env.reset(batch, seeded())
    assert len(made) == 3


def test_keep_selects_environments_in_this_order():
    env, whole = toy(), toy()
    start = whole.reset(3, seeded())
    env.reset(3, seeded())
    env.keep(torch.tensor([2, 0]))
    actions = torch.tensor([[0, 1, 2], [1, 0, 1], [1, 2, 0]])
    step, expected = env.step(actions[[2, 0]]), whole.step(actions)
    assert torch.equal(step.observation, expected.observation[[2, 0]])
    assert torch.equal(step.reward, expected.reward[[2, 0]])
    assert start.observation[0, 0, 0] != start.observation[2, 0, 0]
    with pytest.raises(ValueError, match="at most once"):
        env.keep(torch.tensor([0, 0]))


def test_step_asks_for_a_reset_and_one_action_for_each_seat():
    env = toy()
    with pytest.raises(ValueError, match="call reset first"):
        env.step(torch.zeros(1, 3, dtype=torch.int64))
    env.reset(2, seeded())
    with pytest.raises(ValueError, match=r"shape \(1, 3\); expected \(2, 3\)"):
        env.step(torch.zeros(1, 3, dtype=torch.int64))


@pytest.mark.parametrize(
    ("lie", "says"),
    [
        ("returns", r"Liar: b left and came back"),
        ("stays", r"Liar: b ended with this step but is still in env.agents"),
        ("raises", r"Liar: step\(.*failed inside the environment with KeyError: 'two\\nlines'"),
        ("unknown", r"Liar: agent 'd' appeared"),
        ("old step", r"Liar: step\(.*ValueError"),
        ("observation", r"Liar: no observation of b"),
        ("reward", r"Liar: step returned no reward of b"),
        ("termination", r"Liar: step returned no termination of b"),
        ("mask", r"Liar: the action_mask of a allows no action"),
        ("short mask", r"Liar: the action_mask of b has shape \(2,\); expected \(3,\)"),
    ],
)
def test_an_environment_that_breaks_the_contract_is_refused_at_that_step(lie, says):
    refused(says, play, toy("Liar", lie=lie))


@pytest.mark.parametrize(
    ("lie", "says"),
    [
        ("no agents", "env.agents is empty after reset"),
        ("old reset", r"reset\(seed=0\) failed"),
        ("no agents listed", r"no possible_agents, and its agents after two resets are \['a'\] and \['a', 'b'\]"),
    ],
)
def test_an_environment_that_breaks_the_contract_in_reset_is_refused_when_made(lie, says):
    refused(says, toy, "Liar", lie=lie)


@pytest.mark.parametrize("lie", ["gone", "both"])
def test_an_agent_that_leaves_without_or_with_both_flags_is_terminated(lie):
    steps = play(toy("Liar", lie=lie))
    assert steps[2].terminated[0].tolist() == [False, True, False]
    assert not steps[2].truncated.any()


def test_agents_after_reset_are_the_seats_where_none_are_listed():
    assert toy("Unlisted").agent_names == tuple(AGENTS)


@pytest.mark.parametrize(
    ("make", "kwargs", "says"),
    [
        ("nothing", {}, "make='nothing': give the dotted path of a function"),
        ("a b.c", {}, "give the dotted path"),
        (3, {}, "make=3: give the dotted path"),
        ("no_such_package.env", {}, "needs the package no_such_package, which is not installed: pip install no_such_p"),
        ("pettingzoo.test.no_such.env", {}, "pettingzoo.test has no module no_such; check the spelling"),
        ("parallel_toys.Nobody", {}, "parallel_toys has no function Nobody"),
        ("parallel_toys.AGENTS", {}, "parallel_toys has no function AGENTS"),
        ("parallel_toys.Toy", {"speed": 1}, "parallel_toys.Toy: the call with kwargs .*TypeError.*speed"),
        ("parallel_toys.not_an_environment", {}, "returned int; expected a pettingzoo ParallelEnv or AECEnv"),
        ("parallel_toys.continuous", {}, r"the action_space of a is Box\(.*expected Discrete"),
    ],
)
def test_an_environment_that_cannot_be_made_is_refused_in_one_line(make, kwargs, says):
    refused(says, PettingZooEnv, make, kwargs)


@pytest.mark.parametrize("max_steps", [0, 1.5, True])
def test_max_steps_must_be_a_whole_number(max_steps):
    refused("max_steps=", toy, max_steps=max_steps)


def test_turn_based_games_are_played_one_turn_a_step_by_hand():
    env = toy("Turns")
    assert env.action_names == ("action_0", "action_1", "wait")
    assert env.noop == 2
    step = env.reset(1, seeded())
    on, wait = [True, True, False], [False, False, True]
    assert step.legal[0].tolist() == [on, wait]
    step = env.step(torch.tensor([[1, 1]]))  # a adds 2; b is not on turn
    assert step.observation[0].tolist() == [[2], [2]]
    assert step.legal[0].tolist() == [wait, on]
    env.step(torch.tensor([[2, 0]]))  # b adds 1: 3
    step = env.step(torch.tensor([[2, 2]]))  # a must not wait, so it adds 1: 4
    assert step.observation[0].tolist() == [[4], [4]]
    step = env.step(torch.tensor([[2, 1]]))  # b adds 2: 6
    assert step.reward.tolist() == [[-1, 1]]
    assert step.terminated.tolist() == [[True, True]]
    assert step.legal[0].tolist() == [wait, wait]


class Witness(BaseParallelWrapper):
    """Notes the seed of its last reset."""

    def reset(self, seed=None, options=None):
        self.seed = seed
        return super().reset(seed, options)


@pytest.mark.parametrize("make", ["mpe2.simple_spread_v3", "mpe2.simple_tag_v3", "pettingzoo.classic.rps_v2"])
def test_steps_are_those_of_the_original_environment(make, monkeypatch):
    needs("mpe2")
    module = importlib.import_module(make)
    copies = []

    def witness(**kwargs):
        copies.append(Witness(module.parallel_env(**kwargs)))
        return copies[-1]

    monkeypatch.setattr(module, "witness", witness, raising=False)
    env, batch = PettingZooEnv(f"{make}.witness", {"max_cycles": 7}), 3
    step, random = env.reset(batch, seeded()), seeded(5)
    originals = [module.parallel_env(max_cycles=7) for _ in range(batch)]
    seen = [original.reset(seed=copy.seed)[0] for original, copy in zip(originals, copies, strict=True)]
    agents = originals[0].possible_agents
    assert env.agent_names == tuple(agents)
    for time in range(7):
        for b, original in enumerate(originals):
            same_views(step.observation[b], seen[b], original, agents)
        actions = random_actions(step, random)
        step = env.step(actions)
        for b, original in enumerate(originals):
            seen[b], rewards, ends, cuts, _ = original.step(dict(zip(agents, actions[b].tolist(), strict=True)))
            assert step.reward[b].tolist() == [np.float32(rewards[agent]) for agent in agents]
            assert step.terminated[b].tolist() == [ends[agent] for agent in agents]
            assert step.truncated[b].tolist() == [cuts[agent] for agent in agents] == [time == 6] * len(agents)
            assert step.active[b].tolist() == [agent in original.agents for agent in agents]
            same_views(step.observation[b], seen[b], original, agents)


def same_views(views, seen, original, agents):
    """Compare views `[P, n]` with an environment's own, and check that the rest is padding."""
    for view, agent in zip(views, agents, strict=True):
        space = original.observation_space(agent)
        expected = np.eye(space.n)[seen[agent]] if hasattr(space, "n") else seen[agent]
        assert view.tolist() == [*expected.tolist(), *[0] * (len(view) - len(expected))]


@pytest.mark.parametrize("game", ["connect_four_v3", "tictactoe_v3"])
def test_turn_based_games_are_those_of_the_original(game):
    needs("mpe2")  # brings pygame
    make = f"pettingzoo.classic.{game}.env"
    env, original = PettingZooEnv(make), importlib.import_module(f"pettingzoo.classic.{game}").env()
    step, random = env.reset(1, seeded()), seeded(3)
    original.reset()
    total, won = torch.zeros(1, 2), dict.fromkeys(original.possible_agents, 0)
    turns = 0
    while step.active.any():
        agent = original.agent_selection
        seat = env.agent_names.index(agent)
        for other, name in enumerate(env.agent_names):
            assert step.observation[0, other].tolist() == original.observe(name)["observation"].tolist()
        assert step.legal[0, seat].tolist() == [*original.observe(agent)["action_mask"].astype(bool).tolist(), False]
        assert step.legal[0, 1 - seat].nonzero().tolist() == [[env.noop]]
        actions = random_actions(step, random)
        step = env.step(actions)
        original.step(actions[0, seat].item())
        total += step.reward
        turns += 1
    while original.agents:
        agent = original.agent_selection
        _, reward, ended, cut, _ = original.last()
        assert ended
        assert not cut
        won[agent] += reward
        original.step(None)
    assert step.terminated.all()
    assert total.tolist() == [[won[agent] for agent in env.agent_names]]
    assert turns >= 5


def test_an_aec_game_that_is_parallelizable_is_converted():
    needs("mpe2")
    parallel = PettingZooEnv("pettingzoo.classic.rps_v2.parallel_env")
    converted = PettingZooEnv("pettingzoo.classic.rps_v2.env")
    assert converted.num_actions == 3  # nobody waits
    for one, other in zip(play(parallel), play(converted), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("kwargs", [{}, {"leave": {"a": 1, "c": 3}}, {"comes": {"a": 1}}])
def test_the_contract_holds_for_toys(kwargs):
    check_env(toy(**kwargs))


@pytest.mark.parametrize("name", ["Masked", "Turns", "Unlisted"])
def test_the_contract_holds_for_masks_turns_and_unlisted_agents(name):
    check_env(toy(name))


@pytest.mark.parametrize(
    "make",
    [
        "mpe2.simple_spread_v3.parallel_env",
        "mpe2.simple_tag_v3.parallel_env",
        "mpe2.simple_speaker_listener_v4.parallel_env",
        "pettingzoo.classic.rps_v2.parallel_env",
        "pettingzoo.classic.connect_four_v3.env",
    ],
)
def test_the_contract_holds_for_third_party_games(make):
    needs("mpe2")
    check_env(PettingZooEnv(make, {"max_cycles": 5} if "classic" not in make else {}))


def test_our_own_games_can_be_played_through_pettingzoo():
    env = PettingZooEnv("omg_lightning.envs.stag_hunt_v0.parallel_env", {"preset": "2h1s_4x4", "max_cycles": 6})
    assert env.max_steps == 6
    assert env.observation_space.shape[1:] == (4, 4)
    check_env(env)
