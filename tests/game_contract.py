"""What every game must keep: `check_game(MyGame(...))` asserts the whole of `omg_lightning.games.Game`.

Call it from a test of any game, your own included. It plays random episodes, so use a small game.
"""

from typing import Any

import torch
from torch import Tensor

from omg_lightning.games import Game
from omg_lightning.types import NO_GOAL


def check_game(game: Game, batch_size: int = 16, seed: int = 0) -> None:
    """Asserts that `game` keeps the contract of `Game`, over whole episodes of random play."""
    check_attributes(game)
    check_reset(game, batch_size, seed)
    generator = torch.Generator().manual_seed(seed)
    state = game.reset(batch_size, generator)
    left = torch.zeros(batch_size, game.num_players, dtype=torch.bool)
    for time in range(game.max_steps):
        actions = random_actions(game, state, generator)
        check_views(game, state)
        check_step(game, state, actions)
        check_rows_independent(game, state, actions)
        if time < 3:
            check_runs_on(game, state, actions, "meta")
        left |= ~game.active(state)
        state, _ = game.step(state, actions)
        assert not (game.active(state) & left).any(), "a seat that has left must never return"
    assert not game.active(state).any(), "an episode is over after max_steps"
    assert (state.time <= game.max_steps).all()
    check_step(game, state, random_actions(game, state, generator))
    if torch.cuda.is_available():
        start = game.reset(batch_size, torch.Generator("cuda").manual_seed(seed))
        check_runs_on(game, start, torch.zeros(batch_size, game.num_players, dtype=torch.int64), "cuda")


def check_attributes(game: Game) -> None:
    assert isinstance(game, Game)
    planes, height, width = game.observation_shape
    assert planes == len(game.plane_names) >= game.num_players
    assert len(set(game.plane_names)) == planes
    assert min(game.num_players, height, width, game.max_steps) >= 1
    assert len(game.action_names) == len(set(game.action_names)) == game.num_actions
    assert 0 <= game.noop < game.num_actions
    assert isinstance(game.goal_names, tuple)
    assert game.agent_name


def check_reset(game: Game, batch_size: int, seed: int) -> None:
    first, again, other = (game.reset(batch_size, torch.Generator().manual_seed(s)) for s in (seed, seed, seed + 1))
    assert_same(first, again, "the same seed must give the same states")
    assert any(not torch.equal(x, y) for x, y in zip(first, other, strict=True)), "another seed, other states"
    assert all(len(x) == batch_size for x in first), "every tensor of a state has leading B"
    assert first.time.dtype == torch.int64
    assert (first.time == 0).all()
    assert game.active(first).all(), "everyone starts in the game"
    generator = torch.Generator().manual_seed(seed)
    game.reset(batch_size, generator)
    assert any(not torch.equal(x, y) for x, y in zip(first, game.reset(batch_size, generator), strict=True))


def check_views(game: Game, state: Any) -> None:
    before = copied(state)
    active, legal, view = game.active(state), game.legal(state), game.observe(state)
    assert_same(before, state, "looking at a state must not change it")
    batch, players = len(state.time), game.num_players
    assert active.dtype == legal.dtype == torch.bool
    assert view.dtype == torch.float32
    assert active.shape == (batch, players)
    assert legal.shape == (batch, players, game.num_actions)
    assert view.shape == (batch, players, *game.observation_shape)
    assert legal[..., game.noop].all(), "doing nothing is always legal"
    assert (legal.sum(-1)[~active] == 1).all(), "a seat that has left may only do nothing"
    assert ((view == 0) | (view == 1)).all()
    running = active.any(1)
    for i in range(players):
        assert torch.equal(view[:, i, players:], view[:, 0, players:]), "what is not a player looks the same to all"
        for k in range(players):
            plane, other = view[:, i, k], (i + k) % players
            assert torch.equal(plane, view[:, other, 0]), f"plane {k} of seat {i} must be seat {other}"
            assert torch.equal(plane.sum((1, 2))[running] == 1, active[running, other]), "one cell, none if it has left"


def check_step(game: Game, state: Any, actions: Tensor) -> None:
    kept_state, kept_actions = copied(state), actions.clone()
    after, rewards = game.step(state, actions)
    again, same_rewards = game.step(state, actions)
    realised = game.realised(state, actions)
    assert_same(kept_state, state, "a step must leave its input state as it was")
    assert torch.equal(kept_actions, actions)
    assert_same(after, again, "a step must be a function of its inputs")
    assert torch.equal(rewards, same_rewards)
    assert all(x.shape == y.shape and x.dtype == y.dtype for x, y in zip(state, after, strict=True))
    assert rewards.dtype == torch.float32
    assert rewards.shape == realised.shape == actions.shape
    assert realised.dtype == torch.int64
    active = game.active(state)
    assert torch.equal(after.time, state.time + active.any(1)), "time counts the steps played"
    over = ~active.any(1)
    assert_same(rows_of(state, over), rows_of(after, over), "a row that is over must not change")
    assert (rewards[over] == 0).all()
    if not getattr(game, "prosocial", False):
        assert (rewards[~active] == 0).all(), "a seat that has left earns nothing"
    assert ((realised >= NO_GOAL) & (realised < len(game.goal_names))).all()
    assert (realised[~active] == NO_GOAL).all()
    check_illegal_is_noop(game, state, actions)


def check_illegal_is_noop(game: Game, state: Any, actions: Tensor) -> None:
    fits = game.legal(state).gather(2, actions.clamp(0, game.num_actions - 1)[..., None])[..., 0]
    cleaned = torch.where(fits & (actions >= 0) & (actions < game.num_actions), actions, game.noop)
    (after, rewards), (expected, expected_rewards) = game.step(state, actions), game.step(state, cleaned)
    assert_same(after, expected, "an illegal action counts as doing nothing")
    assert torch.equal(rewards, expected_rewards)
    assert torch.equal(game.realised(state, actions), game.realised(state, cleaned))


def check_rows_independent(game: Game, state: Any, actions: Tensor) -> None:
    order = torch.arange(len(actions)).flip(0)[: max(1, len(actions) // 2)]
    part, part_actions = rows_of(state, order), actions[order]
    (after, rewards), (expected, expected_rewards) = game.step(part, part_actions), game.step(state, actions)
    assert_same(after, rows_of(expected, order), "rows must not depend on each other")
    assert torch.equal(rewards, expected_rewards[order])
    for look in (game.active, game.legal, game.observe):
        assert torch.equal(look(part), look(state)[order])


def check_runs_on(game: Game, state: Any, actions: Tensor, device: str) -> None:
    """Everything is on the inputs' device. On "meta" a hidden CPU tensor or a wait for a value raises."""
    moved, there = type(state)(*(x.to(device) for x in state)), actions.to(device)
    after, rewards = game.step(moved, there)
    results = (*after, rewards, game.active(moved), game.legal(moved), game.observe(moved), game.realised(moved, there))
    assert all(x.device.type == device for x in results)


def random_actions(game: Game, state: Any, generator: torch.Generator) -> Tensor:
    """Draws legal actions, the later ones more often (so that games get on), and one in eight any integer near."""
    weight = game.legal(state) * (1.0 + torch.arange(game.num_actions)) ** 2
    legal = torch.multinomial(weight.flatten(0, 1), 1, generator=generator).view(weight.shape[:2])
    wild = torch.randint(-3, game.num_actions + 3, legal.shape, generator=generator)
    return torch.where(torch.rand(legal.shape, generator=generator) < 1 / 8, wild, legal)


def copied(state: Any) -> Any:
    return type(state)(*(x.clone() for x in state))


def rows_of(state: Any, rows: Tensor) -> Any:
    return type(state)(*(x[rows] for x in state))


def assert_same(x: Any, y: Any, message: str) -> None:
    for name, a, b in zip(x._fields, x, y, strict=True):
        assert torch.equal(a, b), f"{message} ({name})"
