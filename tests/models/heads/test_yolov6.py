"""The head of YOLOv6: order of its channels, decoding against a slow loop, how it begins, and what its row says."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from models.graph import Graph
from models.heads.yolov6 import YOLOv6Head
from models.layers.conv import Conv
from models.registry import Scale, lookup
from models.spec import load_spec

STRIDES = [8, 16, 32]
SIZES = [(8, 12), (4, 6), (2, 3)]
WIDTHS = (8, 16, 32)


def head_of(classes: int = 3) -> YOLOv6Head:
    """Return a small head in eval mode whose outputs depend on its input."""
    torch.manual_seed(0)
    head = YOLOv6Head(list(WIDTHS), classes).eval()
    head.set_strides(STRIDES)
    for conv in (*head.cls_preds, *head.reg_preds):
        nn.init.normal_(conv.weight)
    return head


def features(count: int = 2) -> list[Tensor]:
    """Return maps of a 64 x 96 image."""
    return [torch.randn(count, c, *size) for c, size in zip(WIDTHS, SIZES, strict=True)]


def test_channels_are_distances_and_classes() -> None:
    head = head_of()
    with torch.no_grad():
        for level in range(3):
            for conv, values in ((head.reg_preds[level], [1, 2, 3, 4]), (head.cls_preds[level], [5, 6, 7])):
                conv.weight.zero_()
                conv.bias.copy_(torch.tensor(values) + 10.0 * level)
    for level, x in enumerate(head(features())):
        expected = torch.arange(1.0, 8.0) + 10 * level
        assert torch.equal(x, expected.view(1, 7, 1, 1).expand(2, 7, *SIZES[level]))


def test_branches_are_decoupled_and_no_level_shares_with_another() -> None:
    head, maps = head_of(), features()
    before = head(maps)
    with torch.no_grad():
        head.cls_convs[1].conv.weight.mul_(2)
        head.reg_convs[2].conv.weight.mul_(2)
    changed = [(a != b).any(0).any(-1).any(-1).tolist() for a, b in zip(before, head(maps), strict=True)]
    assert changed[0] == [False] * 7
    assert changed[1] == [False] * 4 + [True] * 3
    assert changed[2] == [True] * 4 + [False] * 3


def test_a_fresh_head_says_the_same_of_every_cell() -> None:
    head = YOLOv6Head(list(WIDTHS), 3).eval()
    for x in head(features()):
        assert torch.equal(x[:, :4], torch.ones_like(x[:, :4]))
        torch.testing.assert_close(x[:, 4:].sigmoid(), torch.full_like(x[:, 4:], 0.01), atol=1e-7, rtol=0)


def test_decoding_by_the_formula() -> None:
    torch.manual_seed(1)
    raw = [torch.randn(2, 7, *size) * 2 for size in SIZES]
    found = head_of().predict(raw, (64, 96))
    assert found.objectness is None and found.boxes.shape == (2, 126, 4)
    place = 0
    for x, stride in zip(raw, STRIDES, strict=True):
        for row in range(x.shape[2]):
            for column in range(x.shape[3]):
                left, top, right, bottom, *logits = x[1, :, row, column].tolist()
                cx, cy = (column + 0.5) * stride, (row + 0.5) * stride
                box = [cx - left * stride, cy - top * stride, cx + right * stride, cy + bottom * stride]
                assert torch.allclose(found.boxes[1, place], torch.tensor(box), rtol=1e-5, atol=1e-4)
                scores = [1 / (1 + math.exp(-logit)) for logit in logits]
                assert torch.allclose(found.scores[1, place], torch.tensor(scores), atol=1e-6)
                place += 1


def test_half_precision_is_decoded_in_float32() -> None:
    """A distance of 4000 strides is 128,000 pixels, more than float16 can hold."""
    found = head_of().predict([torch.full((1, 7, *size), 4000.0, dtype=torch.float16) for size in SIZES], (64, 96))
    assert found.boxes.dtype == found.scores.dtype == torch.float32
    assert torch.isfinite(found.boxes).all() and found.boxes.max() > 1e5


def test_leaving_a_level_out() -> None:
    head, raw = head_of(), [torch.randn(1, 7, *size) for size in SIZES]
    whole = head.predict(raw, (64, 96)).boxes
    assert torch.equal(head.predict_without("finest", raw, (64, 96)).boxes, whole[:, 96:])
    assert torch.equal(head.predict_without("coarsest", raw, (64, 96)).boxes, whole[:, :-6])


@pytest.mark.parametrize("name", ["yolov6_t", "yolov6_t_ms"])
def test_activations_of_the_models(name: str) -> None:
    """ReLU up to the head in the plain model and in the stem alone of the other; the head has SiLU."""
    with torch.device("meta"):
        graph = Graph(load_spec(name))
    head = graph.heads["detect"]
    assert {type(module.act) for module in head.modules() if isinstance(module, Conv)} == {nn.SiLU}
    kinds = [{type(part) for part in row.modules() if isinstance(part, nn.ReLU | nn.SiLU)} for row in graph.model[:-1]]
    assert kinds[0] == {nn.ReLU}
    assert set().union(*kinds[1:]) == ({nn.SiLU} if name == "yolov6_t_ms" else {nn.ReLU})


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "takes [num_classes]"),
        ([80, 3], "takes [num_classes]"),
        (["nc"], "'num_classes' should be int, but it is 'nc'"),
        ([0], "the number of classes is above 0, but it is 0"),
    ],
)
def test_rows_that_do_not_fit(args: list[object], words: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        lookup("YOLOv6Head").from_row([16, 32, 64], 1, args, Scale())
    assert words in str(caught.value)
