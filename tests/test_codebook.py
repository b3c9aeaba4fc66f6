"""Learned discrete goals: the frame they are coded in, the codebook, and the labels made of it."""

import pytest
import torch

from omg_lightning.data import EpisodeDataModule, GameConfig
from omg_lightning.games import StagHunt
from omg_lightning.opponents import BeliefConfig, Codebook, CodebookGoals, endings, own_frame, rewarded
from omg_lightning.opponents.labels import learn_codes
from omg_lightning.rollout import arrange, play
from omg_lightning.types import NO_GOAL, ConfigError, View

CPU = torch.device("cpu")


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_own_frame_is_what_lies_on_and_beside_ones_cell():
    observation = torch.zeros(1, 3, 3, 3)  # self, another player, one kind of object
    observation[0, 0, 1, 1] = 1
    observation[0, 1, 1, 1] = 1  # who else is there does not matter
    observation[0, 2, 1, 1] = observation[0, 2, 0, 2] = 1
    around = own_frame(observation, num_players=2, beside=0.25).view(3, 3)
    assert around.tolist() == [[0, 0, 0.25], [0, 1, 0], [0, 0, 0]]


def test_own_frame_does_not_depend_on_the_place():
    game = StagHunt(num_players=1, num_stags=1, num_hares=1, height=5, width=5)
    views = [
        game.observe(game.place(hunters=[(r, c)], stags=[(r, c)], hares=[(r, c + 1)]))[:, 0]
        for r, c in [(0, 0), (2, 1), (4, 3)]
    ]
    frames = torch.cat([own_frame(view, 1) for view in views])
    assert torch.equal(frames[0], frames[1])
    assert torch.equal(frames[0], frames[2])


def test_own_frame_of_a_viewer_that_has_left_is_empty():
    assert not own_frame(torch.cat([torch.zeros(1, 1, 4, 4), torch.ones(1, 2, 4, 4)], 1), 1).any()


def clusters(count, noise=0.05, seed=0):
    """`count` points around each of the corners of a triangle with sides of about 4."""
    centres = torch.tensor([[0.0, 0.0], [4.0, 0.0], [2.0, 3.5]])
    truth = torch.arange(3).repeat(count)
    return centres[truth] + noise * torch.randn(3 * count, 2, generator=rng(seed)), truth


@pytest.mark.parametrize("num_codes", [3, 5, 16])
def test_the_codebook_finds_the_clusters_and_leaves_the_other_codes_unused(num_codes):
    book, random = Codebook(num_codes, 2), rng()
    vectors, truth = clusters(40)
    for _ in range(20):
        book.update(vectors, random)
    assert int((book.count > 0).sum()) == 3
    pairs = {(int(code), int(cluster)) for code, cluster in zip(book(vectors), truth, strict=True)}
    assert len(pairs) == 3  # one to one
    nearest = torch.cdist(vectors, book.codes).min(-1).values
    assert nearest.max() < 0.3


def test_a_code_that_has_lost_its_samples_goes_where_it_is_needed():
    book, random = Codebook(3, 2, decay=0.5), rng()
    vectors, truth = clusters(40)
    for _ in range(10):
        book.update(vectors[truth != 2], random)
    moved = vectors[truth == 0] + torch.tensor([0.0, 50.0])
    for _ in range(20):
        book.update(torch.cat([vectors[truth == 1], moved, vectors[truth == 2]]), random)
    assert torch.cdist(moved, book.codes).min(-1).values.max() < 0.3
    assert not (torch.cdist(vectors[truth == 0], book.codes).min(-1).values < 1).any()


def test_codes_keep_their_number_while_they_move():
    book, random = Codebook(3, 2), rng()
    vectors, _ = clusters(40)
    for _ in range(20):
        book.update(vectors, random)
    before = book(vectors)
    for step in range(100):
        vectors = vectors + torch.tensor([0.01, 0.0])
        book.update(vectors, random)
        assert torch.equal(book(vectors), before), step


def test_an_empty_batch_changes_nothing_and_one_code_is_refused():
    book = Codebook(2, 2)
    book.update(torch.zeros(0, 2), rng())
    assert not book.count.any()
    with pytest.raises(ConfigError, match="at least 2"):
        Codebook(1, 2)


@pytest.mark.parametrize("preset", ["2h1s_4x4", "4h1s_6x6"])
def test_codes_agree_with_the_declared_labels_that_they_never_saw(preset):
    game = GameConfig(preset=preset).build()
    lineups = [["nearest_stag"] * k + ["nearest_hare"] * (game.num_players - k) for k in range(game.num_players + 1)]
    random = rng(1)
    seats = arrange(lineups, 64, game, CPU)
    train, fresh = (play(game, seats, {}, random).episodes for _ in range(2))
    book = None
    for _ in range(8):
        around = own_frame(train.observation[rewarded(train)].float(), game.num_players)
        book = book or Codebook(8, around.shape[1])
        book.update(around, random)
    event = rewarded(fresh)
    codes = book(own_frame(fresh.observation[event].float(), game.num_players))
    pairs = set(zip(codes.tolist(), fresh.realised[event].tolist(), strict=True))
    assert len(pairs) == 2  # one code for the stag, one for the hare: mutual information is perfect
    assert len({code for code, _ in pairs}) == 2


def test_a_seat_realises_the_code_where_it_was_rewarded_last():
    data = EpisodeDataModule(seats=["nearest_stag", "nearest_hare"])
    episodes = play(data.game, arrange([data.seats], 8, data.game, CPU), {}, rng()).episodes
    source = CodebookGoals(4, None, BeliefConfig(), lambda views: views[:, -1].sum((1, 2)).long(), torch.ones(4) > 0)
    found = source.realised(episodes)
    assert (found[:, 0] == NO_GOAL).all()  # alone it never gets the stag
    assert (found[:, 1] == 2).all()  # this code counts the hares in sight when the first one is caught


def test_unused_codes_are_not_believed_in():
    source = CodebookGoals(4, None, BeliefConfig(floor=0.01), None, torch.tensor([True, False, True, False]))
    prior = source.prior(2, 3, CPU)
    assert prior.shape == (2, 3, 4)
    assert prior[0, 0].tolist() == [0.5, 0, 0.5, 0]
    assert source.start(torch.tensor([0.9, 0.1, 0.0, 0.0]), None).exp().tolist() == pytest.approx([0.99, 0, 0.01, 0])


def test_what_is_seen_is_no_evidence_for_a_code_that_is_not_in_use():
    source = CodebookGoals(
        3,
        lambda view, actions: torch.tensor([0.1, 0.9, 0.3]).log(),
        BeliefConfig(floor=0.0),
        None,
        torch.tensor([True, False, True]),
    )
    view = View(None, None, None, torch.ones(1, 1, dtype=torch.bool))
    memory = source.update(source.start(source.prior(1, 1, CPU), None), view, torch.zeros(1, 1, dtype=torch.int64))
    assert memory.exp()[0, 0].tolist() == pytest.approx([0.25, 0, 0.75])


def test_endings_by_hand():
    event = torch.tensor([[0, 0], [1, 0], [0, 0], [0, 0]]).bool().view(4, 1, 2)
    active = torch.tensor([[1, 1], [1, 1], [1, 0], [0, 0]]).bool().view(4, 1, 2)
    # Seat 0: its event, and its last step after it; seat 1: its last step alone.
    assert endings(event, active).view(4, 2).tolist() == [[False, False], [True, True], [True, False], [False, False]]
    leaves = endings(event, active & torch.tensor([[1], [1], [0], [0]]).bool().view(4, 1, 1))
    assert leaves[:, 0, 0].tolist() == [False, True, False, False]  # who leaves with its event ends with it


def test_in_snowdrift_those_who_clean_and_those_who_do_not_get_codes_of_their_own():
    game = GameConfig("snowdrift", "msg").build()
    lineups = [["cleaner"] * k + ["defector"] * (4 - k) for k in range(1, 4)]
    episodes = play(game, arrange(lineups, 48, game, CPU), {}, rng(1)).episodes
    book, random = Codebook(8, own_frame(torch.zeros(1, *game.observation_shape), 4).shape[1]), rng()
    for _ in range(8):
        labels = learn_codes(book, episodes, True, random)
    cleans = rewarded(episodes).any(0)
    assert not set(labels[0][cleans].tolist()) & set(labels[0][~cleans].tolist())  # what is said of the first step
    source = CodebookGoals(8, None, BeliefConfig(), lambda x: book(own_frame(x, 4)), book.count > 0, True)
    realised = source.realised(episodes)
    assert (realised != NO_GOAL).all()
    assert not set(realised[cleans].tolist()) & set(realised[~cleans].tolist())
    without = learn_codes(Codebook(8, book.codes.shape[1]), episodes, False, random)
    assert (without[0][~cleans] == NO_GOAL).all()
    assert (without[0][cleans] != NO_GOAL).all()
