"""The recurrent convolution against a loop over cells, what it reads, and what it remembers."""

import pytest
import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import nn

from omg_lightning.encoders import Centred, RecurrentConv, recurrent_conv
from omg_lightning.games import StagHunt
from omg_lightning.games.grid.layout import GridLayout
from omg_lightning.games.grid.paths import WAYS, all_walks
from omg_lightning.types import ConfigError

GAME = StagHunt(num_players=3, num_stags=1, num_hares=2, height=4, width=5, num_blocks=1)


def encoder_of(layout=GAME.layout, **arguments):
    torch.manual_seed(0)
    return RecurrentConv(spaces.MultiBinary(layout.shape), layout, 16, **arguments)


def some_views(boards=5, rounds=3, seed=0):
    """Planes and sparse views of all seats; players move and leave, so that boards repeat."""
    generator = torch.Generator().manual_seed(seed)
    state, dense, sparse = GAME.reset(boards, generator), [], []
    for _ in range(rounds):
        dense.append(GAME.observe(state).flatten(0, 1))
        sparse.append(GAME.observe_sparse(state).flatten(0, 1))
        actions = torch.multinomial(GAME.legal(state).flatten(0, 1).float(), 1, generator=generator)
        state, _ = GAME.step(state, actions.view(boards, -1))
        state = state._replace(present=state.present & (torch.rand(boards, 3, generator=generator) < 0.8))
    return torch.cat(dense), torch.cat(sparse)


def slow(encoder, views, time):
    """Features view by view and cell by cell, from the formula of the class."""
    players, (_, height, width), weight = encoder.layout.num_players, encoder.shape, encoder.spread.weight
    without = Centred(encoder.observation_space, encoder.layout, encoder.hidden).to(weight)
    rows = []
    for view, now in zip(views.to(weight), time, strict=True):
        things = torch.cat([view[players:], torch.ones_like(view[:1])])

        def weighed(kernel, planes, row, column):
            total = torch.zeros_like(kernel[:, 0, 0, 0])
            for down in (-1, 0, 1):
                for right in (-1, 0, 1):
                    if 0 <= row + down < height and 0 <= column + right < width:
                        total = total + kernel[:, :, down + 1, right + 1] @ planes[:, row + down, column + right]
            return total

        cells = [(row, column) for row in range(height) for column in range(width)]

        def everywhere(kernel, planes, cells=cells):
            return torch.stack([weighed(kernel, planes, *cell) for cell in cells], 1).view(-1, height, width)

        x = everywhere(encoder.enter.weight, things) + encoder.enter.bias[:, None, None]
        h = x.relu()
        for _ in range(encoder.steps):
            h = (everywhere(weight, h) + x).relu()
        around, beside = h.new_zeros(3, 3, len(h)), h.new_zeros(len(h))
        for row, column in cells:
            for down in (-1, 0, 1):
                for right in (-1, 0, 1):
                    if 0 <= row + down < height and 0 <= column + right < width:
                        seen = h[:, row + down, column + right]
                        around[down + 1, right + 1] += view[0, row, column] * seen
            beside = beside + view[1:players, row, column].sum() * h[:, row, column]
        without.load_state_dict({"dense.weight": encoder.dense.weight, "dense.bias": encoder.dense.bias})
        indices, values = without.entries(view[None])
        total = without.summed(indices, values, now[None])[0]
        rows.append((total + encoder.read.weight @ torch.cat([around.flatten(), beside])).relu())
    return torch.stack(rows)


@torch.no_grad()
def test_views_in_any_form_are_read_as_by_a_loop_over_cells():
    encoder = encoder_of(channels=3, steps=2)
    dense, sparse = some_views(boards=2)
    time = torch.linspace(0, 1, len(dense))
    expected = slow(encoder, dense, time)
    for views in (dense, sparse, encoder.prepare(dense), sparse):
        torch.testing.assert_close(encoder(views, time), expected)
    with torch.enable_grad():
        torch.testing.assert_close(encoder(sparse, time), expected)
    strange = dense * torch.rand(dense.shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(encoder(strange, time), slow(encoder, strange, time))


def test_no_plane_is_told_to_be_a_wall_and_no_distance_is_wanted():
    told, untold = encoder_of(), encoder_of(GAME.layout._replace(walls=None))
    dense, sparse = some_views()
    time = torch.zeros(len(dense))
    assert not told.distances
    assert torch.equal(told(sparse, time), untold(sparse, time))


def test_things_are_read_from_as_far_as_the_steps_go():
    layout = GridLayout(("self", "walls"), 1, 12, 1)
    encoder = encoder_of(layout, steps=3)
    nn.init.zeros_(encoder.dense.weight)
    views = torch.zeros(12, *layout.shape)
    views[:, 0, 0, 0] = 1
    views[range(1, 12), 1, 0, range(1, 12)] = 1
    with torch.no_grad():
        found = encoder(views, torch.zeros(12))
    # one cell by the first convolution, three by the steps, one by reading the cells around the viewer
    assert [not torch.equal(row, found[0]) for row in found[1:]] == [True] * 5 + [False] * 6


@torch.no_grad()
def test_a_board_is_convolved_once_for_all_its_views_until_the_weights_change(monkeypatch):
    encoder, (dense, sparse) = encoder_of(), some_views()
    time, convolved = torch.zeros(len(dense)), []

    def count(planes):
        convolved.append(len(planes))
        return RecurrentConv.convolved(encoder, planes)

    monkeypatch.setattr(encoder, "convolved", count)
    monkeypatch.setattr(recurrent_conv, "BATCH", 1)
    boards = len(dense[:, 3:].flatten(1).unique(dim=0))
    assert boards < len(dense) / 3
    part = encoder(sparse[:3], time[:3])
    whole = encoder(sparse, time)
    assert torch.allclose(whole[:3], part)
    torch.testing.assert_close(encoder(dense.flip(0), time).flip(0), whole)
    assert convolved == [1] * boards
    encoder.spread.weight.mul_(0.5)
    changed = encoder(sparse, time)
    assert not torch.allclose(changed, whole)
    assert convolved == [1] * 2 * boards
    monkeypatch.setattr(recurrent_conv, "MOST_BOARDS", 1)
    assert torch.allclose(encoder(sparse, time), changed)
    assert convolved == [1] * 3 * boards, "too many boards are forgotten"
    with torch.enable_grad():  # one training batch
        encoder(sparse, time).sum().backward()
    assert convolved[3 * boards :] == [boards], "boards are not remembered where there are gradients"


@torch.no_grad()
def test_a_board_has_the_same_bits_whenever_and_with_whatever_boards_it_is_convolved():
    """Or a resumed run, which has to convolve boards again, would not repeat an uninterrupted one."""
    encoder, (_, sparse) = encoder_of(channels=16), some_views(boards=40)
    whole = encoder.at_players(sparse, None)
    again = encoder_of(channels=16)
    again.load_state_dict(encoder.state_dict())
    order = torch.randperm(len(sparse), generator=torch.Generator().manual_seed(0))
    found = torch.empty_like(whole)
    for rows in order.split(7):
        found[rows] = again.at_players(sparse[rows], None)
    assert torch.equal(found, whole)


def test_settings_below_1_are_refused():
    for name in ("channels", "steps"):
        with pytest.raises(ConfigError, match=rf"model\.encoder\.{name} is 0: it must be at least 1"):
            encoder_of(**{name: 0})


@pytest.mark.slow
def test_walks_of_others_are_learned_from_planes_where_centred_cannot():
    """How far the nearest other hunter is from the stag, around blocks: right for most boards not seen before."""
    game = StagHunt.preset("4h1s_6x6")

    def batch(boards, seed):
        state = game.reset(boards, torch.Generator().manual_seed(seed))
        planes = game.observe(state)
        walks = all_walks(planes[:, 0, 4] == 0).long() // WAYS
        stag = planes[:, 0, 5].flatten(1).argmax(-1)
        far = walks[torch.arange(boards)[:, None], state.hunters, stag[:, None]]
        others = torch.stack([far.roll(-k, 1) for k in (1, 2, 3)], -1).amin(-1)
        return planes.flatten(0, 1), others.flatten().clamp(max=15)

    train, (views, wanted) = [batch(128, seed) for seed in range(60)], batch(256, 1000)
    right = []
    for kind in (Centred, RecurrentConv):
        torch.manual_seed(0)
        encoder = kind(game.observation_space, game.layout, 128)
        net = nn.ModuleList([encoder, nn.Sequential(nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 16))])
        optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
        for step in range(180):
            x, far = train[step % len(train)]
            loss = F.cross_entropy(net[1](encoder(encoder.prepare(x), torch.zeros(len(x)))), far)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            found = net[1](encoder(encoder.prepare(views), torch.zeros(len(views)))).argmax(-1)
        right.append(float((found == wanted).float().mean()))
    assert right[0] < 0.35
    assert right[1] > 0.65
