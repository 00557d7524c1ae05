"""The head of YOLOv8: order of its channels, widths, decoding against a slow loop, how it begins."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from models.graph import Graph, load_graph
from models.heads.yolov8 import YOLOv8Head
from models.registry import Scale, lookup
from models.spec import load_spec

STRIDES = [8, 16, 32]
SIZES = [(8, 12), (4, 6), (2, 3)]
WIDTHS = (8, 16, 32)


def head_of(classes: int = 3, bins: int = 5) -> YOLOv8Head:
    """Return a small head in eval mode."""
    torch.manual_seed(0)
    head = YOLOv8Head(list(WIDTHS), classes, bins).eval()
    head.set_strides(STRIDES)
    return head


def features(count: int = 2) -> list[Tensor]:
    """Return maps of a 64 x 96 image."""
    return [torch.randn(count, c, *size) for c, size in zip(WIDTHS, SIZES, strict=True)]


def test_channels_are_bins_and_classes() -> None:
    head = head_of()
    with torch.no_grad():
        for level in range(3):
            head.reg_preds[level][-1].weight.zero_()
            head.reg_preds[level][-1].bias.copy_(torch.arange(20.0) + 100 * level)
            head.cls_preds[level][-1].weight.zero_()
            head.cls_preds[level][-1].bias.copy_(torch.arange(20.0, 23.0) + 100 * level)
    for level, x in enumerate(head(features())):
        expected = torch.arange(23.0) + 100 * level
        assert torch.equal(x, expected.view(1, 23, 1, 1).expand(2, 23, *SIZES[level]))


def test_towers_are_decoupled_and_no_level_shares_with_another() -> None:
    head, maps = head_of(), features()
    before = head(maps)
    with torch.no_grad():
        head.cls_preds[1][0].conv.weight.mul_(2)
        head.reg_preds[2][1].conv.weight.mul_(2)
    changed = [(a != b).any(0).any(-1).any(-1).tolist() for a, b in zip(before, head(maps), strict=True)]
    assert changed[0] == [False] * 23
    assert changed[1] == [False] * 20 + [True] * 3
    assert changed[2] == [True] * 20 + [False] * 3


@pytest.mark.parametrize(
    ("channels", "classes", "bins", "wide", "narrow"),
    [
        ([64, 128, 256], 80, 16, 80, 64),
        ([48, 96, 192], 80, 16, 80, 64),
        ([48, 96, 192], 3, 16, 48, 64),
        ([320, 640, 640], 80, 16, 320, 80),
        ([16, 32], 2, 2, 16, 16),
    ],
)
def test_widths_follow_the_first_level_and_the_classes(
    channels: list[int], classes: int, bins: int, wide: int, narrow: int
) -> None:
    with torch.device("meta"):
        head = lookup("YOLOv8Head").from_row(channels, 1, [classes, bins], Scale()).module
    for towers, width in ((head.cls_preds, wide), (head.reg_preds, narrow)):
        convs = [[module for module in tower.modules() if isinstance(module, nn.Conv2d)] for tower in towers]
        assert [[conv.in_channels for conv in tower] for tower in convs] == [[c, width, width] for c in channels]
    assert head.cls_preds[0][-1].out_channels == classes and head.reg_preds[0][-1].out_channels == 4 * bins


def test_how_a_fresh_head_begins() -> None:
    """Five objects per picture, all classes alike, so levels with larger strides expect more of a cell."""
    head = load_graph("yolov8_n", classes={"detect": 4}).heads["detect"]
    for level, stride in enumerate((8, 16, 32)):
        assert torch.equal(head.reg_preds[level][-1].bias, torch.ones(64))
        expected = torch.full((4,), math.log(5 / 4 / (640 / stride) ** 2))
        torch.testing.assert_close(head.cls_preds[level][-1].bias, expected)
        assert 0 < head.cls_preds[level][-1].weight.abs().max() <= 1 / math.sqrt(64)


def decode_slowly(x: Tensor, stride: int, row: int, column: int, bins: int) -> list[float]:
    """Return x1 y1 x2 y2 of a cell from its values, as the formula is written."""
    distances = []
    for side in range(4):
        logits = x[side * bins : (side + 1) * bins, row, column].tolist()
        powers = [math.exp(logit) for logit in logits]
        distances.append(stride * sum(i * power for i, power in enumerate(powers)) / sum(powers))
    cx, cy = (column + 0.5) * stride, (row + 0.5) * stride
    left, top, right, bottom = distances
    return [cx - left, cy - top, cx + right, cy + bottom]


def test_decoding_by_the_formula() -> None:
    torch.manual_seed(1)
    raw = [torch.randn(2, 23, *size) * 2 for size in SIZES]
    found = head_of().predict(raw, (64, 96))
    assert found.objectness is None and found.boxes.shape == (2, 126, 4)
    place = 0
    for x, stride in zip(raw, STRIDES, strict=True):
        for row in range(x.shape[2]):
            for column in range(x.shape[3]):
                box = torch.tensor(decode_slowly(x[1], stride, row, column, 5))
                assert torch.allclose(found.boxes[1, place], box, rtol=1e-5, atol=1e-4)
                assert torch.allclose(found.scores[1, place], x[1, 20:, row, column].sigmoid(), atol=1e-6)
                place += 1


def test_the_furthest_side_is_the_last_bin() -> None:
    raw = [torch.full((1, 23, *size), -50.0) for size in SIZES]
    for x in raw:
        x[:, 4:20:5] = 50.0
    boxes = head_of().predict(raw, (64, 96)).boxes[0]
    torch.testing.assert_close(boxes[0], torch.tensor([4 - 32.0, 4 - 32.0, 4 + 32.0, 4 + 32.0]))
    torch.testing.assert_close(boxes[-1, 2:] - boxes[-1, :2], torch.full((2,), 256.0))


def test_half_precision_is_decoded_in_float32() -> None:
    raw = [torch.full((1, 23, *size), 60000.0, dtype=torch.float16) for size in SIZES]
    found = head_of().predict(raw, (64, 96))
    assert found.boxes.dtype == found.scores.dtype == torch.float32 and torch.isfinite(found.boxes).all()


def test_leaving_a_level_out() -> None:
    head, raw = head_of(), [torch.randn(1, 23, *size) for size in SIZES]
    whole = head.predict(raw, (64, 96)).boxes
    assert torch.equal(head.predict_without("finest", raw, (64, 96)).boxes, whole[:, 96:])
    assert torch.equal(head.predict_without("coarsest", raw, (64, 96)).boxes, whole[:, :-6])


def test_bins_are_an_argument_of_the_row() -> None:
    spec = load_spec("yolov8_n").with_values(width_multiple=0.125)
    with torch.device("meta"):
        graph = Graph(spec.with_argument(len(spec.rows) - 1, 0, 7))
        rows = [*spec.values["head"][:-1], [[15, 18, 21], 1, "YOLOv8Head", ["nc", 8]]]
        fewer = Graph(spec.with_values(head=rows))
    assert graph.heads["detect"].bins == 16 and graph.heads["detect"].num_classes == 7
    assert fewer.heads["detect"].bins == 8 and fewer.heads["detect"].reg_preds[0][-1].out_channels == 32


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "takes [num_classes, bins=16]"),
        ([80, 16, 3], "takes [num_classes, bins=16]"),
        ([80, 1], "a distribution has 2 bins or more, but they are 1"),
        ([80, 16.0], "'bins' should be int, but it is 16.0"),
        ([0], "the number of classes is above 0, but it is 0"),
    ],
)
def test_rows_that_do_not_fit(args: list[object], words: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        lookup("YOLOv8Head").from_row([16, 32, 64], 1, args, Scale())
    assert words in str(caught.value)
