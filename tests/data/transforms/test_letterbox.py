from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.samples import Placement
from data.transforms.letterbox import CENTERED, LetterboxRule, apply_plan, plan_for_batch, plan_for_stride
from utils.boxes import plan_letterbox


def content(image: np.ndarray) -> list[int]:
    """Return y0 y1 x0 x1 of what is not padding."""
    rows, columns = np.nonzero((image != 114).any(-1))
    return [rows.min(), rows.max() + 1, columns.min(), columns.max() + 1]


def test_published_letterboxes_are_reproduced_in_pixels(shared):
    cases = json.loads((shared / "parity/metrics_boxes.json").read_text())["letterbox"]
    checked = 0
    for case in cases:
        if case.get("scaleFill"):
            continue
        new = case["new_shape"]
        stride = None if case.get("auto") is False else case.get("stride", 32)
        plan = plan_letterbox(
            tuple(case["shape_hw"]),
            (new, new) if isinstance(new, int) else tuple(new),
            stride=stride,
            scale_up=case.get("scaleup", True),
        )
        image = apply_plan(np.full((*case["shape_hw"], 3), 255, np.uint8), plan)
        assert list(image.shape[:2]) == case["out_hw"]
        assert content(image) == case["content_y0_y1_x0_x1"]
        checked += 1
    assert checked == 9


def letterbox(image: np.ndarray, img_size: int, stride: int) -> tuple[np.ndarray, Placement]:
    plan = plan_for_stride(image.shape[:2], img_size, stride)
    return apply_plan(image, plan), plan.placement


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([64, 100, 320]), st.sampled_from([8, 32, 64]))
def test_one_image_gets_the_smallest_multiple_of_the_stride(height, width, img_size, stride):
    image, spot = letterbox(np.full((height, width, 3), 255, np.uint8), img_size, stride)
    side = -(-img_size // stride) * stride
    fitted = round(height * spot.scale_y), round(width * spot.scale_x)
    assert max(fitted) == side
    for out, inner in zip(image.shape[:2], fitted, strict=True):
        assert out % stride == 0 and out - inner < stride
    assert content(image) == [spot.top, spot.top + fitted[0], spot.left, spot.left + fitted[1]]
    assert (spot.height, spot.width) == (height, width)


@given(st.integers(1, 300), st.integers(1, 300))
def test_a_batch_shape_is_met_exactly(height, width):
    plan = plan_for_batch((height, width), 128, (96, 160))
    assert plan.out == (96, 160) and plan.native == (height, width)
    assert max(plan.resized) <= 128 and plan.resized[0] <= 96
    assert plan.resized[0] == 96 or plan.resized[1] == 128, "as large as it may be"
    below, behind = 96 - plan.resized[0] - plan.top, 160 - plan.resized[1] - plan.left
    assert 0 <= below - plan.top <= 1 and 0 <= behind - plan.left <= 1


def test_an_image_that_fits_is_not_copied():
    image = np.zeros((64, 96, 3), np.uint8)
    boxed, spot = letterbox(image, 96, 32)
    assert boxed is image and (spot.scale_x, spot.scale_y, spot.left, spot.top) == (1, 1, 0, 0)


@pytest.mark.parametrize(("factor", "expected"), [(4, 127), (1, 127)])
def test_shrinking_averages_instead_of_aliasing(factor, expected):
    image = np.zeros((64 * factor, 64 * factor, 3), np.uint8)
    image[:, ::2] = 255
    boxed, _ = letterbox(image, 64, 32)
    if factor == 1:
        np.testing.assert_array_equal(boxed, image)
    else:
        assert np.abs(boxed.astype(int) - expected).max() <= 1


CORNER = LetterboxRule("top-left", square=True)
sizes = st.tuples(st.integers(1, 300), st.integers(1, 300))


@given(sizes, st.sampled_from([64, 100, 416]), st.sampled_from([8, 32]))
def test_a_square_in_the_corner_is_the_same_for_every_picture(size, img_size, stride):
    plan = plan_for_stride(size, img_size, stride, CORNER)
    side = -(-img_size // stride) * stride
    assert plan.out == (side, side) and (plan.top, plan.left) == (0, 0)
    ratio = side / max(size)
    spot = plan.placement
    assert spot.scale_x == spot.scale_y == pytest.approx(ratio)
    # Cut and not rounded; a float that is a hair below a whole number may lose it.
    for native, resized in zip(size, plan.resized, strict=True):
        assert max(native * ratio - 1 - 1e-6, 1) <= max(resized, 1) <= max(native * ratio + 1e-6, 1)
    assert plan_for_batch(size, side, (side, side), CORNER) == plan


@given(sizes, st.sampled_from([32, 64]))
def test_a_corner_without_squares_takes_the_smallest_multiple_of_the_stride(size, stride):
    plan = plan_for_stride(size, 320, stride, LetterboxRule("top-left"))
    for out, resized in zip(plan.out, plan.resized, strict=True):
        assert out % stride == 0 and 0 <= out - resized < stride


@given(sizes)
def test_a_square_in_the_middle_is_centred(size):
    plan = plan_for_stride(size, 128, 32, LetterboxRule("center", square=True))
    assert plan.out == (128, 128)
    assert plan.resized == plan_letterbox(size, (128, 128)).resized
    assert abs(2 * plan.top + plan.resized[0] - 128) <= 1 and abs(2 * plan.left + plan.resized[1] - 128) <= 1


@given(sizes, st.sampled_from([(96, 160), (128, 128)]))
def test_a_batch_shape_in_the_corner(size, shape):
    plan = plan_for_batch(size, 128, shape, LetterboxRule("top-left"))
    assert plan.out == shape and plan.native == size and (plan.top, plan.left) == (0, 0)
    assert max(plan.resized) <= 128 and plan.resized[0] <= shape[0]
    assert plan.ratio == min(min(shape[0], 128) / size[0], 128 / size[1])


def test_padding_has_the_rules_grey_below_and_to_the_right():
    image = np.full((53, 37, 3), 255, np.uint8)
    placed = apply_plan(image, LetterboxRule("top-left", pad=7).plan((53, 37), (64, 64)))
    assert (placed[:, :44] == 255).all() and (placed[:, 44:] == 7).all()
    centred = apply_plan(image, LetterboxRule(pad=0).plan((53, 37), (64, 64)))
    assert (centred[:, 0] == 0).all() and (centred[:, -1] == 0).all()
    batch = plan_for_batch((53, 37), 64, (96, 64), LetterboxRule(pad=3))
    assert (apply_plan(image, batch)[0] == 3).all()


def test_a_model_that_says_nothing_is_centred_on_114():
    assert LetterboxRule() == CENTERED
    assert CENTERED.plan((30, 50), (64, 64), 32) == plan_letterbox((30, 50), (64, 64), 32)


@pytest.mark.parametrize("wrong", [{"anchor": "corner"}, {"pad": 256}, {"pad": -1}, {"pad": 1.5}, {"pad": True}])
def test_a_rule_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match="a letterbox is"):
        LetterboxRule(**wrong)


def test_a_rule_in_words():
    assert str(CORNER) == "top-left, square, padded with 114"
    assert str(CENTERED) == "center, as small as the picture allows, padded with 114"
