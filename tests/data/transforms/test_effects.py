from __future__ import annotations

import cv2
import numpy as np
import pytest

from data.sample_key import SampleKey
from data.transforms.detection import DetectionTrainTransform
from data.transforms.effects import EFFECTS, EffectsDraw, apply_effects, draw_effects, effect_chances
from tests.data.smooth_dataset import SmoothDataset
from utils.errors import ModelError

FEW = {"blur": 0.01, "median_blur": 0.01, "grey": 0.01, "clahe": 0.01}


def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)


def test_no_effect_is_no_copy():
    image = noise()
    assert apply_effects(image, EffectsDraw()) is image
    assert draw_effects((0.0,) * 4, np.random.default_rng(0)) == EffectsDraw()


@pytest.mark.parametrize("window", [3, 5, 7])
def test_a_blurred_pixel_is_the_mean_or_the_median_of_its_window(window):
    image, half = noise(), window // 2
    part = image[20 - half : 21 + half, 20 - half : 21 + half].reshape(-1, 3)
    blurred = apply_effects(image, EffectsDraw(blur=window))[20, 20]
    assert np.abs(blurred - part.mean(0)).max() <= 0.5
    np.testing.assert_array_equal(apply_effects(image, EffectsDraw(median_blur=window))[20, 20], np.median(part, 0))


def test_grey_has_three_equal_channels_of_the_same_brightness():
    image = noise()
    grey = apply_effects(image, EffectsDraw(grey=True))
    assert (grey[..., 0] == grey[..., 1]).all() and (grey[..., 0] == grey[..., 2]).all()
    assert np.abs(grey[..., 0] - image @ np.array([0.299, 0.587, 0.114])).max() <= 1


def test_clahe_spreads_the_levels_of_a_flat_picture_and_keeps_its_colour():
    flat = cv2.resize(np.random.default_rng(0).integers(100, 120, (8, 8, 1), np.uint8), (128, 128))
    image = np.repeat(flat[..., None], 3, 2)
    weak, strong = (apply_effects(image, EffectsDraw(clahe=limit)) for limit in (1.0, 4.0))
    assert strong.std() > weak.std() > image.std()
    assert np.abs(strong.astype(int) - strong.mean(-1, keepdims=True)).max() <= 2


def test_each_effect_comes_as_often_as_it_should_and_alone():
    rng = np.random.default_rng(0)
    drawn = [draw_effects((0.3, 0.2, 0.1, 0.4), rng) for _ in range(3000)]
    flags = np.array([[draw.blur > 0, draw.median_blur > 0, draw.grey, draw.clahe > 0] for draw in drawn])
    np.testing.assert_allclose(flags.mean(0), [0.3, 0.2, 0.1, 0.4], atol=0.03)
    assert np.abs(np.corrcoef(flags.T.astype(float)) - np.eye(4)).max() < 0.06
    assert {draw.blur for draw in drawn} == {draw.median_blur for draw in drawn} == {0, 3, 5, 7}
    limits = [draw.clahe for draw in drawn if draw.clahe]
    assert 1 <= min(limits) < 1.1 and 3.9 < max(limits) <= 4


def test_the_number_of_draws_does_not_depend_on_the_chances():
    one, two = np.random.default_rng(0), np.random.default_rng(0)
    draw_effects((0.0, 0.0, 0.0, 0.0), one)
    draw_effects((1.0, 1.0, 1.0, 1.0), two)
    assert one.random() == two.random()


@pytest.mark.parametrize("name", EFFECTS)
def test_a_chance_out_of_range_is_refused_at_the_start(name):
    with pytest.raises(ModelError, match=name):
        DetectionTrainTransform({name: 1.5}, 64)


def test_a_recipe_with_effects_changes_pixels_alone_and_one_without_changes_nothing():
    dataset, hyp = SmoothDataset("pose"), {"mosaic": 1.0, "scale": 0.5, "fliplr": 0.5, "flipud": 0.5, "hsv_s": 0.4}
    assert effect_chances(hyp) == (0.0,) * 4 and effect_chances(FEW) == (0.01,) * 4
    changed = 0
    for index in range(7):
        plain, blurred = (
            DetectionTrainTransform({**hyp, **extra}, 96)(dataset, SampleKey(0, index), np.random.default_rng(index))
            for extra in ({}, {"blur": 1.0})
        )
        np.testing.assert_array_equal(plain.boxes, blurred.boxes)
        np.testing.assert_array_equal(plain.keypoints, blurred.keypoints)
        changed += (plain.image != blurred.image).any()
    assert changed == 7


def test_effects_do_not_touch_a_cached_picture():
    image = noise()
    image.setflags(write=False)
    every = EffectsDraw(blur=3, median_blur=5, grey=True, clahe=2.0)
    assert apply_effects(image, every).shape == image.shape
    np.testing.assert_array_equal(image, noise())
