"""From batched poses to results: keypoints follow the kept boxes and land where the picture has them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.keypoints import COCO_PERSON, KeypointSpec, generic_keypoints
from data.samples import Placement
from models.predictions import PoseResult, Poses, PostprocessOptions
from utils.boxes import points_to_native, points_to_network
from utils.nms import kept_candidates, non_max_suppression
from utils.oks_suppression import suppress_equal_poses
from utils.pose_results import pose_results

SPEC = generic_keypoints(3)
PLACES = [Placement(50, 80, 2.0, 2.0, 5.0, 7.0), Placement(30, 20, 1.5, 1.5)]


def random_poses(seed: int, count: int = 300, spec: KeypointSpec = SPEC, classes: int = 2) -> Poses:
    """Return poses whose keypoints tell which candidate they belong to: x of the first is the candidate's number."""
    rng = torch.Generator().manual_seed(seed)
    low = torch.rand(2, count, 2, generator=rng) * 60
    boxes = torch.cat([low, low + 10 + torch.rand(2, count, 2, generator=rng) * 60], -1)
    keypoints = torch.rand(2, count, len(spec), 3, generator=rng)
    keypoints[..., 0, 0] = torch.arange(count).float()
    scores, objectness = torch.rand(2, count, classes, generator=rng), torch.rand(2, count, generator=rng)
    return Poses(boxes, scores, objectness, keypoints=keypoints, spec=spec)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("agnostic", [False, True])
def test_keypoints_follow_their_boxes(multi_label: bool, agnostic: bool) -> None:
    poses = random_poses(0)
    options = PostprocessOptions(conf=0.2, iou=0.4, multi_label=multi_label, agnostic=agnostic, classes=(0, 1))
    results = pose_results(poses, options, PLACES)
    for i, (result, place) in enumerate(zip(results, PLACES, strict=True)):
        assert isinstance(result, PoseResult) and result.spec is SPEC
        seen = points_to_network(result.keypoints, place)
        rows = seen[:, 0, 0].round().long()
        assert len(rows) > 3
        torch.testing.assert_close(seen, poses.keypoints[i, rows], atol=1e-3, rtol=0)
        confidence = (poses.scores[i] * poses.objectness[i, :, None])[rows, result.classes]
        torch.testing.assert_close(result.scores, confidence)


def test_boxes_are_those_of_suppression_alone_and_clipped_but_keypoints_are_not() -> None:
    poses = random_poses(1)
    poses.keypoints[..., 1, 0] = -40.0
    poses.keypoints[..., 2, 1] = 900.0
    options = PostprocessOptions(conf=0.3)
    for result, (boxes, scores, classes), place in zip(
        pose_results(poses, options, PLACES), non_max_suppression(poses, options), PLACES, strict=True
    ):
        assert torch.equal(result.scores, scores) and torch.equal(result.classes, classes)
        assert len(result.boxes) == len(boxes)
        assert result.boxes.min() >= 0 and (result.boxes.amax(0)[2:] <= torch.tensor([place.width, place.height])).all()
        assert (result.keypoints[:, 1, 0] == (-40 - place.left) / place.scale_x).all()
        assert (result.keypoints[:, 2, 1] > place.height).all()


def test_rows_say_which_candidates_were_kept() -> None:
    poses = random_poses(2)
    for i, kept in enumerate(kept_candidates(poses, PostprocessOptions(conf=0.2))):
        assert torch.equal(kept.boxes, poses.boxes[i, kept.rows])
        assert len(set(kept.rows.tolist())) == len(kept.rows)


def test_nothing_found() -> None:
    for result in pose_results(random_poses(3), PostprocessOptions(conf=0.9999, oks=0.9), PLACES):
        assert result.keypoints.shape == (0, 3, 3) and result.boxes.shape == (0, 4)
    none = random_poses(4, count=0)
    assert [len(result.scores) for result in pose_results(none, PostprocessOptions(oks=0.9), PLACES)] == [0, 0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_raised_first(dtype: torch.dtype) -> None:
    poses = random_poses(5)
    half = Poses(
        *(column.to(dtype) for column in (poses.boxes, poses.scores, poses.objectness)),
        keypoints=poses.keypoints.to(dtype),
        spec=SPEC,
    )
    for result in pose_results(half, PostprocessOptions(conf=0.2, oks=0.9), PLACES):
        assert result.keypoints.dtype == result.boxes.dtype == torch.float32


def similarity(one: torch.Tensor, other: torch.Tensor, spec: KeypointSpec) -> float:
    """COCO's formula, a keypoint at a time."""
    areas = [float((p[:, :2].amax(0) - p[:, :2].amin(0)).prod()) for p in (one.double(), other.double())]
    total = 0.0
    for a, b, sigma in zip(one.double(), other.double(), spec.sigmas, strict=True):
        squared = float((a[:2] - b[:2]).square().sum())
        total += torch.tensor(-squared / (2 * (2 * sigma) ** 2 * max(sum(areas) / 2, 1e-9))).exp().item()
    return total / len(spec)


def suppressed_slowly(keypoints: torch.Tensor, classes: torch.Tensor, spec: KeypointSpec, threshold: float):
    kept: list[int] = []
    for i in range(len(keypoints)):
        rivals = [j for j in kept if classes[j] == classes[i]]
        if all(similarity(keypoints[j], keypoints[i], spec) <= threshold for j in rivals):
            kept.append(i)
    return kept


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), classes=st.integers(1, 2), threshold=st.sampled_from([0.3, 0.6, 0.9]))
def test_equal_poses_are_suppressed_as_the_formula_says(seed: int, classes: int, threshold: float) -> None:
    rng = torch.Generator().manual_seed(seed)
    people = torch.rand(4, 17, 3, generator=rng) * 200
    pick = torch.randint(0, 4, (15,), generator=rng)
    keypoints = people[pick] + torch.randn(15, 17, 3, generator=rng) * 6
    kinds = torch.randint(0, classes, (15,), generator=rng)
    found = suppress_equal_poses(keypoints, kinds, COCO_PERSON, threshold)
    assert found.tolist() == suppressed_slowly(keypoints, kinds, COCO_PERSON, threshold)


def test_a_suppressed_pose_suppresses_nobody() -> None:
    """b is near a and near c, but a and c are not near each other: only b goes."""
    spec = KeypointSpec(("a", "b"), (0, 1), (0.1, 0.1))
    base = torch.tensor([[0.0, 0.0, 1], [10.0, 10.0, 1]])
    keypoints = torch.stack([base + torch.tensor([shift, 0.0, 0.0]) for shift in (0.0, 1.0, 2.0)])
    near = similarity(keypoints[0], keypoints[1], spec)
    far = similarity(keypoints[0], keypoints[2], spec)
    assert suppress_equal_poses(keypoints, torch.zeros(3).long(), spec, (near + far) / 2).tolist() == [0, 2]
    apart = torch.tensor([0, 1, 0])
    assert suppress_equal_poses(keypoints, apart, spec, (near + far) / 2).tolist() == [0, 1, 2]


def test_equal_poses_in_different_boxes_are_one_only_when_asked() -> None:
    poses = random_poses(6, count=2, classes=1)
    poses.boxes[:] = torch.tensor([[0.0, 0, 10, 10], [50, 50, 90, 90]])
    poses.scores[:], poses.objectness[:] = 1.0, torch.tensor([0.8, 0.9])
    poses.keypoints[:, 0] = poses.keypoints[:, 1]
    both = pose_results(poses, PostprocessOptions(), PLACES)
    one = pose_results(poses, PostprocessOptions(oks=0.9), PLACES)
    assert [len(r.scores) for r in both] == [2, 2] and [len(r.scores) for r in one] == [1, 1]
    assert [r.scores.tolist() for r in one] == [[pytest.approx(0.9)]] * 2 and len(one[0].keypoints) == 1


def test_points_go_there_and_back() -> None:
    place = Placement(100, 200, 0.37, 0.41, 3.0, 11.0)
    points = torch.randn(4, 5, 3) * 100
    before = points.clone()
    torch.testing.assert_close(points_to_native(points_to_network(points, place), place), points, atol=1e-3, rtol=1e-5)
    assert torch.equal(points, before), "the input is not changed"
    arrays = points_to_native(points.numpy(), place)
    torch.testing.assert_close(torch.from_numpy(arrays), points_to_native(points, place))
    assert torch.equal(points_to_native(points, place)[..., 2], points[..., 2])
