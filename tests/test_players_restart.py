"""Players that start new episodes in some of their rows."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from toys import stag_hunt

from omg_lightning.actors import make_player
from omg_lightning.envs import as_env
from omg_lightning.games import LevelBasedForaging, MatrixGame
from omg_lightning.games.scripts import ScriptedPlayer, can_restart
from omg_lightning.types import has_own, put

FOREST = LevelBasedForaging(preset="7x7-2p-3f-no-levels")


@pytest.mark.parametrize(
    ("game", "name"),
    [
        *(
            (stag_hunt(), name)
            for name in ("random", "nearest_stag", "switcher", "switcher:2", "handover:2:random:nearest_hare")
        ),
        *((FOREST, name) for name in FOREST.players),
        *((MatrixGame("prisoners_dilemma"), name) for name in MatrixGame("prisoners_dilemma").players),
    ],
)
def test_players_of_this_project_can_restart(game, name):
    assert can_restart(make_player(name, game))


def first_views(game, batch: int, seed: int):
    step = as_env(game).reset(batch, torch.Generator().manual_seed(seed))
    return step.observation[:, 1].float(), step.legal[:, 1]


@pytest.mark.parametrize("name", sorted(FOREST.players))
@pytest.mark.parametrize("view", ["planes", "vector"])
def test_a_restarted_forager_forgets_the_last_episode_and_the_other_rows_go_on(name, view):
    """The reference is a new player that sees the same board first; orders are drawn with the same numbers."""
    game = LevelBasedForaging(preset="7x7-2p-3f-no-levels", view=view)
    (before, legal), (after, _) = first_views(game, 2, 1), first_views(game, 2, 2)
    after = torch.stack([before[0], after[1]])
    player, alone = make_player(name, game), make_player(name, game)
    player.reset(2, 1, game, torch.Generator().manual_seed(3))
    first = player.action_probabilities(before, legal)
    player._generator.manual_seed(4)
    player.restart(torch.tensor([1]))
    found = player.action_probabilities(after, legal)
    alone.reset(1, 1, game, torch.Generator().manual_seed(4))
    assert torch.equal(found[0], first[0])
    assert torch.equal(found[1], alone.action_probabilities(after[1:], legal[1:])[0])
    assert torch.equal(player.action_probabilities(after, legal), found)


@pytest.mark.parametrize("name", ["switcher", "switcher:2", "handover:2:nearest_stag:nearest_hare"])
def test_a_restarted_switcher_counts_its_steps_anew_in_this_row(name):
    game = stag_hunt()
    view, legal = first_views(game, 40, 0)
    player = make_player(name, game)
    player.reset(40, 1, game, torch.Generator().manual_seed(0))
    force = []
    for step in range(6):
        if step == 3:
            player.restart(torch.arange(0, 40, 2))
        force.append(player.in_force())
        player.act(view, legal)
    force = torch.stack(force)
    old, new = force[:, 1::2], force[:, 0::2]
    if name == "switcher":
        assert (old == old[0]).all()
        assert (new[3:] == new[3]).all()
        assert 0 < (new[3] != new[0]).sum() < 20, "another draw"
    elif name == "switcher:2":
        assert (old[:2] == old[0]).all()
        assert (old[2:] == 1 - old[0]).all()
        assert (new[3:5] == new[3]).all()
        assert (new[5] == 1 - new[3]).all()
    else:
        assert (old[2:] == 1).all()
        assert (new[3] == 0).all(), "the first kind again"
        assert (new[5] == 1).all()
        assert 0 < new[4].sum() < 20


@pytest.mark.slow
def test_a_strategy_of_axelrod_meets_the_other_player_anew_in_a_restarted_row():
    pytest.importorskip("axelrod")
    game = MatrixGame("prisoners_dilemma")
    player = make_player("axelrod.Grudger", game)
    player.reset(2, 1, game, torch.Generator().manual_seed(0))
    env = as_env(game)
    step = env.reset(2, torch.Generator().manual_seed(0))
    for _ in range(2):
        own = player.act(step.observation[:, 1].float(), step.legal[:, 1])
        step = env.step(torch.stack([torch.ones(2, dtype=torch.int64), own], 1))  # the other player defects
    fresh = env.restart(torch.tensor([1]), torch.Generator().manual_seed(1))
    player.restart(torch.tensor([1]))
    view = torch.stack([step.observation[0, 1], fresh.observation[0, 1]]).float()
    assert player.act(view, step.legal[:, 1]).tolist() == [1, 0], "a grudge in the first row only"


class Inner(NamedTuple):
    two: Tensor


class Outer(NamedTuple):
    one: Tensor
    nothing: None
    inner: Inner


def test_put_replaces_rows_and_changes_nothing_in_place():
    record = Outer(torch.tensor([1, 2, 3]), None, Inner(torch.tensor([[1.0], [2.0], [3.0]])))
    found = put(record, torch.tensor([1]), Outer(torch.tensor([7]), None, Inner(torch.tensor([[8.0]]))))
    assert (found.one.tolist(), found.nothing, found.inner.two.tolist()) == ([1, 7, 3], None, [[1.0], [8.0], [3.0]])
    assert record.one.tolist() == [1, 2, 3]


def test_a_method_counts_only_if_no_subclass_has_overridden_the_other_one():
    class Base:
        def reset(self): ...

        def restart(self): ...

    class Both(Base):
        def reset(self): ...

        def restart(self): ...

    class Later(Both):
        def restart(self): ...

    class Only(Both):
        def reset(self): ...

    class Without:
        def reset(self): ...

    assert [has_own("restart", "reset", kind) for kind in (Base, Both, Later, Only, Without)] == [True] * 3 + [
        False
    ] * 2
    assert can_restart(ScriptedPlayer())
