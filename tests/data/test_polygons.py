"""Polygons: parts joined cover what they covered, what is cut off lies outside the picture."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data.mask_outlines import fill_outlines
from data.polygons import clip_polygon, extent, join_polygons

SIZE = (24, 32)


@settings(max_examples=50)
@given(st.integers(0, 2**32), st.integers(3, 9))
def test_what_is_cut_off_lies_outside(seed: int, corners: int) -> None:
    polygon = np.random.default_rng(seed).uniform((-20, -15), (52, 39), (corners, 2))
    clipped = clip_polygon(polygon, SIZE)
    assert ((clipped >= 0) & (clipped <= SIZE[::-1])).all()
    np.testing.assert_array_equal(fill_outlines([clipped], SIZE), fill_outlines([polygon], SIZE))


def test_polygons_inside_stay_and_those_outside_vanish() -> None:
    inside = np.array([[0.0, 0], [32, 0], [16, 24]])
    assert clip_polygon(inside, SIZE) is inside
    assert clip_polygon(inside + np.array([40, 0]), SIZE).shape == (0, 2)


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.integers(1, 5))
def test_joined_parts_cover_what_they_covered(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    # Each part in a cell of its own, as parts of an object do not overlap.
    cells = np.array([(x, y) for x in (0, 8, 16, 24) for y in (0, 8, 16)])
    parts = [rng.uniform(0, 8, (rng.integers(3, 6), 2)) + cell for cell in rng.permutation(cells)[:count]]
    joined = join_polygons(parts)
    assert len(joined) == sum(map(len, parts)) + 2 * (count - 1)
    np.testing.assert_array_equal(extent([joined]), extent(parts))
    np.testing.assert_array_equal(fill_outlines([joined], SIZE), fill_outlines(parts, SIZE))


def test_thousands_of_parts_are_joined_at_once() -> None:
    rows, columns = np.mgrid[0:120:2, 0:160:2]
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
    parts = [square + corner for corner in zip(columns.ravel(), rows.ravel(), strict=True)]
    np.testing.assert_array_equal(fill_outlines([join_polygons(parts)], (120, 160)), fill_outlines(parts, (120, 160)))
