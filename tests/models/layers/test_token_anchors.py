"""Anchors of the tokens of an encoder's memory, against a slow computation, with and without padding."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from models.layers.token_anchors import token_anchors
from models.memory import Memory, Shapes

SHAPES = ((6, 9), (3, 5), (2, 3))


def memory_of(areas: list[list[tuple[int, int]]] | None, shapes: Shapes = SHAPES) -> Memory:
    """Return memory whose pictures have so many valid rows and columns on every level."""
    tokens = sum(rows * columns for rows, columns in shapes)
    if areas is None:
        return Memory(torch.zeros(2, tokens, 8), shapes)
    masks, ratios = [], []
    for picture in areas:
        grids = [torch.zeros(shape, dtype=torch.bool) for shape in shapes]
        for grid, (rows, columns) in zip(grids, picture, strict=True):
            grid[:rows, :columns] = True
        masks.append(torch.cat([grid.flatten() for grid in grids]))
        ratios.append([(c / shape[1], r / shape[0]) for shape, (r, c) in zip(shapes, picture, strict=True)])
    return Memory(torch.zeros(len(areas), tokens, 8), shapes, torch.stack(masks), torch.tensor(ratios))


def anchors_slowly(picture: list[tuple[int, int]], shapes: Shapes = SHAPES) -> list[list[float] | None]:
    """Return the anchor of every token of one picture, None where it has none."""
    found: list[list[float] | None] = []
    for level, (rows, columns) in enumerate(shapes):
        height, width = picture[level]
        for row in range(rows):
            for column in range(columns):
                box = [(column + 0.5) / width, (row + 0.5) / height, 0.05 * 2**level, 0.05 * 2**level]
                inside = row < height and column < width
                found.append(box if inside and all(0.01 < number < 0.99 for number in box) else None)
    return found


def assert_as_computed(anchors: Tensor, proposed: Tensor, expected: list[list[float] | None]) -> None:
    assert proposed.tolist() == [box is not None for box in expected]
    for own, box in zip(anchors.double(), expected, strict=True):
        if box is None:
            assert own.float().sigmoid().tolist() == [1.0] * 4
        else:
            assert torch.allclose(own, torch.tensor([math.log(n / (1 - n)) for n in box]).double(), atol=1e-4)


def test_anchors_are_those_of_a_slow_computation() -> None:
    anchors, proposed = token_anchors(memory_of(None))
    assert anchors.shape == (1, 75, 4) and proposed.shape == (1, 75) and anchors.dtype == torch.float32
    assert_as_computed(anchors[0], proposed[0], anchors_slowly(list(SHAPES)))


def test_padded_pictures_have_the_anchors_of_their_own_area() -> None:
    areas = [list(SHAPES), [(4, 7), (2, 4), (1, 2)]]
    anchors, proposed = token_anchors(memory_of(areas))
    for image, picture in enumerate(areas):
        assert_as_computed(anchors[image], proposed[image], anchors_slowly(picture))


def test_tokens_at_the_border_of_a_fine_grid_are_not_proposed() -> None:
    shapes = ((64, 64),)
    anchors, proposed = token_anchors(memory_of(None, shapes))
    grid = proposed.view(64, 64)
    assert grid[1:-1, 1:-1].all() and not (grid[0].any() or grid[-1].any() or grid[:, 0].any() or grid[:, -1].any())
    assert_as_computed(anchors[0], proposed[0], anchors_slowly(list(shapes), shapes))


def test_anchors_are_kept_where_nothing_is_padded_also_from_inference() -> None:
    memory = memory_of(None, ((5, 4), (2, 2)))
    with torch.inference_mode():
        first, _ = token_anchors(memory)
    again, _ = token_anchors(memory)
    assert again is first and not first.is_inference()
