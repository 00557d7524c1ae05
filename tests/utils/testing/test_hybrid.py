"""Labels and what was found beside them."""

from __future__ import annotations

import numpy as np
import torch

from data.keypoints import generic_keypoints
from data.samples import Sample, collate
from models.predictions import DetectionResult, PoseResult
from utils.boxes import plan_letterbox
from utils.testing.hybrid import with_labels

PLACE = plan_letterbox((50, 100), (64, 64)).placement


def to_input(boxes: list[list[float]]) -> np.ndarray:
    scale = np.array([PLACE.scale_x, PLACE.scale_y] * 2)
    return (np.array(boxes) * scale + [PLACE.left, PLACE.top] * 2).astype(np.float32)


LABELS = [[10.0, 10, 30, 30], [12, 10, 32, 30], [60, 5, 90, 45], [0, 0, 100, 50]]
BATCH = collate(
    [
        Sample(
            np.zeros((64, 64, 3), np.uint8), placement=PLACE, id="none.png", keypoints=np.zeros((0, 2, 3), np.float32)
        ),
        Sample(
            np.zeros((64, 64, 3), np.uint8),
            boxes=to_input(LABELS),
            classes=np.array([0, 0, 1, 2]),
            keypoints=np.array([[[20, 20, 2], [0, 0, 0]]] * 4, np.float32),
            placement=PLACE,
            id="some.png",
        ),
    ]
)
BATCH.crowd = torch.tensor([[False] * 4, [False, False, False, True]])
FOUND = {
    "boxes": torch.tensor([[61.0, 5, 90, 45], [60, 5, 90, 45], [40, 0, 55, 20], [11, 10, 31, 30]]),
    "scores": torch.tensor([0.9, 0.8, 0.7, 0.6]),
    "classes": torch.tensor([1, 2, 0, 0]),
}


def test_labels_stand_for_what_was_found_of_their_class() -> None:
    joined = with_labels(DetectionResult(**FOUND), BATCH, 1, 0.6)
    # Two labels that cover each other both stay, the crowd does not, and another class on a label's place is news.
    np.testing.assert_allclose(joined.boxes[:3], LABELS[:3], atol=1e-4)
    assert joined.boxes[3:].tolist() == FOUND["boxes"][1:3].tolist()
    assert joined.scores.tolist() == torch.tensor([1, 1, 1, 0.8, 0.7]).tolist()
    assert joined.classes.tolist() == [0, 0, 1, 2, 0]


def test_without_labels_everything_is_news_and_without_results_there_are_labels() -> None:
    alone = with_labels(DetectionResult(**FOUND), BATCH, 0, 0.6)
    assert torch.equal(alone.boxes, FOUND["boxes"]) and torch.equal(alone.scores, FOUND["scores"])
    nothing = DetectionResult(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    assert with_labels(nothing, BATCH, 1, 0.6).classes.tolist() == [0, 0, 1]


def test_labelled_keypoints_are_certain_and_the_others_are_not_there() -> None:
    spec = generic_keypoints(2)
    points = torch.full((4, 2, 3), 0.5)
    joined = with_labels(PoseResult(**FOUND, keypoints=points, spec=spec), BATCH, 1, 0.6)
    assert isinstance(joined, PoseResult) and joined.keypoints.shape == (5, 2, 3) and joined.spec is spec
    assert joined.keypoints[:3, :, 2].tolist() == [[1, 0]] * 3 and (joined.keypoints[3:] == 0.5).all()
    native = (20 - PLACE.left) / PLACE.scale_x, (20 - PLACE.top) / PLACE.scale_y
    np.testing.assert_allclose(joined.keypoints[0, 0, :2], native, rtol=1e-5)
