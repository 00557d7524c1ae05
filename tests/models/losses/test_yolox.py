"""The loss of YOLOX: gradients against finite differences, the cutting of batches, and inputs at the edge."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.anchor_points import anchor_points, encode_boxes_at, flatten_levels
from models.losses.iou import paired_iou
from models.losses.yolox import YOLOX_RECIPE, YOLOXCriterion, plain_iou
from tests.models.losses.made_up_batches import SIZE, STRIDES, random_batch, raw_maps
from utils.boxes import xyxy_to_xywh
from utils.errors import ModelError

CLASSES = 3
NAMES = ("box", "obj", "cls", "l1")


def criterion(with_l1: bool = True, **hyp: object) -> YOLOXCriterion:
    loss = YOLOXCriterion(STRIDES, CLASSES, {**hyp, "close_mosaic": 1})
    loss.start_epoch(int(with_l1), 2)
    return loss


@pytest.mark.parametrize("part", NAMES)
@pytest.mark.parametrize("hyp", [{}, {"yolox_box_loss": "giou"}], ids=["iou", "giou"])
def test_gradients_match_finite_differences(part: str, hyp: dict) -> None:
    """The assignment and the overlap in the class target are given: they carry no gradient."""
    loss = criterion(**hyp)
    batch = random_batch(2, 3, CLASSES)
    flat = flatten_levels(raw_maps(2, 5 + CLASSES, dtype=torch.float64)).detach()
    points = anchor_points([(SIZE // s, SIZE // s) for s in STRIDES], STRIDES)
    targets = loss.prepare(batch)
    found = loss.assign(flat, points, targets)
    assert found.used.any()

    def value(x: Tensor) -> Tensor:
        return loss._parts(x, loss.positives(x, points, targets, found), targets)[part]

    assert torch.autograd.gradcheck(value, flat.requires_grad_(), atol=1e-6, fast_mode=True)


boxes = st.tuples(*[st.floats(-50, 50)] * 2, *[st.floats(0.125, 60)] * 2)


@settings(max_examples=100, deadline=None)
@given(boxes, boxes)
def test_overlap_is_that_of_the_other_implementation(first: tuple, second: tuple) -> None:
    a, b = torch.tensor([first], dtype=torch.float64), torch.tensor([second], dtype=torch.float64)
    for kind in ("iou", "giou"):
        ours = plain_iou(a, b, generalised=kind == "giou")
        assert float(ours) == pytest.approx(float(paired_iou(a, b, kind, eps=1e-12)), abs=1e-8)
    assert float(plain_iou(a, a)) == pytest.approx(1)


def test_micro_batches_count_by_their_share_of_the_images() -> None:
    """Each piece divides by its own positives, as each process of the published program does."""
    loss, batch, raw = criterion(), random_batch(4, 3, CLASSES), raw_maps(4, 5 + CLASSES)
    pieces = [loss.prepare(piece) for piece in batch.cut(2)]
    totals = sum(piece.normalizers for piece in pieces)
    assert totals.tolist() == [4] == loss.prepare(batch).normalizers.tolist()
    for i, piece in enumerate(pieces):
        own = [level[2 * i : 2 * i + 2] for level in raw]
        alone, shared = loss(own, piece), loss(own, piece, totals)
        for name in NAMES:
            assert float(shared[name].detach()) == pytest.approx(float(alone[name].detach()) / 2)


def test_the_order_of_images_and_rows_of_padding_change_nothing() -> None:
    loss, batch, raw = criterion(), random_batch(3, 4, CLASSES), raw_maps(3, 5 + CLASSES)
    expected = loss(raw, loss.prepare(batch))
    order = torch.tensor([2, 0, 1])
    turned = random_batch(3, 4, CLASSES)
    turned.boxes = torch.cat((turned.boxes, torch.full((3, 2, 4), 9.0)), 1)[order]
    turned.classes = torch.cat((turned.classes, torch.zeros(3, 2, dtype=torch.int64)), 1)[order]
    turned.valid = torch.cat((turned.valid, torch.zeros(3, 2, dtype=torch.bool)), 1)[order]
    found = loss([level[order] for level in raw], loss.prepare(turned))
    for name in NAMES:
        assert float(found[name].detach()) == pytest.approx(float(expected[name].detach()), rel=1e-5)


def test_l1_counts_in_the_last_epochs_alone() -> None:
    loss = YOLOXCriterion(STRIDES, CLASSES, {"close_mosaic": 15})
    targets, raw = loss.prepare(random_batch(2, 3, CLASSES)), raw_maps(2, 5 + CLASSES)
    assert loss.resting == {"l1": None} and loss(raw, targets)["l1"] == 0
    for epoch, counts in ((0, False), (284, False), (285, True), (299, True), (3, False)):
        loss.start_epoch(epoch, 300)
        assert bool(loss(raw, targets)["l1"] > 0) == counts
        assert loss.resting == ({} if counts else {"l1": 285})
    never = YOLOXCriterion(STRIDES, CLASSES, {})
    never.start_epoch(299, 300)
    assert never.resting == {"l1": None} and never(raw, targets)["l1"] == 0


def test_gains_weigh_the_parts() -> None:
    targets, raw = criterion().prepare(random_batch(2, 3, CLASSES)), raw_maps(2, 5 + CLASSES)
    plain = criterion()(raw, targets)
    heavy = criterion(yolox_box=10.0, yolox_obj=3.0, yolox_cls=0.5, yolox_l1=4.0)(raw, targets)
    for name, factor in zip(NAMES, (2, 3, 0.5, 4), strict=True):
        assert float(heavy[name].detach()) == pytest.approx(factor * float(plain[name].detach()), rel=1e-6)


@pytest.mark.parametrize("most", [0, 4])
def test_without_objects_only_objectness_counts_and_every_output_has_a_gradient(most: int) -> None:
    loss, batch, raw = criterion(), random_batch(2, most, CLASSES), raw_maps(2, 5 + CLASSES)
    batch.valid[:] = False
    parts = loss(raw, loss.prepare(batch))
    assert parts["box"] == parts["cls"] == parts["l1"] == 0
    expected = sum(torch.nn.functional.softplus(level[:, 4]).sum() for level in raw)
    assert float(parts["obj"].detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    sum(parts.values()).backward()
    assert all(level.grad is not None and torch.isfinite(level.grad).all() for level in raw)
    for part in ("box", "cls"):
        (gradient,) = torch.autograd.grad(loss(raw, loss.prepare(batch))[part], raw[0])
        assert not gradient.any()


def test_perfect_predictions_have_hardly_any_loss() -> None:
    loss, batch = criterion(), random_batch(1, 1, CLASSES)
    batch.boxes[0, 0] = torch.tensor([20.0, 20.0, 44.0, 44.0])
    batch.classes[0, 0] = 2
    points = anchor_points([(SIZE // s, SIZE // s) for s in STRIDES], STRIDES)
    goal = encode_boxes_at(xyxy_to_xywh(batch.boxes[0, :1]), points.corners, points.strides)
    # Where all boxes are perfect, the ten points of the centre region that cost least are the positive ones.
    near = ((points.centres - 32).abs() < 1.5 * points.strides).all(1)
    rows = torch.full((len(points), 5 + CLASSES), -30.0)
    rows[:, :4] = goal
    rows[:, 7] = 30.0
    rows[near.nonzero()[:10, 0], 4] = 30.0
    raw = [x.T.reshape(1, -1, SIZE // s, SIZE // s) for x, s in zip(rows.split([64, 16, 4]), STRIDES, strict=True)]
    parts = loss(raw, loss.prepare(batch))
    assert all(abs(float(value)) < 1e-4 for value in parts.values())


def test_published_gains_are_the_defaults() -> None:
    raw = raw_maps(2, 5 + CLASSES)
    batch = random_batch(2, 3, CLASSES)
    default, published = YOLOXCriterion(STRIDES, CLASSES, {}), YOLOXCriterion(STRIDES, CLASSES, YOLOX_RECIPE)
    ours, expected = default(raw, default.prepare(batch)), published(raw, published.prepare(batch))
    assert all(torch.equal(ours[name], expected[name]) for name in NAMES)


@pytest.mark.parametrize(
    ("hyp", "words"),
    [
        ({"yolox_box_loss": "gious"}, "yolox_box_loss is 'gious', but must be one of iou, giou. Did you mean 'giou'"),
        ({"simota": "offical"}, "simota is 'offical'.* Did you mean 'official'"),
    ],
)
def test_wrong_recipes(hyp: dict, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        YOLOXCriterion(STRIDES, CLASSES, hyp)


def test_targets_reach_the_device_whole() -> None:
    targets = criterion().prepare(random_batch(2, 4, CLASSES))
    assert targets.to(torch.device("cpu")) is targets
    moved = targets.to(torch.device("meta"))
    for name in ("boxes", "classes", "valid", "normalizers"):
        ours, there = getattr(targets, name), getattr(moved, name)
        assert there.device.type == "meta" and there.shape == ours.shape and there.dtype == ours.dtype


def test_assigned_places_lie_near_their_objects() -> None:
    loss, batch, raw = criterion(), random_batch(3, 4, CLASSES), raw_maps(3, 5 + CLASSES)
    found = loss.assignment(raw, batch)
    assert len(found.image) and batch.valid[found.image, found.object].all()
    centres = xyxy_to_xywh(batch.boxes)[found.image, found.object, :2]
    assert ((found.places - centres).abs().amax(1) < 1.5 * max(STRIDES)).all()


def test_a_positive_point_costs_what_the_formula_says() -> None:
    """One image, one object, one point: every part by hand."""
    loss = YOLOXCriterion([32], 2, {"close_mosaic": 1})
    loss.start_epoch(0, 1)
    batch = random_batch(1, 1, 2)
    batch.boxes[0, 0] = torch.tensor([8.0, 8.0, 24.0, 40.0])
    batch.classes[0, 0] = 1
    raw = torch.tensor([0.5, 0.75, -0.5, 0.25, 0.3, -0.2, 0.4]).view(1, 7, 1, 1)
    parts = loss([raw], loss.prepare(batch))
    width, height = math.exp(-0.5) * 32, math.exp(0.25) * 32
    shared = min(16 + width / 2, 24) - max(16 - width / 2, 8)
    shared *= min(24 + height / 2, 40) - max(24 - height / 2, 8)
    iou = shared / (width * height + 16 * 32 - shared)
    entropy = lambda x, t: math.log(1 + math.exp(x)) - x * t  # noqa: E731
    assert float(parts["box"]) == pytest.approx(5 * (1 - iou**2), rel=1e-5)
    assert float(parts["obj"]) == pytest.approx(entropy(0.3, 1), rel=1e-5)
    assert float(parts["cls"]) == pytest.approx(entropy(-0.2, 0) + entropy(0.4, iou), rel=1e-5)
    assert float(parts["l1"]) == pytest.approx(abs(-0.5 - math.log(0.5)) + 0.25, rel=1e-4)
