"""Sine positions, and what of each level lies in a padded picture, against masks that are resized and counted."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.layers.sine_positions import _kept_places, level_areas, places_of, sine_features

CPU = torch.device("cpu")
SHAPES = ((5, 7), (3, 4))


def halved(canvas: tuple[int, int], levels: int) -> tuple[tuple[int, int], ...]:
    """Return the shapes of maps of a canvas, from 1/8 on."""
    return tuple((-(-canvas[0] // (8 << level)), -(-canvas[1] // (8 << level))) for level in range(levels))


def by_counting(valid: Tensor, width: int) -> Tensor:
    """Return positions (rows, columns, width) of a map as the published program makes them, in the valid part."""
    axes = []
    for axis in (0, 1):
        count = valid.float().cumsum(axis)
        fraction = (count - 0.5) / (count.amax(axis, keepdim=True) + 1e-6)
        columns = []
        for j in range(width // 2):
            angle = fraction * 2 * math.pi / 10000 ** (2 * (j // 2) / (width // 2))
            columns.append(angle.cos() if j % 2 else angle.sin())
        axes.append(torch.stack(columns, -1))
    return torch.cat(axes, -1)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=3),
)
def test_areas_are_those_of_resized_masks(height: int, width: int, shares: list[tuple[float, float]]) -> None:
    shapes = halved((height, width), 4)
    sizes = tuple((max(math.ceil(a * height), 1), max(math.ceil(b * width), 1)) for a, b in shares)
    areas = level_areas(sizes, (height, width), shapes)
    for image, (rows, columns) in enumerate(sizes):
        full = torch.zeros(1, 1, height, width)
        full[..., :rows, :columns] = 1
        for level, shape in enumerate(shapes):
            mask = F.interpolate(full, shape)[0, 0] > 0
            assert areas[level][image] == (int(mask[:, 0].sum()), int(mask[0].sum()))


def test_positions_of_whole_pictures() -> None:
    places = places_of(SHAPES, 16, None, CPU)
    expected = torch.cat([by_counting(torch.ones(shape), 16).flatten(0, 1) for shape in SHAPES])
    assert torch.allclose(places.positions[0], expected, atol=1e-5)
    assert places.mask is None
    assert places.ratios is None
    assert torch.allclose(places.centres[0, 8], torch.tensor([1.5 / 7, 1.5 / 5]))
    assert torch.allclose(places.centres[0, 36], torch.tensor([1.5 / 4, 0.5 / 3]))


def test_positions_of_padded_pictures_are_those_of_pictures_alone() -> None:
    areas = (((5, 4), (2, 7)), ((3, 2), (1, 4)))
    places = places_of(SHAPES, 16, areas, CPU)
    first = 0
    for level, (rows, columns) in enumerate(SHAPES):
        for image, (own_rows, own_columns) in enumerate(areas[level]):
            valid = torch.zeros(rows, columns)
            valid[:own_rows, :own_columns] = 1
            part = slice(first, first + rows * columns)
            inside = valid.flatten() > 0
            assert torch.equal(places.mask[image, part], inside)
            expected = by_counting(valid, 16).flatten(0, 1)
            assert torch.allclose(places.positions[image, part][inside], expected[inside], atol=1e-5)
            ratio = torch.tensor([own_columns / columns, own_rows / rows])
            assert torch.allclose(places.ratios[image, level], ratio)
            alone = places_of(((own_rows, own_columns),), 16, None, CPU).centres[0]
            assert torch.allclose(places.centres[image, part][inside], alone)
        first += rows * columns
    assert places.positions.isfinite().all()


def test_places_are_kept_for_every_shape_and_serve_in_training() -> None:
    _kept_places.cache_clear()
    with torch.inference_mode():
        first = places_of(SHAPES, 8, None, CPU)
    assert places_of(SHAPES, 8, None, CPU).positions is first.positions
    weight = torch.ones(8, requires_grad=True)
    (first.positions * weight).sum().backward()
    assert weight.grad is not None
    assert places_of(SHAPES[::-1], 8, None, CPU).positions is not first.positions


@pytest.mark.parametrize("count", [2, 6])
def test_features_turn_once_from_zero_to_one(count: int) -> None:
    low, high = sine_features(torch.tensor([0.0, 1.0]), count)
    assert torch.allclose(low[:2], high[:2], atol=1e-6)
    assert low.shape == (count,)
