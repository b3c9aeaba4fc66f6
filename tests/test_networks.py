"""Goal-conditioned networks over an encoder: for all seats, with the seat as an input, or one for each."""

import pytest
import torch
from gymnasium import spaces
from toys import TokenGame, model_spec

from omg_lightning.encoders import MLP, Centred, Conv, GoalNet, Paths, RecurrentConv, SeatNets
from omg_lightning.games.grid.layout import GridLayout
from omg_lightning.types import ConfigError

KINDS = [MLP, Centred, Paths, Conv]
LAYOUT = GridLayout(("self", "other_1", "other_2", "stags", "blocks"), 3, 4, 3)
SPACE = spaces.MultiBinary(LAYOUT.shape)
SEATS = torch.arange(6) % 3


def views(rows=6, seed=0):
    return (torch.rand(rows, *LAYOUT.shape, generator=torch.Generator().manual_seed(seed)) < 0.3).float()


def net_of(goal_size, outputs=7, hidden=16, kind=MLP, seats=0):
    return GoalNet(kind(SPACE, LAYOUT, hidden), goal_size, outputs, hidden, seats)


def test_modulation_by_hand():
    net = net_of(1, 1, 2)
    with torch.no_grad():
        net.mix.weight.copy_(torch.eye(2))
        net.out.weight.copy_(torch.tensor([[1.0, 10.0]]))
        net.mix.bias.zero_()
        net.out.bias.zero_()
    features, condition = torch.tensor([[2.0, 3.0]]), torch.tensor([[1.0, -2.0, 0.5, 1.0]])  # scale 1, -2; shift .5, 1
    # 2 * (1 + 1) + 0.5 = 4.5, and 3 * (1 - 2) + 1 = -2, which relu cuts off
    assert net.modulate(features, condition).tolist() == [[4.5]]


def test_without_a_goal_there_is_nothing_to_condition_on():
    net = net_of(0)
    assert net.condition(torch.zeros(6, 0), SEATS).shape == (6, 0)
    assert net(views(), torch.zeros(6), net.condition(torch.zeros(6, 0), SEATS)).shape == (6, 7)


@pytest.mark.parametrize("kind", [*KINDS, RecurrentConv])
def test_a_small_goal_does_not_drown_in_a_wide_view(kind):
    torch.manual_seed(0)
    net = net_of(4, hidden=64, kind=kind)
    x, goals = views(32), torch.randn(32, 4)
    time = torch.zeros(32)
    by_goal = net(x[:1].expand_as(x), time, net.condition(goals, None)).std(0).mean()
    by_view = net(x, time, net.condition(goals[:1].expand_as(goals), None)).std(0).mean()
    assert by_goal > 0.2 * by_view


def test_the_goal_gets_a_gradient():
    net = net_of(4)
    goal = torch.zeros(6, 4, requires_grad=True)
    net(views(), torch.zeros(6), net.condition(goal, SEATS)).square().sum().backward()
    assert (goal.grad != 0).any(1).all()


@pytest.mark.parametrize("kind", [*KINDS, RecurrentConv])
def test_a_view_prepared_once_serves_all_networks(kind):
    one, two = (net_of(0, kind=kind) for _ in range(2))
    nets = SeatNets(2, lambda: net_of(0, kind=kind))
    x, time, nothing = views(), torch.linspace(0, 1, 6), torch.zeros(6, 0)
    prepared = one.prepare(x)
    assert torch.equal(nets.prepare(x), prepared)
    for net in (one, two):
        torch.testing.assert_close(net(prepared, time, nothing), net(x, time, nothing))


@pytest.mark.parametrize("seats", [0, 3])
def test_many_conditions_for_a_view_are_answered_as_each_alone(seats):
    net, x, time = net_of(2, seats=seats), views(), torch.rand(6)
    goals = torch.randn(6, 4, 2)
    conditions = torch.stack([net.condition(goals[:, k], SEATS) for k in range(4)], 1)
    found = net.under(x, time, conditions)
    assert found.shape == (6, 4, 7)
    for k in range(4):
        torch.testing.assert_close(found[:, k], net(x, time, conditions[:, k]))
    plain = net_of(0)
    nothing = torch.zeros(6, 4, 0)
    torch.testing.assert_close(plain.under(x, time, nothing)[:, 2], plain(x, time, nothing[:, 0]))


@pytest.mark.parametrize("goal_size", [0, 2])
def test_roles_distinguish_seats_and_shared_networks_do_not(goal_size):
    view, time, goal = views(1).expand(6, -1, -1, -1), torch.zeros(6), torch.ones(6, goal_size)
    net = net_of(goal_size, seats=3)
    out = net(view, time, net.condition(goal, SEATS))
    assert torch.equal(out[:3], out[3:])
    assert len({tuple(row) for row in out[:3].tolist()}) == 3
    net = net_of(goal_size)
    out = net(view, time, net.condition(goal, SEATS))
    assert torch.equal(out, out[:1].expand_as(out))


@pytest.mark.parametrize("goal_size", [0, 2])
def test_separate_networks_answer_for_their_seats_and_learn_from_them_alone(goal_size):
    nets = SeatNets(3, lambda: net_of(goal_size))
    view, time, goal = views(), torch.rand(6), torch.randn(6, goal_size)
    seat = torch.tensor([2, 0, 0, 2, 2, 0])  # nobody in seat 1
    condition = nets.condition(goal, seat)
    out = nets(view, time, condition)
    for row, k in enumerate(seat.tolist()):
        own = nets.nets[k]
        alone = own(view[row : row + 1], time[row : row + 1], own.condition(goal[row : row + 1], seat[row : row + 1]))
        torch.testing.assert_close(out[row], alone[0])
    torch.testing.assert_close(nets.under(view, time, condition[:, None].expand(-1, 2, -1))[:, 1], out)
    assert nets(view[:0], time[:0], condition[:0]).shape == (0, 7)
    out[seat == 2].sum().backward()
    assert [any(p.grad is not None and p.grad.any() for p in net.parameters()) for net in nets.nets] == [
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_all_results_are_on_the_device_of_the_inputs(kind):
    # on "meta" a hidden CPU tensor or a wait for a value raises
    net, time = net_of(4, kind=kind).to("meta"), torch.zeros(6, device="meta")
    condition = net.condition(torch.zeros(6, 4, device="meta"), None)
    for x in (torch.zeros(6, 9, dtype=torch.int32), *([views()] if kind is Conv else [])):
        for learning in (True, False):
            with torch.set_grad_enabled(learning):
                assert net(x.to("meta"), time, condition).device.type == "meta"


# What parts are built from ------------------------------------------------------------------------------------------


def test_a_model_spec_builds_networks_as_sharing_says():
    game = TokenGame()
    shared, roles, separate = (
        model_spec(game, sharing=sharing).make_goal_net(2, 5) for sharing in ("shared", "roles", "separate")
    )
    assert isinstance(shared, GoalNet)
    assert shared.seats == 0
    assert isinstance(roles, GoalNet)
    assert roles.seats == game.num_players
    assert isinstance(separate, SeatNets)
    assert len(separate.nets) == game.num_players
    for sharing in ("roles", "separate"):
        net = model_spec(game, sharing=sharing).make_goal_net(2, 5, shared=True)
        assert isinstance(net, GoalNet)
        assert net.seats == 0


def test_a_model_spec_builds_the_chosen_encoder_for_views_and_one_that_is_not_relative_for_states():
    spec = model_spec(TokenGame(), encoder=Centred)
    assert type(spec.make_encoder()) is Centred
    assert type(spec.make_state_encoder()) is MLP
    conv = model_spec(TokenGame(), encoder=Conv)
    assert type(conv.make_state_encoder()) is Conv


def test_a_network_without_width_is_refused():
    with pytest.raises(ConfigError, match="hidden is 0"):
        model_spec(TokenGame(), hidden=0)
