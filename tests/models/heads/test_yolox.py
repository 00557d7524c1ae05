"""The head of YOLOX: order of its channels, decoding against a slow loop, priors, and what its row says."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from data.samples import Placement
from models.heads.levels import levels_without
from models.heads.yolox import YOLOXDetect
from models.layers.conv import Conv
from models.layers.depthwise import DWConvPair
from models.predictions import Detections, PostprocessOptions
from models.registry import Scale, lookup

STRIDES = [8, 16, 32]
SIZES = [(8, 12), (4, 6), (2, 3)]


def head_of(classes: int = 3, depthwise: bool = False) -> YOLOXDetect:
    """Return a small head in eval mode."""
    torch.manual_seed(0)
    head = YOLOXDetect([8, 16, 32], classes, 16, depthwise).eval()
    head.set_strides(STRIDES)
    return head


def features(count: int = 2) -> list[Tensor]:
    """Return maps of a 64 x 96 image."""
    return [torch.randn(count, c, *size) for c, size in zip((8, 16, 32), SIZES, strict=True)]


@pytest.mark.parametrize("depthwise", [False, True])
def test_channels_are_box_objectness_and_classes(depthwise: bool) -> None:
    head = head_of(depthwise=depthwise)
    assert [tuple(x.shape) for x in head(features())] == [(2, 8, *size) for size in SIZES]
    with torch.no_grad():
        for level in range(3):
            convs = head.reg_preds[level], head.obj_preds[level], head.cls_preds[level]
            for conv, values in zip(convs, ([1, 2, 3, 4], [5], [6, 7, 8]), strict=True):
                conv.weight.zero_()
                conv.bias.copy_(torch.tensor(values) + 10.0 * level)
        for level, x in enumerate(head(features())):
            expected = torch.arange(1.0, 9.0) + 10 * level
            assert torch.equal(x, expected.view(1, 8, 1, 1).expand_as(x))


def test_towers_are_decoupled_and_no_level_shares_with_another() -> None:
    head = head_of()
    maps = features()
    before = head(maps)
    with torch.no_grad():
        head.cls_convs[1][0].conv.weight.mul_(2)
        head.reg_convs[2][1].conv.weight.mul_(2)
    changed = [(a != b).any(0).any(-1).any(-1).tolist() for a, b in zip(before, head(maps), strict=True)]
    assert changed[0] == [False] * 8
    assert changed[1] == [False] * 5 + [True] * 3
    assert changed[2] == [True] * 5 + [False] * 3


def test_a_fresh_head_believes_in_one_percent() -> None:
    head = head_of()
    for level in range(3):
        for conv in (head.cls_preds[level], head.obj_preds[level]):
            assert torch.allclose(conv.bias.sigmoid(), torch.tensor(0.01), atol=1e-7)
        # PyTorch's own start: uniform within one over the root of the inputs.
        assert 0 < head.reg_preds[level].bias.abs().max() <= 1 / math.sqrt(16)


def decode_slowly(raw: list[Tensor], image: int) -> list[list[float]]:
    """Return x1 y1 x2 y2, objectness and class probabilities cell by cell, as the formula is written."""
    found = []
    for x, stride in zip(raw, STRIDES, strict=True):
        for row in range(x.shape[2]):
            for column in range(x.shape[3]):
                dx, dy, tw, th, *logits = x[image, :, row, column].tolist()
                cx, cy = (dx + column) * stride, (dy + row) * stride
                w, h = math.exp(tw) * stride, math.exp(th) * stride
                scores = [1 / (1 + math.exp(-logit)) for logit in logits]
                found.append([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2, *scores])
    return found


def test_decoding_by_the_formula() -> None:
    torch.manual_seed(1)
    raw = [torch.randn(2, 8, *size) * 1.5 for size in SIZES]
    found = head_of().predict(raw, (64, 96))
    for image in range(2):
        expected = torch.tensor(decode_slowly(raw, image))
        assert torch.allclose(found.boxes[image], expected[:, :4], rtol=1e-5, atol=1e-3)
        assert torch.allclose(found.objectness[image], expected[:, 4], atol=1e-6)
        assert torch.allclose(found.scores[image], expected[:, 5:], atol=1e-6)


def test_half_precision_is_decoded_in_float32() -> None:
    """exp(12) * 32 is more than float16 can hold."""
    raw = [torch.full((1, 8, *size), 12.0, dtype=torch.float16) for size in SIZES]
    found = head_of().predict(raw, (64, 96))
    assert found.boxes.dtype == found.scores.dtype == torch.float32
    assert torch.isfinite(found.boxes).all() and found.boxes.max() > 1e6


def test_leaving_a_level_out() -> None:
    torch.manual_seed(2)
    head, raw = head_of(), [torch.randn(1, 8, *size) for size in SIZES]
    whole = head.predict(raw, (64, 96)).boxes
    counts = [rows * columns for rows, columns in SIZES]
    assert torch.equal(head.predict_without("finest", raw, (64, 96)).boxes, whole[:, counts[0] :])
    assert torch.equal(head.predict_without("coarsest", raw, (64, 96)).boxes, whole[:, : -counts[2]])
    assert levels_without("finest", [32, 16, 8]) == [0, 1] and levels_without("coarsest", [8]) == [0]


def test_objects_come_back_in_native_pixels() -> None:
    boxes = torch.tensor([[[10.0, 22.0, 30.0, 42.0], [10.5, 22.0, 30.0, 42.0], [-50.0, 0.0, 500.0, 400.0]]])
    found = Detections(boxes, torch.tensor([[[0.9, 0, 0], [0.8, 0, 0], [0.0, 0.7, 0]]]), torch.ones(1, 3))
    place = Placement(height=40, width=60, scale_x=0.5, scale_y=0.5)
    (result,) = head_of().postprocess(found, PostprocessOptions(), [place])
    assert torch.allclose(result.boxes, torch.tensor([[20.0, 40.0, 60.0, 40.0], [0.0, 0.0, 60.0, 40.0]]))
    assert torch.allclose(result.scores, torch.tensor([0.9, 0.7])) and result.classes.tolist() == [0, 1]


@pytest.mark.parametrize(("width", "hidden"), [(0.25, 64), (0.375, 96), (1.25, 320)])
def test_hidden_channels_are_scaled(width: float, hidden: int) -> None:
    built = lookup("YOLOXDetect").from_row([16, 32], 1, [5, 256], Scale(width=width))
    assert built.module.stems[1].conv.out_channels == built.module.obj_preds[0].in_channels == hidden
    assert isinstance(built.module.cls_convs[0][1], Conv) and len(built.module.cls_convs[0]) == 2
    assert built.module.cls_preds[0].out_channels == 5 and built.out_channels == 0


def test_depthwise_towers_keep_a_plain_stem() -> None:
    head = lookup("YOLOXDetect").from_row([16], 1, [5, 32, True], Scale()).module
    assert isinstance(head.stems[0], Conv)
    assert all(isinstance(block, DWConvPair) for tower in (head.cls_convs[0], head.reg_convs[0]) for block in tower)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "takes [num_classes, hidden, depthwise=False]"),
        ([80], "takes [num_classes, hidden, depthwise=False]"),
        ([80, 256, False, 1], "takes [num_classes, hidden, depthwise=False]"),
        (["nc", 256], "'num_classes' should be int, but it is 'nc'"),
        ([80, "wide"], "'hidden' should be int, but it is 'wide'"),
        ([80, 256, 3], "'depthwise' should be bool, but it is 3"),
        ([0, 256], "are above 0, but they are 0 and 256"),
    ],
)
def test_rows_that_do_not_fit(args: list[object], words: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        lookup("YOLOXDetect").from_row([16, 32, 64], 1, args, Scale())
    assert words in str(caught.value)
