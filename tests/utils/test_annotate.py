"""Results on pictures and in words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from data.keypoints import KeypointSpec
from models.predictions import DetectionResult, MaskResult, PoseResult
from utils.annotate import Style, annotate, describe
from utils.plots.palette import class_colour
from utils.plots.skeletons import LEFT

NAMES = {"boxes": ["car", "person"], "areas": ["road", "sky", "tree", "sign"]}


def objects(boxes: list[list[float]], classes: list[int]) -> DetectionResult:
    return DetectionResult(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.full((len(boxes),), 0.87),
        torch.tensor(classes).long(),
    )


@pytest.fixture
def image() -> np.ndarray:
    return np.full((60, 100, 3), 120, np.uint8)


def test_words():
    class_map = torch.zeros(10, 10, dtype=torch.uint8)
    class_map[:3] = 1
    class_map[3, :5] = 2
    class_map[3, 5] = 3
    results = {"areas": MaskResult(class_map), "boxes": objects([[0, 0, 5, 5]] * 3, [1, 0, 1])}
    assert describe(results, NAMES) == "2 person, 1 car, road 64 %, sky 30 %, tree 5 %"
    almost = torch.zeros(40, 10, dtype=torch.uint8)
    almost[0, 0] = 1
    assert describe({"areas": MaskResult(almost)}, NAMES) == "road 100 %", "an area that rounds to 0 % is not named"
    assert describe({"boxes": objects([], [])}, NAMES) == "no objects"
    assert describe({"boxes": objects([[0, 0, 1, 1]], [7])}, NAMES) == "1 7", "a class without a name shows its index"


@pytest.mark.parametrize("order", [("areas", "boxes"), ("boxes", "areas")])
def test_boxes_lie_on_top_of_areas_whatever_the_order_of_heads(image, order):
    found = {
        "areas": MaskResult(torch.ones(60, 100, dtype=torch.uint8)),
        "boxes": objects([[20, 20, 80, 50]], [0]),
    }
    style = Style(line_width=4, labels=False, mask_alpha=0.5)
    drawn = annotate(image, {name: found[name] for name in order}, NAMES, style)
    boxes_alone = annotate(image, {"boxes": found["boxes"]}, NAMES, style)
    areas_alone = annotate(image, {"areas": found["areas"]}, NAMES, style)
    edge = (boxes_alone != image).any(-1)
    core = (boxes_alone == class_colour(0)).all(-1)
    assert 300 < core.sum() < edge.sum() < 1500
    np.testing.assert_array_equal(drawn[core], boxes_alone[core])
    np.testing.assert_array_equal(drawn[~edge], areas_alone[~edge])
    assert (image == 120).all(), "the picture itself is not touched"


def test_labels_follow_the_style(image):
    result = {"boxes": objects([[20, 30, 80, 50]], [0])}
    inked = [
        (annotate(image, result, NAMES, style) != image).any(-1).sum()
        for style in (Style(labels=False), Style(confidences=False), Style())
    ]
    assert inked[0] < inked[1] < inked[2]


def test_followed_objects_have_colours_of_their_own_where_that_is_wanted(image):
    found = objects([[5, 20, 25, 50], [40, 20, 60, 50], [70, 20, 90, 50]], [1, 0, 0])
    found = {"boxes": replace(found, tracks=torch.tensor([4, -1, 9]))}
    for wanted, indices in ((True, (4, 0, 9)), (False, (1, 0, 0))):
        drawn = annotate(image, found, NAMES, Style(line_width=4, labels=False, track_colours=wanted))
        assert [tuple(drawn[35, x]) for x in (5, 40, 70)] == [class_colour(index) for index in indices]


def test_poses_are_drawn_below_their_boxes_and_named_once(image):
    spec = KeypointSpec(("left", "right"), (1, 0), (0.1, 0.1), ((0, 1),))
    boxes = objects([[20, 20, 80, 50]], [1])
    points = torch.tensor([[[30.0, 40, 0.9], [80, 40, 0.9]]])
    found = {"boxes": PoseResult(boxes.boxes, boxes.scores, boxes.classes, points, spec)}
    assert describe(found, NAMES) == "1 person"
    drawn = annotate(image, found, NAMES, Style(line_width=4, labels=False))
    assert tuple(drawn[40, 30]) == LEFT
    assert tuple(drawn[40, 80]) == class_colour(1), "the box lies on top"
    unsure = annotate(image, found, NAMES, Style(line_width=4, labels=False, keypoint_score=0.95))
    np.testing.assert_array_equal(unsure, annotate(image, {"boxes": boxes}, NAMES, Style(line_width=4, labels=False)))
