from __future__ import annotations

import json

import cv2
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
YOLOMS = LetterboxRule(shrink="area", margin=0.5, group=32)
YOLOS = LetterboxRule("top-left", shrink="antialias", fit="shortest")
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


@pytest.mark.parametrize(
    "wrong",
    [
        {"anchor": "corner"},
        *({"pad": pad} for pad in (256, -1, 1.5, True)),
        {"shrink": "cubic"},
        *({"margin": margin} for margin in (-0.5, 9, True, "0.5", float("nan"))),
        *({"group": group} for group in (0, 1.0, True)),
        {"fit": "short"},
        *({"limit": limit} for limit in (0.9, 101, True, "2", float("nan"))),
        *({"fit": "shortest", **other} for other in ({"square": True}, {"margin": 0.5}, {"group": 2})),
    ],
)
def test_a_rule_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match="a letterbox is"):
        LetterboxRule(**wrong)


def test_a_rule_in_words():
    assert str(CORNER) == "top-left, square, padded with 114"
    assert str(CENTERED) == "center, as small as the picture allows, padded with 114"
    assert str(YOLOMS) == (
        "center, as small as the picture allows, padded with 114, shrunk by area, a margin of 0.5 strides, shared by "
        "32 pictures of similar aspect"
    )
    assert str(YOLOS) == "by the short side, the long one up to 1.66625 times as long, resized with antialiasing"


@pytest.mark.parametrize(
    ("size", "out"),
    [((640, 640), (672, 672)), ((480, 640), (512, 672)), ((427, 640), (448, 672)), ((1280, 960), (672, 512))],
)
def test_a_margin_comes_before_the_rounding_to_strides(size, out):
    plan = plan_for_stride(size, 640, 32, YOLOMS)
    assert plan.out == out and max(plan.resized) == 640
    assert plan.resized == plan_letterbox(size, (640, 640)).resized
    # As the page of facts has it: half of the padding, cut to whole pixels, lies above.
    assert (plan.top, plan.left) == tuple(
        round((side - inner) // 2 - 0.1) for side, inner in zip(out, plan.resized, strict=True)
    )


@given(sizes, st.sampled_from([64, 320]), st.sampled_from(["center", "top-left"]), st.floats(0, 2))
def test_a_picture_with_a_margin_lies_within_its_input_and_comes_back(size, img_size, anchor, margin):
    rule = LetterboxRule(anchor, margin=margin)
    plan = plan_for_stride(size, img_size, 32, rule)
    spot = plan.placement
    for out, inner, first in zip(plan.out, plan.resized, (plan.top, plan.left), strict=True):
        assert out % 32 == 0 and first >= 0 and first + inner <= out
        assert out - inner < 32 * (margin + 1) + 1
    assert max(plan.resized) == img_size or anchor == "top-left"
    assert (spot.height, spot.width) == size and plan.out[0] >= plan.resized[0]
    if anchor == "center":
        assert abs(2 * plan.top + plan.resized[0] - plan.out[0]) <= 1


def test_squares_have_no_margin_and_exact_shapes_are_filled():
    square = LetterboxRule(square=True, shrink="area", margin=0.5)
    assert plan_for_stride((480, 640), 640, 32, square).out == (640, 640)
    assert YOLOMS.plan((480, 640), (640, 640)).out == (640, 640)


@given(st.integers(0, 2000))
def test_padding_above_is_half_of_it_as_published(padding):
    plan = plan_letterbox((10, 10), (10 + padding, 10), scale_up=False)
    assert plan.top == round(padding // 2 - 0.1)


@pytest.mark.parametrize("native", [(40, 30), (7, 64), (64, 64)])
def test_small_pictures_are_enlarged_linearly_under_any_rule(native):
    image = np.random.default_rng(0).integers(0, 256, (*native, 3), np.uint8)
    for rule in (CENTERED, LetterboxRule(shrink="area")):
        plan = rule.plan(native, (160, 160))
        assert max(plan.resized) == 160
        inner = apply_plan(image, plan)[plan.top : plan.top + plan.resized[0], plan.left : plan.left + plan.resized[1]]
        np.testing.assert_array_equal(inner, cv2.resize(image, (plan.resized[1], plan.resized[0])))


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_an_area_is_the_mean_of_the_pixels_that_become_one(factor):
    image = np.random.default_rng(0).integers(0, 256, (32 * factor, 32 * factor, 3), np.uint8)
    means = image.reshape(32, factor, 32, factor, 3).mean((1, 3))
    by_area, linear = (
        apply_plan(image, LetterboxRule(shrink=way).plan(image.shape[:2], (32, 32))) for way in ("area", "linear")
    )
    assert np.abs(by_area - means).max() <= 0.51
    # Two by two pixels are the one case in which both ways are the same.
    assert (np.abs(linear - means).max() > 20) == (factor > 2)
    batch = plan_for_batch(image.shape[:2], 32, (32, 64), LetterboxRule(shrink="area"))
    np.testing.assert_array_equal(apply_plan(image, batch)[:, 16:48], by_area)


@pytest.mark.parametrize(
    ("native", "img_size", "out"),
    [
        ((480, 640), 512, (512, 672)),
        ((640, 480), 800, (1056, 800)),
        ((427, 640), 800, (800, 1184)),
        ((300, 900), 512, (272, 848)),
        ((375, 500), 500, (512, 672)),
    ],
)
def test_by_the_short_side_a_picture_fills_its_input(native, img_size, out):
    plan = plan_for_stride(native, img_size, 16, YOLOS)
    assert plan.out == plan.resized == out and (plan.top, plan.left) == (0, 0)
    assert (plan.placement.scale_y, plan.placement.scale_x) == (out[0] / native[0], out[1] / native[1])
    image = np.full((*native, 3), 77, np.uint8)
    assert (apply_plan(image, plan) == 77).all()
    assert YOLOS.without_shared_rectangles() == YOLOS


def test_by_the_short_side_an_exact_shape_is_a_canvas_with_the_picture_in_its_corner():
    plan = plan_for_batch((50, 100), 64, (64, 64), YOLOS)
    assert (plan.resized, plan.out, plan.top, plan.left) == ((32, 64), (64, 64), 0, 0)
    assert plan == plan_for_batch((50, 100), 64, (64, 64), LetterboxRule("top-left", shrink="antialias"))


@given(
    native=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    size=st.sampled_from([32, 64, 320]),
    rule=st.sampled_from(
        [CENTERED, LetterboxRule("top-left", square=True, pad=0), LetterboxRule(margin=0.5, group=32, shrink="area")]
    ),
)
def test_one_shape_holds_for_every_picture_and_size(native, shape, size, rule):
    shape = shape[0] * 32, shape[1] * 32
    exact = rule.exactly(shape)
    plan = plan_for_stride(native, size, 32, exact)
    assert plan == plan_for_batch(native, max(shape), shape, exact)
    assert plan.out == shape and (plan.pad, plan.shrink) == (rule.pad, rule.shrink)
    assert rule.anchor == "top-left" or any(inner == side for inner, side in zip(plan.resized, shape, strict=True))
    assert plan.top + plan.resized[0] <= shape[0] and plan.left + plan.resized[1] <= shape[1]
    if rule.anchor == "top-left":
        assert (plan.top, plan.left) == (0, 0)


def test_pictures_that_fill_their_inputs_are_stretched_into_one_shape():
    exact = LetterboxRule("top-left", fit="shortest", shrink="antialias").exactly((64, 96))
    plan = plan_for_stride((30, 20), 640, 16, exact)
    assert plan.resized == plan.out == (64, 96) and plan.shrink == "antialias"
    assert exact.shape == (64, 96) and not exact.by_short_side and str(exact).startswith("64 x 96 pixels, filled")
    assert exact != exact.exactly((96, 64)) != CENTERED and CENTERED.shape is None
