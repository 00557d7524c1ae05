"""Overlap of box pairs: written formulas, gradients, and boxes at the edge."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.losses.iou import IouKind, corner_iou, paired_iou
from tests.models.assigners.slow_scored import complete_iou, plain_iou
from utils.boxes import xyxy_to_xywh

KINDS: tuple[IouKind, ...] = ("iou", "giou", "diou", "ciou", "siou")
Box = tuple[float, float, float, float]
boxes = st.tuples(*[st.floats(-50, 50)] * 2, *[st.floats(0.25, 60)] * 2).map(
    lambda x: (x[0], x[1], x[0] + x[2], x[1] + x[3])
)


def slowly(a: Box, b: Box, kind: IouKind) -> float:
    """Return the overlap by its published formula; SIoU with the angles that its paper speaks of."""
    iou = plain_iou(a, b)
    sides = [(a[i + 2] - a[i], b[i + 2] - b[i]) for i in (0, 1)]
    hull = [max(a[i + 2], b[i + 2]) - min(a[i], b[i]) for i in (0, 1)]
    offset = [(b[i] + b[i + 2] - a[i] - a[i + 2]) / 2 for i in (0, 1)]
    if kind == "iou":
        return iou
    if kind == "giou":
        union = sum(sides[0][i] * sides[1][i] for i in (0, 1)) / (1 + iou)
        return iou - (hull[0] * hull[1] - union) / (hull[0] * hull[1])
    if kind == "diou":
        return iou - (offset[0] ** 2 + offset[1] ** 2) / (hull[0] ** 2 + hull[1] ** 2)
    if kind == "ciou":
        return complete_iou(a, b)
    length = math.hypot(*offset)
    angle = math.asin(min(abs(offset[0]), abs(offset[1])) / length) if length else 0.0
    gamma = 2 - math.cos(2 * angle - math.pi / 2)
    distance = sum(1 - math.exp(-gamma * (offset[i] / hull[i]) ** 2) for i in (0, 1))
    shape = sum((1 - math.exp(-abs(pair[0] - pair[1]) / max(pair))) ** 4 for pair in sides)
    return iou - (distance + shape) / 2


@settings(max_examples=150, deadline=None)
@given(boxes, boxes, st.sampled_from(KINDS))
def test_they_are_the_written_formulas(a: Box, b: Box, kind: IouKind) -> None:
    one, two = torch.tensor([a, b], dtype=torch.float64)
    expected = slowly(a, b, kind)
    assert float(corner_iou(one, two, kind, 1e-12)) == pytest.approx(expected, abs=1e-9)
    assert float(paired_iou(xyxy_to_xywh(one), xyxy_to_xywh(two), kind, 1e-12)) == pytest.approx(expected, abs=1e-8)
    assert float(corner_iou(one.float(), two.float(), kind)) == pytest.approx(expected, abs=1e-4)
    assert float(corner_iou(two, one, kind, 1e-12)) == pytest.approx(expected, abs=1e-9)
    assert float(corner_iou(one, one, kind, 1e-12)) == pytest.approx(1, abs=1e-9)


def test_small_numbers_lie_where_the_families_have_them() -> None:
    """So large an eps that it shows; YOLOv5 counts it into the areas too."""
    a, b = torch.tensor([[0.0, 0, 4, 2], [2, 0, 4, 3]], dtype=torch.float64)
    eps = 0.5
    union, hull, square = 8 + 6 - 4 + eps, 4 * 3 + eps, 16 + 9 + eps
    iou, rho = 4 / union, (1 + 0.25) / square
    aspect = 4 / math.pi**2 * (math.atan(2 / 3.5) - math.atan(4 / 2.5)) ** 2
    found = {kind: float(corner_iou(a, b, kind, eps)) for kind in ("iou", "giou", "diou", "ciou")}
    assert found["iou"] == pytest.approx(iou)
    assert found["giou"] == pytest.approx(iou - (hull - union) / hull)
    assert found["diou"] == pytest.approx(iou - rho)
    assert found["ciou"] == pytest.approx(iou - rho - aspect**2 / (aspect - iou + 1 + eps))
    of_yolov5 = float(paired_iou(xyxy_to_xywh(a), xyxy_to_xywh(b), "iou", eps))
    assert of_yolov5 == pytest.approx(4 / (4 * 2.5 + 2 * 3.5 - 4 + eps))


def random_pairs(count: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    pairs = torch.rand(2, count, 4, generator=draw, dtype=torch.float64) * 20
    pairs[..., 2:] += pairs[..., :2] + 1
    return pairs[0], pairs[1]


@pytest.mark.parametrize("kind", ["iou", "giou", "diou", "siou"])
def test_gradients_match_finite_differences(kind: IouKind) -> None:
    one, two = random_pairs(40)
    assert torch.autograd.gradcheck(lambda a, b: corner_iou(a, b, kind), (one.requires_grad_(), two.requires_grad_()))


def test_the_gradient_of_ciou_takes_the_weight_of_the_aspect_term_as_given() -> None:
    one, two = random_pairs(40)

    def aspect_term(a: Tensor) -> Tensor:
        width, height = a[:, 2] - a[:, 0], a[:, 3] - a[:, 1]
        other = (two[:, 2] - two[:, 0]) / (two[:, 3] - two[:, 1] + 1e-7)
        return 4 / math.pi**2 * (torch.atan(other) - torch.atan(width / (height + 1e-7))) ** 2

    with torch.no_grad():
        weight = aspect_term(one) / (aspect_term(one) - corner_iou(one, two) + 1 + 1e-7)
    one.requires_grad_()

    def with_given_weight(a: Tensor) -> Tensor:
        return corner_iou(a, two, "diou") - weight * aspect_term(a)

    assert torch.allclose(corner_iou(one, two, "ciou"), with_given_weight(one), rtol=1e-12)
    (ours,) = torch.autograd.grad(corner_iou(one, two, "ciou").sum(), one)
    (expected,) = torch.autograd.grad(with_given_weight(one).sum(), one)
    assert torch.allclose(ours, expected, rtol=1e-9, atol=1e-12)
    assert torch.autograd.gradcheck(with_given_weight, one)
    assert not torch.autograd.gradcheck(lambda a: corner_iou(a, two, "ciou"), one, raise_exception=False)


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_without_area_or_inside_out_give_finite_values_and_gradients(kind: IouKind) -> None:
    proper = [10.0, 10.0, 30.0, 20.0]
    odd = [
        [10.0, 10, 10, 10],
        [0, 0, 0, 0],
        [20, 10, 12, 20],
        [40, 30, 5, 5],
        [10, 15, 30, 15],
        proper,
        [20, 15, 20, 15],
    ]
    a = torch.tensor(odd).requires_grad_()
    for other in (proper, [0.0, 0, 0, 0]):
        value = corner_iou(a, torch.tensor(other), kind)
        (gradient,) = torch.autograd.grad(value.sum(), a)
        assert torch.isfinite(value).all() and torch.isfinite(gradient).all()
        # The hull of a box that is turned inside out means nothing.
        assert float(value.detach()[[0, 1, 4, 5, 6]].max()) <= 1
    plain = corner_iou(a, torch.tensor(proper))
    assert plain.tolist() == pytest.approx([0, 0, 0, 0, 0, 1, 0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_box_inside_out_cannot_make_the_union_zero(kind: IouKind) -> None:
    """Areas of -208 and 200 and a small number of 8 would."""
    a, b = torch.tensor([[26.0, 10, 10, 23], [10, 10, 30, 20]])
    assert torch.isfinite(corner_iou(a, b, kind, 8.0))


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_broadcast(kind: IouKind) -> None:
    one, two = random_pairs(6)
    found = corner_iou(one[:, None], two[None], kind)
    assert found.shape == (6, 6) and torch.equal(found.diagonal(), corner_iou(one, two, kind))
