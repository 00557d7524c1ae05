from __future__ import annotations

import numpy as np
import pytest

from data.transforms.letterbox import CENTERED, LetterboxRule
from data.transforms.testing import TestTransform
from utils.boxes import points_to_native, scale_to_native


@pytest.mark.parametrize("size", [(90, 120), (120, 90), (33, 77), (500, 301)])
@pytest.mark.parametrize("shape", [None, (96, 96), (64, 128)])
@pytest.mark.parametrize("rule", [CENTERED, LetterboxRule("top-left", square=True), LetterboxRule("top-left", pad=0)])
def test_labels_find_their_way_back(painted, bounding_box, size, shape, rule):
    dataset = painted([size])
    native = dataset.load(0)
    sample = TestTransform(96, 32, shape, rule)(dataset, 0)
    assert sample.image.shape[0] % 32 == 0 and sample.image.shape[1] % 32 == 0
    if shape is not None:
        assert sample.image.shape[:2] == shape
    spot = sample.placement
    np.testing.assert_allclose(scale_to_native(sample.boxes, spot), native.boxes, atol=1e-3)
    back = (sample.keypoints[0, :3, :2] - (spot.left, spot.top)) / (spot.scale_x, spot.scale_y)
    np.testing.assert_allclose(back, native.keypoints[0, :3, :2], atol=1e-3)
    np.testing.assert_allclose(bounding_box(sample.image[..., 0] > 160), sample.boxes[0], atol=1.01)


@pytest.mark.parametrize("shape", [None, (96, 96), (64, 128)])
@pytest.mark.parametrize("rule", [CENTERED, LetterboxRule("top-left", square=True)])
def test_every_labelled_keypoint_stays_also_on_the_border_and_beyond(painted, shape, rule):
    dataset = painted([(90, 120)])
    native = dataset.load(0)
    points = [[0, 0, 1], [120, 90, 2], [120, 45, 2], [60, 90, 1], [-3, -2, 2], [123.5, 95, 2], [0, 0, 0]]
    native.keypoints = np.array([points], np.float32)
    dataset.load = lambda index, long_side=None: native
    sample = TestTransform(96, 32, shape, rule)(dataset, 0)
    assert sample.keypoints.dtype == np.float32
    np.testing.assert_array_equal(sample.keypoints[0, :, 2], [point[2] for point in points])
    back = points_to_native(sample.keypoints[0, :-1], sample.placement)
    np.testing.assert_allclose(back, points[:-1], atol=1e-3)
    assert (sample.keypoints[0, -1] == 0).all(), "an unlabelled one has no place"


def test_the_mask_keeps_its_native_size(painted):
    dataset = painted([(90, 120)])
    sample = TestTransform(64, 32)(dataset, 0)
    np.testing.assert_array_equal(sample.mask, dataset.load(0).mask)
    assert (sample.placement.height, sample.placement.width) == (90, 120)


def test_padding_is_whole_pixels_of_grey(painted):
    sample = TestTransform(96, 32, (96, 128))(painted([(50, 96)]), 0)
    spot = sample.placement
    assert (spot.left, spot.top) == (16, 23)
    assert (sample.image[: int(spot.top)] == 114).all() and (sample.image[:, :16] == 114).all()
    assert (sample.image[23:73, 16:112] != 114).all()


def test_no_object_is_dropped_however_small(painted):
    dataset = painted([(400, 400)])
    native = dataset.load(0)
    native.boxes = np.array([[10, 10, 13, 13]], np.float32)
    dataset.load = lambda index, long_side=None: native
    assert len(TestTransform(64, 32)(dataset, 0).boxes) == 1
