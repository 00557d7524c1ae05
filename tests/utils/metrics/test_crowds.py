"""Crowds and what was found in them are left out where single objects are counted."""

from __future__ import annotations

import numpy as np

from utils.metrics.coco_protocol import BoxLabels, BoxPredictions
from utils.metrics.crowds import without_crowds

CROWD, MEMBER, BESIDE = (0, 0, 100, 100), (10, 10, 30, 30), (200, 200, 230, 230)


def labels_of(*boxes: tuple[int, int, int, int], crowd: list[bool]) -> BoxLabels:
    table = np.array(boxes, np.float32)
    zeros = np.zeros(len(boxes), np.int64)
    return BoxLabels(zeros, table, zeros, np.ones(len(boxes)), np.array(crowd))


def test_what_is_found_in_a_crowd_counts_only_where_an_object_of_its_own_is() -> None:
    boxes = np.array([MEMBER, (12, 12, 30, 30), (60, 60, 80, 80), BESIDE, MEMBER], np.float32)
    # The last one is of another class than the crowd.
    classes = np.array([0, 0, 0, 0, 1])
    found = BoxPredictions(np.zeros(5, np.int64), boxes, classes, np.linspace(0.9, 0.5, 5))
    labels, left = without_crowds(labels_of(CROWD, MEMBER, crowd=[True, False]), found, 2)
    assert labels.boxes.tolist() == [list(MEMBER)]
    assert left.scores.tolist() == found.scores[[0, 1, 3, 4]].tolist()
    labels, left = without_crowds(labels_of(CROWD, crowd=[True]), found, 2)
    assert len(labels.boxes) == 0 and left.scores.tolist() == found.scores[[3, 4]].tolist()
    plain = labels_of(CROWD, MEMBER, crowd=[False, False])
    assert without_crowds(plain, found, 2) == (plain, found)
