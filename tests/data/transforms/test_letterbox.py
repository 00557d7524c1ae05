from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.samples import Placement
from data.transforms.letterbox import apply_plan, plan_for_batch, plan_for_stride
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
