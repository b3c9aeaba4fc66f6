"""The contract of every PettingZoo environment of this project; stricter than PettingZoo's own tests.

Use: `check_contract(parallel_env)`, where `parallel_env(**kwargs)` makes a fresh environment. Where agents walk on a
grid without edges that wrap around, and never block each other, add `check_moves_match_the_mask(parallel_env)`.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from omg_lightning.envs import GameParallelEnv
from omg_lightning.spaces import is_binary
from omg_lightning.types import ConfigError

Make = Callable[..., GameParallelEnv]
MOVES = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}


def check_contract(make: Make, random_start: bool = True) -> None:
    """Check everything; `random_start=False` for a game whose episodes all start alike."""
    check_spaces(make)
    check_whole_episodes(make)
    check_determinism(make, random_start)
    check_masked_actions_count_as_noop(make)
    check_actions_of_agents_that_left_are_ignored(make)
    check_errors(make)


def check_spaces(make: Make) -> None:
    """Agents are named by the game, views have its space, and bits are shown as float32."""
    env = make()
    game, space = env.game, env.game.observation_space
    assert env.possible_agents == list(game.agent_names)
    assert len(set(env.possible_agents)) == game.num_players
    for agent in env.possible_agents:
        assert env.observation_space(agent) is env.observation_space(agent)
        assert env.action_space(agent) is env.action_space(agent)
        assert env.action_space(agent).n == game.num_actions
        shown = env.observation_space(agent)["observation"]
        assert shown.shape == game.observation_shape
        assert shown.dtype == (np.float32 if is_binary(space) else space.dtype)
        if not is_binary(space):
            np.testing.assert_array_equal(shown.low, space.low)
            np.testing.assert_array_equal(shown.high, space.high)
    assert ("rgb_array" in env.metadata["render_modes"]) == (game.layout is not None)


def sample(env, seen, rng, masked=True):
    """Random actions, by name; of legal ones only if `masked`."""
    legal = {agent: np.flatnonzero(seen[agent]["action_mask"]) for agent in env.agents}
    every = np.arange(env.game.num_actions)
    return {agent: int(rng.choice(legal[agent] if masked else every)) for agent in env.agents}


def running(env):
    """Loop while agents are left; fail if they stay after `max_steps`."""
    for _ in range(env.game.max_steps):
        if not env.agents:
            return
        yield
    assert not env.agents, "the episode goes on after max_steps"


def check_seen(env, seen, infos, expected_agents):
    """Observations of one step are inside their space, show the game's own views, and have the right mask."""
    assert set(seen) == set(infos) == set(expected_agents)
    views, legal = env.game.observe(env.game_state)[0].numpy(), env.game.legal(env.game_state)[0].numpy()
    for agent, one in seen.items():
        seat = env.possible_agents.index(agent)
        assert env.observation_space(agent).contains(one), f"the observation of {agent} is outside its space"
        assert isinstance(one["observation"], np.ndarray)
        assert one["observation"].dtype == env.observation_space(agent)["observation"].dtype
        assert one["action_mask"].dtype == np.int8
        np.testing.assert_array_equal(one["observation"], views[seat])
        np.testing.assert_array_equal(one["action_mask"], legal[seat])
        np.testing.assert_array_equal(infos[agent]["action_mask"], legal[seat])
        assert one["action_mask"][env.game.noop] == 1
    assert env.state_space.contains(env.state())
    np.testing.assert_array_equal(env.state(), views if env.game.layout is None else views[0])


def check_whole_episodes(make: Make, episodes: int = 6) -> None:
    """Spaces and masks hold at every step, no agent returns, and every agent ends exactly once and in time."""
    env, rng = make(), np.random.default_rng(0)
    for episode in range(episodes):
        seen, infos = env.reset(seed=episode)
        assert env.agents == env.possible_agents
        check_seen(env, seen, infos, env.agents)
        ended: list[str] = []
        for time in range(1, env.game.max_steps + 1):
            acting = list(env.agents)
            seen, rewards, terminations, truncations, infos = env.step(sample(env, seen, rng))
            check_seen(env, seen, infos, acting)
            assert set(rewards) == set(terminations) == set(truncations) == set(acting)
            assert all(type(reward) is float and np.isfinite(reward) for reward in rewards.values())
            assert all(type(flag) is bool for flag in (*terminations.values(), *truncations.values()))
            over = [agent for agent in acting if terminations[agent] or truncations[agent]]
            assert not any(terminations[agent] and truncations[agent] for agent in acting)
            assert not any(truncations.values()) or time == env.game.max_steps
            assert env.agents == [agent for agent in acting if agent not in over]
            assert not set(over) & set(ended), "an agent ended twice"
            ended += over
            by_rule = env.game.terminated(env.game_state)[0].tolist()
            assert [terminations[a] for a in over] == [by_rule[env.possible_agents.index(a)] for a in over]
            active = env.game.active(env.game_state)[0].tolist()
            assert env.agents == [a for a, on in zip(env.possible_agents, active, strict=True) if on]
            if not env.agents:
                break
        assert sorted(ended) == sorted(env.possible_agents)


def record(env, seed, episodes=3):
    """Everything that some episodes in a row return; only the first is seeded."""
    rng, log = np.random.default_rng(7), []
    for episode in range(episodes):
        seen, infos = env.reset(seed=seed if episode == 0 else None)
        log.append((seen, infos))
        for _ in running(env):
            log.append(env.step(sample(env, seen, rng)))
            seen = log[-1][0]
    return log


def flat(log):
    """Return every number of a record, in order."""
    if isinstance(log, dict):
        return [x for key in sorted(log) for x in flat(log[key])]
    if isinstance(log, list | tuple):
        return [x for item in log for x in flat(item)]
    return np.asarray(log, dtype=float).ravel().tolist()


def check_determinism(make: Make, random_start: bool = True) -> None:
    """A seed fixes an episode and those after it; other seeds, or none, differ; the global generator is not used."""
    used, before = make(), torch.random.get_rng_state()
    first = flat(record(used, 3))
    assert first == flat(record(make(), 3)) == flat(record(used, 3))
    if random_start:
        assert first != flat(record(make(), 4))
        assert flat(record(make(), None)) != flat(record(make(), None))
    assert torch.equal(before, torch.random.get_rng_state()), "the global generator was used"


def check_masked_actions_count_as_noop(make: Make, episodes: int = 6) -> None:
    """Two environments in lockstep: one gets illegal actions, the other the noop in their place."""
    bold, careful, rng, replaced, masked = make(), make(), np.random.default_rng(1), 0, False
    for episode in range(episodes):
        seen, _ = bold.reset(seed=episode)
        careful.reset(seed=episode)
        for _ in running(bold):
            masked |= not all(one["action_mask"].all() for one in seen.values())
            actions = sample(bold, seen, rng, masked=False)
            legal = {a: x if seen[a]["action_mask"][x] else bold.game.noop for a, x in actions.items()}
            replaced += legal != actions
            one, other = bold.step(actions), careful.step(legal)
            assert flat(one) == flat(other)
            assert bold.agents == careful.agents
            seen = one[0]
    assert replaced or not masked, "no illegal action was tried"


def check_actions_of_agents_that_left_are_ignored(make: Make, episodes: int = 6) -> None:
    """Two environments in lockstep: one gets actions of all agents, wild ones where they have left."""
    full, exact, rng = make(), make(), np.random.default_rng(3)
    for episode in range(episodes):
        seen, _ = full.reset(seed=episode)
        exact.reset(seed=episode)
        for _ in running(full):
            actions = sample(full, seen, rng)
            left = {a: rng.choice([None, -1, 10**9, full.game.noop]) for a in full.possible_agents if a not in actions}
            one, other = full.step({**left, **actions}), exact.step(actions)
            assert flat(one) == flat(other)
            assert full.agents == exact.agents
            seen = one[0]


def check_moves_match_the_mask(make: Make, episodes: int = 3) -> None:
    """A move is legal exactly if it moves the agent, and then by one cell in its direction."""
    env, rng, tried = make(), np.random.default_rng(2), set()
    moves = {env.game.action_names.index(name): step for name, step in MOVES.items()}
    for episode in range(episodes):
        seen, _ = env.reset(seed=episode)
        for _ in running(env):
            actions = {agent: int(rng.choice(list(moves))) for agent in env.agents}
            after, *_ = env.step(actions)
            for agent, action in actions.items():
                legal = seen[agent]["action_mask"][action]
                shift = np.argwhere(after[agent]["observation"][0]) - np.argwhere(seen[agent]["observation"][0])
                assert shift.tolist() == [list(moves[action]) if legal else [0, 0]]
                tried.add((action, bool(legal)))
            seen = after
    assert tried == {(action, legal) for action in moves for legal in (True, False)}


def refuses(kind, says, call, *args, **kwargs):
    """Check that a call raises an error of one line."""
    with pytest.raises(kind, match=says) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)


def check_errors(make: Make) -> None:
    """Every misuse raises an error of one line, and leaves the episode as it was."""
    refuses(ConfigError, "render_mode='loud'.*choose", make, render_mode="loud")
    refuses(ConfigError, "render_mode=3", make, render_mode=3)
    env = make()
    refuses(RuntimeError, "no episode yet; call reset", env.step, {})
    refuses(RuntimeError, "no episode yet; call reset", env.state)
    seed_says = "seed: got .* expected an integer, 0 to"
    for seed in (-1, 1.5, "1", True):
        refuses(ConfigError, seed_says, env.reset, seed=seed)
    refuses(ConfigError, "options=3: expected a dict", env.reset, options=3)
    cure = "an exact layout is" if env.layout_needs else "has no options: omit them"
    refuses(ConfigError, f"unknown .'no_such_thing'.; .*{cure}", env.reset, options={"no_such_thing": []})
    if env.layout_needs:
        refuses(ConfigError, "missing", env.reset, options={env.layout_needs[0]: []})

    env.reset(seed=0)
    before, noop, first = env.game_state, env.game.noop, env.possible_agents[0]
    fine = dict.fromkeys(env.agents, noop)
    for action in (-1, env.game.num_actions, 10**9):
        refuses(
            ConfigError,
            f"action of {first}: got {action}; expected an integer, 0 to",
            env.step,
            {**fine, first: action},
        )
    for action in (None, 1.0, "up", True, [1, 2]):
        refuses(ConfigError, f"action of {first}: got .*; expected an integer", env.step, {**fine, first: action})
    refuses(ConfigError, f"got none for .'{first}'.", env.step, dict.fromkeys(env.agents[1:], noop))
    refuses(ConfigError, "got none for", env.step, {})
    refuses(ConfigError, "'nobody' is not an agent of this game", env.step, {**fine, "nobody": noop})
    refuses(ConfigError, "expected a dict", env.step, [noop] * len(env.agents))
    refuses(ConfigError, "expected a dict", env.step, None)
    assert env.game_state is before
    assert env.agents == env.possible_agents
    for kind in (np.int64, np.int8, np.array, torch.tensor):  # kinds of integers that policies and spaces return
        if not env.agents:
            env.reset(seed=0)
        env.step({agent: kind(noop) for agent in env.agents})

    for _ in running(env):
        env.step(dict.fromkeys(env.agents, noop))
    refuses(RuntimeError, "the episode is over; call reset", env.step, {})
    refuses(RuntimeError, "the episode is over; call reset", env.step, fine)
    env.close()
    env.close()
    refuses(RuntimeError, "no episode yet; call reset", env.step, {})
    env.reset()
    assert env.agents == env.possible_agents
