"""DETR's augmentation: sizes, crops and mirrors as published, and labels that go where the pixels go."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data.device_loader import why_not_in_batches
from data.sample_key import SampleKey
from data.samples import Sample
from data.transforms.detr import DETR_AUGMENTATION, DETRTrainTransform, ViewDraw
from data.transforms.letterbox import LetterboxRule
from data.transforms.recipe import Recipe
from tests.data.smooth_dataset import SmoothDataset
from utils.boxes import shortest_fit
from utils.errors import ModelError

RULE = LetterboxRule("top-left", shrink="antialias", fit="shortest")
SMALL: Recipe = {
    "resize_sides": [32, 64, 16],
    "crop_sides": [50, 60, 70],
    "crop_range": [40, 70],
    "resize_base": 64,
}
WHOLE = SMALL | {"crop_chance": 0.0, "fliplr": 0.0}
shares = st.floats(0, 1, exclude_max=True)
draws = st.builds(ViewDraw, *[shares] * 8)


def transform(hyp: Recipe = SMALL, img_size: int = 64, **options: Any) -> DETRTrainTransform:
    return DETRTrainTransform(hyp, img_size, 16, RULE, **options)


def make(hyp: Recipe, dataset: Any, index: int = 0, seed: int = 0, **options: Any) -> Sample:
    return transform(hyp, **options)(dataset, SampleKey(0, index), np.random.default_rng(seed))


def test_the_defaults_are_those_of_the_smallest_published_model() -> None:
    published = DETRTrainTransform({}, 512, 16, RULE)
    assert published.sides == list(range(256, 609, 16)) and len(published.sides) == 23
    assert (published.crop_sides, published.crop_range) == ([400, 500, 600], [384, 600])
    assert (published.flip_left_right, published.crop_chance, published.longest) == (0.5, 0.5, 1013)
    larger = DETRTrainTransform({"resize_sides": [480, 800, 16], "resize_base": 800}, 800, 16, RULE)
    assert len(larger.sides) == 21 and larger.longest == 1333 and larger.largest_input == (1328, 1328)


def test_sides_and_crops_follow_the_size_that_is_trained_for() -> None:
    half = DETRTrainTransform(DETR_AUGMENTATION, 256, 16, RULE)
    assert half.sides == list(range(128, 305, 16))
    assert (half.crop_sides, half.crop_range, half.longest) == ([200, 250, 300], [192, 300], 304 * 1333 // 800)
    odd = DETRTrainTransform(DETR_AUGMENTATION, 320, 16, RULE)
    assert odd.sides[0] == 160 and odd.sides[-1] == 384 and all(side % 16 == 0 for side in odd.sides)


def test_without_a_stride_sides_are_scaled_and_nothing_is_rounded_but_to_pixels() -> None:
    hyp = {"resize_base": 800, "resize_sides": [480, 800, 32]}
    published = DETRTrainTransform(hyp, 800, 1, RULE)
    assert published.sides == list(range(480, 801, 32)) and published.largest_input == (1333, 1333)
    small = DETRTrainTransform(hyp, 256, 1, RULE)
    assert small.sides == [154, 164, 174, 184, 195, 205, 215, 225, 236, 246, 256]
    draw = ViewDraw(0.9, 0.9, 0.35, 0, 0, 0, 0, 0)
    assert published.plan((427, 640), draw).target == (0, 0, math.floor(576 * 640 / 427), 576)
    assert small.plan((640, 427), draw).target == (0, 0, 184, math.floor(184 * 640 / 427))
    assert published.plan((100, 1000), draw).target == (0, 0, 1330, 133), "the long side is the limit"


@given(st.tuples(st.integers(200, 900), st.integers(200, 900)), draws)
@settings(deadline=None)
def test_what_is_shown_is_what_the_two_published_resizings_would_show(size: tuple[int, int], draw: ViewDraw) -> None:
    made = DETRTrainTransform({}, 512, 16, RULE)
    crop = made.plan(size, draw)
    short, out = made.sides[int(draw.side * 23)], (crop.target[3], crop.target[2])
    assert crop.target[:2] == (0, 0)
    if draw.cropped >= 0.5:
        assert crop.source == (0, 0, size[1], size[0])
        assert out == tuple(shortest_fit(np.array(size), short, 1013, 16).tolist())
        return
    resized = shortest_fit(np.array(size), (400, 500, 600)[int(draw.crop_side * 3)], None, 16).tolist()
    window, edges = [], []
    for length, share, place in zip(resized, (draw.height, draw.width), (draw.top, draw.left), strict=True):
        least, most = min(384, length), min(600, length)
        window.append(least + int(share * (most - least + 1)))
        assert least <= window[-1] <= most
        start = int(place * (length - window[-1] + 1))
        assert 0 <= start <= length - window[-1]
        edges.append((start, start + window[-1]))
    assert out == tuple(shortest_fit(np.array(window), short, 1013, 16).tolist())
    left, top, right, bottom = crop.source
    for native, length, span, edge in zip(size, resized, ((top, bottom), (left, right)), edges, strict=True):
        assert 0 <= span[0] < span[1] <= native
        for found, wanted in zip(span, edge, strict=True):
            assert abs(found - wanted * native / length) <= 0.5 + 1e-6, "rounded to whole pixels and no further"


def test_every_choice_comes_about_as_often_as_it_should() -> None:
    made, rng = DETRTrainTransform({}, 512, 16, RULE), np.random.default_rng(0)
    drawn = [ViewDraw(*rng.random(8).tolist()) for _ in range(2000)]
    crops = [made.plan((480, 640), draw) for draw in drawn]
    whole = [crop for crop in crops if crop.source == (0, 0, 640, 480)]
    assert 900 < len(whole) < 1100
    heights = [crop.target[3] for crop in whole]
    assert set(heights) == set(made.sides) and max(heights.count(side) for side in made.sides) < 90
    wanted = {tuple(shortest_fit(np.array((640, 480)), side, 1013, 16).tolist()) for side in made.sides}
    assert {crop.target[2:] for crop in whole} == wanted


def test_a_whole_picture_is_pillows_and_its_labels_fill_the_same_share() -> None:
    dataset = SmoothDataset("pose")
    for index in range(len(dataset)):
        native, sample = dataset.load(index), make(WHOLE, dataset, index, seed=index)
        size = sample.image.shape[:2]
        assert all(side % 16 == 0 for side in size) and sample.id == native.id and sample.placement is None
        wanted = np.asarray(Image.fromarray(native.image).resize((size[1], size[0]), Image.Resampling.BILINEAR))
        assert np.abs(sample.image.astype(int) - wanted).max() <= 1
        labelled = (native.keypoints[..., 2] > 0).any(1)
        scale = np.array([size[1], size[0]] * 2) / np.array([*native.image.shape[1::-1]] * 2)
        np.testing.assert_allclose(sample.boxes, native.boxes[labelled] * scale, atol=1e-3)
        np.testing.assert_array_equal(sample.classes, native.classes[labelled])


@pytest.mark.parametrize("seed", range(12))
def test_box_mask_and_keypoints_follow_the_pixels_of_a_crop(painted, bounding_box, seed: int) -> None:
    dataset = painted([(90, 120)])
    sample = make(SMALL | {"crop_chance": 1.0}, dataset, seed=seed, flip_pairs=[(0, 1)])
    height, width = sample.image.shape[:2]
    assert sample.mask.shape == (height, width) and sample.image.flags.c_contiguous
    seen = bounding_box(sample.image[..., 0] > 135)
    np.testing.assert_allclose(sample.boxes[0], seen, atol=1.01)
    np.testing.assert_allclose(bounding_box(sample.mask == 1), seen, atol=1)
    assert set(np.unique(sample.mask)) <= {0, 1}, "a crop lies within its picture"
    x1, y1, x2, _ = sample.boxes[0]
    for point, corner in zip(sample.keypoints[0], [(x1, y1), (x2, y1)], strict=False):
        if point[2]:
            np.testing.assert_allclose(point[:2], corner, atol=1e-3)
        else:
            assert (point == 0).all()


def test_a_mirrored_sample_is_the_other_one_mirrored() -> None:
    dataset = SmoothDataset("segment")
    for seed in range(6):
        plain, mirrored = (make(SMALL | {"fliplr": chance}, dataset, 1, seed) for chance in (0.0, 1.0))
        width = plain.image.shape[1]
        np.testing.assert_array_equal(mirrored.image, cv2.flip(plain.image, 1))
        np.testing.assert_array_equal(mirrored.mask, plain.mask[:, ::-1])
        np.testing.assert_allclose(
            mirrored.boxes, (plain.boxes * [-1, 1, -1, 1] + [width, 0, width, 0])[:, [2, 1, 0, 3]]
        )


class Corners:
    """One picture of 100 x 200 pixels with an object in each corner, one without any area, and one of all of it."""

    def __len__(self) -> int:
        return 1

    def load(self, index: int, long_side: int | None = None, *, least: int | None = None) -> Sample:
        boxes = [
            [0, 0, 9, 9],
            [191, 0, 200, 9],
            [0, 91, 9, 100],
            [191, 91, 200, 100],
            [50, 50, 50, 80],
            [0, 0, 200, 100],
        ]
        return Sample(np.zeros((100, 200, 3), np.uint8), np.array(boxes, np.float32), np.arange(6))


def test_objects_are_cut_off_at_the_crop_and_those_without_area_are_gone() -> None:
    found = set()
    for seed in range(40):
        sample = make(SMALL | {"crop_chance": 1.0, "fliplr": 0.0}, Corners(), seed=seed)
        height, width = sample.image.shape[:2]
        classes = sample.classes.tolist()
        assert 4 not in classes and classes[-1] == 5
        np.testing.assert_allclose(sample.boxes[-1], [0, 0, width, height], atol=1e-3)
        assert (sample.boxes >= 0).all() and (sample.boxes <= [width, height, width, height]).all()
        assert (sample.boxes[:, 2:] > sample.boxes[:, :2]).all()
        found.add(tuple(classes))
    assert len(found) > 3 and (5,) in found
    assert make(WHOLE, Corners()).classes.tolist() == [0, 1, 2, 3, 5], "also where nothing is cropped"


def test_a_sample_is_a_function_of_its_numbers_and_shape_of_a_batch_does_not_count() -> None:
    dataset, made = SmoothDataset("segment"), transform()
    first, again, shaped = (
        made(dataset, key, np.random.default_rng(5))
        for key in (SampleKey(0, 2), SampleKey(0, 2), SampleKey(0, 2, False, (64, 96)))
    )
    for other in (again, shaped):
        np.testing.assert_array_equal(first.image, other.image)
        np.testing.assert_array_equal(first.boxes, other.boxes)
        np.testing.assert_array_equal(first.mask, other.mask)


def test_the_device_keeps_no_pictures_for_it() -> None:
    assert why_not_in_batches(transform()) == "the recipe says augment: detr"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"resize_sides": [256, 608]}, "'resize_sides' is .256, 608.: give 3 whole numbers from 1"),
        ({"resize_sides": [608, 256, 16]}, "give the smaller side first"),
        ({"resize_sides": [256, 608, 0]}, "'resize_sides'"),
        ({"resize_sides": "all"}, "'resize_sides' is 'all'"),
        ({"crop_sides": []}, "'crop_sides' is ..: give one or more whole numbers"),
        ({"crop_sides": [400.5]}, "'crop_sides'"),
        ({"crop_range": [600, 384]}, "'crop_range' .* the smaller number first"),
        ({"crop_chance": 1.5}, "'crop_chance' is 1.5: give a number from 0 to 1"),
        ({"resize_base": 0}, "'resize_base' is 0: give a number from 1"),
        ({"fliplr": True}, "'fliplr'"),
    ],
)
def test_a_recipe_out_of_range_is_one_sentence(wrong: Recipe, words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        transform(SMALL | wrong)
    assert "\n" not in str(caught.value)
