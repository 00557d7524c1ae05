"""Masks of single objects as tint, as class map and as outlines."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from utils.plots.object_masks import class_map_of, outlines, tint_objects
from utils.plots.palette import class_colour


def two_masks() -> np.ndarray:
    masks = np.zeros((2, 20, 30), bool)
    masks[0, 5:15, 5:15] = True
    masks[1, 10:18, 10:25] = True
    return masks


def test_the_smallest_object_lies_on_top():
    image = np.full((20, 30, 3), 100, np.uint8)
    masks, classes = two_masks(), np.array([3, 300])
    drawn = tint_objects(image, masks, classes, 0.5)
    first, second = (np.array(class_colour(c)) for c in classes.tolist())
    np.testing.assert_allclose(drawn[8, 12], (100 + first) / 2, atol=1)
    np.testing.assert_allclose(drawn[12, 12], (100 + first) / 2, atol=1)
    np.testing.assert_allclose(drawn[16, 20], (100 + second) / 2, atol=1)
    assert (drawn[~masks.any(0)] == 100).all() and (image == 100).all()
    np.testing.assert_array_equal(tint_objects(image, masks, classes, 1.0)[8, 8], first)


def test_touching_objects_of_one_class_have_a_line_between_them():
    image = np.full((40, 60, 3), 100, np.uint8)
    masks = np.zeros((2, 40, 60), bool)
    masks[0, 10:30, 10:25] = masks[1, 10:30, 25:] = True
    drawn = tint_objects(image, masks, np.zeros(2, np.int64), 0.4)
    full = (drawn == class_colour(0)).all(-1)
    assert full[10:30, 24:26].all() and full[10:30, 10].all()
    assert not full[11:29, 12:23].any() and not full[11:29, 27:].any(), "also not where the picture ends"
    assert not full[~masks.any(0)].any()
    wide = np.zeros((2, 30, 4000), bool)
    wide[0, :, :2000] = wide[1, :, 2000:] = True
    drawn = tint_objects(np.full((30, 4000, 3), 100, np.uint8), wide, np.zeros(2, np.int64), 0.4)
    assert (drawn[15] == class_colour(0)).all(-1).sum() == 6, "wider in a larger picture"
    np.testing.assert_array_equal(tint_objects(image, masks, np.zeros(2, np.int64), 0.0), image)


def test_no_object_is_no_tint():
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    nothing = np.zeros((0, 20, 30), bool)
    np.testing.assert_array_equal(tint_objects(image, nothing, np.zeros(0, np.int64), 0.5), image)
    assert (class_map_of(nothing, np.zeros(0, np.int64)) == 255).all()


def test_a_part_is_not_hidden_by_what_it_belongs_to():
    masks = two_masks()
    masks[0] = True
    assert (class_map_of(masks, np.array([5, 6])) == np.where(masks[1], 6, 5)).all()


def test_the_class_map_has_the_smallest_object_and_255_elsewhere():
    class_map = class_map_of(two_masks(), np.array([7, 0]))
    assert class_map.dtype == np.uint8
    assert (class_map[12, 12], class_map[16, 20], class_map[0, 0]) == (7, 0, 255)


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.floats(0.05, 0.9))
def test_filled_outlines_are_the_mask_without_holes(seed: int, share: float):
    mask = ndimage.binary_opening(np.random.default_rng(seed).random((24, 31)) < share, iterations=seed % 2)
    parts = outlines(mask)
    canvas = np.zeros(mask.shape, np.uint8)
    for part in parts:
        assert len(part) >= 3 and part.shape[1] == 2
        cv2.fillPoly(canvas, [part.astype(np.int32)], 1)
    _, count = ndimage.label(mask, np.ones((3, 3)))
    # A part within the hole of another one has the outline of its surroundings.
    assert len(parts) <= count
    np.testing.assert_array_equal(canvas.astype(bool), ndimage.binary_fill_holes(mask))
