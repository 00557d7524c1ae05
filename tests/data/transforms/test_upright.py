from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from unittest.mock import patch

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data.samples import Sample
from data.transforms.geometry import AffineDraw, affine_matrix, similarity_matrix, warp_boxes, warp_sample
from data.transforms.mosaic import mosaic
from data.transforms.upright import ZoomShift, plan_crop, show_sample, zoom_and_shift

COLOURS = np.array([[250, 20, 20], [20, 250, 20], [20, 20, 250], [250, 250, 20]], np.uint8)
DARK = 20
SIDE = 128
CANVAS = (2 * SIDE, 2 * SIDE)

zooms = st.floats(0.01, 2) | st.sampled_from([0.5, 1.0, 2.0])
shares = st.floats(0.3, 0.7)
sides = st.integers(1, SIDE)


def painted_tile(number: int, height: int, width: int, keypoints: bool = True) -> Sample:
    """Dark, with one rectangle in the tile's own colour; box, mask and two keypoints show that rectangle."""
    x1, y1, x2, y2 = width // 4, height // 5, width - width // 3, height - height // 4
    image, mask = np.full((height, width, 3), DARK, np.uint8), np.zeros((height, width), np.uint8)
    image[y1:y2, x1:x2], mask[y1:y2, x1:x2] = COLOURS[number], number + 1
    corners = np.array([[[x1, y1, 2], [x2, y2, 1]]], np.float32)
    return Sample(
        image=image,
        boxes=np.array([[x1, y1, x2, y2]], np.float32),
        classes=np.array([number]),
        keypoints=corners if keypoints else None,
        mask=mask,
        id=f"{number}.png",
    )


def smooth_tile(seed: int, height: int, width: int) -> Sample:
    rng = np.random.default_rng(seed)
    image = cv2.resize(rng.integers(0, 256, (4, 4, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    corners = np.sort(rng.uniform(0, 1, (8, 2, 2)), axis=1) * (width, height)
    return Sample(image, corners.reshape(8, 4).astype(np.float32), np.arange(8) + 8 * seed)


def matrix_of(zoom: float, x: float, y: float) -> np.ndarray:
    return affine_matrix(AffineDraw(scale=zoom, translate=(x, y)), CANVAS, (SIDE, SIDE))


def bounding_box(shown: np.ndarray) -> list[int]:
    x, y, width, height = cv2.boundingRect(shown.astype(np.uint8))
    return [x, y, x + width, y + height]


def assert_pixels_and_labels_agree(sample: Sample) -> None:
    """Compare the rectangles that are found in image and mask with the boxes, to a pixel."""
    for box, number, points in zip(sample.boxes, sample.classes, sample.keypoints, strict=True):
        distance = np.abs(sample.image.astype(int)[:, :, None] - np.vstack([COLOURS, [[DARK] * 3], [[114] * 3]]))
        shown = distance.sum(-1).argmin(-1) == number
        np.testing.assert_allclose(bounding_box(sample.mask == number + 1), box, atol=1)
        np.testing.assert_allclose(bounding_box(shown), box, atol=1)
        for point, corner in zip(points, (box[:2], box[2:]), strict=True):
            assert point[2] == 0 or np.abs(point[:2] - corner).max() < 1e-3


@given(zooms, shares, shares, st.tuples(*[st.integers(SIDE // 2, 3 * SIDE // 2)] * 2), st.tuples(*[sides] * 8))
def test_pixels_masks_boxes_and_keypoints_of_a_mosaic_move_alike(zoom, x, y, centre, sizes):
    tiles = [painted_tile(i, *sizes[2 * i : 2 * i + 2]) for i in range(4)]
    made = mosaic(tiles.__getitem__, range(4), centre, SIDE, matrix_of(zoom, x, y), zoom)
    assert made.image.shape == (SIDE, SIDE, 3) and made.mask.shape == (SIDE, SIDE)
    assert (made.boxes >= 0).all() and (made.boxes <= SIDE).all()
    assert_pixels_and_labels_agree(made)


@given(zooms, st.floats(0, 1), st.floats(0, 1), sides, sides)
def test_pixels_and_labels_of_one_picture_move_alike(zoom, x, y, height, width):
    sample = painted_tile(2, height, width)
    matrix = affine_matrix(AffineDraw(scale=zoom, translate=(x, y)), (height, width), (96, SIDE))
    made = show_sample(sample, matrix, (96, SIDE), zoom)
    assert made.image.shape == (96, SIDE, 3) and made.id == "2.png"
    assert_pixels_and_labels_agree(made)


@given(
    st.floats(0.4, 2), shares, shares, st.tuples(*[st.integers(SIDE // 2, 3 * SIDE // 2)] * 2), st.integers(0, 10**6)
)
def test_it_is_close_to_the_warp(zoom, x, y, centre, seed):
    tiles = [smooth_tile(seed + i, *size) for i, size in enumerate([(128, 96), (100, 128), (128, 128), (70, 128)])]
    arguments = (tiles.__getitem__, range(4), centre, SIDE, matrix_of(zoom, x, y), zoom)
    made = mosaic(*arguments)
    with patch("data.transforms.mosaic.zoom_and_shift", return_value=None):
        warped = mosaic(*arguments)
    within = slice(2, -2)
    difference = np.abs(made.image.astype(int) - warped.image)[within, within]
    # At the pictures' own edges, which the warp blends with their surroundings, single pixels differ more.
    assert difference.mean() < 8 and np.median(difference) <= 3
    # An object of which hardly enough is left may be kept by one and dropped by the other.
    both, ours, theirs = np.intersect1d(made.classes, warped.classes, return_indices=True)
    assert len(made.classes) + len(warped.classes) - 2 * len(both) <= 3
    np.testing.assert_allclose(made.boxes[ours], warped.boxes[theirs], atol=max(0.5, zoom / 2) + 1e-3)


@given(
    st.floats(0.01, 2) | st.sampled_from([0.5, 1.0, 2.0]),
    st.floats(-300, 300),
    st.integers(-400, 400),
    st.integers(1, 700),
    st.integers(1, 64),
)
@example(1.8928318259711443, -148.625, 0, 80, 1)
def test_no_point_is_shown_farther_away_than_rounding_takes_it(zoom, shift, low, extent, length):
    crop = plan_crop(ZoomShift(zoom, 1, shift, 0), (low, 0), (low, 0, low + extent, 1), (1, length))
    x1, _, x2, _ = crop.source
    target_x1, _, target_x2, _ = crop.target
    first, last = (min(max(value, 0), length) for value in (zoom * low + shift, zoom * (low + extent) + shift))
    if not crop.shows:
        assert last - first <= 1
        return
    assert 0 <= x1 < x2 <= extent and 0 <= target_x1 < target_x2 <= length
    scale, _, left, _ = crop.zoom_and_shift()
    assert scale * x1 + left == pytest.approx(target_x1) and scale * x2 + left == pytest.approx(target_x2)
    # The ends of what the drawn matrix shows, where the difference is largest.
    for seen in (first, last):
        source = (seen - shift) / zoom - low
        moved = min(max(scale * source + left, target_x1), target_x2)
        # A sliver shows one whole source pixel, however little of it was drawn.
        limit = max(0.5, zoom if x2 - x1 == 1 else zoom / 2)
        assert abs(moved - seen) <= limit + 1e-6


@given(
    st.floats(0.01, 2), st.floats(-40, 90), st.lists(st.integers(1, 60), min_size=2, max_size=5), st.integers(-60, 60)
)
def test_pictures_that_touch_leave_no_gap_and_do_not_overlap(zoom, shift, widths, left):
    edges = np.cumsum([left, *widths]).tolist()
    move, parts = ZoomShift(zoom, zoom, shift, 0), [(low, 0, high, 9) for low, high in pairwise(edges)]
    crops = [plan_crop(move, part[:2], part, (64, 64)) for part in parts]
    shown = [crop.target for crop in crops if crop.target[2] > crop.target[0]]
    for before, after in pairwise(shown):
        assert before[2] == after[0]
    if shown and zoom * edges[0] + shift <= 0 and zoom * edges[-1] + shift >= 64:
        assert shown[0][0] == 0 and shown[-1][2] == 64


@pytest.mark.parametrize("zoom", [0.01, 0.3, 0.55, 1.0, 1.37, 2.0])
def test_four_tiles_that_fill_the_canvas_leave_nothing_uncovered(zoom):
    tiles = [replace(painted_tile(i, SIDE, SIDE), mask=np.full((SIDE, SIDE), i, np.uint8)) for i in range(4)]
    made = mosaic(tiles.__getitem__, range(4), (SIDE, SIDE), SIDE, matrix_of(zoom, 0.51, 0.47), zoom)
    covered = np.argwhere(made.mask != 255)
    (y1, x1), (y2, x2) = covered.min(0), covered.max(0) + 1
    assert len(covered) == (y2 - y1) * (x2 - x1)
    assert y2 - y1 == pytest.approx(min(2 * SIDE * zoom, SIDE), abs=1)
    assert ((made.image == 114).all(-1) == (made.mask == 255)).all()


def test_without_zoom_and_with_whole_shifts_pixels_are_copied():
    rng = np.random.default_rng(0)
    sample = Sample(rng.integers(0, 256, (40, 60, 3), np.uint8), mask=rng.integers(0, 9, (40, 60), np.uint8))
    sample.image.flags.writeable = False
    made = show_sample(sample, similarity_matrix(1, 1, 7, -5), (50, 50), 1.0)
    np.testing.assert_array_equal(made.image[:35, 7:], sample.image[5:, :43])
    np.testing.assert_array_equal(made.mask[:35, 7:], sample.mask[5:, :43])
    assert (made.image[35:] == 114).all() and (made.image[:, :7] == 114).all()
    assert (made.mask[35:] == 255).all() and (made.mask[:, :7] == 255).all()


def test_the_area_that_is_left_is_compared_with_what_lay_on_the_canvas():
    """A box half beyond the canvas keeps all of what was on it, and one half beyond the output keeps half."""
    tile = replace(painted_tile(0, SIDE, SIDE), boxes=np.array([[0, 0, SIDE, SIDE]], np.float32))
    blank = replace(painted_tile(1, SIDE, SIDE), boxes=np.zeros((0, 4), np.float32), classes=np.zeros(0, int))
    blank.keypoints = np.zeros((0, 2, 3), np.float32)
    for shift, kept in ((0.5, 1), (0.05, 0)):
        tiles = [tile, blank, blank, blank]
        made = mosaic(tiles.__getitem__, range(4), (SIDE // 2, SIDE), SIDE, matrix_of(0.5, shift, 0.5), 0.5)
        assert len(made.boxes) == kept
    expected = warp_boxes(np.array([[0, 0, SIDE // 2, SIDE]]), matrix_of(0.5, 0.5, 0.5), (SIDE, SIDE))
    made = mosaic(tiles.__getitem__, range(4), (SIDE // 2, SIDE), SIDE, matrix_of(0.5, 0.5, 0.5), 0.5)
    np.testing.assert_allclose(made.boxes, expected)


def test_keypoints_beyond_what_is_shown_of_their_picture_are_unlabelled():
    points = np.array([[[64, 64, 2], [127, 127, 2], [1, 64, 2], [64, 64, 0]]], np.float32)
    sample = replace(painted_tile(0, SIDE, SIDE), keypoints=points)
    made = show_sample(sample, similarity_matrix(2, 2, -64, -64), (SIDE, SIDE), 2.0)
    np.testing.assert_array_equal(made.keypoints, [[[64, 64, 2], [0, 0, 0], [0, 0, 0], [0, 0, 0]]])


@pytest.mark.parametrize("draw", [AffineDraw(degrees=3), AffineDraw(shear=(0, 2)), AffineDraw(perspective=(1e-4, 0))])
def test_what_turns_or_slants_is_warped(draw):
    sample = painted_tile(0, 60, 80)
    matrix = affine_matrix(draw, (60, 80), (70, 70))
    assert zoom_and_shift(matrix) is None
    made, warped = show_sample(sample, matrix, (70, 70), 1.0), warp_sample(sample, matrix, (70, 70), 1.0)
    for name in ("image", "boxes", "classes", "keypoints", "mask", "id"):
        np.testing.assert_array_equal(getattr(made, name), getattr(warped, name))


def test_a_matrix_that_mirrors_is_no_zoom():
    assert zoom_and_shift(similarity_matrix(-1, 1, 9, 0)) is None
    assert zoom_and_shift(similarity_matrix(2, 3, 9, -4)) == ZoomShift(2, 3, 9, -4)


@given(st.floats(0.01, 2), st.tuples(*[st.floats(-1, 2)] * 2))
def test_the_short_form_of_a_matrix_equals_the_product(zoom, translate):
    draw = AffineDraw(scale=zoom, translate=translate)
    nearly = replace(draw, degrees=1e-12)
    np.testing.assert_allclose(
        affine_matrix(draw, (50, 90), (64, 40)), affine_matrix(nearly, (50, 90), (64, 40)), atol=1e-9
    )
