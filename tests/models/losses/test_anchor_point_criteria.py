"""What holds for the losses of all heads without anchors: cutting, padding, precision, edges, no waiting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from models.heads.base import Head
from models.heads.rtmdet import RTMDetHead
from models.heads.yolov6 import YOLOv6Head
from models.heads.yolov8 import YOLOv8Head
from models.heads.yolox import YOLOXDetect
from models.losses.anchor_point_criterion import AnchorPointCriterion
from models.losses.rtmdet import RTMDetCriterion
from models.losses.yolov6 import YOLOv6Criterion
from models.losses.yolov8 import YOLOv8Criterion
from models.losses.yolox import YOLOXCriterion
from tests.models.losses.made_up_batches import SIZE, STRIDES, numbers, random_batch, raw_maps

CLASSES, BINS = 3, 16


def yolox_iou() -> tuple[AnchorPointCriterion, int]:
    loss = YOLOXCriterion(STRIDES, CLASSES, {"close_mosaic": 1})
    loss.start_epoch(0, 1)  # L1 counts
    return loss, 5 + CLASSES


def yolox_giou() -> tuple[AnchorPointCriterion, int]:
    return YOLOXCriterion(STRIDES, CLASSES, {"yolox_box_loss": "giou", "simota": "mm"}), 5 + CLASSES


def rtmdet_diou() -> tuple[AnchorPointCriterion, int]:
    return RTMDetCriterion(STRIDES, CLASSES, {}), 4 + CLASSES


def rtmdet_giou() -> tuple[AnchorPointCriterion, int]:
    return RTMDetCriterion(STRIDES, CLASSES, {"rtmdet_box_loss": "giou"}), 4 + CLASSES


def rtmdet_aligned() -> tuple[AnchorPointCriterion, int]:
    return RTMDetCriterion(STRIDES, CLASSES, {"rtmdet_assigner": "task_aligned"}), 4 + CLASSES


def yolov8() -> tuple[AnchorPointCriterion, int]:
    return YOLOv8Criterion(STRIDES, CLASSES, BINS, {}), 4 * BINS + CLASSES


def yolov6_first() -> tuple[AnchorPointCriterion, int]:
    return YOLOv6Criterion(STRIDES, CLASSES, {}), 4 + CLASSES


def yolov6_later() -> tuple[AnchorPointCriterion, int]:
    loss = YOLOv6Criterion(STRIDES, CLASSES, {"yolov6_box_loss": "giou"})
    loss.start_epoch(4, 10)
    return loss, 4 + CLASSES


Family = Callable[[], tuple[AnchorPointCriterion, int]]
OF_DISTANCES = [rtmdet_diou, rtmdet_giou, rtmdet_aligned, yolov8, yolov6_first, yolov6_later]
of_distances = pytest.mark.parametrize("family", OF_DISTANCES)
every_family = pytest.mark.parametrize("family", [yolox_iou, yolox_giou, *OF_DISTANCES])


def maps(images: int, channels: int, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """Return raw maps whose distances are mostly above 0."""
    raw = [level.detach() for level in raw_maps(images, channels, dtype=dtype)]
    if channels == 4 + CLASSES:
        for level in raw:
            level[:, :4] += 1.5
    return [level.requires_grad_() for level in raw]


@every_family
def test_micro_batches_count_by_their_share_of_the_images(family: Family) -> None:
    """Each piece divides by its own scores, as each process of the published program does."""
    loss, channels = family()
    batch, raw = random_batch(4, 3, CLASSES), maps(4, channels)
    pieces = [loss.prepare(piece) for piece in batch.cut(2)]
    totals = sum(piece.normalizers for piece in pieces)
    assert totals.tolist() == [4] == loss.prepare(batch).normalizers.tolist()
    for i, piece in enumerate(pieces):
        own = [level[2 * i : 2 * i + 2] for level in raw]
        alone, shared = numbers(loss(own, piece)), numbers(loss(own, piece, totals))
        assert all(value > 0 for name, value in alone.items() if name not in loss.resting)
        assert shared == pytest.approx({name: value / 2 for name, value in alone.items()})


@every_family
def test_the_order_of_images_and_rows_of_padding_change_nothing(family: Family) -> None:
    loss, channels = family()
    batch, raw = random_batch(3, 4, CLASSES), maps(3, channels)
    expected = numbers(loss(raw, loss.prepare(batch)))
    order = torch.tensor([2, 0, 1])
    turned = random_batch(3, 4, CLASSES)
    turned.boxes = torch.cat((turned.boxes, torch.full((3, 2, 4), 9.0)), 1)[order]
    turned.classes = torch.cat((turned.classes, torch.zeros(3, 2, dtype=torch.int64)), 1)[order]
    turned.valid = torch.cat((turned.valid, torch.zeros(3, 2, dtype=torch.bool)), 1)[order]
    found = numbers(loss([level[order] for level in raw], loss.prepare(turned)))
    assert found == pytest.approx(expected, rel=1e-5)


@of_distances
@pytest.mark.parametrize("most", [0, 4])
def test_without_objects_only_classes_count_and_every_output_has_a_gradient(family: Family, most: int) -> None:
    loss, channels = family()
    batch, raw = random_batch(2, most, CLASSES), maps(2, channels)
    batch.valid[:] = False
    parts = loss(raw, loss.prepare(batch))
    assert parts["cls"] > 0 and all(value == 0 for name, value in parts.items() if name != "cls")
    sum(parts.values()).backward()
    assert all(level.grad is not None and torch.isfinite(level.grad).all() for level in raw)
    assert not any(level.grad[:, :-CLASSES].any() for level in raw)


@every_family
def test_without_images(family: Family) -> None:
    loss, channels = family()
    targets, raw = loss.prepare(random_batch(2, 3, CLASSES).without_samples()), maps(0, channels)
    parts = loss(raw, targets, torch.tensor([8.0]))
    assert targets.normalizers.tolist() == [0] and all(value == 0 for value in parts.values())
    sum(parts.values()).backward()


@every_family
@pytest.mark.parametrize("value", [-200.0, -1.0, 0.0, 200.0])
def test_extreme_outputs_give_finite_losses_and_gradients(family: Family, value: float) -> None:
    loss, channels = family()
    raw = [torch.full_like(level, value).requires_grad_() for level in maps(2, channels)]
    total = sum(loss(raw, loss.prepare(random_batch(2, 4, CLASSES))).values())
    total.backward()
    assert torch.isfinite(total) and all(torch.isfinite(level.grad).all() for level in raw)


@of_distances
def test_boxes_at_points_that_are_not_positive_have_no_say(family: Family) -> None:
    """Slots that are not used point to the first cells, or to a level's nearest that are not near enough."""
    loss, channels = family()
    batch = random_batch(1, 1, CLASSES)
    batch.boxes[0, 0] = torch.tensor([34.0, 33.0, 51.0, 50.0])
    raw = [level.detach() for level in maps(1, channels)]
    expected = numbers(loss(raw, loss.prepare(batch)))
    for level in (raw[0], raw[2]):
        level[:, :-CLASSES, 0] = torch.inf
        level.requires_grad_()
    parts = loss(raw, loss.prepare(batch))
    assert numbers(parts) == pytest.approx(expected, rel=1e-6) and expected["box"] > 0
    sum(parts.values()).backward()
    assert torch.isfinite(raw[0].grad).all() and torch.isfinite(raw[2].grad).all()


@every_family
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_outputs_give_float32_losses(family: Family, dtype: torch.dtype) -> None:
    loss, channels = family()
    targets = loss.prepare(random_batch(2, 4, CLASSES))
    raw = [level.detach().to(dtype).requires_grad_() for level in maps(2, channels)]
    with torch.autocast("cpu", torch.bfloat16):
        parts = loss(raw, targets)
    wide = loss([level.detach().float() for level in raw], targets)
    assert {part.dtype for part in parts.values()} == {torch.float32}
    assert numbers(parts) == pytest.approx(numbers(wide), rel=1e-5)


@every_family
def test_five_hundred_objects_and_pyramids_with_hardly_any_points(family: Family) -> None:
    loss, channels = family()
    raw = [level[..., :1, : 3 - i].detach().requires_grad_() for i, level in enumerate(maps(1, channels))]
    batch = random_batch(1, 500, CLASSES)
    parts = loss(raw, loss.prepare(batch))
    sum(parts.values()).backward()
    assert all(torch.isfinite(level.grad).all() for level in raw)
    assert len(loss.assignment(raw, batch).object) <= 6


HEADS: dict[str, tuple[Callable[[], Head], dict[str, Any], int]] = {
    "yolox": (lambda: YOLOXDetect([8, 8, 8], CLASSES, 8), {"close_mosaic": 6}, 4),
    "rtmdet": (lambda: RTMDetHead([8, 8, 8], CLASSES), {}, 0),
    "rtmdet aligned": (lambda: RTMDetHead([8, 8, 8], CLASSES), {"rtmdet_assigner": "task_aligned"}, 0),
    "yolov8": (lambda: YOLOv8Head([8, 8, 8], CLASSES, BINS), {}, 0),
    "yolov6 first": (lambda: YOLOv6Head([8, 8, 8], CLASSES), {}, 0),
    "yolov6 later": (lambda: YOLOv6Head([8, 8, 8], CLASSES), {}, 4),
}
"""A head, its recipe, and the epoch of ten in which its loss is asked."""


def head_and_loss(name: str) -> tuple[Head, AnchorPointCriterion]:
    make, hyp, epoch = HEADS[name]
    head = make()
    head.set_strides(STRIDES)
    loss = head.criterion(hyp)
    loss.start_epoch(epoch, 10)
    return head, loss


@pytest.mark.parametrize("name", HEADS)
def test_a_step_asks_the_device_for_nothing(name: str) -> None:
    head, loss = head_and_loss(name)
    targets = loss.prepare(random_batch(2, 4, CLASSES))
    assert targets.normalizers.device.type == "cpu"
    head.to("meta")
    features = [torch.zeros(2, 8, SIZE // s, SIZE // s, device="meta") for s in STRIDES]
    parts = loss.to("meta")(head(features), targets.to(torch.device("meta")), torch.tensor([8.0]))
    assert tuple(parts) == head.loss_names and {part.device.type for part in parts.values()} == {"meta"}
    sum(parts.values()).backward()
    assert all(p.grad is not None for p in head.parameters())


@pytest.mark.parametrize("name", HEADS)
def test_every_parameter_of_the_head_has_a_gradient_without_objects(name: str) -> None:
    head, loss = head_and_loss(name)
    batch = random_batch(2, 2, CLASSES)
    batch.valid[:] = False
    parts = loss(head([torch.rand(2, 8, SIZE // s, SIZE // s) for s in STRIDES]), loss.prepare(batch))
    sum(parts.values()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in head.parameters())
