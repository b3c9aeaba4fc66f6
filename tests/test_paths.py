import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omg_lightning.games import Snowdrift, StagHunt
from omg_lightning.games.grid.paths import (
    NEAR,
    NOWHERE,
    STEPS,
    UNREACHABLE,
    WAYS,
    Facts,
    all_walks,
    distance_to,
    facts_of,
    race_places,
    walks_from,
)


def test_walks_by_hand():
    # . . .      from the upper left corner; there are two ways around the block in the middle
    # . # .
    # . . #
    free = torch.tensor([[1, 1, 1], [1, 0, 1], [1, 1, 0]]).bool()[None]
    start = torch.zeros_like(free)
    start[0, 0, 0] = True
    distance, ways = walks_from(start, free)
    far = UNREACHABLE
    assert distance[0].tolist() == [[0, 1, 2], [1, far, 3], [2, 3, far]]
    down, right = 1 << 1, 1 << 3
    assert ways[0].tolist() == [[0, right, right], [down, 0, right], [down, down, 0]]


@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 5))
def test_first_steps_reduce_the_distance(seed, height, width):
    random = torch.Generator().manual_seed(seed)
    free = torch.rand(4, height, width, generator=random) < 0.7
    start = torch.zeros(4, height * width, dtype=torch.bool)
    start[:, int(torch.randint(height * width, (1,), generator=random))] = True
    start = start.view_as(free)
    distance, ways = walks_from(start, free)
    assert torch.equal(distance.long(), distance_to(start, free))  # who starts on a block gets nowhere
    row, column = divmod(int(start[0].flatten().to(torch.uint8).argmax()), width)
    for k, (down, right) in enumerate(STEPS):
        nearer = torch.zeros_like(free)
        if 0 <= row + down < height and 0 <= column + right < width:
            beside = torch.zeros_like(free)
            beside[:, row + down, column + right] = True
            reached = distance < UNREACHABLE
            nearer = (distance_to(beside, free) == distance - 1) & reached
        assert torch.equal(ways >> k & 1 == 1, nearer)


def test_all_walks_pack_distance_and_first_steps():
    free = torch.rand(3, 3, 4, generator=torch.Generator().manual_seed(0)) < 0.7
    walks = all_walks(free)
    assert walks.dtype == torch.int16
    for cell in range(12):
        start = torch.zeros(3, 12, dtype=torch.bool)
        start[:, cell] = True
        distance, ways = walks_from(start.view_as(free), free)
        assert torch.equal(walks[:, cell].long() // WAYS, distance.flatten(1).clamp(max=13))
        assert torch.equal(walks[:, cell].long() % WAYS, ways.flatten(1))


def test_facts_by_hand():
    # Planes: self, other_1, blocks, stags. The other hunter is three steps off, around the block, the stag here.
    planes = torch.zeros(1, 4, 2, 3)
    planes[0, 0, 0, 0] = planes[0, 1, 0, 2] = planes[0, 2, 0, 1] = planes[0, 3, 0, 0] = 1
    facts = Facts.of((4, 2, 3), players=2, walls=2)
    assert (facts.things, facts.far, facts.start) == ((3,), 9, 25)
    told = sorted(x for x in (facts_of(planes, facts)[0] - facts.start).tolist() if x >= 0)
    down, race = 1 << 1, 2 * facts.each
    # four steps to the other, which is four steps from the stag; and there is no third player
    assert told == [
        4,
        facts.far + 1 + down,
        facts.each + 0,
        facts.each + facts.far + 1,
        race + 0 * NEAR + 4,
        race + NEAR * NEAR + 0 * NEAR + NEAR - 1,
    ]


def test_races_by_hand():
    facts = Facts.of((5, 4, 4), players=3, walls=None)
    walks = [torch.tensor([3 * WAYS + 5]), torch.tensor([2 * WAYS]), torch.tensor([3 * WAYS])]
    there = torch.tensor([True])

    def pairs(own, walks):
        places = race_places(own, walks, torch.tensor([1]), there, facts) - facts.start - 4 * facts.each - facts.races
        return [(int(x) % (NEAR * NEAR) // NEAR, int(x) % NEAR) for x in places]

    assert pairs(walks[0], walks) == [(3, 2), (3, 3)]
    assert pairs(walks[1], walks) == [(2, 3), (2, 3)]
    gone = [walks[0], torch.tensor([NOWHERE]), walks[2]]
    assert pairs(walks[0], gone) == [(3, 3), (3, NEAR - 1)]


@pytest.mark.parametrize("preset", ["4h1s_6x6", "4h2s", "2h1s_4x4", "msg"])
def test_sparse_views_tell_the_facts_of_the_planes(preset):
    game = (Snowdrift if preset == "msg" else StagHunt).preset(preset)
    generator = torch.Generator().manual_seed(3)
    state = game.reset(20, generator)
    board, take_it = game.board(state), game.num_actions - 1
    facts = Facts.of(game.observation_shape, game.num_players, game.layout.walls)
    assert (game.layout.walls is None) == (preset == "msg")
    for _ in range(12):
        planes = game.observe(state)
        places = game.observe_sparse(state, board)
        told = torch.zeros(*planes.shape[:2], facts.start + facts.size)
        told.scatter_add_(2, places.long(), torch.ones(places.shape))
        expected = torch.zeros_like(told)
        facts_told = facts_of(planes.flatten(0, 1), facts).unflatten(0, planes.shape[:2])
        expected.scatter_add_(2, facts_told.long(), torch.ones(facts_told.shape))
        assert torch.equal(told[..., : facts.start - 1], planes.flatten(2))
        assert torch.equal(told[..., facts.start :], expected[..., facts.start :])
        legal = game.legal(state).flatten(0, 1).float()
        actions = torch.multinomial(legal, 1, generator=generator).view(20, -1)
        actions = torch.where(game.legal(state)[..., take_it], take_it, actions)
        state, _ = game.step(state, actions)
    gone = state.left < game.num_drifts if preset == "msg" else ~state.present
    assert gone.any(), "something must have gone for this to be seen"
