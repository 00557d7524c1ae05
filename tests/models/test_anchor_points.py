"""Anchor points: their order and places, and decoding as the inverse of encoding."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.anchor_points import (
    anchor_points,
    boxes_from_distances,
    decode_boxes,
    decode_keypoints,
    distances_of_boxes,
    encode_boxes_at,
    flatten_levels,
    rows_at,
)

SHAPES = [(4, 6), (2, 3), (1, 2)]
STRIDES = [8, 16, 32]


def test_points_follow_levels_then_rows_then_columns() -> None:
    points = anchor_points(SHAPES, STRIDES)
    assert len(points) == 24 + 6 + 2
    assert points.corners[:2].tolist() == [[0, 0], [8, 0]] and points.corners[6].tolist() == [0, 8]
    assert points.corners[25].tolist() == [16, 0] and points.centres[25].tolist() == [24, 8]
    assert points.strides[:, 0].tolist() == [8.0] * 24 + [16.0] * 6 + [32.0] * 2


def test_maps_flatten_in_the_order_of_the_points() -> None:
    points = anchor_points(SHAPES, STRIDES)
    maps = []
    for (rows, columns), stride in zip(SHAPES, STRIDES, strict=True):
        y, x = torch.meshgrid(torch.arange(rows) * stride, torch.arange(columns) * stride, indexing="ij")
        maps.append(torch.stack((x, y)).float()[None].to(memory_format=torch.channels_last))
    assert torch.equal(flatten_levels(maps)[0], points.corners)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 31), st.lists(st.floats(1, 300), min_size=4, max_size=4))
def test_decoding_is_the_inverse_of_encoding(point: int, box: list[float]) -> None:
    points = anchor_points(SHAPES, STRIDES)
    target = torch.tensor(box, dtype=torch.float64).expand(1, len(points), 4)
    decoded = decode_boxes(encode_boxes_at(target, points.corners, points.strides), points)
    assert torch.allclose(decoded[0, point], target[0, point], rtol=1e-6)


def test_decoding_by_its_formula() -> None:
    points = anchor_points([(2, 2)], [16])
    values = torch.tensor([0.5, -0.25, 0.0, 1.0]).expand(1, 4, 4)
    assert decode_boxes(values, points)[0, 3].tolist() == pytest.approx([24, 12, 16, 16 * 2.718281828], rel=1e-6)
    offsets = torch.tensor([0.5, -0.25, 2.0, 0.0]).expand(1, 4, 4)
    assert decode_keypoints(offsets, points)[0, 3].tolist() == [[24, 12], [48, 16]]


def test_half_precision_is_raised_and_sizes_stay_finite() -> None:
    points = anchor_points([(1, 1)], [8])
    decoded = decode_boxes(torch.full((1, 1, 4), 60000.0, dtype=torch.float16), points)
    assert decoded.dtype == torch.float32 and torch.isfinite(decoded).all()
    assert torch.isfinite(decoded[..., 2] * decoded[..., 3]).all()


def test_boxes_from_distances_by_their_formula() -> None:
    """Distances in strides, from the corner or the centre of a cell; below 0 they lie on the other side."""
    points = anchor_points([(2, 2)], [16])
    distances = torch.tensor([0.5, -0.25, 2.0, 1.0]).expand(1, 4, 4)
    assert boxes_from_distances(distances, points.corners, points.strides)[0, 3].tolist() == [8, 20, 48, 32]
    assert boxes_from_distances(distances, points.centres, points.strides)[0, 3].tolist() == [16, 28, 56, 40]
    assert boxes_from_distances(distances.half(), points.corners, points.strides).dtype == torch.float32
    turned = boxes_from_distances(torch.full((1, 4, 4), -1.0), points.corners, points.strides)
    assert turned[0, 0].tolist() == [16, 16, -16, -16]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-300, 300), min_size=4, max_size=4), st.booleans())
def test_distances_are_the_inverse_of_boxes(box: list[float], centres: bool) -> None:
    points = anchor_points(SHAPES, STRIDES)
    places = points.centres if centres else points.corners
    boxes = torch.tensor(box, dtype=torch.float64).expand(2, len(points), 4)
    found = boxes_from_distances(distances_of_boxes(boxes, places, points.strides), places, points.strides)
    assert torch.allclose(found, boxes, atol=1e-10)


def test_rows_of_each_image() -> None:
    values, index = torch.randn(3, 7, 2), torch.randint(0, 7, (3, 5))
    expected = torch.stack([values[i, index[i]] for i in range(3)])
    assert torch.equal(rows_at(values, index), expected)
    assert rows_at(values[:0], index[:0]).shape == (0, 5, 2) and rows_at(values, index[:, :0]).shape == (3, 0, 2)
