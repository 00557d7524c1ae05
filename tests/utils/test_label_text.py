"""Label text: what is written is what readers of YOLO labels read back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.keypoints import KeypointSpec
from models.predictions import DetectionResult, PoseResult
from utils.label_text import write_label_text

SIZE = np.array([200, 100])
OBJECTS = DetectionResult(
    torch.tensor([[10.0, 20.0, 30.0, 60.0], [0.0, 0.0, 200.0, 100.0]]), torch.tensor([0.5, 0.25]), torch.tensor([2, 0])
)
PAIR = KeypointSpec(("a", "b"), (0, 1), (0.1, 0.1), ())


def lines_of(path: Path, result: DetectionResult, with_confidence: bool, least: float = 0.3) -> list[str]:
    write_label_text(path / "x.txt", result, SIZE, with_confidence, least)
    return (path / "x.txt").read_text().splitlines()


def test_columns_with_and_without_confidence_and_number(tmp_path):
    assert lines_of(tmp_path, OBJECTS, False) == ["2 0.1 0.4 0.1 0.4", "0 0.5 0.5 1 1"]
    assert lines_of(tmp_path, OBJECTS, True)[0] == "2 0.1 0.4 0.1 0.4 0.5"
    followed = replace(OBJECTS, tracks=torch.tensor([123456789, -1]))
    assert lines_of(tmp_path, followed, True) == ["2 0.1 0.4 0.1 0.4 0.5 123456789", "0 0.5 0.5 1 1 0.25 -1"]
    assert lines_of(tmp_path, followed, False)[1] == "0 0.5 0.5 1 1 -1"
    assert lines_of(tmp_path, OBJECTS.only(OBJECTS.scores > 1), True) == []


def test_keypoints_are_labels_or_scores(tmp_path):
    points = torch.tensor([[[20.0, 50.0, 0.9], [150.0, 25.0, 0.2]], [[-20.0, 50.0, 0.9], [150.0, 25.0, 0.3]]])
    pose = PoseResult(OBJECTS.boxes, OBJECTS.scores, OBJECTS.classes, points, PAIR)
    assert lines_of(tmp_path, pose, False, 0.3) == [
        "2 0.1 0.4 0.1 0.4 0.1 0.5 2 0 0 0",
        "0 0.5 0.5 1 1 0 0 0 0.75 0.25 2",
    ]
    assert lines_of(tmp_path, pose, True)[1] == "0 0.5 0.5 1 1 -0.1 0.5 0.9 0.75 0.25 0.3 0.25"


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 4, st.integers(0, 900)), max_size=6))
def test_boxes_come_back(tmp_path_factory, rows):
    corners = torch.tensor([row[:4] for row in rows]).reshape(-1, 2, 2) * torch.tensor(SIZE).float()
    boxes = torch.cat((corners.amin(1), corners.amax(1)), 1)
    found = DetectionResult(boxes, torch.ones(len(rows)), torch.tensor([row[4] for row in rows]).long())
    lines = lines_of(tmp_path_factory.getbasetemp(), found, False)
    read = np.array([line.split() for line in lines], float).reshape(-1, 5)
    assert read[:, 0].tolist() == found.classes.tolist()
    back = np.concatenate((read[:, 1:3] - read[:, 3:] / 2, read[:, 1:3] + read[:, 3:] / 2), 1) * np.tile(SIZE, 2)
    assert back == pytest.approx(boxes.numpy(), abs=1e-3)
