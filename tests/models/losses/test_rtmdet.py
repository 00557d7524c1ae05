"""The loss of RTMDet: gradients against finite differences, the cutting of batches, and inputs at the edge."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from models.anchor_points import AnchorPoints, anchor_points, distances_of_boxes, flatten_levels
from models.losses.rtmdet import RTMDET_RECIPE, RTMDetCriterion
from tests.models.losses.made_up_batches import SIZE, STRIDES, random_batch, raw_maps
from utils.errors import ModelError

CLASSES = 3
NAMES = ("box", "cls")


def criterion(**hyp: object) -> RTMDetCriterion:
    return RTMDetCriterion(STRIDES, CLASSES, hyp)


def maps(images: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Return raw outputs whose boxes mostly have area."""
    raw = raw_maps(images, 4 + CLASSES, dtype=dtype)
    return [(level.detach() * 0.7 + 0.8).requires_grad_() for level in raw]


def grid() -> AnchorPoints:
    return anchor_points([(SIZE // s, SIZE // s) for s in STRIDES], STRIDES)


@pytest.mark.parametrize("part", NAMES)
@pytest.mark.parametrize("kind", ["diou", "giou"])
def test_gradients_match_finite_differences(part: str, kind: str) -> None:
    """The assignment and the soft labels are given: they carry no gradient."""
    loss = criterion(rtmdet_box_loss=kind)
    flat, points, targets = flatten_levels(maps(2, torch.float64)).detach(), grid(), loss.prepare(random_batch(2, 3, 3))
    found = loss.assign(flat, points, targets)
    assert float(found.score.sum()) > 0.5

    def value(x: Tensor) -> Tensor:
        return loss.weigh(x, points, targets, found)[part]

    assert torch.autograd.gradcheck(value, flat.requires_grad_(), atol=1e-6, fast_mode=True)


def test_micro_batches_count_by_their_share_of_the_images() -> None:
    """Each piece divides by its own soft labels, as each process of the published program nearly does."""
    loss, batch, raw = criterion(), random_batch(4, 3, CLASSES), maps(4)
    pieces = [loss.prepare(piece) for piece in batch.cut(2)]
    totals = sum(piece.normalizers for piece in pieces)
    assert totals.tolist() == [4] == loss.prepare(batch).normalizers.tolist()
    for i, piece in enumerate(pieces):
        own = [level[2 * i : 2 * i + 2] for level in raw]
        alone, shared = loss(own, piece), loss(own, piece, totals)
        for name in NAMES:
            assert float(shared[name].detach()) == pytest.approx(float(alone[name].detach()) / 2)


def test_the_order_of_images_and_rows_of_padding_change_nothing() -> None:
    loss, batch, raw = criterion(), random_batch(3, 4, CLASSES), maps(3)
    expected = loss(raw, loss.prepare(batch))
    order = torch.tensor([2, 0, 1])
    turned = random_batch(3, 4, CLASSES)
    turned.boxes = torch.cat((turned.boxes, torch.full((3, 2, 4), 9.0)), 1)[order]
    turned.classes = torch.cat((turned.classes, torch.zeros(3, 2, dtype=torch.int64)), 1)[order]
    turned.valid = torch.cat((turned.valid, torch.zeros(3, 2, dtype=torch.bool)), 1)[order]
    found = loss([level[order] for level in raw], loss.prepare(turned))
    for name in NAMES:
        assert float(found[name].detach()) == pytest.approx(float(expected[name].detach()), rel=1e-5)


def test_gains_weigh_the_parts() -> None:
    targets, raw = criterion().prepare(random_batch(2, 3, CLASSES)), maps(2)
    plain = criterion()(raw, targets)
    heavy = criterion(rtmdet_box=6.0, rtmdet_cls=0.5)(raw, targets)
    assert float(plain["box"].detach()) > 0
    for name, factor in zip(NAMES, (3, 0.5), strict=True):
        assert float(heavy[name].detach()) == pytest.approx(factor * float(plain[name].detach()), rel=1e-6)


@pytest.mark.parametrize("most", [0, 4])
def test_without_objects_only_classes_count_and_every_output_has_a_gradient(most: int) -> None:
    loss, batch, raw = criterion(), random_batch(2, most, CLASSES), maps(2)
    batch.valid[:] = False
    parts = loss(raw, loss.prepare(batch))
    assert parts["box"] == 0
    logits = torch.cat([level[:, 4:].flatten() for level in raw])
    expected = (torch.nn.functional.softplus(logits) * logits.sigmoid() ** 2).sum()
    assert float(parts["cls"].detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    sum(parts.values()).backward()
    assert all(torch.isfinite(level.grad).all() and not level.grad[:, :4].any() for level in raw)


@pytest.mark.parametrize("kind", ["diou", "giou"])
def test_perfect_predictions_have_hardly_any_loss(kind: str) -> None:
    loss, batch, points = criterion(rtmdet_box_loss=kind), random_batch(1, 1, CLASSES), grid()
    batch.boxes[0, 0] = torch.tensor([20.0, 20.0, 44.0, 44.0])
    batch.classes[0, 0] = 2
    rows = torch.full((len(points), 4 + CLASSES), -30.0)
    rows[:, :4] = distances_of_boxes(batch.boxes[0, :1], points.corners, points.strides)
    # Where all boxes are perfect, an object takes thirteen points; this one has eleven inside.
    inside = ((points.corners > 20) & (points.corners < 44)).all(1)
    assert int(inside.sum()) == 11
    rows[inside, 6] = 30.0
    raw = [x.T.reshape(1, -1, SIZE // s, SIZE // s) for x, s in zip(rows.split([64, 16, 4]), STRIDES, strict=True)]
    assert all(abs(float(value)) < 1e-5 for value in loss(raw, loss.prepare(batch)).values())
    found = loss.assignment(raw, batch)
    assert sorted(found.places.tolist()) == sorted(points.corners[inside].tolist())


def test_published_gains_are_the_defaults() -> None:
    raw, batch = maps(2), random_batch(2, 3, CLASSES)
    default, published = criterion(), criterion(**RTMDET_RECIPE)
    ours, expected = default(raw, default.prepare(batch)), published(raw, published.prepare(batch))
    assert all(torch.equal(ours[name], expected[name]) for name in NAMES)


@pytest.mark.parametrize(
    ("hyp", "words"),
    [
        ({"rtmdet_box_loss": "dious"}, "rtmdet_box_loss is 'dious', but must be one of diou, giou. Did you mean"),
        ({"rtmdet_assigner": "simota"}, "rtmdet_assigner is 'simota', but must be one of dynamic_soft_label, task_al"),
    ],
)
def test_wrong_recipes(hyp: dict, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        criterion(**hyp)


@pytest.mark.parametrize("assigner", ["dynamic_soft_label", "task_aligned"])
def test_assigned_places_are_corners_of_cells_and_their_objects_exist(assigner: str) -> None:
    loss, batch, raw = criterion(rtmdet_assigner=assigner), random_batch(3, 4, CLASSES), maps(3)
    found = loss.assignment(raw, batch)
    assert len(found.image) and batch.valid[found.image, found.object].all()
    assert not (found.places % STRIDES[0]).any() and found.places.min() >= 0 and found.places.max() < SIZE
    # Every place lies in some object of its image, or beside one by half a cell at most.
    boxes = batch.boxes[found.image] + torch.tensor([-16.0, -16.0, 0.0, 0.0]) * (assigner == "task_aligned")
    places = found.places[:, None]
    inside = ((places > boxes[..., :2]) & (places < boxes[..., 2:])).all(-1) & batch.valid[found.image]
    assert inside.any(1).all()


def test_other_assigners_give_other_soft_labels() -> None:
    batch, raw = random_batch(2, 3, CLASSES), maps(2)
    ours, aligned = criterion(), criterion(rtmdet_assigner="task_aligned")
    parts = [loss(raw, loss.prepare(batch)) for loss in (ours, aligned)]
    assert float(parts[0]["cls"].detach()) != float(parts[1]["cls"].detach())
    assert all(torch.isfinite(value) for one in parts for value in one.values())


def test_a_positive_point_costs_what_the_formula_says() -> None:
    """One image, one object, one point: every part by hand."""
    loss = RTMDetCriterion([32], 2, {})
    batch = random_batch(1, 1, 2)
    batch.boxes[0, 0] = torch.tensor([-4.0, -4.0, 24.0, 40.0])
    batch.classes[0, 0] = 1
    raw = torch.tensor([0.25, 0.0625, 0.5, 1.0, -0.2, 0.4]).view(1, 6, 1, 1)
    parts = loss([raw], loss.prepare(batch))
    left, top, right, bottom = -8.0, -2.0, 16.0, 32.0
    shared = (16 - -4) * (32 - -2)
    iou = shared / ((right - left) * (bottom - top) + 28 * 44 - shared)
    offset = ((left + right) / 2 - 10) ** 2 + ((top + bottom) / 2 - 18) ** 2
    diou = iou - offset / (32**2 + 44**2)
    focal = lambda x, q: (math.log(1 + math.exp(x)) - x * q) * (q - 1 / (1 + math.exp(-x))) ** 2  # noqa: E731
    assert float(parts["box"]) == pytest.approx(2 * iou * (1 - diou), rel=1e-5)
    assert float(parts["cls"]) == pytest.approx(focal(-0.2, 0) + focal(0.4, iou), rel=1e-5)
    giou = RTMDetCriterion([32], 2, {"rtmdet_box_loss": "giou"})
    hull, union = 32 * 44, (right - left) * (bottom - top) + 28 * 44 - shared
    expected = 2 * iou * (1 - (iou - (hull - union) / hull))
    assert float(giou([raw], giou.prepare(batch))["box"]) == pytest.approx(expected, rel=1e-5)
