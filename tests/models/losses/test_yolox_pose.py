"""The loss of YOLOX-Pose: gradients against finite differences, keypoints that nobody sees, and any number of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from data.keypoints import COCO_PERSON, generic_keypoints
from models.anchor_points import anchor_points, flatten_levels
from models.heads.yolox_pose import YOLOXPose
from models.losses.yolox import YOLOXCriterion
from models.losses.yolox_pose import YOLOX_POSE_RECIPE, YOLOXPoseCriterion
from tests.models.losses.made_up_batches import SIZE, STRIDES, random_batch, raw_maps
from utils.errors import ModelError

K = 4
CHANNELS = 5 + 1 + 3 * K
NAMES = ("box", "obj", "cls", "l1", "kpt", "vis")


def criterion(**hyp: object) -> YOLOXPoseCriterion:
    loss = YOLOXPoseCriterion(STRIDES, 1, generic_keypoints(K), {**hyp, "close_mosaic": 1})
    loss.start_epoch(0, 1)
    return loss


@pytest.mark.parametrize("part", ["box", "kpt", "vis", "l1"])
@pytest.mark.parametrize("hyp", [{}, {"pose_oks_form": "area"}], ids=["diagonal", "area"])
def test_gradients_match_finite_differences(part: str, hyp: dict) -> None:
    """The assignment is given: it carries no gradient."""
    loss, batch = criterion(**hyp), random_batch(2, 3, 1, K)
    flat = flatten_levels(raw_maps(2, CHANNELS, dtype=torch.float64)).detach()
    points = anchor_points([(SIZE // s, SIZE // s) for s in STRIDES], STRIDES)
    targets = loss.prepare(batch)
    found = loss.assign(flat, points, targets)

    def value(x: Tensor) -> Tensor:
        return loss._parts(x, loss.positives(x, points, targets, found), targets)[part]

    assert torch.autograd.gradcheck(value, flat.requires_grad_(), atol=1e-6, fast_mode=True)


def test_class_gradient_is_that_of_a_target_that_does_not_move() -> None:
    loss, batch = criterion(), random_batch(2, 3, 1, K)
    raw = raw_maps(2, CHANNELS)
    flat, targets = flatten_levels(raw), loss.prepare(batch)
    points = anchor_points([(SIZE // s, SIZE // s) for s in STRIDES], STRIDES)
    positives = loss.positives(flat, points, targets, loss.assign(flat, points, targets))
    similarity = loss.similarity(positives, targets)[0].detach()
    loss(raw, targets)["cls"].backward()
    logits = positives.values[..., 5].detach()
    expected = (logits.sigmoid() - similarity.sqrt()) * positives.weight / positives.count
    found = torch.cat([level.grad[:, 5].flatten(1) for level in raw], 1)
    assert float(found.sum()) == pytest.approx(float(expected.sum()), rel=1e-4)
    assert all(not level.grad[:, 6:].any() for level in raw)


def test_parts_by_hand() -> None:
    """One image, one object, one point."""
    spec = generic_keypoints(2)
    loss = YOLOXPoseCriterion([32], 1, spec, {})
    batch = random_batch(1, 1, 1, 2)
    batch.boxes[0, 0] = torch.tensor([8.0, 8.0, 24.0, 40.0])
    batch.keypoints[0, 0] = torch.tensor([[16.0, 24.0, 2.0], [5.0, 5.0, 0.0]])
    raw = torch.tensor([0.5, 0.75, -0.5, 0.25, 0.3, -0.2, 0.6, 0.75, 9.0, 9.0, 0.7, -0.4]).view(1, 12, 1, 1)
    parts = {name: float(value) for name, value in loss([raw], loss.prepare(batch)).items()}
    # The visible keypoint is predicted at (19.2, 24), 3.2 px beside its place.
    oks = float(torch.tensor(-(3.2**2) / (2 * 0.5**2 * (16**2 + 32**2))).exp())
    entropy = lambda x, t: float(torch.tensor(x).exp().log1p()) - x * t  # noqa: E731
    assert parts["kpt"] == pytest.approx(30 * (1 - oks), rel=1e-4)
    assert parts["vis"] == pytest.approx(entropy(0.7, 1) + entropy(-0.4, 0), rel=1e-5)
    assert parts["cls"] == pytest.approx(entropy(-0.2, oks**0.5), rel=1e-5)
    further = YOLOXPoseCriterion([32], 1, spec, {"pose_l1": 10.0})([raw], loss.prepare(batch))
    assert float(further["kpt"]) - parts["kpt"] == pytest.approx(10 * 3.2 / (16**2 + 32**2) ** 0.5, rel=1e-4)


def test_distance_reaches_keypoints_that_similarity_does_not_feel() -> None:
    batch = random_batch(1, 1, 1, K)
    batch.valid[:], batch.keypoints[..., 2] = True, 2
    batch.boxes[0, 0] = torch.tensor([16.0, 16.0, 48.0, 48.0])
    batch.keypoints[..., :2] = 40.0
    slopes = []
    for gain in (0.0, 30.0):
        raw = [torch.zeros_like(level) for level in raw_maps(1, CHANNELS)]
        for level in raw:
            level[:, 6 : 6 + 2 * K] = 1e3
            level.requires_grad_()
        loss = criterion(pose_l1=gain)
        loss(raw, loss.prepare(batch))["kpt"].backward()
        slopes.append(sum(float(level.grad[:, 6 : 6 + 2 * K].abs().sum()) for level in raw))
    assert slopes[0] == 0 and slopes[1] > 0


@pytest.mark.parametrize("form", ["diagonal", "area"])
def test_objects_without_a_visible_keypoint_give_numbers(form: str) -> None:
    loss, batch = criterion(pose_oks_form=form, pose_vis_cost=1.0), random_batch(2, 3, 1, K)
    batch.keypoints[..., 2] = 0
    batch.boxes[0, 0, 2:] = batch.boxes[0, 0, :2]
    raw = raw_maps(2, CHANNELS)
    parts = loss(raw, loss.prepare(batch))
    sum(parts.values()).backward()
    assert all(torch.isfinite(value) for value in parts.values())
    assert all(torch.isfinite(level.grad).all() for level in raw)
    assert float(parts["kpt"].detach()) == pytest.approx(30)


def test_keypoints_decide_between_boxes_that_overlap_alike() -> None:
    loss, batch = criterion(), random_batch(1, 2, 1, K)
    batch.valid[:] = True
    batch.boxes[:] = torch.tensor([16.0, 16.0, 48.0, 48.0])
    batch.keypoints[0, 0, :, :2], batch.keypoints[0, 1, :, :2] = 20.0, 44.0
    batch.keypoints[..., 2] = 2
    raw = [torch.zeros_like(level) for level in raw_maps(1, CHANNELS)]
    for level, stride in zip(raw, STRIDES, strict=True):
        cell = torch.arange(SIZE // stride) * 1.0
        goal = torch.where(cell < len(cell) // 2, 20.0 / stride, 44.0 / stride)
        level[0, 0], level[0, 1] = 32 / stride - cell, (32 / stride - cell)[:, None]
        level[0, 2:4] = torch.tensor(32 / stride).log()
        # The left half of the points sees the keypoints of the first object, the right half those of the second.
        level[0, 6 : 6 + 2 * K : 2] = goal - cell
        level[0, 7 : 6 + 2 * K : 2] = goal - cell[:, None]
    found = loss.assignment(raw, batch)
    assert len(found.object) and torch.equal(found.object, (found.places[:, 0] > 32).long())
    blind = YOLOXPoseCriterion(STRIDES, 1, generic_keypoints(K), {"pose_oks_cost": 0.0}).assignment(raw, batch)
    assert not blind.object.any()


def test_visibility_may_have_a_say_in_the_assignment() -> None:
    batch, raw = random_batch(2, 4, 1, K), raw_maps(2, CHANNELS)
    batch.keypoints[..., 2] = (torch.arange(4)[:, None] >= torch.arange(K)).float() * 2
    without, much = criterion().assignment(raw, batch), criterion(pose_vis_cost=50.0).assignment(raw, batch)
    assert without.places.tolist() != much.places.tolist()


def test_boxes_are_weighed_as_without_keypoints() -> None:
    """With keypoints without weight, the mm rule and the overlap as class target remain."""
    batch, raw = random_batch(2, 3, 1, K), raw_maps(2, CHANNELS)
    ours = criterion(pose_oks_cost=0.0)
    plain = YOLOXCriterion(STRIDES, 1, {"simota": "mm", "close_mosaic": 1})
    plain.start_epoch(0, 1)
    found, expected = ours(raw, ours.prepare(batch)), plain(raw, plain.prepare(batch))
    for name in ("box", "obj", "l1"):
        assert float(found[name].detach()) == pytest.approx(float(expected[name].detach()), rel=1e-6)


def test_the_first_rule_of_the_boxes_does_not_reach_poses() -> None:
    assert YOLOX_POSE_RECIPE["pose_simota"] == "mm" and "simota" not in YOLOX_POSE_RECIPE
    loss = YOLOXPoseCriterion(STRIDES, 1, COCO_PERSON, {"simota": "official"})
    assert loss.rule.region.radius == 2.5


@pytest.mark.parametrize("most", [0, 3])
def test_without_objects_every_output_has_a_gradient(most: int) -> None:
    loss, batch, raw = criterion(), random_batch(2, most, 1, K), raw_maps(2, CHANNELS)
    batch.valid[:] = False
    parts = loss(raw, loss.prepare(batch))
    assert all(parts[name] == 0 for name in NAMES if name != "obj")
    sum(parts.values()).backward()
    assert all(torch.isfinite(level.grad).all() for level in raw)


def test_without_images() -> None:
    loss = criterion()
    targets = loss.prepare(random_batch(2, 3, 1, K).without_samples())
    assert all(value == 0 for value in loss(raw_maps(0, CHANNELS), targets).values())


@pytest.mark.parametrize("value", [-200.0, 0.0, 200.0])
def test_extreme_outputs_give_finite_losses_and_gradients(value: float) -> None:
    loss = criterion(pose_vis_cost=1.0)
    raw = [torch.full_like(level, value).requires_grad_() for level in raw_maps(2, CHANNELS)]
    total = sum(loss(raw, loss.prepare(random_batch(2, 4, 1, K))).values())
    total.backward()
    assert torch.isfinite(total) and all(torch.isfinite(level.grad).all() for level in raw)


def test_a_step_asks_the_device_for_nothing() -> None:
    head = YOLOXPose([8, 8, 8], 1, 8, K)
    head.set_strides(STRIDES)
    loss = head.criterion({"close_mosaic": 1, "pose_vis_cost": 1.0})
    loss.start_epoch(0, 1)
    targets = loss.prepare(random_batch(2, 4, 1, K))
    head.to("meta")
    features = [torch.zeros(2, 8, SIZE // s, SIZE // s, device="meta") for s in STRIDES]
    parts = loss.to("meta")(head(features), targets.to(torch.device("meta")), targets.normalizers)
    sum(parts.values()).backward()
    assert tuple(parts) == head.loss_names and {value.device.type for value in parts.values()} == {"meta"}
    assert all(p.grad is not None for p in head.parameters())


def test_a_crowd_is_assigned_in_few_operations() -> None:
    """Each is a kernel to launch on a GPU, where all points are candidates: pieces of objects must not be small."""

    class Count(TorchDispatchMode):
        found = 0

        def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            Count.found += 1
            return operation(*args, **(kwargs or {}))

    images, people, size = 32, 100, 640
    with torch.device("meta"):
        loss = YOLOXPoseCriterion(STRIDES, 1, COCO_PERSON, {})
        targets = loss.prepare(random_batch(2, people, 1, 17).to(torch.device("meta")))
        for name in ("boxes", "classes", "valid", "keypoints"):
            part = getattr(targets, name)
            setattr(targets, name, part.new_empty(images, *part.shape[1:]))
        points = anchor_points([(size // s, size // s) for s in STRIDES], STRIDES)
        flat = torch.empty(images, len(points), 6 + 3 * 17)
    with Count():
        loss.assign(flat, points, targets)
    assert 100 < Count.found < 4000


def test_labels_with_other_keypoints_are_refused() -> None:
    with pytest.raises(ModelError, match="the pose head has 4 keypoints, but the labels have 5"):
        criterion().prepare(random_batch(2, 3, 1, 5))
    with pytest.raises(ModelError, match="but the labels have 0"):
        criterion().prepare(random_batch(2, 3, 1))


@pytest.mark.parametrize("hyp", [{"pose_oks_form": "areas"}, {"pose_simota": "m"}])
def test_wrong_recipes(hyp: dict) -> None:
    with pytest.raises(ModelError, match="Did you mean"):
        criterion(**hyp)
