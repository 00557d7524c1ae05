"""The head of YOLOX-Pose: order of its channels, keypoints against a slow loop, and keypoints of the data."""

from __future__ import annotations

import math

import pytest
import torch

from data.keypoints import COCO_PERSON, generic_keypoints
from data.samples import Placement
from models.heads.yolox import YOLOXDetect
from models.heads.yolox_pose import YOLOXPose
from models.predictions import Poses, PostprocessOptions
from models.registry import Scale, lookup

STRIDES = [8, 16]
SIZES = [(3, 4), (2, 2)]
POINTS = 3


def head_of(points: int = POINTS, classes: int = 2) -> YOLOXPose:
    """Return a small head in eval mode."""
    torch.manual_seed(0)
    head = YOLOXPose([8, 16], classes, 16, points).eval()
    head.set_strides(STRIDES)
    return head


def test_channels_are_those_of_detection_then_offsets_and_visibilities() -> None:
    head = head_of()
    maps = [torch.randn(2, c, *size) for c, size in zip((8, 16), SIZES, strict=True)]
    raw = head(maps)
    assert [tuple(x.shape) for x in raw] == [(2, 4 + 1 + 2 + 2 * 3 + 3, *size) for size in SIZES]
    plain = YOLOXDetect([8, 16], 2, 16).eval()
    plain.load_state_dict({name: value for name, value in head.state_dict().items() if name in plain.state_dict()})
    for ours, detection in zip(raw, plain(maps), strict=True):
        assert torch.equal(ours[:, :7], detection)
    with torch.no_grad():
        head.pose_convs[0][3].conv.weight.mul_(2)
    changed = (head(maps)[0] != raw[0]).any(0).any(-1).any(-1).tolist()
    assert changed == [False] * 7 + [True] * 9
    with torch.no_grad():
        head.offset_preds[1].weight.zero_()
        head.offset_preds[1].bias.copy_(torch.arange(6.0))
    assert torch.equal(head(maps)[1][0, 7:13, 0, 0], torch.arange(6.0))


def test_four_convolutions_and_one_percent_visible() -> None:
    head = head_of()
    assert [len(tower) for tower in head.pose_convs] == [4, 4]
    assert all(torch.allclose(conv.bias.sigmoid(), torch.tensor(0.01), atol=1e-7) for conv in head.vis_preds)


def test_keypoints_by_the_formula() -> None:
    torch.manual_seed(1)
    raw = [torch.randn(2, 16, *size) * 2 for size in SIZES]
    found = head_of().predict(raw, (24, 32))
    assert found.keypoints.shape == (2, 16, POINTS, 3) and found.spec == generic_keypoints(POINTS)
    cell = 0
    for x, stride in zip(raw, STRIDES, strict=True):
        for row in range(x.shape[2]):
            for column in range(x.shape[3]):
                values = x[1, 7:, row, column].tolist()
                for k in range(POINTS):
                    px, py = (values[2 * k] + column) * stride, (values[2 * k + 1] + row) * stride
                    score = 1 / (1 + math.exp(-values[2 * POINTS + k]))
                    expected = torch.tensor([px, py, score])
                    assert torch.allclose(found.keypoints[1, cell, k], expected, rtol=1e-5, atol=1e-4)
                cell += 1
    plain = YOLOXDetect([8, 16], 2, 16)
    plain.set_strides(STRIDES)
    detections = plain.predict([x[:, :7] for x in raw], (24, 32))
    for field in ("boxes", "scores", "objectness"):
        assert torch.equal(getattr(found, field), getattr(detections, field))


def test_keypoints_follow_the_kept_boxes_into_the_picture() -> None:
    boxes = torch.tensor([[[0.0, 0.0, 20.0, 20.0], [40.0, 40.0, 60.0, 60.0], [41.0, 40.0, 60.0, 60.0]]])
    keypoints = torch.arange(3.0).view(1, 3, 1, 1).expand(1, 3, POINTS, 3) * 10
    poses = Poses(
        boxes, torch.tensor([[[0.3], [0.5], [0.9]]]), torch.ones(1, 3), keypoints=keypoints, spec=generic_keypoints(3)
    )
    place = Placement(height=200, width=200, scale_x=0.5, scale_y=0.5)
    (result,) = head_of().postprocess(poses, PostprocessOptions(), [place])
    assert torch.allclose(result.scores, torch.tensor([0.9, 0.3]))
    assert torch.equal(result.boxes, torch.tensor([[82.0, 80.0, 120.0, 120.0], [0.0, 0.0, 40.0, 40.0]]))
    assert torch.equal(result.keypoints[:, 0], torch.tensor([[40.0, 40.0, 20.0], [0.0, 0.0, 0.0]]))


def test_seventeen_keypoints_are_those_of_coco() -> None:
    assert head_of(17).keypoints == COCO_PERSON
    assert head_of(5).keypoints == generic_keypoints(5)


def test_leaving_a_level_out_leaves_its_keypoints_out() -> None:
    head, raw = head_of(), [torch.randn(1, 16, *size) for size in SIZES]
    whole = head.predict(raw, (24, 32)).keypoints
    assert torch.equal(head.predict_without("finest", raw, (24, 32)).keypoints, whole[:, 12:])
    assert torch.equal(head.predict_without("coarsest", raw, (24, 32)).keypoints, whole[:, :12])


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([1, 256], "takes [num_classes, hidden, num_keypoints, depthwise=False]"),
        ([1, 256, "nkpt"], "'num_keypoints' should be int, but it is 'nkpt'"),
        ([1, 256, 0], "the number of keypoints is above 0, but it is 0"),
        ([1, 256, True], "'num_keypoints' should be int, but it is True"),
    ],
)
def test_rows_that_do_not_fit(args: list[object], words: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        lookup("YOLOXPose").from_row([16, 32, 64], 1, args, Scale())
    assert words in str(caught.value)
