from __future__ import annotations

import json

import numpy as np
import pytest

from data.sample_key import SampleKey
from data.transforms.segmentation import LongEdgeSampler, SegmentationTrainTransform, random_crop
from utils.errors import ModelError

QUIET = {"seg_jitter": [0, 0, 0, 0], "fliplr": 0.0}


def test_published_long_edge_distribution_is_reproduced(shared):
    for case in json.loads((shared / "parity/metrics_segmentation.json").read_text())["long_edge_sampler"]:
        sampler = LongEdgeSampler(case["base_size"], case["low"], case["high"], case["std"])
        assert sampler.units.tolist() == case["units_of_32"]
        np.testing.assert_allclose(sampler.cumulative, case["cumulative"], atol=1e-9)


def test_drawn_long_edges_follow_the_distribution():
    sampler = LongEdgeSampler(256, 0.75, 1.5, 35)
    rng = np.random.default_rng(0)
    units = np.array([sampler.draw(rng) for _ in range(4000)]) // 32
    share = np.array([(units <= unit).mean() for unit in sampler.units])
    np.testing.assert_allclose(share, sampler.cumulative, atol=0.03)
    assert set(units) == set(sampler.units.tolist())


def test_a_tiny_deviation_draws_the_nearest_size_alone():
    # The mean, 4 units below the base, is none of the sizes, so every density on its own would be 0.
    sampler = LongEdgeSampler(64, 0.75, 1.5, 0.1)
    assert sampler.cumulative[-1] == 1 and sampler.draw(np.random.default_rng(0)) == 32 * sampler.units[0]


def test_the_largest_side_bounds_what_is_asked(painted):
    dataset, asked = painted([(60, 120)]), []
    load = dataset.load
    dataset.load = lambda index, long_side=None: (asked.append(long_side), load(index, long_side))[1]
    transform = SegmentationTrainTransform({"seg_scale_low": 0.5, "seg_scale_high": 1.3}, 96, (32, 32))
    for seed in range(60):
        transform(dataset, SampleKey(0, 0), np.random.default_rng(seed))
    assert max(asked) == transform.largest_side == 128


@pytest.mark.parametrize("crop", [(64, 96), (160, 160), (32, 256)])
def test_every_sample_has_the_crops_size(painted, crop):
    dataset = painted([(60, 120), (120, 60)])
    transform = SegmentationTrainTransform({}, 128, crop)
    for seed in range(10):
        sample = transform(dataset, SampleKey(0, seed % 2), np.random.default_rng(seed))
        assert sample.image.shape == (*crop, 3) and sample.mask.shape == crop
        assert sample.image.dtype == sample.mask.dtype == np.uint8
        assert sample.placement is None


def test_mask_image_and_box_show_the_same_rectangle(painted, bounding_box):
    transform = SegmentationTrainTransform(QUIET | {"fliplr": 0.5}, 128, (112, 144))
    for seed in range(10):
        sample = transform(painted([(90, 120)]), SampleKey(0, 0), np.random.default_rng(seed))
        np.testing.assert_array_equal(sample.mask == 1, sample.image[..., 0] == 250)
        np.testing.assert_allclose(bounding_box(sample.mask == 1), sample.boxes[0])


def test_small_pictures_are_padded_at_the_right_and_the_bottom(painted):
    transform = SegmentationTrainTransform(QUIET | {"fliplr": 1.0}, 64, (200, 200))
    sample = transform(painted([(50, 100)]), SampleKey(0, 0), np.random.default_rng(0))
    height, width = np.argwhere(sample.mask != 255).max(0) + 1
    assert height * 2 == width < 200
    assert (sample.image[height:] == 0).all() and (sample.image[:, width:] == 0).all()
    assert (sample.mask[:height, :width] != 255).all() and (sample.image[:height, :width] > 0).all()


def test_crops_are_uniform_over_all_places(painted):
    dataset = painted([(40, 50)])
    rng = np.random.default_rng(0)
    starts = {tuple(random_crop(dataset.load(0), (36, 48), rng).boxes[0].tolist()) for _ in range(400)}
    assert len(starts) == 5 * 3, "every row and column offset occurs, the last included"


def test_boxes_that_leave_the_crop_are_dropped_with_their_keypoints(painted):
    dataset = painted([(100, 100)])
    sample = dataset.load(0)
    lost = 0
    for seed in range(30):
        crop = random_crop(sample, (20, 20), np.random.default_rng(seed))
        assert len(crop.boxes) == len(crop.classes) == len(crop.keypoints)
        assert (crop.boxes >= 0).all() and (crop.boxes <= 20).all()
        lost += len(crop.boxes) == 0
    assert 0 < lost < 30


def test_jitter_changes_the_image_but_not_the_mask(painted):
    dataset, crop = painted([(90, 120)]), (96, 128)
    plain = SegmentationTrainTransform(QUIET, 128, crop)(dataset, SampleKey(0, 0), np.random.default_rng(4))
    jittered = SegmentationTrainTransform(QUIET | {"seg_jitter": [0.4, 0.4, 0.4, 0.1]}, 128, crop)(
        dataset, SampleKey(0, 0), np.random.default_rng(4)
    )
    np.testing.assert_array_equal(plain.mask, jittered.mask)
    assert (plain.image != jittered.image).any()


@pytest.mark.parametrize(
    "bad",
    [{"seg_jitter": [0.4]}, {"seg_scale_low": 0}, {"seg_scale_low": 2, "seg_scale_high": 1}, {"seg_scale_std": "35"}],
)
def test_a_wrong_recipe_is_refused(bad):
    with pytest.raises(ModelError, match=list(bad)[-1]):
        SegmentationTrainTransform(bad, 128, (64, 64))
