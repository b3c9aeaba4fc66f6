"""Level-Based Foraging step by step beside the package `lbforaging`, from the same states."""

import numpy as np
import pytest
import torch

from omg_lightning.games import LevelBasedForaging

original = pytest.importorskip("lbforaging.foraging.environment", reason="pip install -e '.[envs]': lbforaging")

NONE, LOAD = 0, 5
EAGER = np.array([1, 2, 2, 2, 2, 20])  # loads are rare by chance


def make_original(game):
    return original.ForagingEnv(
        players=game.num_players,
        min_player_level=game.min_player_level,
        max_player_level=game.max_player_level,
        min_food_level=game.min_food_level,
        max_food_level=game.max_food_level,
        field_size=(game.height, game.width),
        max_num_food=game.num_foods,
        sight=game.sight or max(game.height, game.width),
        max_episode_steps=game.max_steps,
        force_coop=game.force_coop,
        penalty=game.penalty,
    )


def state_of(game, env):
    players = [(*map(int, player.position), int(player.level)) for player in env.players]
    foods = [(int(r), int(c), int(env.field[r, c])) for r, c in zip(*env.field.nonzero(), strict=True)]
    return game.place(players=players, foods=foods)


def joined(states):
    return type(states[0])(*(torch.cat(field) for field in zip(*states, strict=True)))


def legal_of(env):
    return [[action in env._valid_actions[player] for action in original.Action] for player in env.players]


def field_of(game, state, row):
    board = np.zeros(game.height * game.width + 1)
    board[state.foods[row]] = state.food_levels[row]
    return board[:-1].reshape(game.height, game.width)


def compare(preset, episodes, steps, seed=0, **settings):
    """Play both side by side for so many episodes of at most so many steps; return how many rewards were paid."""
    game, rng = LevelBasedForaging(preset, view="vector", **settings), np.random.default_rng(seed)
    envs = [make_original(game) for _ in range(episodes)]
    seen = [env.reset(seed=int(rng.integers(1 << 30)))[0] for env in envs]
    state, over, paid = joined([state_of(game, env) for env in envs]), np.zeros(episodes, bool), 0
    for _ in range(steps):
        legal, views = game.legal(state).numpy(), game.observe(state).numpy()
        actions = np.zeros((episodes, game.num_players), int)
        rewards = np.zeros(actions.shape)
        for row, env in enumerate(envs):
            if over[row]:
                continue
            assert legal[row].tolist() == legal_of(env)
            np.testing.assert_array_equal(views[row], np.stack(seen[row]))
            chance = EAGER * legal[row] + 0.3  # illegal ones, too
            actions[row] = [rng.choice(6, p=each / each.sum()) for each in chance]
            seen[row], rewards[row], over[row], _, _ = env.step(actions[row])
        state, ours = game.step(state, torch.from_numpy(actions))
        paid += int((rewards != 0).sum())
        np.testing.assert_allclose(ours.numpy(), rewards, rtol=1e-6)
        np.testing.assert_array_equal(game.active(state).any(1).numpy(), ~over)
        for row, env in enumerate(envs):
            where = [divmod(cell, game.width) for cell in state.players[row].tolist()]
            assert where == [tuple(map(int, player.position)) for player in env.players]
            np.testing.assert_array_equal(field_of(game, state, row), env.field)
    return paid


@pytest.mark.parametrize("preset", ["8x8-2p-3f", "5x5-4p-2f-coop"])
def test_plays_as_the_original_does(preset):
    assert compare(preset, 8, 50) > 0


CASES = [
    ("8x8-2p-3f", {}),
    ("8x8-2p-2f-coop", {}),
    ("5x5-4p-2f", {}),
    ("7x7-5p-3f-coop", {}),
    ("10x10-3p-3f", {}),
    ("15x15-3p-5f", {}),
    ("2s-8x8-2p-3f", {}),
    ("2s-8x8-4p-3f-coop", {}),
    ("6x6-3p-2f", {"penalty": 0.1}),
    ("6x6-3p-2f", {"max_player_level": 4, "max_food_level": 5, "max_steps": 20}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "settings"), CASES)
def test_plays_thousands_of_steps_as_the_original_does(preset, settings):
    assert compare(preset, 60, 50, seed=1, **settings) > 4


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["8x8-2p-3f", "6x6-3p-3f", "8x8-2p-2f-coop"])
def test_initial_states_have_the_distribution_of_the_original(preset):
    game, count = LevelBasedForaging(preset), 3000
    env, theirs = make_original(LevelBasedForaging(preset)), []
    for seed in range(count):
        env.reset(seed=seed)
        theirs.append(state_of(game, env))
    for what, first, second in zip(
        ("food cells", "distances of foods", "food levels", "player levels", "player cells"),
        shares(game, game.reset(count, torch.Generator().manual_seed(0))),
        shares(game, joined(theirs)),
        strict=True,
    ):
        error = (first * (1 - first) + second * (1 - second)).clamp(min=1e-9).div(count).sqrt()
        assert ((first - second).abs() < 4.5 * error + 1e-3).all(), what


def shares(game, state):
    """How often each value occurs, in vectors of shares."""
    row, column, there = state.foods // game.width, state.foods % game.width, state.food_levels > 0
    apart = (row[:, :1] - row[:, 1:2]).abs() * game.width + (column[:, :1] - column[:, 1:2]).abs()
    strength = state.levels.sum(1)
    levels = state.food_levels[:, 0] + 10 * strength  # which foods there are beside which players
    for values in (state.foods[there], apart[there[:, 1]], levels, strength, state.players[:, 0]):
        counts = torch.bincount(values.flatten(), minlength=200).double()
        yield counts / counts.sum()
