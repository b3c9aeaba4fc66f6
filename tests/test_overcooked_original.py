"""Overcooked step by step beside the package `overcooked`."""

import numpy as np
import pytest
import torch

from omg_lightning.actors import make_player
from omg_lightning.games import Overcooked
from omg_lightning.games.grid import kitchen

original = pytest.importorskip("overcooked", reason="pip install -e '.[envs]': overcooked")

THEIR_NAMES = {
    "cramped_room": "cramped_room",
    "asymm_advantages": "asymmetric_advantages",
    "coord_ring": "coordination_ring",
    "forced_coord": "forced_coordination",
    "counter_circuit": "counter_circuit_o_1order",
}
OBJECTS = {None: 0, "onion": 1, "dish": 2}
SHAPED = torch.tensor([3.0, 3.0, 5.0, 0.0, 0.0, 0.0])  # by goal, the last for none


def number(thing):
    """Our number of an object of theirs, in hands or on a counter."""
    if thing is not None and thing.name == "soup":
        return kitchen.SOUP + len(thing.ingredients) - 1
    return OBJECTS[None if thing is None else thing.name]


def fields_of(game, state):
    """Players, facing, held and content of one of their states, as ours has them."""
    width, codes = game.kitchen.width, game.pot_codes
    content = [0] * len(game.kitchen.kinds)
    for (column, row), thing in state.objects.items():
        cell = row * width + column
        if game.kitchen.kinds[cell] == kitchen.POT:
            onions, ticks = len(thing.ingredients), thing._cooking_tick
            content[cell] = onions if ticks < 0 else codes.cooking(onions, ticks)
        else:
            content[cell] = number(thing)
    players = [row * width + column for column, row in state.player_positions]
    facing = [original.Action.ACTION_TO_INDEX[way] for way in state.player_orientations]
    return players, facing, [number(player.held_object) for player in state.players], content


def compare(game, rows, steps, seed, **settings):
    """Play scripts that err in two steps of five beside the package; return how often each goal was achieved."""
    mdp = original.OvercookedGridworld.from_layout_name(THEIR_NAMES[game.kitchen_name], **settings)
    assert [kitchen.MARKS.index(mark) for row in mdp.terrain_mtx for mark in row] == list(game.kitchen.kinds)
    theirs, generator = [mdp.get_standard_start_state()] * rows, torch.Generator().manual_seed(seed)
    state, counts = game.reset(rows), np.zeros(6, int)
    names = ["independent", "onion_carrier", "dish_carrier"]
    lineups = [(first, second) for first in names for second in names]
    players = {name: [make_player(name, game) for _ in range(2)] for name in names}
    for seats in players.values():
        for seat, player in enumerate(seats):
            player.reset(rows, seat, game, generator)
    paid = 0.0
    for _ in range(steps):
        view, legal = game.observe(state), game.legal(state)
        acts = {n: [p.act(view[:, s], legal[:, s]) for s, p in enumerate(each)] for n, each in players.items()}
        chosen = [[int(acts[name][s][row]) for s, name in enumerate(lineups[row % 9])] for row in range(rows)]
        actions = torch.tensor(chosen)
        wild = torch.randint(6, actions.shape, generator=generator)
        actions = torch.where(torch.rand(actions.shape, generator=generator) < 0.4, wild, actions)
        goals = game.realised(state, actions)
        state, rewards = game.step(state, actions)
        for row in range(rows):
            joint = tuple(original.Action.ALL_ACTIONS[action] for action in actions[row].tolist())
            theirs[row], infos = mdp.get_state_transition(theirs[row], joint)
            found = [field[row].tolist() for field in (state.players, state.facing, state.held, state.content)]
            assert tuple(found) == fields_of(game, theirs[row])
            sparse = infos["sparse_reward_by_agent"]
            assert rewards[row].tolist() == ([sum(sparse) / 2] * 2 if game.prosocial else sparse)
            assert SHAPED[goals[row]].tolist() == infos["shaped_reward_by_agent"]
            for goal, event in ((kitchen.POT_ONION, "potting_onion"), (kitchen.DELIVER, "soup_delivery")):
                assert (goals[row] == goal).tolist() == infos["event_infos"][event]
        paid += float(rewards.sum())
        counts += np.bincount(goals.flatten().numpy() + 1, minlength=6)
    return counts[1:], paid


def test_plays_as_the_original_does():
    game = Overcooked("cramped_room")
    counts, paid = compare(game, 9, 80, seed=0)
    assert (counts > 0).all()
    assert paid > 0


@pytest.mark.slow
@pytest.mark.parametrize("old_dynamics", [False, True])
@pytest.mark.parametrize("preset", list(THEIR_NAMES))
def test_plays_thousands_of_steps_as_the_original_does(preset, old_dynamics):
    game = Overcooked(preset, old_dynamics=old_dynamics, prosocial=preset != "coord_ring")
    counts, paid = compare(game, 9, 300, seed=1, old_dynamics=old_dynamics)
    assert (counts[:2] > 0).all()
    assert (paid > 0) == (preset != "forced_coord")  # these scripts hand nothing over


@pytest.mark.slow
def test_a_short_time_to_cook_is_that_of_the_original():
    counts, _ = compare(Overcooked("cramped_room", cook_time=3), 9, 200, seed=2, cook_time=3)
    assert counts[kitchen.TAKE_SOUP] > 0
