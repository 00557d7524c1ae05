"""The loss of YOLOv8: gradients against finite differences, its denominators, and what its assignment shows."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.anchor_points import anchor_points, distances_of_boxes, flatten_levels
from models.losses.scored_positives import ScoredPositives
from models.losses.yolov8 import YOLOV8_RECIPE, YOLOv8Criterion
from tests.models.assigners.slow_scored import complete_iou
from tests.models.losses.made_up_batches import SIZE, STRIDES, numbers, random_batch, raw_maps

CLASSES, BINS = 3, 8
CHANNELS = 4 * BINS + CLASSES
NAMES = ("box", "cls", "dfl")


def criterion(**hyp: float) -> YOLOv8Criterion:
    return YOLOv8Criterion(STRIDES, CLASSES, BINS, hyp)


@pytest.mark.parametrize("part", NAMES)
def test_gradients_match_finite_differences(part: str) -> None:
    """The assignment and the target scores are given: they carry no gradient. Nor does the weight within CIoU."""
    loss, batch = criterion(), random_batch(2, 3, CLASSES)
    flat = flatten_levels(raw_maps(2, CHANNELS, dtype=torch.float64)).detach()
    points = anchor_points([(SIZE // s, SIZE // s) for s in STRIDES], STRIDES)
    targets = loss.prepare(batch)
    found = loss.assign(flat, points, targets)
    assert found.used.any()

    def value(x: Tensor) -> Tensor:
        return loss.sums(x, ScoredPositives.at(x, points, targets, found))[part]

    flat.requires_grad_()
    if part != "box":
        assert torch.autograd.gradcheck(value, flat, atol=1e-6, fast_mode=True)
        return
    # With the aspect term's weight detached the box loss has no finite differences; test_iou.py looks into that. Here:
    # only the logits of distances of positive points have a gradient.
    (gradient,) = torch.autograd.grad(value(flat), flat)
    rows = gradient.abs().sum(-1) > 0
    assert not gradient[..., 4 * BINS :].any() and bool((rows == found.dense()[0]).all())


def test_the_parts_are_those_of_the_formula() -> None:
    """One object, one positive point: everything by hand."""
    loss, batch = criterion(), random_batch(1, 1, CLASSES)
    batch.boxes[0, 0] = torch.tensor([17.0, 17.0, 23.0, 25.0])
    batch.classes[0, 0] = 1
    raw = [level.detach().double() * 0.1 for level in raw_maps(1, CHANNELS)]
    for side, distance in enumerate((0.5, 0.25, 0.25, 0.5)):
        raw[0][0, side * BINS : (side + 1) * BINS, 2, 2] = -40.0
        raw[0][0, side * BINS, 2, 2] = math.log(1 - distance)
        raw[0][0, side * BINS + 1, 2, 2] = math.log(distance)
    shown = loss.assignment(raw, batch)
    assert shown.places.tolist() == [[20.0, 20.0]] and shown.object.tolist() == [0] == shown.image.tolist()
    # The only positive point has its own overlap as its score.
    overlap = complete_iou((16, 18, 22, 24), (17, 17, 23, 25))
    total = max(overlap, 1.0)
    parts = loss(raw, loss.prepare(batch))
    logits = torch.cat([level[:, 4 * BINS :].flatten(2) for level in raw], 2)
    goals = torch.zeros_like(logits)
    goals[0, 1, 2 * 8 + 2] = overlap
    entropy = F.binary_cross_entropy_with_logits(logits, goals, reduction="sum")
    assert float(parts["cls"]) == pytest.approx(0.5 * float(entropy) / total, rel=1e-5)
    assert float(parts["box"]) == pytest.approx(7.5 * overlap * (1 - overlap) / total, rel=1e-4)
    focal = 0.0
    for true, said in zip((3 / 8, 3 / 8, 3 / 8, 5 / 8), (0.5, 0.25, 0.25, 0.5), strict=True):
        focal -= math.log(1 - said) * (1 - true) + math.log(said) * true
    assert float(parts["dfl"]) == pytest.approx(1.5 / 4 * focal * overlap / total, rel=1e-4)


def test_the_denominator_is_the_sum_of_scores_and_at_least_one() -> None:
    loss, batch = criterion(), random_batch(3, 6, CLASSES)
    raw = [level.detach() for level in raw_maps(3, CHANNELS)]
    targets = loss.prepare(batch)
    flat, points = flatten_levels(raw), loss.points_of(raw)
    found = loss.assign(flat, points, targets)
    assert found.score.sum() > 1
    sums = loss.sums(flat, ScoredPositives.at(flat, points, targets, found))
    parts = loss(raw, targets)
    total = float(found.score.sum())
    assert numbers(parts) == pytest.approx({name: value / total for name, value in numbers(sums).items()}, rel=1e-5)
    batch.valid[:] = False
    empty = loss(raw, loss.prepare(batch))
    expected = 0.5 * sum(F.softplus(level[:, 4 * BINS :]).sum() for level in raw)
    assert float(empty["cls"]) == pytest.approx(float(expected), rel=1e-6)
    assert empty["box"] == empty["dfl"] == 0


def test_perfect_boxes_have_hardly_any_box_loss() -> None:
    loss, batch = criterion(), random_batch(1, 1, CLASSES)
    batch.boxes[0, 0] = torch.tensor([10.0, 12.0, 46.0, 44.0])
    raw = raw_maps(1, CHANNELS)
    points = loss.points_of(raw)
    distances = distances_of_boxes(batch.boxes[0, :1], points.centres, points.strides).clamp(0, BINS - 1.01)
    low = distances.floor()
    shares = torch.zeros(len(points), 4, BINS)
    shares.scatter_(2, low.long()[..., None], (low + 1 - distances)[..., None])
    shares.scatter_(2, low.long()[..., None] + 1, (distances - low)[..., None])
    rows = torch.cat((shares.clamp(min=1e-12).log().flatten(1), torch.full((len(points), CLASSES), -30.0)), 1)
    rows[:, 4 * BINS + int(batch.classes[0, 0])] = 30.0
    sizes = [(SIZE // s) ** 2 for s in STRIDES]
    maps = [x.T.reshape(1, -1, SIZE // s, SIZE // s) for x, s in zip(rows.split(sizes), STRIDES, strict=True)]
    assert float(loss(maps, loss.prepare(batch))["box"]) < 1e-3


def test_gains_weigh_the_parts_and_the_published_ones_are_the_defaults() -> None:
    raw, batch = raw_maps(2, CHANNELS), random_batch(2, 3, CLASSES)
    targets = criterion().prepare(batch)
    plain, published = numbers(criterion()(raw, targets)), numbers(criterion(**YOLOV8_RECIPE)(raw, targets))
    assert plain == published
    heavy = numbers(criterion(yolov8_box=15.0, yolov8_cls=2.0, yolov8_dfl=0.5)(raw, targets))
    assert heavy == pytest.approx({"box": 2 * plain["box"], "cls": 4 * plain["cls"], "dfl": plain["dfl"] / 3}, rel=1e-6)
