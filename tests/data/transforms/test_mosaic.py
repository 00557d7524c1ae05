from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.samples import Sample
from data.transforms.geometry import AffineDraw, affine_matrix, boxes_to_keep, warp_boxes, warp_keypoints
from data.transforms.mosaic import draw_centre, mixup, mosaic

SIDE = 40
SIZES = [(30, 40), (40, 30), (40, 40), (20, 40)]
WHOLE = affine_matrix(AffineDraw(scale=0.5), (2 * SIDE, 2 * SIDE), (SIDE, SIDE))
"""Shows the whole canvas at half its size."""


def flat_tile(level: int, height: int, width: int) -> Sample:
    """A tile of one grey level whose box, mask and keypoint cover all of it."""
    return Sample(
        image=np.full((height, width, 3), level, np.uint8),
        boxes=np.array([[0, 0, width, height]], np.float32),
        classes=np.array([level]),
        keypoints=np.array([[[width / 2, height / 2, 2]]], np.float32),
        mask=np.full((height, width), level, np.uint8),
        id=f"{level}.png",
    )


def photo_tile(seed: int, height: int, width: int) -> Sample:
    """A tile of smooth random colours with random boxes and keypoints."""
    rng = np.random.default_rng(seed)
    image = cv2.resize(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    corners = np.sort(rng.uniform(0, 1, (6, 2, 2)), axis=1) * (width, height)
    return Sample(
        image=image,
        boxes=corners.reshape(6, 4).astype(np.float32),
        classes=rng.integers(0, 9, 6),
        keypoints=np.concatenate([rng.uniform(0, 1, (6, 2, 2)) * (width, height), np.full((6, 2, 1), 2)], 2).astype(
            "f4"
        ),
        mask=(image[..., 0] // 64).astype(np.uint8),
        id=f"{seed}.png",
    )


def make(tiles: list[Sample], centre: tuple[int, int], matrix: np.ndarray, scale: float, side: int = SIDE) -> Sample:
    return mosaic(tiles.__getitem__, range(4), centre, side, matrix, scale)


def reference(tiles: list[Sample], centre: tuple[int, int], draw: AffineDraw, side: int) -> tuple[Sample, np.ndarray]:
    """The plain form: paste all four tiles on the whole canvas, then warp the canvas, three channels at a time.

    Returns:
        The sample, and for each of its objects whether a pixel of its tile is seen.
    """
    canvas, mask = np.full((2 * side, 2 * side, 3), 114, np.uint8), np.full((2 * side, 2 * side), 255, np.uint8)
    origin = np.full((2 * side, 2 * side), 4, np.uint8)
    boxes, classes, keypoints = [], [], []
    for position, tile in enumerate(tiles):
        height, width = tile.image.shape[:2]
        x = centre[0] - width * (position % 2 == 0)
        y = centre[1] - height * (position < 2)
        for row in range(max(y, 0), min(y + height, 2 * side)):
            left, right = max(x, 0), min(x + width, 2 * side)
            canvas[row, left:right] = tile.image[row - y, left - x : right - x]
            mask[row, left:right] = tile.mask[row - y, left - x : right - x]
            origin[row, left:right] = position
        boxes.append((tile.boxes + np.array([x, y, x, y], np.float32)).clip(0, 2 * side))
        points = tile.keypoints + np.array([x, y, 0], np.float32)
        points[((points[..., :2] < 0) | (points[..., :2] > 2 * side)).any(-1)] = 0
        keypoints.append(points)
        classes.append(tile.classes)
    matrix = affine_matrix(draw, (2 * side, 2 * side), (side, side))
    warp, rows = (cv2.warpPerspective, 3) if any(draw.perspective) else (cv2.warpAffine, 2)
    before = np.concatenate(boxes)
    after = warp_boxes(before, matrix, (side, side))
    keep = boxes_to_keep(before, after, draw.scale)
    seen = np.unique(warp(origin, matrix[:rows], (side, side), flags=cv2.INTER_NEAREST, borderValue=4))
    tile_of = np.repeat(np.arange(4), [len(tile.boxes) for tile in tiles])
    sample = Sample(
        image=warp(canvas, matrix[:rows], (side, side), flags=cv2.INTER_LINEAR, borderValue=(114,) * 3),
        mask=warp(mask, matrix[:rows], (side, side), flags=cv2.INTER_NEAREST, borderValue=255),
        boxes=after[keep],
        classes=np.concatenate(classes)[keep],
        keypoints=warp_keypoints(np.concatenate(keypoints)[keep], matrix, (side, side)),
    )
    return sample, np.isin(tile_of[keep], seen)


DRAWS = st.builds(
    AffineDraw,
    perspective=st.tuples(*[st.sampled_from([0.0, 0.0005, -0.001])] * 2),
    degrees=st.sampled_from([0.0, 0.0, 7.0, -90.0, 180.0]),
    scale=st.floats(0.3, 1.9),
    shear=st.tuples(*[st.sampled_from([0.0, 0.0, 9.0])] * 2),
    translate=st.tuples(*[st.floats(0.3, 0.7)] * 2),
)


@given(DRAWS, st.tuples(st.integers(32, 96), st.integers(32, 96)), st.integers(0, 10**6))
def test_it_equals_the_whole_canvas_warped(draw, centre, seed):
    sizes = [(48, 64), (64, 40), (64, 64), (20, 64)]
    tiles = [photo_tile(seed + i, *size) for i, size in enumerate(sizes)]
    expected, seen = reference(tiles, centre, draw, 64)
    # The form that is rounded to whole pixels is compared with this one in test_upright.py.
    with patch("data.transforms.mosaic.zoom_and_shift", return_value=None):
        made = make(tiles, centre, affine_matrix(draw, (128, 128), (64, 64)), draw.scale, 64)
    difference = np.abs(made.image.astype(int) - expected.image)
    assert (difference > 1).mean() < 0.002, "a rounded coordinate may tip over at a hard edge, here and there"
    assert (made.mask != expected.mask).mean() < 0.01
    # The upright frame of a turned box may reach into the picture although nothing of its tile is seen there. Such
    # objects are gone now; of a tile that is seen by less than a pixel they may be there or not.
    if len(made.boxes) != len(expected.boxes):
        found = np.abs(made.boxes[:, None] - expected.boxes[None]).max(-1).min(0) < 1e-3
        assert (found | ~seen).all() and found.sum() == len(made.boxes)
        return
    np.testing.assert_allclose(made.boxes, expected.boxes, atol=1e-3)
    np.testing.assert_array_equal(made.classes, expected.classes)
    np.testing.assert_allclose(made.keypoints, expected.keypoints, atol=1e-3)


def test_an_object_whose_tile_is_not_seen_is_gone():
    tiles = [photo_tile(1_000_000 + i, *size) for i, size in enumerate([(48, 64), (64, 40), (64, 64), (20, 64)])]
    draw = AffineDraw(degrees=7.0, scale=1.875, translate=(0.625, 0.3984375))
    expected, seen = reference(tiles, (40, 88), draw, 64)
    made = make(tiles, (40, 88), affine_matrix(draw, (128, 128), (64, 64)), draw.scale, 64)
    assert seen.sum() == len(made.boxes) == len(expected.boxes) - 1


@given(st.integers(20, 60), st.integers(20, 60), st.floats(0.5, 1.6), st.floats(0.4, 0.6))
def test_tiles_boxes_and_masks_cover_the_same_pixels(x, y, scale, shift):
    draw = AffineDraw(scale=scale, translate=(shift, 1 - shift))
    tiles = [flat_tile(level, *size) for level, size in enumerate(SIZES, 1)]
    made = make(tiles, (x, y), affine_matrix(draw, (2 * SIDE, 2 * SIDE), (SIDE, SIDE)), draw.scale)
    assert made.image.shape == (SIDE, SIDE, 3) and made.mask.shape == (SIDE, SIDE)
    covered = np.zeros((SIDE, SIDE), bool)
    for level, box, points in zip(made.classes, made.boxes, made.keypoints, strict=True):
        shown = np.argwhere(made.mask == level)
        np.testing.assert_allclose(shown.min(0)[::-1], box[:2], atol=1.01)
        np.testing.assert_allclose(shown.max(0)[::-1] + 1, box[2:], atol=1.01)
        if points[0, 2] > 0:
            column, row = points[0, :2].astype(int).clip(0, SIDE - 1)
            assert abs(int(made.mask[row, column]) - level) == 0 or scale < 1
        x1, y1, x2, y2 = np.concatenate([np.ceil(box[:2]) + 2, np.floor(box[2:]) - 2]).astype(int)
        assert (made.image[y1:y2, x1:x2] == level).all()
        covered[max(int(box[1]) - 2, 0) : int(box[3]) + 3, max(int(box[0]) - 2, 0) : int(box[2]) + 3] = True
    if len(made.boxes) == 4:
        assert (made.image[~covered] == 114).all() and (made.mask[~covered] == 255).all()


def test_tiles_touch_the_centre_in_reading_order():
    made = make([flat_tile(level, *size) for level, size in enumerate(SIZES, 1)], (44, 36), WHOLE, 0.5)
    on_canvas = np.array([[4, 6, 44, 36], [44, 0, 74, 36], [4, 36, 44, 76], [44, 36, 80, 56]])
    np.testing.assert_array_equal(made.boxes, on_canvas / 2)
    assert made.image[17, 21, 0] == 1 and made.image[17, 22, 0] == 2
    assert made.image[18, 21, 0] == 3 and made.image[18, 22, 0] == 4


def test_keypoints_shift_and_vanish_beyond_the_canvas():
    tiles = [flat_tile(level, 40, 40) for level in range(1, 5)]
    made = make(tiles, (20, 44), WHOLE, 0.5)
    np.testing.assert_array_equal(made.keypoints[1, 0], [20, 12, 2])
    np.testing.assert_array_equal(made.keypoints[3, 0], [20, 32, 2])
    far = replace(tiles[0], keypoints=np.array([[[2, 39, 2]]], np.float32))
    assert (make([far, *tiles[1:]], (20, 44), WHOLE, 0.5).keypoints[0] == 0).all(), "its point lies left of the canvas"


def test_tiles_without_masks_or_keypoints_are_ignored_or_unlabelled():
    bare = replace(flat_tile(2, 40, 40), mask=None, keypoints=None)
    tiles = [flat_tile(1, 40, 40), bare, flat_tile(3, 40, 40), flat_tile(4, 40, 40)]
    made = make(tiles, (40, 40), WHOLE, 0.5)
    assert (made.mask[:20, 20:] == 255).all() and (made.mask[:20, :20] == 1).all()
    assert (made.keypoints[1] == 0).all() and made.keypoints[0, 0, 2] == 2
    plain = make([bare] * 4, (40, 40), WHOLE, 0.5)
    assert plain.mask is None and plain.keypoints is None


@pytest.mark.parametrize(
    ("draw", "seen"),
    [
        (AffineDraw(scale=1.9), {1}),
        (AffineDraw(scale=1.9, translate=(0.9, 0.5)), {0, 1}),
        (AffineDraw(scale=0.5), {0, 1, 2, 3}),
        (AffineDraw(scale=1.0, translate=(9.0, 9.0)), {0}),
    ],
)
def test_tiles_that_cannot_be_seen_are_not_loaded(draw, seen):
    tiles, loaded = [flat_tile(level, 40, 40) for level in range(1, 5)], set()

    def load(index: int) -> Sample:
        loaded.add(index)
        return tiles[index]

    matrix = affine_matrix(draw, (2 * SIDE, 2 * SIDE), (SIDE, SIDE))
    made = mosaic(load, range(4), (25, 58), SIDE, matrix, draw.scale)
    assert loaded == seen
    assert made.image.shape == (SIDE, SIDE, 3) and made.boxes.shape[1] == 4
    if not seen:
        assert (made.image == 114).all() and len(made.boxes) == len(made.classes) == 0


def test_centres_fill_the_middle_half():
    rng = np.random.default_rng(0)
    centres = np.array([draw_centre(100, rng) for _ in range(2000)])
    assert (centres >= 50).all() and (centres < 150).all()
    assert (centres.min(0) < 53).all() and (centres.max(0) > 146).all()


def test_mixup_blends_and_keeps_all_objects():
    first, second = flat_tile(100, 20, 20), flat_tile(200, 20, 20)
    second.mask[:10] = 100
    blend = mixup(first, second, 0.25)
    assert (blend.image == 175).all()
    assert blend.classes.tolist() == [100, 200] and blend.keypoints.shape == (2, 1, 3)
    assert (blend.mask[:10] == 100).all(), "both agree"
    assert (blend.mask[10:] == 255).all(), "they disagree"
    assert blend.id == "100.png"


def test_a_window_beside_all_tiles_still_gives_every_kind_of_label() -> None:
    matrix = affine_matrix(AffineDraw(scale=0.5, translate=(-1.5, -1.5)), (2 * SIDE, 2 * SIDE), (SIDE, SIDE))
    made = make([flat_tile(i, *SIZES[i]) for i in range(4)], (SIDE, SIDE), matrix, 0.5)
    assert len(made.boxes) == len(made.classes) == 0
    assert made.keypoints.shape == (0, 1, 3)
    assert (made.image == 114).all() and (made.mask == 255).all() and made.mask.shape == (SIDE, SIDE)
