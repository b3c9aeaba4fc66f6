from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from omg_lightning.games.grid import blocks
from omg_lightning.types import ConfigError


def neighbours(cell):
    r, c = cell
    return {(r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)}


def slow_connected(free):
    if not free:
        return False
    reached, edge = set(), {min(free)}
    while edge:
        reached |= edge
        edge = {n for cell in edge for n in neighbours(cell)} & free - reached
    return reached == free


def normal(cells):
    top, left = min(r for r, _ in cells), min(c for _, c in cells)
    return frozenset((r - top, c - left) for r, c in cells)


def polyominoes(size):
    """All placed shapes of so many cells, grown cell by cell: an independent way to the pieces."""
    shapes = {frozenset({(0, 0)})}
    for _ in range(size - 1):
        shapes = {normal(s | {n}) for s in shapes for cell in s for n in neighbours(cell) - s}
    return shapes


SHAPES = polyominoes(3) | polyominoes(4)


def tiles(cells, count):
    """Whether the cells are `count` pieces laid apart from each other."""
    if not cells or count == 0:
        return not cells and count == 0
    first = min(cells)
    for shape in SHAPES:
        for r, c in shape:
            piece = {(first[0] - r + a, first[1] - c + b) for a, b in shape}
            if piece <= cells and tiles(cells - piece, count - 1):
                return True
    return False


def cells_of(row, height, width):
    return {(r, c) for r, c in product(range(height), range(width)) if row[r * width + c]}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 10**6), st.floats(0.2, 0.9))
@settings(max_examples=60, deadline=None)
def test_connected_is_the_slow_flood_fill(height, width, seed, share):
    free = torch.rand(20, height, width, generator=seeded(seed)) < share
    expected = [slow_connected(cells_of(f.flatten().tolist(), height, width)) for f in free]
    assert blocks.connected(free).tolist() == expected


def test_connected_follows_a_snake_and_sees_a_diagonal_gap():
    snake = ["....#", "###..", ".....", ".####", "....."]
    cut = [".#", "#."]
    assert blocks.connected(torch.tensor([[c == "." for c in line] for line in snake])[None]).item()
    assert not blocks.connected(torch.tensor([[c == "." for c in line] for line in cut])[None]).item()
    assert not blocks.connected(torch.zeros(1, 2, 2, dtype=torch.bool)).item()


@given(st.integers(4, 9), st.integers(4, 9), st.integers(0, 5), st.integers(0, 10**6))
@settings(max_examples=50, deadline=None)
def test_blocks_are_that_many_pieces_and_free_cells_hang_together(height, width, count, seed):
    count = min(count, height * width // 9)
    for row in blocks.draw_blocks(6, height, width, count, seeded(seed)).tolist():
        pieces = cells_of(row, height, width)
        everything = set(product(range(height), range(width)))
        assert 3 * count <= len(pieces) <= 4 * count
        assert tiles(pieces, count)
        assert slow_connected(everything - pieces)


def test_a_single_piece_takes_every_form_and_kinds_are_equally_likely():
    rows = blocks.draw_blocks(7000, 8, 8, 1, seeded(0)).tolist()
    seen = [normal(cells_of(row, 8, 8)) for row in rows]
    assert set(seen) == SHAPES
    square = frozenset(product(range(2), range(2)))
    assert seen.count(square) / 7000 == pytest.approx(1 / 7, abs=0.03)
    assert sum(len(s) == 3 for s in seen) / 7000 == pytest.approx(2 / 7, abs=0.03)


def test_a_single_piece_lies_anywhere():
    cells = blocks.draw_blocks(2000, 5, 6, 1, seeded(0))
    assert (cells.sum(0) > 50).all()


def test_drawing_repeats_with_the_seed():
    draws = [blocks.draw_blocks(50, 8, 8, 5, seeded(s)) for s in (3, 3, 4)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize(("height", "width", "count"), [(1, 2, 1), (2, 2, 2), (3, 3, 3), (5, 5, 9)])
def test_what_does_not_fit_ends_with_a_cure(height, width, count):
    with pytest.raises(ConfigError, match=rf"num_blocks={count}.*height={height}, width={width}.*lower num_blocks"):
        blocks.draw_blocks(4, height, width, count, seeded(0))


def test_dense_layouts_are_begun_anew_where_stuck():
    assert blocks.draw_blocks(256, 4, 4, 2, seeded(0)).sum(1).ge(6).all()
    assert blocks.draw_blocks(64, 20, 20, 25, seeded(0)).sum(1).ge(75).all()


@given(st.integers(1, 40), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_drawn_cells_are_free_and_distinct(count, seed):
    free = torch.rand(10, 64, generator=seeded(seed)) < 0.9
    cells = blocks.draw_distinct(free, count, seeded(seed))
    assert free.gather(1, cells).all()
    assert all(len(set(row)) == count for row in cells.tolist())
    assert free.gather(1, blocks.draw_any(free, 3, seeded(seed))).all()


def test_draws_are_even_and_in_random_order():
    free = torch.tensor([[True, True, False, True, True]]).expand(4000, -1)
    even = torch.tensor([0.25, 0.25, 0, 0.25, 0.25])
    for draw in (blocks.draw_distinct(free, 2, seeded(0)), blocks.draw_any(free, 2, seeded(0))):
        for column in draw.T:
            torch.testing.assert_close(column.bincount(minlength=5) / 4000, even, atol=0.03, rtol=0)
    assert (draw[:, 0] == draw[:, 1]).float().mean().item() == pytest.approx(0.25, abs=0.03)  # hunters may overlap


def test_open_moves_are_those_into_free_cells():
    height, width = 4, 5
    free = torch.rand(20, height, width, generator=seeded(1)) < 0.7
    for grid, codes in zip(free, blocks.open_moves(free).tolist(), strict=True):
        cells = cells_of(grid.flatten().tolist(), height, width)
        for r, c in product(range(height), range(width)):
            moves = [(r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1), (r, c)]  # up, down, left, right, stay
            expected = sum(1 << a for a, to in enumerate(moves) if to in cells) if (r, c) in cells else 0
            assert codes[r][c] == expected
