import pytest
import torch

from omg_lightning.encoders.networks import GoalNet, PlaneDecoder, SeatNets
from omg_lightning.encoders.trunk import Trunk

SHAPE = (5, 3, 4)
SEATS = torch.arange(6) % 3


def views(rows=6, seed=0):
    return (torch.rand(rows, *SHAPE, generator=torch.Generator().manual_seed(seed)) < 0.3).float()


@pytest.mark.parametrize("kind", ["mlp", "centred", "paths", "conv"])
def test_trunk_reads_the_view_and_the_time_row_by_row(kind):
    trunk = Trunk(SHAPE, 16, kind)
    x, time = views(), torch.linspace(0, 1, 6)
    features = trunk(x, time)
    assert features.shape == (6, 16)
    assert not torch.allclose(features, trunk(x, 1 - time))
    assert not torch.allclose(features, trunk(1 - x, time))
    for row in range(6):
        torch.testing.assert_close(trunk(x[row : row + 1], time[row : row + 1])[0], features[row])
    assert trunk(x[:0], time[:0]).shape == (0, 16)


@pytest.mark.parametrize("kind", ["mlp", "centred", "conv"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_trunk_reads_lists_of_places_like_planes(kind, dtype):
    trunk = Trunk(SHAPE, 16, kind).to(dtype)
    x, time = views(), torch.linspace(0, 1, 6)
    assert len({int(row.sum()) for row in x}) > 1
    places = torch.where(x.flatten(1) > 0, torch.arange(60), 60).int()  # 60: none
    features = trunk(places, time)
    assert features.dtype == dtype
    torch.testing.assert_close(features, trunk(x.to(dtype), time))
    assert trunk(places[:0], time[:0]).shape == (0, 16)


@pytest.mark.parametrize("kind", ["mlp", "centred", "paths", "conv"])
def test_a_view_looked_at_once_serves_every_trunk_of_its_kind(kind):
    one, two = (GoalNet(SHAPE, 0, 7, 16, kind, players=2, walls=4) for _ in range(2))
    nets = SeatNets(2, lambda: GoalNet(SHAPE, 0, 7, 16, kind, players=2, walls=4))
    x, time, nothing = views(), torch.linspace(0, 1, 6), torch.zeros(6, 0)
    places = one.places(x)
    assert places.is_floating_point() == (kind == "conv")
    assert torch.equal(nets.places(x), places)
    assert one.places(x[:0]).shape[0] == 0
    for net in (one, two):
        torch.testing.assert_close(net(places, time, nothing), net(x, time, nothing))
    counts = 2 * x  # places would lose how many there are
    assert torch.equal(one.places(counts), counts)


def test_conv_sees_neighbours_where_mlp_weighs_each_cell_alone():
    assert sum(isinstance(layer, torch.nn.Conv2d) for layer in Trunk(SHAPE, 8, "conv").modules()) == 3
    assert not any(isinstance(layer, torch.nn.Conv2d) for layer in Trunk(SHAPE, 8, "mlp").modules())


def test_modulation_by_hand():
    net = GoalNet(SHAPE, 1, 1, 2)
    with torch.no_grad():
        net.mix.weight.copy_(torch.eye(2))
        net.out.weight.copy_(torch.tensor([[1.0, 10.0]]))
        net.mix.bias.zero_()
        net.out.bias.zero_()
    features, condition = torch.tensor([[2.0, 3.0]]), torch.tensor([[1.0, -2.0, 0.5, 1.0]])  # scale 1, -2; shift .5, 1
    # 2 * (1 + 1) + 0.5 = 4.5, and 3 * (1 - 2) + 1 = -2, which relu cuts off
    assert net.modulate(features, condition).tolist() == [[4.5]]


def test_without_a_goal_there_is_nothing_to_condition_on():
    net = GoalNet(SHAPE, 0, 7, 16)
    assert net.condition(torch.zeros(6, 0), SEATS).shape == (6, 0)
    assert net(views(), torch.zeros(6), net.condition(torch.zeros(6, 0), SEATS)).shape == (6, 7)


@pytest.mark.parametrize("kind", ["mlp", "centred", "paths", "conv"])
def test_a_small_goal_does_not_drown_in_a_wide_view(kind):
    torch.manual_seed(0)
    net = GoalNet(SHAPE, 4, 7, 64, kind)
    x, goals = views(32), torch.randn(32, 4)
    time = torch.zeros(32)
    by_goal = net(x[:1].expand_as(x), time, net.condition(goals, None)).std(0).mean()
    by_view = net(x, time, net.condition(goals[:1].expand_as(goals), None)).std(0).mean()
    assert by_goal > 0.2 * by_view


def test_the_goal_gets_a_gradient():
    net = GoalNet(SHAPE, 4, 7, 16)
    goal = torch.zeros(6, 4, requires_grad=True)
    net(views(), torch.zeros(6), net.condition(goal, SEATS)).square().sum().backward()
    assert (goal.grad != 0).any(1).all()


def test_decoder_gives_each_player_its_cells_and_each_object_its_plane():
    decoder = PlaneDecoder(3, SHAPE, num_players=2, hidden=8)
    last = decoder.layers[-1]
    with torch.no_grad():  # outputs 0, 1, 2, ...: who gets which?
        last.weight.zero_()
        last.bias.copy_(torch.arange(len(last.bias)))
    players, objects = decoder(torch.randn(5, 3))
    assert players.shape == (5, 2, 13)
    assert objects.shape == (5, 3, 3, 4)
    assert players[0].flatten().tolist() == list(range(26))
    assert objects[4].flatten().tolist() == list(range(26, 26 + 36))


@pytest.mark.parametrize("goal_size", [0, 2])
def test_roles_tell_seats_apart_and_without_them_all_are_alike(goal_size):
    view, time, goal = views(1).expand(6, -1, -1, -1), torch.zeros(6), torch.ones(6, goal_size)
    net = GoalNet(SHAPE, goal_size, 7, 16, seats=3)
    out = net(view, time, net.condition(goal, SEATS))
    assert torch.equal(out[:3], out[3:])
    assert len({tuple(row) for row in out[:3].tolist()}) == 3
    net = GoalNet(SHAPE, goal_size, 7, 16)
    out = net(view, time, net.condition(goal, SEATS))
    assert torch.equal(out, out[:1].expand_as(out))


@pytest.mark.parametrize("goal_size", [0, 2])
def test_separate_networks_answer_for_their_seats_and_learn_from_them_alone(goal_size):
    nets = SeatNets(3, lambda: GoalNet(SHAPE, goal_size, 7, 16))
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


@pytest.mark.parametrize("kind", ["mlp", "centred", "paths", "conv"])
def test_everything_is_where_the_inputs_are(kind):
    # on "meta" a hidden CPU tensor or a wait for a value raises
    net, time = GoalNet(SHAPE, 4, 7, 16, kind).to("meta"), torch.zeros(6, device="meta")
    condition = net.condition(torch.zeros(6, 4, device="meta"), None)
    # to read planes is to look at where they are not 0, of which "meta" knows nothing; convolutions need not look
    for x in (torch.zeros(6, 9, dtype=torch.int32), *([views()] if kind == "conv" else [])):
        for learning in (True, False):
            with torch.set_grad_enabled(learning):
                assert net(x.to("meta"), time, condition).device.type == "meta"
    decoded = PlaneDecoder(3, SHAPE, 2, 8).to("meta")(torch.zeros(6, 3, device="meta"))
    assert {x.device.type for x in decoded} == {"meta"}


@pytest.mark.parametrize("kind", ["mlp", "centred", "paths", "conv"])
def test_planes_are_read_where_they_are(kind):
    # a tensor made without naming the inputs' device would land on "meta" and mix with them
    net, x, time = GoalNet(SHAPE, 0, 7, 16, kind, players=2, walls=2), views(), torch.zeros(6)
    expected = net(x, time, torch.zeros(6, 0))
    with torch.device("meta"):
        found = net(x, time, torch.zeros(6, 0, device="cpu"))
    assert torch.equal(found, expected)


def test_lists_of_places_are_read_with_the_weights_of_the_moment():
    trunk, time = Trunk(SHAPE, 16), torch.linspace(0, 1, 6)
    x = views()
    places = torch.where(x.flatten(1) > 0, torch.arange(60), 60).int()
    other = Trunk(SHAPE, 16).state_dict()
    optimiser = torch.optim.SGD(trunk.parameters(), lr=1.0)

    def check():
        with torch.no_grad():
            torch.testing.assert_close(trunk(places, time), trunk(x, time))

    check()
    trunk(places, time).sum().backward()
    assert trunk.dense.weight.grad is not None, "it is the weights that are learned, not a copy"
    optimiser.step()
    check()
    trunk.load_state_dict(other)
    check()
    trunk.dense.weight = torch.nn.Parameter(trunk.dense.weight.detach() + 1)
    check()
    trunk, time = trunk.double(), time.double()
    x = x.double()
    check()
    with torch.inference_mode():
        check()
