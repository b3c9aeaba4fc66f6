"""Decoders: each observation space has its likelihood, by hand and against known distributions."""

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from omg_lightning.encoders import PlaneDecoder, PlaneLogits
from omg_lightning.encoders.decoders import (
    BitDecoder,
    GaussianDecoder,
    make_decoder,
    plane_likelihood,
    player_targets,
)
from omg_lightning.games.grid.layout import GridLayout

LAYOUT = GridLayout(("self", "other_1", "stags", "hares", "blocks"), 3, 4, 2)


@pytest.mark.parametrize(
    ("space", "layout", "kind"),
    [
        (spaces.MultiBinary(LAYOUT.shape), LAYOUT, PlaneDecoder),
        (spaces.MultiBinary((2, 3)), None, BitDecoder),
        (spaces.Box(0, 1, (4,), np.int8), None, BitDecoder),
        (spaces.Box(0, 9, (4,), np.int64), None, GaussianDecoder),
        (spaces.Box(-np.inf, np.inf, (2, 2), np.float32), None, GaussianDecoder),
    ],
)
def test_the_decoder_follows_the_observation_space(space, layout, kind):
    decoder = make_decoder(3, space, layout, 8)
    assert isinstance(decoder, kind)
    view = torch.zeros(5, *space.shape)
    for loss in (decoder.reconstruction, decoder.squared_error):
        found = loss(torch.randn(5, 3), view)
        assert found.shape == (5,)
        assert torch.isfinite(found).all()
        assert loss(torch.zeros(0, 3), view[:0]).shape == (0,)


@pytest.mark.parametrize("name", ["planes", "bits", "numbers"])
def test_a_decoder_learns_to_tell_two_views_apart(name):
    torch.manual_seed(0)
    space = spaces.Box(-9.0, 9.0, (3,), np.float32) if name == "numbers" else spaces.MultiBinary((3,))
    views = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    layout = None
    if name == "planes":
        layout = GridLayout(("self", "stags"), 1, 3, 1)
        space, views = spaces.MultiBinary(layout.shape), torch.eye(3)[:2, None, None].expand(2, 2, 1, 3).contiguous()
    decoder, codes = make_decoder(1, space, layout, 16), torch.tensor([[-1.0], [1.0]])
    before = decoder.reconstruction(codes, views).sum()
    optimiser = torch.optim.Adam(decoder.parameters(), lr=0.02)
    for _ in range(100):
        optimiser.zero_grad()
        decoder.reconstruction(codes, views).sum().backward()
        optimiser.step()
    assert decoder.reconstruction(codes, views).sum() < before - 1
    assert (decoder.squared_error(codes, views) < decoder.squared_error(codes, views.flip(0))).all()


def test_a_plane_decoder_gives_each_player_its_cells_and_each_object_its_plane():
    decoder = PlaneDecoder(3, LAYOUT, hidden=8)
    last = decoder.layers[-1]
    with torch.no_grad():  # outputs 0, 1, 2, ...: who gets which?
        last.weight.zero_()
        last.bias.copy_(torch.arange(len(last.bias)))
    players, objects = decoder(torch.randn(5, 3))
    assert players.shape == (5, 2, 13)
    assert objects.shape == (5, 3, 3, 4)
    assert players[0].flatten().tolist() == list(range(26))
    assert objects[4].flatten().tolist() == list(range(26, 26 + 36))


def test_decoding_stays_where_the_inputs_are():
    decoded = PlaneDecoder(3, LAYOUT, 8).to("meta")(torch.zeros(6, 3, device="meta"))
    assert {x.device.type for x in decoded} == {"meta"}


# Bits and real numbers ----------------------------------------------------------------------------------------------


def says(decoder, output):
    """Makes a decoder give the same output for every code."""
    with torch.no_grad():
        decoder.layers[-1].weight.zero_()
        decoder.layers[-1].bias.copy_(torch.tensor(output))
    return decoder


def test_bits_by_hand():
    decoder = says(BitDecoder(1, (2,), 4), [math.log(3), 0.0])  # probabilities 3/4 and 1/2 of a 1
    found = decoder.reconstruction(torch.zeros(2, 1), torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    assert found.tolist() == pytest.approx([math.log(4 / 3) + math.log(2), math.log(4) + math.log(2)])
    error = decoder.squared_error(torch.zeros(1, 1), torch.tensor([[1.0, 0.0]]))
    assert error.tolist() == pytest.approx([(0.25**2 + 0.5**2) / 2])


def test_real_numbers_have_the_likelihood_of_a_gaussian():
    decoder = says(GaussianDecoder(1, (2,), 4), [1.0, -2.0])
    with torch.no_grad():
        decoder.log_var.copy_(torch.tensor([0.0, math.log(4)]))
    views = torch.tensor([[1.5, 3.0], [0.0, -2.0]])
    expected = -torch.distributions.Normal(torch.tensor([1.0, -2.0]), torch.tensor([1.0, 2.0])).log_prob(views).sum(-1)
    torch.testing.assert_close(decoder.reconstruction(torch.zeros(2, 1), views), expected)
    assert decoder.squared_error(torch.zeros(2, 1), views).tolist() == pytest.approx([(0.25 + 25) / 2, 0.5])


def test_an_entry_that_never_changes_cannot_outweigh_all_others():
    decoder = says(GaussianDecoder(1, (1,), 4), [1.0])
    with torch.no_grad():
        decoder.log_var.fill_(-50.0)
    found = decoder.reconstruction(torch.zeros(1, 1), torch.ones(1, 1))
    assert found.tolist() == pytest.approx([0.5 * (-6 + math.log(2 * math.pi))])


# Planes -------------------------------------------------------------------------------------------------------------


def test_player_targets_are_cells_or_absent():
    views = torch.zeros(2, 3, 2, 2)
    views[0, 0, 1, 0] = views[0, 1, 0, 1] = views[1, 1, 1, 1] = 1
    views[:, 2] = 1  # an object plane, none of its business
    assert player_targets(views, 2).tolist() == [[2, 1], [4, 3]]


def test_plane_likelihood_by_hand():
    view = torch.tensor([[[[0.0, 1.0]], [[1.0, 0.0]]]])  # one player on the second of two cells, an object on the first
    logits = PlaneLogits(torch.tensor([[[0.0, math.log(2), 0.0]]]), torch.tensor([[[[math.log(3), 0.0]]]]))
    # p(player there) = 2/4; the object's 1 has p = 3/4, the 0 has p = 1/2; ones and zeros weigh a half each
    expected = math.log(2) + 0.5 * (math.log(4 / 3) + math.log(2))
    assert plane_likelihood(logits, view).tolist() == [pytest.approx(expected)]


def test_plane_likelihood_of_an_absent_player():
    logits = PlaneLogits(torch.tensor([[[0.0, 0.0, math.log(2)]]]), torch.full((1, 1, 1, 2), -math.log(2)))
    # an empty plane counts as one 1 among its two cells: their log odds go up by log 2, so that p = 1/2
    found = float(plane_likelihood(logits, torch.zeros(1, 2, 1, 2)))
    assert found == pytest.approx(math.log(2) + 0.5 * math.log(2))


def one_in(width, full, empty):
    """The error of a plane with a 1 on the first of `width` cells, given the log odds there and on the others."""
    view, players = torch.zeros(1, 2, 1, width), torch.zeros(1, 1, width + 1)
    view[0, :, 0, 0] = 1
    objects = torch.full((1, 1, 1, width), empty)
    objects[..., 0] = full
    return float(plane_likelihood(PlaneLogits(players, objects), view)) - math.log(width + 1)


def test_more_empty_cells_do_not_drown_the_one_that_is_full():
    few, many = (one_in(width, -2.0 - math.log(width - 1), -1.0 - math.log(width - 1)) for width in (2, 50))
    assert few == pytest.approx(many, rel=1e-5)


def test_decoded_odds_are_those_of_a_one_though_ones_and_zeros_weigh_the_same():
    """A decoder that knows nothing does best by the share of ones: 1 of 16, anywhere."""
    odds = torch.zeros(1, 1, 4, 4, requires_grad=True)
    logits = PlaneLogits(torch.zeros(16, 1, 17), odds.expand(16, 1, 4, 4))
    views = torch.zeros(16, 2, 16)
    views[:, 0, 0] = 1
    views[range(16), 1, range(16)] = 1
    optimiser = torch.optim.LBFGS([odds], max_iter=50)

    def error():
        optimiser.zero_grad()
        loss = plane_likelihood(logits._replace(objects=odds.expand(16, 1, 4, 4)), views.view(16, 2, 4, 4)).mean()
        loss.backward()
        return loss

    optimiser.step(error)
    torch.testing.assert_close(odds.detach().sigmoid(), torch.full((1, 1, 4, 4), 1 / 16), atol=1e-3, rtol=0)


def test_a_vanished_player_has_a_small_squared_error_but_not_a_small_likelihood():
    layout = GridLayout(("self", "stags"), 8, 8, 1)
    decoder = PlaneDecoder(1, layout, 4)
    says(decoder, [0.0] * 64 + [50.0] + [-50.0] * 64)  # surely absent: the player has vanished from the picture
    view = torch.zeros(1, 2, 8, 8)
    view[0, 0, 3, 3] = 1
    assert decoder.squared_error(torch.zeros(1, 1), view).tolist() == pytest.approx([1 / 128])
    assert decoder.reconstruction(torch.zeros(1, 1), view).tolist() == pytest.approx([50])
