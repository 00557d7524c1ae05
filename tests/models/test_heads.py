"""Heads: priors, decoding, anchors, auxiliary outputs, and results in native pixels."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from data.samples import Placement
from models.heads.detect import Detect
from models.heads.segment import SegMaskBase, SegMaskBiSe, SegMaskLab, SegMaskPSP, SegmentationHead
from models.predictions import Detections, Masks, PostprocessOptions
from models.registry import Scale, lookup
from utils.boxes import plan_top_left

ANCHORS = [[10, 13, 16, 30, 33, 23], [30, 61, 62, 45, 59, 119], [116, 90, 156, 198, 373, 326]]
HEADS: dict[type[SegmentationHead], list[int]] = {
    SegMaskBase: [16],
    SegMaskPSP: [16, 32, 64],
    SegMaskLab: [16, 32],
    SegMaskBiSe: [16, 32, 64],
}


def detect(
    classes: int = 4, anchors: list[list[float]] | int = ANCHORS, strides: tuple[int, ...] = (8, 16, 32)
) -> Detect:
    """Return a head on channels 8, 16, 32 with its strides set."""
    head = Detect([8, 16, 32], classes, anchors)
    head.set_strides(list(strides))
    return head


def test_anchors_are_kept_in_cells() -> None:
    head = detect()
    assert torch.allclose(
        head.anchors * torch.tensor([8.0, 16.0, 32.0]).view(3, 1, 1),
        torch.tensor(ANCHORS, dtype=torch.float32).view(3, 3, 2),
    )


def test_anchors_follow_the_order_of_the_strides() -> None:
    small_first = Detect([32, 16, 8], 4, ANCHORS)
    small_first.set_strides([32, 16, 8])
    assert torch.allclose(small_first.anchors[0] * 32, torch.tensor(ANCHORS[2], dtype=torch.float32).view(3, 2))
    large_first = Detect([32, 16, 8], 4, ANCHORS[::-1])
    large_first.set_strides([32, 16, 8])
    assert torch.equal(large_first.anchors, small_first.anchors)


def test_a_count_gives_placeholder_anchors() -> None:
    head = detect(anchors=2)
    assert torch.allclose(head.anchors[1] * 16, torch.tensor([[0.0, 1.0], [2.0, 3.0]]))


def test_a_fresh_head_expects_eight_objects_and_equal_classes() -> None:
    torch.manual_seed(0)
    plain = Detect([8, 16, 32], 4, ANCHORS)
    before = [conv.bias.detach().clone().view(3, 9) for conv in plain.m]
    plain.set_strides([8, 16, 32])
    for conv, old, stride in zip(plain.m, before, (8, 16, 32), strict=True):
        shift = conv.bias.detach().view(3, 9) - old
        assert torch.allclose(shift[:, 4], torch.tensor(math.log(8 / (640 / stride) ** 2)), atol=1e-5)
        assert torch.allclose(shift[:, 5:], torch.tensor(math.log(0.6 / 3.00001)), atol=1e-5)
        assert shift[:, :4].abs().max() < 1e-6
    one = detect(classes=1)
    assert all(torch.isfinite(conv.bias).all() for conv in one.m)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2), st.integers(0, 2), st.data())
def test_decoding_by_the_formula(level: int, anchor: int, data: st.DataObject) -> None:
    head, sizes = detect(), [(8, 12), (4, 6), (2, 3)]
    rows, columns = sizes[level]
    row, column = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    values = data.draw(st.lists(st.floats(-6, 6), min_size=9, max_size=9))
    raw = [torch.zeros(1, 3, r, c, 9) for r, c in sizes]
    raw[level][0, anchor, row, column] = torch.tensor(values)
    found = head.predict(raw, (64, 96))
    position = sum(3 * r * c for r, c in sizes[:level]) + (anchor * rows + row) * columns + column
    stride = (8, 16, 32)[level]
    s = torch.tensor(values).double().sigmoid()
    x, y = (2 * s[0] - 0.5 + column) * stride, (2 * s[1] - 0.5 + row) * stride
    w, h = ((2 * s[2 + i]) ** 2 * ANCHORS[level][2 * anchor + i] for i in range(2))
    expected = torch.stack((x - w / 2, y - h / 2, x + w / 2, y + h / 2)).float()
    assert torch.allclose(found.boxes[0, position], expected, rtol=1e-4, atol=1e-2)
    assert torch.allclose(found.scores[0, position], s[5:].float(), atol=1e-6)
    assert abs(float(found.objectness[0, position]) - float(s[4])) < 1e-6


def test_detections_come_back_in_native_pixels() -> None:
    head = detect()
    boxes = torch.tensor([[[10.0, 22.0, 30.0, 42.0], [10.5, 22.0, 30.0, 42.0], [-50.0, 0.0, 500.0, 400.0]]])
    found = Detections(boxes, torch.tensor([[[0.9, 0, 0, 0], [0.8, 0, 0, 0], [0.0, 0.7, 0, 0]]]), torch.ones(1, 3))
    place = Placement(height=40, width=60, scale_x=2.0, scale_y=2.0, left=0.0, top=12.0)
    (result,) = head.postprocess(found, PostprocessOptions(), [place])
    assert torch.allclose(result.boxes, torch.tensor([[5.0, 5.0, 15.0, 15.0], [0.0, 0.0, 60.0, 40.0]]))
    assert torch.allclose(result.scores, torch.tensor([0.9, 0.7])) and result.classes.tolist() == [0, 1]


def test_gains_scale_with_levels_classes_and_size() -> None:
    hyp = {"box": 0.05, "obj": 1.0, "cls": 0.5}
    assert detect(classes=80).criterion(hyp, 640).gains == pytest.approx(hyp)
    assert detect(classes=20).criterion(hyp, 320).gains == pytest.approx({"box": 0.05, "obj": 0.25, "cls": 0.125})
    two = Detect([8, 16], 40, ANCHORS[:2])
    two.set_strides([8, 16])
    assert two.criterion(hyp, 640).gains == pytest.approx({"box": 0.075, "obj": 1.5, "cls": 0.375})
    assert two.criterion(hyp).gains == pytest.approx(hyp) and hyp["box"] == 0.05


def segmentation(kind: type[SegmentationHead], classes: int = 5) -> SegmentationHead:
    """Return a small head of a kind."""
    return kind(HEADS[kind], classes, 1, 16)


def features(kind: type[SegmentationHead], count: int = 2) -> list[torch.Tensor]:
    """Return maps of a 64 x 96 image: stride 8, then 16, then 32."""
    return [torch.randn(count, c, 8 >> i, 12 >> i) for i, c in enumerate(HEADS[kind])]


@pytest.mark.parametrize("kind", HEADS)
def test_segmentation_heads_answer_at_stride_8(kind: type[SegmentationHead]) -> None:
    head = segmentation(kind).eval()
    raw = head(features(kind))
    assert [tuple(x.shape) for x in raw] == [(2, 5, 8, 12)]
    assert head.predict(raw, (64, 96)).logits.shape == (2, 5, 64, 96)


def test_only_bise_has_auxiliary_outputs_and_only_in_training() -> None:
    outputs = {kind: segmentation(kind).train()(features(kind)) for kind in HEADS}
    assert {kind.__name__: len(raw) for kind, raw in outputs.items()} == {
        "SegMaskBase": 1,
        "SegMaskPSP": 1,
        "SegMaskLab": 1,
        "SegMaskBiSe": 3,
    }
    assert [tuple(x.shape[2:]) for x in outputs[SegMaskBiSe]] == [(8, 12), (8, 12), (4, 6)]


def test_lab_reduces_less_with_more_blocks() -> None:
    widths = [SegMaskLab([16, 32], 5, n, 16).encoder[1].branch0[0].conv.out_channels for n in (1, 2, 3, 4, 5)]
    assert widths == [32 // d for d in (4, 3, 2, 1, 1)]


def test_rows_scale_blocks_by_depth_and_channels_by_width() -> None:
    built = lookup("SegMaskBase").from_row([16], 1, [5, 9, 100, False], Scale(depth=0.33, width=0.5))
    assert len(built.module.m[0].m) == 3 and built.module.m[0].cv3.conv.out_channels == 56
    assert [m.p for m in built.module.modules() if isinstance(m, nn.Dropout)] == [0.1]
    assert isinstance(lookup("SegMaskPSP").from_row([16, 32, 64], 1, [5], Scale()).module, SegMaskPSP)


def test_masks_lose_their_padding_and_come_back_at_native_size() -> None:
    head = segmentation(SegMaskBase, classes=3)
    logits = torch.full((1, 3, 32, 32), -5.0)
    logits[0, 2] = 0.0  # the padding is class 2, which must not appear in the result
    logits[0, 0, 4:28] = 5.0
    logits[0, 1, 4:28, 16:] = 9.0
    place = Placement(height=48, width=64, scale_x=0.5, scale_y=0.5, left=0.0, top=4.0)
    (result,) = head.postprocess(Masks(logits), PostprocessOptions(), [place])
    assert result.class_map.shape == (48, 64) and result.class_map.dtype == torch.uint8
    assert (result.class_map[:, :30] == 0).all() and (result.class_map[:, 34:] == 1).all()


def test_a_picture_that_was_cut_to_whole_pixels_brings_no_padding_along() -> None:
    """70 x 51 at 64 / 70 is 64 x 46.6, of which a letterbox at the top left keeps 46 columns."""
    plan = plan_top_left((70, 51), (64, 64))
    assert plan.resized == (64, 46) and round(51 * plan.placement.scale_x) == 47
    logits = torch.zeros(1, 2, 64, 64)
    logits[0, 1, :, 46:] = 50.0
    (result,) = segmentation(SegMaskBase, classes=2).postprocess(Masks(logits), PostprocessOptions(), [plan.placement])
    assert result.class_map.shape == (70, 51) and not result.class_map.any()


def test_odd_padding_and_scale_keep_every_native_pixel() -> None:
    head = segmentation(SegMaskBase, classes=2)
    place = Placement(height=333, width=250, scale_x=480 / 250, scale_y=640 / 333, left=16.0, top=0.0)
    (result,) = head.postprocess(Masks(torch.randn(1, 2, 640, 512)), PostprocessOptions(), [place])
    assert result.class_map.shape == (333, 250)
