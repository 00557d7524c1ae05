"""The loss of YOLOv6: gradients against finite differences, its two assignments, its denominators and words."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.anchor_points import anchor_points, distances_of_boxes, flatten_levels
from models.assigners.atss import assign_atss
from models.assigners.task_aligned import TASK_ALIGNED_RULES, assign_task_aligned
from models.losses.iou import corner_iou
from models.losses.scored_positives import ScoredPositives
from models.losses.varifocal import varifocal, varifocal_of_negatives
from models.losses.yolov6 import YOLOV6_RECIPE, YOLOv6Criterion
from tests.models.losses.made_up_batches import SIZE, STRIDES, numbers, random_batch, raw_maps
from utils.errors import ModelError

CLASSES = 3
CHANNELS = 4 + CLASSES
NAMES = ("box", "cls")


def criterion(epoch: int = 4, **hyp: object) -> YOLOv6Criterion:
    loss = YOLOv6Criterion(STRIDES, CLASSES, hyp)
    loss.start_epoch(epoch, 400)
    return loss


def maps(images: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Return raw maps whose boxes reach about two strides to every side."""
    raw = [level.detach() for level in raw_maps(images, CHANNELS, dtype=dtype)]
    for level in raw:
        level[:, :4] += 1.5
    return [level.requires_grad_() for level in raw]


@pytest.mark.parametrize("epoch", [0, 4], ids=["atss", "aligned"])
@pytest.mark.parametrize("kind", ["siou", "giou"])
@pytest.mark.parametrize("part", NAMES)
def test_gradients_match_finite_differences(part: str, kind: str, epoch: int) -> None:
    """The assignment and the target scores are given: they carry no gradient."""
    loss, batch = criterion(epoch, yolov6_box_loss=kind), random_batch(2, 3, CLASSES)
    flat = flatten_levels(maps(2, torch.float64)).detach()
    points = anchor_points([(SIZE // s, SIZE // s) for s in STRIDES], STRIDES)
    targets = loss.prepare(batch)
    found = loss.assign(flat, points, targets)
    assert (found.score > 0).sum() > 3

    def value(x: Tensor) -> Tensor:
        return loss.sums(x, ScoredPositives.at(x, points, targets, found))[part]

    assert torch.autograd.gradcheck(value, flat.requires_grad_(), atol=1e-6, fast_mode=True)


@pytest.mark.parametrize("kind", ["siou", "giou"])
@pytest.mark.parametrize("epoch", [0, 4])
def test_the_parts_are_those_of_the_formula(kind: str, epoch: int) -> None:
    """A dense map of targets, point by point, in float64."""
    loss, batch, raw = criterion(epoch, yolov6_box_loss=kind), random_batch(2, 4, CLASSES), maps(2)
    targets = loss.prepare(batch)
    flat, points = flatten_levels(raw).detach(), loss.points_of(raw)
    positive, matched, score = loss.assign(flat, points, targets).dense()
    goals = torch.zeros(2, len(points), CLASSES, dtype=torch.float64)
    box = 0.0
    for i, a in positive.nonzero().tolist():
        owner, stride = int(matched[i, a]), float(points.strides[a, 0])
        goals[i, a, int(batch.classes[i, owner])] = float(score[i, a])
        reach, centre = flat[i, a, :4].double(), points.centres[a].double() / stride
        predicted = torch.cat((centre - reach[:2], centre + reach[2:]))
        overlap = corner_iou(predicted, batch.boxes[i, owner].double() / stride, kind, 1e-12)
        box += float(score[i, a]) * (1 - float(overlap))
    total = float(score.sum())
    cls = float(varifocal(flat[..., 4:].double(), goals).sum())
    assert numbers(loss(raw, targets)) == pytest.approx({"box": 2.5 * box / total, "cls": cls / total}, rel=1e-4)


def test_the_first_epochs_are_assigned_by_atss_and_the_others_by_task_alignment() -> None:
    batch, raw = random_batch(3, 5, CLASSES), maps(3)
    loss = YOLOv6Criterion(STRIDES, CLASSES, {})
    targets, flat, points = loss.prepare(batch), flatten_levels(raw).detach(), loss.points_of(raw)
    reach = flat[..., :4] * points.strides
    boxes = torch.cat((points.centres - reach[..., :2], points.centres + reach[..., 2:]), -1)
    by_atss = assign_atss(boxes, targets, points).dense()[1]
    by_alignment = assign_task_aligned(boxes, flat[..., 4:], targets, points, TASK_ALIGNED_RULES["yolov6"]).dense()[1]
    assert not torch.equal(by_atss, by_alignment)
    # Fresh, then in order, then as after a resume into any epoch.
    assert torch.equal(loss.assign(flat, points, targets).dense()[1], by_atss)
    for epoch in (0, 3, 4, 399, 2, 5):
        loss.start_epoch(epoch, 400)
        expected = by_atss if epoch < 4 else by_alignment
        assert torch.equal(loss.assign(flat, points, targets).dense()[1], expected)
        shown = loss.assignment(raw, batch)
        image, point = (expected >= 0).nonzero(as_tuple=True)
        found = sorted(zip(shown.image.tolist(), shown.places.tolist(), shown.object.tolist(), strict=True))
        assert found == sorted(
            zip(image.tolist(), points.centres[point].tolist(), expected[image, point].tolist(), strict=True)
        )
    never, always = (YOLOv6Criterion(STRIDES, CLASSES, {"yolov6_atss_epochs": count}) for count in (0, 500))
    assert torch.equal(never.assign(flat, points, targets).dense()[1], by_alignment)
    always.start_epoch(399, 400)
    assert torch.equal(always.assign(flat, points, targets).dense()[1], by_atss)


def test_the_denominator_is_the_sum_of_scores_however_small_and_left_out_when_it_is_zero() -> None:
    loss, batch = criterion(0, yolov6_least_scores=0.0), random_batch(1, 1, CLASSES)
    batch.boxes[0, 0] = torch.tensor([8.0, 8.0, 24.0, 24.0])
    raw = [level.detach() for level in maps(1)]
    for level in raw:
        level[:, :4] = 0.02
    targets = loss.prepare(batch)
    flat, points = flatten_levels(raw), loss.points_of(raw)
    found = loss.assign(flat, points, targets)
    total = float(found.score.sum())
    assert 0 < total < 0.1
    sums = loss.sums(flat, ScoredPositives.at(flat, points, targets, found))
    for name, value in loss(raw, targets).items():
        assert float(value) == pytest.approx(float(sums[name]) / total, rel=1e-5)
    for name, value in criterion(0, yolov6_least_scores=0.5)(raw, targets).items():
        assert float(value) == pytest.approx(float(sums[name]) / 0.5, rel=1e-5)
    for level in raw:
        level[:, :4] = -1.0
    parts = loss(raw, targets)
    assert loss.assign(flatten_levels(raw), points, targets).used.any() and parts["box"] == 0
    expected = sum(varifocal_of_negatives(level[:, 4:]).sum() for level in raw)
    assert float(parts["cls"]) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("kind", ["siou", "giou"])
@pytest.mark.parametrize("epoch", [0, 4])
def test_perfect_boxes_have_hardly_any_box_loss(kind: str, epoch: int) -> None:
    loss, batch, raw = criterion(epoch, yolov6_box_loss=kind), random_batch(1, 1, CLASSES), maps(1)
    batch.boxes[0, 0] = torch.tensor([10.0, 12.0, 46.0, 44.0])
    points = loss.points_of(raw)
    rows = torch.cat((distances_of_boxes(batch.boxes[0, :1], points.centres, points.strides), torch.zeros(84, 3)), 1)
    sizes = [(SIZE // s) ** 2 for s in STRIDES]
    exact = [x.T.reshape(1, -1, SIZE // s, SIZE // s) for x, s in zip(rows.split(sizes), STRIDES, strict=True)]
    targets = loss.prepare(batch)
    assert numbers(loss(exact, targets))["box"] < 1e-4 < numbers(loss(raw, targets))["box"]


def test_gains_weigh_the_parts_and_the_published_ones_are_the_defaults() -> None:
    raw, batch = maps(2), random_batch(2, 3, CLASSES)
    targets = criterion().prepare(batch)
    plain, published = numbers(criterion()(raw, targets)), numbers(criterion(**YOLOV6_RECIPE)(raw, targets))
    assert plain == published
    heavy = numbers(criterion(yolov6_box=5.0, yolov6_cls=0.5)(raw, targets))
    assert heavy == pytest.approx({"box": 2 * plain["box"], "cls": plain["cls"] / 2}, rel=1e-6)
    other = numbers(criterion(yolov6_box_loss="giou")(raw, targets))
    assert other["cls"] == plain["cls"] and other["box"] != plain["box"]


def test_wrong_recipes() -> None:
    with pytest.raises(ModelError, match=r"yolov6_box_loss is 'sious', but must be one of siou, giou\. Did you mean"):
        criterion(yolov6_box_loss="sious")


def test_one_tiny_object_does_not_destroy_the_weights() -> None:
    """Scores of a fresh head for an object of 4 px add up to next to nothing."""
    batch = random_batch(1, 1, CLASSES)
    batch.boxes[0, 0] = torch.tensor([14.0, 14.0, 18.0, 18.0])
    loss = criterion(4)
    raw = [level.detach().fill_(-4.6) for level in maps(1)]
    for level in raw:
        level[:, :4] = 1.0
        level.requires_grad_()
    targets = loss.prepare(batch)
    found = loss.assign(flatten_levels(raw).detach(), loss.points_of(raw), targets)
    assert 0 < float(found.score.sum()) < 0.01
    sum(loss(raw, targets).values()).backward()
    assert max(float(level.grad.abs().max()) for level in raw) < 10
