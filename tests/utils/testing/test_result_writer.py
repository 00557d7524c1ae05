"""Which batches a test draws."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from data.samples import Batch, Placement, Sample, collate
from models.predictions import DetectionResult
from utils.testing.result_writer import ResultWriter

NOTHING = DetectionResult(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))


def batch_of(count: int) -> Batch:
    picture = np.full((400, 400, 3), 114, np.uint8)
    return collate([Sample(picture, placement=Placement(400, 400), id=f"{i}.jpg") for i in range(count)])


def columns_drawn(folder: Path) -> list[int]:
    """Return how many pictures lie side by side in each drawing, by its number."""
    pictures = [cv2.imread(str(path)) for path in sorted(folder.glob("test_batch*_results.jpg"))]
    return [picture.shape[1] // 400 for picture in pictures]


def test_the_fullest_batches_are_drawn(tmp_path: Path) -> None:
    writer = ResultWriter({"detect": ["a"]}, {"detect": None}, tmp_path, Namespace(noplots=False, save_txt=False))
    for count in (1, 4, 1):
        writer("detect", batch_of(count), [NOTHING] * count)
    assert columns_drawn(tmp_path) == [1, 2, 1], "with few batches, all"
    for count in (2, 1, 4, 4, 2):
        writer("detect", batch_of(count), [NOTHING] * count)
    assert columns_drawn(tmp_path) == [2, 2, 2]
    assert len(list(tmp_path.iterdir())) == 6, "labels and results of three batches"


def test_a_batch_as_full_as_those_that_are_drawn_costs_no_drawing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    monkeypatch.setattr(ResultWriter, "_draw", lambda self, name, batch, results, number: drawn.append(number))
    writer = ResultWriter({"detect": ["a"]}, {"detect": None}, tmp_path, Namespace(noplots=False, save_txt=False))
    for count in (2, 2, 2, 2, 3, 2):
        writer("detect", batch_of(count), [NOTHING] * count)
    assert drawn == [0, 1, 2, 0]
