"""Losses: gradients against finite differences, nominal batches cut into pieces, and inputs at the edge."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from data.samples import Batch
from models.losses.anchor_detection import AnchorDetectionCriterion
from models.losses.focal import binary_cross_entropy
from models.losses.iou import paired_iou
from models.losses.segmentation import hardest_pixels, pixel_cross_entropy, pixel_focal, rare_probability_pixels
from models.losses.segmentation_criterion import SegmentationCriterion
from utils.errors import ModelError

STRIDES = [8, 16, 32]
ANCHORS = torch.tensor([[[1.25, 1.6], [2.0, 3.75]], [[1.9, 3.8], [3.9, 2.8]], [[3.6, 2.8], [4.9, 6.2]]])
HYP = {"box": 0.05, "obj": 1.0, "cls": 0.5}
SIZE = 64


def random_batch(images: int, most: int, classes: int, seed: int = 0) -> Batch:
    """Return images with 0 to ``most`` objects each and masks with ignored pixels."""
    g = torch.Generator().manual_seed(seed)
    centre = torch.rand(images, most, 2, generator=g) * SIZE
    half = torch.rand(images, most, 2, generator=g) * 20 + 2
    masks = torch.randint(0, classes + 1, (images, SIZE, SIZE), generator=g)
    return Batch(
        images=torch.zeros(images, 3, SIZE, SIZE, dtype=torch.uint8),
        boxes=torch.cat((centre - half, centre + half), -1),
        classes=torch.randint(0, classes, (images, most), generator=g),
        valid=torch.rand(images, most, generator=g) < 0.6,
        masks=masks.where(masks < classes, 255).to(torch.uint8),
    )


def part(batch: Batch, start: int, stop: int) -> Batch:
    """Return some images of a batch."""
    return Batch(
        *(value[start:stop] for value in (batch.images, batch.boxes, batch.classes, batch.valid)),
        masks=batch.masks[start:stop],
    )


def raw_maps(images: int, classes: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Return raw outputs of the three levels."""
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(images, 2, SIZE // s, SIZE // s, 5 + classes, generator=g, dtype=dtype) for s in STRIDES]


def criterion(classes: int, **hyp: float) -> AnchorDetectionCriterion:
    """Return the detection loss."""
    return AnchorDetectionCriterion(ANCHORS, STRIDES, classes, {**HYP, **hyp})


@pytest.mark.parametrize("kind", ["iou", "giou", "diou"])
def test_iou_gradients_match_finite_differences(kind: str) -> None:
    g = torch.Generator().manual_seed(3)
    boxes = torch.rand(12, 4, generator=g, dtype=torch.float64) * 3 + 1
    others = boxes + torch.rand(12, 4, generator=g, dtype=torch.float64) * 0.8
    assert torch.autograd.gradcheck(lambda b: paired_iou(b, others, kind), boxes.requires_grad_())


def test_ciou_gradient_matches_finite_differences_with_its_weight_held() -> None:
    """The weight alpha of the aspect term carries no gradient, so the differences hold it at its value."""
    g = torch.Generator().manual_seed(3)
    boxes = torch.rand(12, 4, generator=g, dtype=torch.float64) * 3 + 1
    others = boxes + torch.rand(12, 4, generator=g, dtype=torch.float64) * 0.8
    aspect = _aspect(boxes, others)
    alpha = aspect / (aspect - paired_iou(boxes, others, "iou") + 1 + 1e-7)

    def held(b: Tensor) -> Tensor:
        return paired_iou(b, others, "diou") - alpha * _aspect(b, others)

    assert torch.allclose(paired_iou(boxes, others, "ciou"), held(boxes))
    leaf = boxes.clone().requires_grad_()
    paired_iou(leaf, others, "ciou").sum().backward()
    step = 1e-6
    for column in range(4):
        move = torch.zeros(4, dtype=torch.float64)
        move[column] = step
        numeric = (held(boxes + move) - held(boxes - move)) / (2 * step)
        assert torch.allclose(leaf.grad[:, column], numeric, atol=1e-6)


def _aspect(boxes: Tensor, others: Tensor) -> Tensor:
    eps = 1e-7
    angles = [torch.atan(b[:, 2] / (b[:, 3] + eps)) for b in (boxes, others)]
    return 4 / math.pi**2 * (angles[1] - angles[0]) ** 2


coordinate = st.floats(-50, 50, width=32)
length = st.floats(0.125, 60, width=32)
box = st.tuples(coordinate, coordinate, length, length)


@settings(max_examples=100, deadline=None)
@given(box, box)
def test_kinds_of_iou_are_ordered_and_bounded(first: tuple[float, ...], second: tuple[float, ...]) -> None:
    a, b = torch.tensor([first], dtype=torch.float64), torch.tensor([second], dtype=torch.float64)
    iou, giou, diou, ciou = (float(paired_iou(a, b, kind)) for kind in ("iou", "giou", "diou", "ciou"))
    assert 0 <= iou <= 1 + 1e-6
    assert -1 <= giou <= iou + 1e-4 and -1 <= diou <= iou + 1e-4 and ciou <= diou + 1e-4
    assert iou == pytest.approx(float(paired_iou(b, a, "iou")), abs=1e-6)
    assert float(paired_iou(a, a, "ciou")) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("hyp", [{}, {"fl_gamma": 1.5}, {"cls_pw": 0.6, "obj_pw": 0.9}, {"label_smoothing": 0.1}])
def test_cross_entropy_gradient_matches_finite_differences(hyp: dict[str, float]) -> None:
    logits = torch.randn(20, dtype=torch.float64, requires_grad=True)
    smooth = hyp.get("label_smoothing", 0.0)
    goal = (torch.rand(20) < 0.5).double() * (1 - smooth) + smooth / 2
    loss = lambda x: binary_cross_entropy(x, goal, hyp.get("cls_pw", 1.0), hyp.get("fl_gamma", 0.0))  # noqa: E731
    assert torch.autograd.gradcheck(loss, logits)


def test_focal_by_its_formula() -> None:
    logits, goal = torch.tensor([2.0, -1.0]), torch.tensor([1.0, 0.0])
    p = torch.sigmoid(logits)
    expected = torch.stack((0.25 * (1 - p[0]) ** 1.5 * -p[0].log(), 0.75 * p[1] ** 1.5 * -(1 - p[1]).log()))
    assert torch.allclose(binary_cross_entropy(logits, goal, gamma=1.5), expected)


@pytest.mark.parametrize("hyp", [{}, {"fl_gamma": 1.5}, {"label_smoothing": 0.1, "cls_pw": 0.6}])
def test_detection_gradient_matches_finite_differences(hyp: dict[str, float]) -> None:
    loss = criterion(3, **hyp)
    targets = loss.prepare(random_batch(2, 4, 3))
    leaves = [level.requires_grad_() for level in raw_maps(2, 3, dtype=torch.float64)]
    # Box and class parts alone: the goal of objectness moves with the box and carries no gradient.
    parts = loss(leaves, targets)
    (parts["box"] + parts["cls"]).backward()
    found = targets.levels[0]
    i = 0
    place = (found.image[i], found.anchor[i], found.row[i], found.column[i])
    step = 1e-2
    for channel in (0, 1, 5, 6):
        values = []
        for sign in (1, -1):
            moved = [level.detach().clone() for level in leaves]
            moved[0][(*place, channel)] += sign * step
            parts = loss(moved, targets)
            values.append(float(parts["box"] + parts["cls"]))
        numeric = (values[0] - values[1]) / (2 * step)
        assert float(leaves[0].grad[(*place, channel)]) == pytest.approx(numeric, abs=2e-5, rel=2e-2)


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("size", [1, 4])
def test_micro_batches_of_detection_add_up_to_the_nominal_batch(classes: int, size: int) -> None:
    batch, raw = random_batch(16, 5, classes), [level.requires_grad_() for level in raw_maps(16, classes)]
    loss = criterion(classes, fl_gamma=1.0, label_smoothing=0.1)
    whole = loss(raw, loss.prepare(batch))
    sum(whole.values()).backward()
    gradients = [level.grad.clone() for level in raw]
    pieces = [loss.prepare(part(batch, i, i + size)) for i in range(0, 16, size)]
    totals = torch.stack([piece.normalizers for piece in pieces]).sum(0)
    assert torch.equal(totals, loss.prepare(batch).normalizers)
    for level in raw:
        level.grad = None
    summed = dict.fromkeys(whole, 0.0)
    for i, piece in enumerate(pieces):
        parts = loss([level[i * size : (i + 1) * size] for level in raw], piece, totals)
        sum(parts.values()).backward()
        summed = {name: summed[name] + float(value.detach()) for name, value in parts.items()}
    for name, value in whole.items():
        assert summed[name] == pytest.approx(float(value.detach()), rel=1e-5, abs=1e-8)
    for level, gradient in zip(raw, gradients, strict=True):
        assert torch.allclose(level.grad, gradient, atol=1e-7)


@pytest.mark.parametrize("hyp", [{}, {"seg_loss": "focal"}, {"seg_class_weights": [1.0, 2.0, 0.5]}])
def test_micro_batches_of_masks_add_up_to_the_nominal_batch(hyp: dict) -> None:
    batch = random_batch(16, 0, 3)
    raw = [torch.randn(16, 3, 8, 8, requires_grad=True), torch.randn(16, 3, 4, 4, requires_grad=True)]
    loss = SegmentationCriterion(3, hyp)
    whole = loss(raw, loss.prepare(batch))["seg"]
    whole.backward()
    gradients = [x.grad.clone() for x in raw]
    pieces = [loss.prepare(part(batch, i, i + 4)) for i in range(0, 16, 4)]
    totals = torch.stack([piece.normalizers for piece in pieces]).sum(0)
    for x in raw:
        x.grad = None
    summed = 0.0
    for i, piece in enumerate(pieces):
        value = loss([x[4 * i : 4 * i + 4] for x in raw], piece, totals)["seg"]
        value.backward()
        summed += float(value.detach())
    assert summed == pytest.approx(float(whole.detach()), rel=1e-5)
    for x, gradient in zip(raw, gradients, strict=True):
        assert torch.allclose(x.grad, gradient, atol=1e-8)


def test_a_batch_without_objects_has_only_objectness() -> None:
    loss = criterion(3)
    batch = random_batch(2, 4, 3)
    batch.valid[:] = False
    leaves = [level.requires_grad_() for level in raw_maps(2, 3)]
    parts = loss(leaves, loss.prepare(batch))
    assert parts["box"] == 0 and parts["cls"] == 0 and parts["obj"] > 0
    sum(parts.values()).backward()
    assert all(torch.isfinite(level.grad).all() for level in leaves)
    empty = random_batch(2, 0, 3)
    assert float(loss(leaves, loss.prepare(empty))["obj"].detach()) == float(parts["obj"].detach())


def test_one_class_has_no_class_loss() -> None:
    loss = criterion(1)
    assert loss(raw_maps(2, 1), loss.prepare(random_batch(2, 4, 1)))["cls"] == 0


@pytest.mark.parametrize("value", [-100.0, 0.0, 100.0])
@pytest.mark.parametrize("gamma", [0.0, 1.5])
def test_extreme_outputs_give_finite_losses_and_gradients(value: float, gamma: float) -> None:
    loss = criterion(3, fl_gamma=gamma)
    leaves = [torch.full_like(level, value).requires_grad_() for level in raw_maps(2, 3)]
    total = sum(loss(leaves, loss.prepare(random_batch(2, 4, 3))).values())
    total.backward()
    assert torch.isfinite(total) and all(torch.isfinite(level.grad).all() for level in leaves)


def test_objects_on_the_border_and_as_large_as_the_image() -> None:
    batch = random_batch(1, 4, 3)
    batch.boxes[0] = torch.tensor(
        [[-10.0, -10.0, 10.0, 10.0], [54.0, 54.0, 74.0, 74.0], [0.0, 0.0, 64.0, 64.0], [64.0, 64.0, 64.0, 64.0]]
    )
    batch.valid[:] = True
    loss = criterion(3)
    parts = loss(raw_maps(1, 3), loss.prepare(batch))
    assert all(torch.isfinite(value) for value in parts.values()) and parts["box"] > 0


def test_a_perfect_prediction_has_hardly_any_loss() -> None:
    loss = AnchorDetectionCriterion(ANCHORS, STRIDES, 3, {"box": 1.0, "obj": 1.0, "cls": 1.0})
    batch = random_batch(1, 1, 3)
    batch.boxes[0, 0] = torch.tensor([20.0, 20.0, 44.0, 44.0])
    batch.classes[0, 0], batch.valid[:] = 2, True
    targets = loss.prepare(batch)
    raw = [torch.full_like(level, -12.0) for level in raw_maps(1, 3)]
    for level, matches in zip(raw, targets.levels, strict=True):
        place = (matches.image, matches.anchor, matches.row, matches.column)
        goal = torch.full((len(matches), 8), -12.0)
        goal[:, :2] = torch.logit((matches.boxes[:, :2] + 0.5) / 2)
        goal[:, 2:4] = torch.logit((matches.boxes[:, 2:] / matches.anchors).sqrt() / 2)
        goal[:, 4], goal[:, 7] = 12.0, 12.0
        level[place] = goal
    parts = loss(raw, targets)
    assert sum(len(level) for level in targets.levels) > 0
    assert all(float(value) < 1e-3 for value in parts.values())


def test_half_precision_outputs_give_float32_losses() -> None:
    loss = criterion(3)
    parts = loss([level.bfloat16() for level in raw_maps(2, 3)], loss.prepare(random_batch(2, 4, 3)))
    assert {value.dtype for value in parts.values()} == {torch.float32}


def test_autobalance_moves_only_in_training() -> None:
    batch, raw = random_batch(2, 4, 3), raw_maps(2, 3)
    loss = criterion(3, autobalance=True)
    start = loss.balance.clone()
    loss.eval()(raw, loss.prepare(batch))
    assert torch.equal(loss.balance, start)
    loss.train()(raw, loss.prepare(batch))
    assert loss.balance[1] == 1 and not torch.equal(loss.balance, start)
    assert "balance" in loss.state_dict()


def test_pixel_losses_ignore_255() -> None:
    logits, goal = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    goal[0] = 255
    for summed, count in (
        pixel_cross_entropy(logits, goal, 255),
        pixel_focal(logits, goal, 255, 2.0),
        hardest_pixels(logits, goal, 255, 1.0 - 1e-9),
        rare_probability_pixels(logits, goal, 255, 1.0),
    ):
        assert count == 16
        assert float(summed) <= float(pixel_cross_entropy(logits[1:], goal[1:], 255)[0]) + 1e-4


def test_focal_of_pixels_by_its_formula_and_gradient() -> None:
    logits, goal = torch.randn(1, 3, 2, 2, dtype=torch.float64), torch.tensor([[[0, 1], [2, 255]]])
    p = logits.softmax(1)[0, [0, 1, 2], [0, 0, 1], [0, 1, 0]]
    summed, count = pixel_focal(logits, goal, 255, 2.0)
    assert count == 3 and float(summed) == pytest.approx(float((-((1 - p) ** 2) * p.log()).sum()))
    assert torch.autograd.gradcheck(lambda x: pixel_focal(x, goal, 255, 2.0)[0], logits.requires_grad_())


def test_hardest_pixels_keep_at_least_a_sixteenth() -> None:
    goal = torch.zeros(1, 8, 8, dtype=torch.int64)
    logits = torch.zeros(1, 2, 8, 8)
    logits[:, 0] = 20.0
    assert hardest_pixels(logits, goal, 255, 0.7)[1] == 4
    logits[0, 0, :3] = -20.0
    assert hardest_pixels(logits, goal, 255, 0.7)[1] == 24


@pytest.mark.parametrize("kind", ["cross_entropy", "ohem", "focal"])
def test_a_mask_without_labels_gives_zero_and_no_nan(kind: str) -> None:
    batch = random_batch(2, 0, 3)
    batch.masks[:] = 255
    loss = SegmentationCriterion(3, {"seg_loss": kind})
    raw = [torch.randn(2, 3, 8, 8, requires_grad=True)]
    value = loss(raw, loss.prepare(batch))["seg"]
    value.backward()
    assert value == 0 and raw[0].grad.abs().max() == 0


@pytest.mark.parametrize(
    ("hyp", "words"),
    [
        ({"seg_loss": "ohm"}, "Did you mean 'ohem'"),
        ({"seg_class_weights": [1.0]}, "has 1 values, but the head has 3 classes"),
        ({"seg_class_weights": [1.0, "much", 1.0]}, "seg_class_weights must be a list of numbers"),
        ({"seg_class_weights": [1.0, 1.0, 2.0], "seg_loss": "focal"}, "needs seg_loss cross_entropy, not focal"),
        ({"seg_aux": None}, "seg_aux must be a list of numbers"),
        ({"seg_ohem_threshold": 0.0}, "seg_ohem_threshold must be above 0"),
    ],
)
def test_wrong_recipes(hyp: dict, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        SegmentationCriterion(3, hyp)


def test_too_few_weights_for_the_auxiliary_outputs() -> None:
    loss, batch = SegmentationCriterion(3, {"seg_aux": [0.15]}), random_batch(2, 0, 3)
    with pytest.raises(ModelError, match="seg_aux has 1 values, but the head has 2 auxiliary outputs"):
        loss([torch.randn(2, 3, 8, 8)] * 3, loss.prepare(batch))


def test_auxiliary_outputs_weigh_by_the_recipe() -> None:
    batch = random_batch(2, 0, 3)
    raw = [torch.randn(2, 3, s, s) for s in (8, 8, 4)]
    alone = [float(SegmentationCriterion(3, {})([x], SegmentationCriterion(3, {}).prepare(batch))["seg"]) for x in raw]
    loss = SegmentationCriterion(3, {"seg_aux": [0.3, 0.2]})
    expected = alone[0] + 0.3 * alone[1] + 0.2 * alone[2]
    assert float(loss(raw, loss.prepare(batch))["seg"]) == pytest.approx(expected, rel=1e-6)
