"""Box formats, overlap, letterbox arithmetic and the way back to native pixels."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data.samples import Placement
from utils.boxes import (
    box_iou_matrix,
    plan_letterbox,
    plan_stretch,
    plan_top_left,
    scale_to_native,
    scale_to_network,
    shortest_fit,
    xywh_to_xyxy,
    xyxy_to_xywh,
)

PUBLISHED = json.loads((Path(__file__).parents[1] / "parity" / "fixtures" / "metrics_boxes.json").read_text())
SIDES = st.integers(1, 4000)
PLANS = (plan_letterbox, plan_top_left)


@pytest.mark.parametrize("case", PUBLISHED["scale_coords"])
def test_scale_to_native_equals_published_numbers(case):
    (net_h, net_w), (h, w) = case["network_shape_hw"], case["image_shape_hw"]
    gain = min(net_h / h, net_w / w)
    placement = Placement(h, w, gain, gain, left=(net_w - w * gain) / 2, top=(net_h - h * gain) / 2)
    boxes = torch.tensor(case["in"])
    np.testing.assert_allclose(scale_to_native(boxes, placement), case["out"], rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(scale_to_native(boxes.numpy(), placement), case["out"], rtol=1e-5, atol=1e-3)
    assert torch.equal(boxes, torch.tensor(case["in"]))


@pytest.mark.parametrize("case", PUBLISHED["letterbox"])
def test_letterbox_equals_published_numbers(case):
    native, new = tuple(case["shape_hw"]), case["new_shape"]
    new = (new, new) if isinstance(new, int) else tuple(new)
    if case.get("scaleFill"):
        plan = plan_stretch(native, new)
    else:
        stride = case.get("stride", 32) if case.get("auto", True) else None
        plan = plan_letterbox(native, new, stride, scale_up=case.get("scaleup", True))
    assert list(plan.out) == case["out_hw"]
    content = [plan.top, plan.top + plan.resized[0], plan.left, plan.left + plan.resized[1]]
    assert content == case["content_y0_y1_x0_x1"]
    assert [(plan.out[1] - plan.resized[1]) / 2, (plan.out[0] - plan.resized[0]) / 2] == case["pad_wh"]
    # The placement follows the rounded size: at most half a pixel over the whole side away from the plain ratio.
    assert abs(plan.placement.scale_x - case["ratio_wh"][0]) * native[1] <= 0.5 + 1e-9
    assert abs(plan.placement.scale_y - case["ratio_wh"][1]) * native[0] <= 0.5 + 1e-9


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from([None, 8, 32, 64]))
def test_letterbox_contains_the_picture_and_is_centred(h, w, new_h, new_w, stride):
    plan = plan_letterbox((h, w), (new_h, new_w), stride)
    for before, size, total, asked in zip((plan.top, plan.left), plan.resized, plan.out, (new_h, new_w), strict=True):
        after = total - size - before
        assert before >= 0 and 0 <= after - before <= 1
        assert total <= asked
        if stride is None:
            assert total == asked
        else:
            assert (asked - total) % stride == 0 and total - size < stride


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from([None, 8, 32, 64]))
def test_a_letterbox_in_the_corner_contains_the_picture(h, w, new_h, new_w, stride):
    plan = plan_top_left((h, w), (new_h, new_w), stride)
    assert (plan.top, plan.left) == (0, 0)
    assert plan.placement.scale_x == plan.placement.scale_y == min(new_h / h, new_w / w)
    for size, total, asked in zip(plan.resized, plan.out, (new_h, new_w), strict=True):
        assert 1 <= size <= total <= asked
        assert total == asked if stride is None else (asked - total) % stride == 0 and total - size < stride


@given(st.lists(st.tuples(*[st.floats(0, 1)] * 4), max_size=8), SIDES, SIDES, st.sampled_from(PLANS))
def test_there_and_back_again(corners, h, w, plan):
    shares = np.array(corners, np.float32).reshape(-1, 4)
    native = np.concatenate([np.minimum(shares[:, :2], shares[:, 2:]), np.maximum(shares[:, :2], shares[:, 2:])], 1)
    native *= np.array((w, h, w, h), np.float32)
    placement = plan((h, w), (640, 640)).placement
    tolerance = 1e-3 * max(1.0, 1 / placement.scale_x, 1 / placement.scale_y)
    np.testing.assert_allclose(scale_to_native(scale_to_network(native, placement), placement), native, atol=tolerance)
    tensor = torch.from_numpy(native)
    np.testing.assert_allclose(scale_to_native(scale_to_network(tensor, placement), placement), native, atol=tolerance)


@given(st.lists(st.tuples(*[st.floats(-1e4, 1e4, width=32)] * 4), max_size=8))
def test_formats_round_trip_for_tensors_and_arrays(rows):
    boxes = np.array(rows, np.float32).reshape(-1, 4)
    np.testing.assert_allclose(xywh_to_xyxy(xyxy_to_xywh(boxes)), boxes, atol=1e-2)
    np.testing.assert_array_equal(xyxy_to_xywh(torch.from_numpy(boxes)).numpy(), xyxy_to_xywh(boxes))
    np.testing.assert_array_equal(xywh_to_xyxy(torch.from_numpy(boxes)).numpy(), xywh_to_xyxy(boxes))


def test_half_precision_is_raised_before_scaling():
    boxes = torch.tensor([[100.0, 100.0, 300.0, 300.0]], dtype=torch.bfloat16)
    native = scale_to_native(boxes, Placement(3000, 3000, 0.1, 0.1))
    assert native.dtype == torch.float32
    torch.testing.assert_close(native, boxes.float() * 10)


def test_overlap_matrix():
    boxes = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [3, 3, 3, 3]])
    expected = torch.tensor([[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 0]])
    torch.testing.assert_close(box_iou_matrix(boxes, boxes), expected)
    assert box_iou_matrix(boxes[:0], boxes).shape == (0, 3)


def published_resize(height: int, width: int, short: int, most: int | None, stride: int) -> tuple[int, int]:
    """The rule of the page of facts, word for word."""
    low, high = min(height, width), max(height, width)
    if most is not None and high / low * short > most:
        short = round(most * low / high)
    long = math.floor(short * high / low)
    sides = (short, long) if height <= width else (long, short)
    return sides[0] // stride * stride, sides[1] // stride * stride


@given(
    st.integers(1, 3000),
    st.floats(1, 20),
    st.booleans(),
    st.integers(16, 1400),
    st.one_of(st.none(), st.floats(1, 3)),
    st.sampled_from([1, 16, 32]),
)
def test_sizes_by_the_short_side_are_those_of_the_published_rule(low, aspect, upright, short, limit, stride):
    high = round(low * aspect)
    size = (high, low) if upright else (low, high)
    most = None if limit is None else math.floor(short * limit)
    wanted = published_resize(*size, short, most, stride)
    found = shortest_fit(np.array([size, size]), short, most, stride)
    assert found.dtype == np.int64 and found.tolist() == [[max(side, stride) for side in wanted]] * 2
    assert tuple(shortest_fit(np.array(size), short, most, stride).tolist()) == tuple(found[0].tolist())


@given(st.integers(1, 50_000), st.integers(1, 50_000), st.sampled_from([32, 512, 800]))
def test_no_picture_vanishes_by_its_short_side_or_grows_beyond_a_stride_above_the_limit(h, w, short):
    most = short * 1333 // 800
    sides = shortest_fit(np.array((h, w)), short, most, 16)
    assert (sides % 16 == 0).all() and sides.min() >= 16 and sides.max() <= most + 16


@given(st.integers(20, 2000), st.integers(20, 2000), st.sampled_from([64, 512, 800]))
def test_boxes_go_to_inputs_of_two_scales_and_back(h, w, short):
    plan = plan_stretch((h, w), tuple(shortest_fit(np.array((h, w)), short, short * 1333 // 800, 16).tolist()))
    spot = plan.placement
    assert (spot.scale_y, spot.scale_x) == (plan.out[0] / h, plan.out[1] / w)
    boxes = np.array([[0, 0, w, h], [1, 2, w / 2, h / 3]], np.float32)
    moved = scale_to_network(boxes, spot)
    np.testing.assert_allclose(moved[0], [0, 0, plan.out[1], plan.out[0]], rtol=1e-6)
    np.testing.assert_allclose(scale_to_native(moved, spot), boxes, atol=1e-3, rtol=1e-5)
