"""An in-memory data set with boxes, keypoints and a mask that all show the same rectangle."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from data.samples import Sample


class PaintedDataset:
    """Each image is dark with one bright rectangle; box, mask and keypoints (its corners) describe that rectangle."""

    task = "detect"

    def __init__(self, sizes: list[tuple[int, int]]):
        self.sizes = np.array(sizes)

    def __len__(self) -> int:
        return len(self.sizes)

    def load(self, index: int, long_side: int | None = None, *, least: int | None = None) -> Sample:
        height, width = self.sizes[index].tolist()
        scale = 1.0 if long_side is None else long_side / max(height, width)
        height, width = round(height * scale), round(width * scale)
        x1, y1, x2, y2 = round(width * 0.25), round(height * 0.25), round(width * 0.75), round(height * 0.625)
        image = np.full((height, width, 3), 20, np.uint8)
        mask = np.zeros((height, width), np.uint8)
        image[y1:y2, x1:x2] = 250
        mask[y1:y2, x1:x2] = 1
        corners = [[x1, y1, 2], [x2, y1, 2], [x1, y2, 2], [0, 0, 0]]
        return Sample(
            image=image,
            boxes=np.array([[x1, y1, x2, y2]], np.float32),
            classes=np.array([index % 3]),
            keypoints=np.array([corners], np.float32),
            mask=mask,
            id=f"{index}.png",
        )


@pytest.fixture
def painted():
    """Return a function from sizes [(height, width), ...] to a data set."""
    return PaintedDataset


@pytest.fixture
def bounding_box():
    """Return a function from a boolean picture to the x1 y1 x2 y2 of its True pixels."""

    def measure(picture: np.ndarray) -> list[int]:
        x, y, w, h = cv2.boundingRect(picture.astype(np.uint8))
        return [x, y, x + w, y + h]

    return measure
