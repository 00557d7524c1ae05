"""Areas of pixels become polygons and pixels again."""

from __future__ import annotations

import tracemalloc

import numpy as np
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays

from data.mask_outlines import fill_outlines, outlines_of

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12))


@given(MASKS)
def test_an_outline_holds_exactly_its_pixels(mask: np.ndarray) -> None:
    outlines = outlines_of(mask)
    assert np.array_equal(fill_outlines(outlines, mask.shape), mask)
    assert all(len(outline) >= 4 and np.array_equal(outline, outline.round()) for outline in outlines)


def test_a_ring_and_a_pixel_at_its_corner_are_one_outline() -> None:
    ring = np.zeros((7, 9), bool)
    ring[1:5, 2:6] = True
    ring[2:4, 3:5] = False
    ring[5, 6] = True
    (outline,) = outlines_of(ring)
    assert outline.min(0).tolist() == [2, 1] and outline.max(0).tolist() == [7, 6]
    ring[5, 6], ring[6, 8] = False, True
    assert len(outlines_of(ring)) == 2
    assert outlines_of(np.zeros((3, 3), bool)) == []


def test_a_pixel_counts_by_its_centre() -> None:
    triangle = np.array([[0, 0], [4, 0], [0, 4]], np.float64)
    # Centres at x + y = 4 lie on the edge, which belongs to what is right of it.
    expected = np.add.outer(np.arange(4), np.arange(4)) + 1 < 4
    assert np.array_equal(fill_outlines([triangle], (4, 4)), expected)
    assert np.array_equal(fill_outlines([triangle - 0.25, triangle + np.array([100, 0])], (4, 4)), expected)


def test_an_outline_with_many_crossings_takes_little_memory() -> None:
    # Up and down over the whole height: ten million crossings of an edge with a row.
    zigzag = np.stack([np.random.default_rng(0).uniform(0, 100, 10_000), np.tile([0.0, 1000.0], 5000)], axis=1)
    tracemalloc.start()
    filled = fill_outlines([zigzag], (1000, 100))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6 and 0.2 < filled.mean() < 0.8
