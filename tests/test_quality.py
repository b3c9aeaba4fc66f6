"""How good codes are, in numbers, by hand. Two players, a stag plane and a hare plane, on a board of 1 x 2."""

import pytest
import torch

from omg_lightning.encoders import PlaneLogits
from omg_lightning.encoders.quality import (
    active_units,
    decided,
    plane_precision,
    plane_recall,
    probabilities,
)

NAMES = ("self", "other_1", "stags", "hares")


@pytest.fixture
def logits() -> PlaneLogits:
    # Players: cell 0, cell 1, absent. View 0: self in cell 1, other absent; view 1: self in cell 0, other in cell 0.
    players = torch.tensor([[[0.0, 2.0, 1.0], [0.0, 0.0, 3.0]], [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]])
    # Stags: in cell 0 of view 0, in both of view 1. Hares: p is exactly 0.5, and so none.
    objects = torch.tensor([[[[4.0, -4.0]], [[0.0, 0.0]]], [[[1.0, 1.0]], [[0.0, 0.0]]]])
    return PlaneLogits(players, objects)


@pytest.fixture
def views() -> torch.Tensor:
    return torch.tensor(
        [
            [[[0, 1]], [[1, 0]], [[1, 0]], [[0, 0]]],  # self in cell 1, other in cell 0, stag in cell 0
            [[[0, 1]], [[1, 0]], [[0, 1]], [[0, 0]]],  # self in cell 1, other in cell 0, stag in cell 1
        ]
    ).float()


def test_decided_takes_the_likeliest_place_and_objects_above_one_half(logits):
    expected = [
        [[[0, 1]], [[0, 0]], [[1, 0]], [[0, 0]]],
        [[[1, 0]], [[1, 0]], [[1, 1]], [[0, 0]]],
    ]
    assert decided(logits).int().tolist() == expected


def test_probabilities_of_a_player_sum_to_one_with_its_absence(logits):
    cells, absent = probabilities(logits)
    assert cells.shape == (2, 4, 1, 2)
    torch.testing.assert_close(cells[:, :2].flatten(2).sum(-1) + absent, torch.ones(2, 2))
    e = torch.e
    assert cells[1, 0, 0].tolist() == pytest.approx([e / (e + 2), 1 / (e + 2)])
    assert cells[0, 3, 0].tolist() == [0.5, 0.5]


def test_recall_by_hand(logits, views):
    recall = plane_recall(logits, views, NAMES)
    # self: hit in view 0 only; other: taken for absent in view 0, found in view 1; stags: both; hares: there are none.
    assert {kind: float(share) for kind, share in recall.items()} == {"self": 0.5, "other": 0.5, "stags": 1.0}


def test_precision_by_hand(logits, views):
    precision = plane_precision(logits, views, NAMES)
    # self: 1 of 2; other: decided in view 1 only, rightly; stags: 2 of 3, one cell too many in view 1.
    shares = {kind: float(share) for kind, share in precision.items()}
    assert shares == pytest.approx({"self": 0.5, "other": 1.0, "stags": 2 / 3})


def test_all_co_players_count_as_one_kind(logits, views):
    names = ("other_1", "other_2", "stags", "hares")
    assert float(plane_recall(logits, views, names)["other"]) == 0.5  # 2 of 4


def test_recall_ignores_players_that_have_left(logits, views):
    views[0, 1] = 0
    assert float(plane_recall(logits, views, NAMES)["other"]) == 1.0


def test_active_units_by_hand():
    # Variances over the two samples: 0.25, 0.0064 and 0.
    mean = torch.tensor([[0.0, 1.00, 3.0], [1.0, 1.16, 3.0]])
    assert int(active_units(mean)) == 1
    assert int(active_units(mean, threshold=0.005)) == 2
    assert int(active_units(mean[:1])) == 0
