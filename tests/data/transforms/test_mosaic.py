from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data.samples import Sample
from data.transforms.mosaic import draw_centre, mixup, mosaic


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


SIZES = [(30, 40), (40, 30), (40, 40), (20, 40)]


@given(st.integers(20, 60), st.integers(20, 60))
def test_tiles_boxes_and_masks_cover_the_same_pixels(x, y):
    tiles = [flat_tile(level, *size) for level, size in enumerate(SIZES, 1)]
    canvas = mosaic(tiles, 40, (x, y))
    assert canvas.image.shape == (80, 80, 3)
    covered = np.zeros((80, 80), bool)
    for level, (x1, y1, x2, y2) in enumerate(canvas.boxes.astype(int), 1):
        np.testing.assert_array_equal(np.argwhere(canvas.mask == level).min(0), [y1, x1])
        np.testing.assert_array_equal(np.argwhere(canvas.mask == level).max(0) + 1, [y2, x2])
        assert (canvas.image[y1:y2, x1:x2] == level).all()
        covered[y1:y2, x1:x2] = True
    assert (canvas.image[~covered] == 114).all() and (canvas.mask[~covered] == 255).all()


def test_tiles_touch_the_centre_in_reading_order():
    canvas = mosaic([flat_tile(level, *size) for level, size in enumerate(SIZES, 1)], 40, (45, 35))
    np.testing.assert_array_equal(canvas.boxes, [[5, 5, 45, 35], [45, 0, 75, 35], [5, 35, 45, 75], [45, 35, 80, 55]])
    assert canvas.image[34, 44, 0] == 1 and canvas.image[34, 45, 0] == 2
    assert canvas.image[35, 44, 0] == 3 and canvas.image[35, 45, 0] == 4
    assert canvas.id == "1.png"


def test_keypoints_shift_and_vanish_beyond_the_canvas():
    tiles = [flat_tile(level, 40, 40) for level in range(1, 5)]
    canvas = mosaic(tiles, 40, (20, 45))
    np.testing.assert_array_equal(canvas.keypoints[1, 0], [40, 25, 2])
    np.testing.assert_array_equal(canvas.keypoints[3, 0], [40, 65, 2])
    far = replace(tiles[0], keypoints=np.array([[[2, 39, 2]]], np.float32))
    assert (mosaic([far, *tiles[1:]], 40, (20, 45)).keypoints[0] == 0).all(), "its point lies left of the canvas"


def test_tiles_without_masks_or_keypoints_are_ignored_or_unlabelled():
    bare = replace(flat_tile(2, 40, 40), mask=None, keypoints=None)
    tiles = [flat_tile(1, 40, 40), bare, flat_tile(3, 40, 40), flat_tile(4, 40, 40)]
    canvas = mosaic(tiles, 40, (40, 40))
    assert (canvas.mask[:40, 40:] == 255).all() and (canvas.mask[:40, :40] == 1).all()
    assert (canvas.keypoints[1] == 0).all() and canvas.keypoints[0, 0, 2] == 2
    plain = mosaic([bare] * 4, 40, (40, 40))
    assert plain.mask is None and plain.keypoints is None


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
