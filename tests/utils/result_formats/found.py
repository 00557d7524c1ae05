"""Pictures with results to save, made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from models.predictions import DetectionResult, MaskResult
from tests.tiny_detector import make_picture
from utils.result_files import ResultFiles
from utils.result_formats.found_picture import FoundPicture

OBJECTS = DetectionResult(
    torch.tensor([[10.0, 20.0, 30.0, 50.0], [0.5, 1.25, 12.0, 9.0], [60.0, 20.0, 79.0, 59.0]]),
    torch.tensor([0.9, 0.75, 0.5]),
    torch.tensor([0, 1, 0]),
)
FOLLOWED = DetectionResult(OBJECTS.boxes, OBJECTS.scores, OBJECTS.classes, tracks=torch.tensor([7, -1, 12]))
AREAS = MaskResult((torch.arange(60 * 80, dtype=torch.int64) % 19).to(torch.uint8).reshape(60, 80))
PICTURE = make_picture()


def still(files: ResultFiles, path: str, **results: object) -> FoundPicture:
    """Return a still image of 60 x 80 pixels."""
    return FoundPicture.of_still(files.name_for(Path(path)), Path(path), PICTURE, results)


def frame(target: Path, number: int, **results: object) -> FoundPicture:
    """Return a frame of a video of that size."""
    return FoundPicture.of_frame(target, target.name, PICTURE, results, number)


def cut(box: list[int]) -> np.ndarray:
    """Return the pixels of a box x1 y1 x2 y2 of the picture."""
    x1, y1, x2, y2 = box
    return PICTURE[y1:y2, x1:x2]
