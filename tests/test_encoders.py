"""Encoders: every kind reads every view it accepts, in any form, row by row, where the inputs are."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from omg_lightning.encoders import MLP, Centred, Conv, Paths, RecurrentConv
from omg_lightning.games.grid.layout import GridLayout
from omg_lightning.spaces import dtype_of
from omg_lightning.types import ConfigError

KINDS = [MLP, Centred, Paths, Conv, RecurrentConv]
LAYOUT = GridLayout(("self", "other_1", "stags", "hares", "blocks"), 3, 4, 2)
SPACE = spaces.MultiBinary(LAYOUT.shape)
REAL = spaces.Box(-np.inf, np.inf, (5,), np.float32)
COUNTS = spaces.Box(0, 100, (2, 3), np.int64)
PIXELS = spaces.Box(0, 255, (3, 5, 4), np.uint8)


def views(rows=6, seed=0):
    """Random bits on every cell of every plane."""
    return (torch.rand(rows, *LAYOUT.shape, generator=torch.Generator().manual_seed(seed)) < 0.3).float()


def numbers(space, rows=6):
    """Views of a space that is not binary."""
    generator = torch.Generator().manual_seed(0)
    if space.dtype.kind == "f":
        return torch.randn(rows, *space.shape, generator=generator)
    return torch.randint(100, (rows, *space.shape), generator=generator).to(dtype_of(space))


def indices_of(x):
    """Sparse views: the indices of the ones, and the size of the view for none."""
    size = x[0].numel()
    return torch.where(x.flatten(1) > 0, torch.arange(size), size).int()


@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_reads_the_view_and_the_time_row_by_row(kind):
    encoder = kind(SPACE, LAYOUT, 16)
    x, time = views(), torch.linspace(0, 1, 6)
    features = encoder(x, time)
    assert features.shape == (6, 16)
    assert not torch.allclose(features, encoder(x, 1 - time))
    assert not torch.allclose(features, encoder(1 - x, time))
    for row in range(6):
        torch.testing.assert_close(encoder(x[row : row + 1], time[row : row + 1])[0], features[row])
    assert encoder(x[:0], time[:0]).shape == (0, 16)


@pytest.mark.parametrize(("kind", "space"), [(MLP, REAL), (MLP, COUNTS), (MLP, PIXELS), (Conv, PIXELS)])
def test_views_that_are_not_bits_are_read_with_their_values(kind, space):
    encoder, x, time = kind(space, None, 16), numbers(space), torch.linspace(0, 1, 6)
    assert not encoder.sparse
    features = encoder(x, time)
    torch.testing.assert_close(features, encoder(x.float(), time))
    assert not torch.allclose(features, encoder(2 * x, time))
    assert torch.equal(encoder.prepare(x), x.float())
    torch.testing.assert_close(encoder(encoder.prepare(x), time), features)


def test_mlp_by_hand():
    encoder = MLP(spaces.Box(-9.0, 9.0, (2,), np.float32), None, 2)
    with torch.no_grad():
        encoder.dense.weight.copy_(torch.tensor([[1.0, 10.0, 100.0], [-1.0, 0.0, 0.0]]))
        encoder.dense.bias.copy_(torch.tensor([0.5, 0.0]))
    found = encoder(torch.tensor([[2.0, -3.0]]), torch.tensor([0.5]))
    assert found.tolist() == [[2 - 30 + 50 + 0.5, 0.0]]  # relu cuts -2 off


@pytest.mark.parametrize("kind", [MLP, Centred, Conv, RecurrentConv])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sparse_views_are_read_like_planes(kind, dtype):
    encoder = kind(SPACE, LAYOUT, 16).to(dtype)
    assert encoder.sparse
    x, time = views(), torch.linspace(0, 1, 6)
    assert len({int(row.sum()) for row in x}) > 1
    features = encoder(indices_of(x), time)
    assert features.dtype == dtype
    torch.testing.assert_close(features, encoder(x.to(dtype), time))
    torch.testing.assert_close(features, encoder(x.to(torch.uint8), time))
    assert encoder(indices_of(x)[:0], time[:0]).shape == (0, 16)


@pytest.mark.parametrize("kind", KINDS)
def test_every_encoder_of_a_kind_reads_a_prepared_view(kind):
    one, two = kind(SPACE, LAYOUT, 16), kind(SPACE, LAYOUT, 16)
    x, time = views(), torch.linspace(0, 1, 6)
    prepared = one.prepare(x)
    assert prepared.is_floating_point() == (kind is Conv)
    assert one.prepare(x[:0]).shape[0] == 0
    for encoder in (one, two):
        torch.testing.assert_close(encoder(prepared, time), encoder(x, time))
    counts = 2 * x  # indices would lose how many there are
    assert torch.equal(one.prepare(counts), counts)


def test_centred_reads_the_same_inputs_wherever_the_viewer_stands():
    """All that differs when everybody moves by a cell is the viewer's own absolute cell."""
    encoder, time = Centred(SPACE, LAYOUT, 16), torch.zeros(1)

    def view(row, column):
        x = torch.zeros(1, *LAYOUT.shape)
        x[0, 0, row, column] = x[0, 1, row + 1, column] = x[0, 2, row + 1, column + 1] = 1.0
        return x

    def without_own_cell(x):
        with torch.no_grad():
            encoder.dense.weight[:, : 3 * 4] = 0.0  # the viewer's cell keeps its place in plane 0
        return encoder(x, time)

    torch.testing.assert_close(without_own_cell(view(0, 0)), without_own_cell(view(1, 2)))
    apart = view(0, 0)
    apart[0, 2] = apart[0, 2].roll(1, -1)
    assert not torch.allclose(without_own_cell(apart), without_own_cell(view(0, 0)))


def test_paths_knows_the_way_around_walls_where_centred_does_not():
    """A wall beside the viewer changes its features by the distances behind it, even where walls have no weight."""
    open_board = torch.zeros(1, *LAYOUT.shape)
    open_board[0, 0, 0, 0] = open_board[0, 2, 0, 2] = 1.0
    walled = open_board.clone()
    walled[0, 4, 0, 1] = walled[0, 4, 1, 1] = 1.0
    changed = []
    for kind in (Centred, Paths):
        encoder = kind(SPACE, LAYOUT, 16)
        with torch.no_grad():
            centred = 5 * 7 * 4  # weights of the last plane, the walls, in a frame of 5 x 7 cells
            encoder.dense.weight[:, centred : centred + 5 * 7] = 0.0
        time = torch.zeros(1)
        changed.append(not torch.allclose(encoder(open_board, time), encoder(walled, time)))
    assert changed == [False, True]


def test_conv_looks_at_neighbours_where_mlp_weighs_each_cell_alone():
    assert sum(isinstance(layer, torch.nn.Conv2d) for layer in Conv(SPACE, LAYOUT, 8).modules()) == 3
    assert not any(isinstance(layer, torch.nn.Conv2d) for layer in MLP(SPACE, LAYOUT, 8).modules())


def test_a_state_encoder_is_not_relative_to_the_viewer():
    assert Centred.state_encoder is MLP
    assert Paths.state_encoder is MLP
    assert RecurrentConv.state_encoder is MLP
    assert MLP.state_encoder is None


@pytest.mark.parametrize(
    ("kind", "space"),
    [
        *((kind, space) for kind in (Centred, Paths, RecurrentConv) for space in (SPACE, REAL)),
        (Conv, REAL),
        (Conv, COUNTS),
    ],
)
def test_an_encoder_refuses_views_that_it_cannot_read_and_names_the_one_that_can(kind, space):
    with pytest.raises(ConfigError, match=r"set --model\.encoder MLP") as refusal:
        kind(space, None, 16)
    assert kind.__name__ in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("kind", [MLP, Centred, Paths, Conv])
def test_all_results_are_on_the_device_of_the_inputs(kind):
    # on "meta" a hidden CPU tensor or a wait for a value raises; `RecurrentConv` has to find out which boards are equal
    encoder, time = kind(SPACE, LAYOUT, 16).to("meta"), torch.zeros(6, device="meta")
    # to read planes is to look at where they are not 0, of which "meta" knows nothing; convolutions need not look
    for x in (torch.zeros(6, 9, dtype=torch.int32), *([views()] if kind is Conv else [])):
        for learning in (True, False):
            with torch.set_grad_enabled(learning):
                assert encoder(x.to("meta"), time).device.type == "meta"


@pytest.mark.parametrize("kind", KINDS)
def test_planes_are_read_where_they_are(kind):
    # a tensor made without naming the inputs' device would land on "meta" and mix with them
    encoder, x, time = kind(SPACE, LAYOUT, 16), views(), torch.zeros(6)
    expected = encoder(x, time)
    with torch.device("meta"):
        found = encoder(x, time)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("kind", [MLP, Centred])
def test_sparse_views_are_read_with_the_weights_of_the_moment(kind):
    encoder, time = kind(SPACE, LAYOUT, 16), torch.linspace(0, 1, 6)
    x = views()
    indices = indices_of(x)
    other = kind(SPACE, LAYOUT, 16).state_dict()
    optimiser = torch.optim.SGD(encoder.parameters(), lr=1.0)

    def check():
        """The sparse path keeps a table of weights; the reference is the dense path, which keeps nothing."""
        with torch.no_grad():
            torch.testing.assert_close(encoder(indices, time), slow(encoder, x, time))

    check()
    encoder(indices, time).sum().backward()
    assert encoder.dense.weight.grad is not None, "it is the weights that are learned, not a copy"
    optimiser.step()
    check()
    encoder.load_state_dict(other)
    check()
    encoder.dense.weight = torch.nn.Parameter(encoder.dense.weight.detach() + 1)
    check()
    encoder, time = encoder.double(), time.double()
    x = x.double()
    check()
    with torch.inference_mode():
        check()


def slow(encoder, x, time):
    """Features cell by cell: the weights of the inputs that each 1 sets, summed in a loop."""
    weight, bias = encoder.dense.weight, encoder.dense.bias
    rows = []
    for view, now in zip(x, time, strict=True):
        total = bias + now * weight[:, -1]
        for index in encoder.placed(indices_of(view[None]))[0].tolist():
            if index < encoder.inputs:
                total = total + weight[:, index]
        rows.append(total.relu())
    return torch.stack(rows)
