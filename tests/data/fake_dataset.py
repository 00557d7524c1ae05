"""A data set in memory, and how contents of batches are compared."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from data.loader import TrainLoader, build_train_loader
from data.samples import Batch, Sample
from data.transforms.detection import DetectionTrainTransform
from utils.errors import DataError

RECIPE = {"mosaic": 0.7, "mixup": 0.3, "scale": 0.5, "translate": 0.1, "fliplr": 0.5, "hsv_h": 0.01, "hsv_s": 0.5}


class FakeDataset:
    """Random pictures with one box and a mask; some of them cannot be read."""

    task = "detect"

    def __init__(self, count: int = 10, broken: tuple[int, ...] = (), sizes: list[tuple[int, int]] | None = None):
        self.sizes = np.array(sizes if sizes is not None else [(30 + 2 * (i % 20), 50) for i in range(count)])
        self.broken = broken
        self.ids = [f"{i}.png" for i in range(len(self.sizes))]

    def __len__(self) -> int:
        return len(self.sizes)

    def load(self, index: int, long_side: int | None = None, *, least: int | None = None) -> Sample:
        """Return the picture of an index, whose pixels depend on it alone."""
        if index in self.broken:
            raise DataError(f"{index}.png: the file is cut off; copy it again")
        height, width = self.sizes[index].tolist()
        rng = np.random.default_rng(index)
        image = rng.integers(0, 255, (height, width, 3), np.uint8)
        mask = rng.integers(0, 3, (height, width), np.uint8)
        box = np.array([[5, 5, 25, 25]], np.float32)
        if long_side is not None:
            scale = long_side / max(height, width)
            size = round(width * scale), round(height * scale)
            image, box = cv2.resize(image, size), box * np.float32(scale)
            mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
        return Sample(image=image, boxes=box, classes=np.array([index]), mask=mask, id=self.ids[index])


def contents(batches: Iterable[Batch]) -> list[tuple]:
    """Return names, pixels and labels of batches in a form that can be compared."""
    return [
        (batch.ids, *(t.numpy().tobytes() for t in (batch.images, batch.boxes, batch.classes, batch.masks)))
        for batch in batches
    ]


def train_loader(
    workers: int = 0, dataset: FakeDataset | None = None, transform=None, seed: int = 3, batch_size: int = 4, **options
) -> TrainLoader:
    """Return a loader of a fake data set; ten pictures in batches of four when nothing is said."""
    transform = transform or DetectionTrainTransform(RECIPE, 64)
    return build_train_loader(dataset or FakeDataset(), transform, batch_size, workers, seed, **options)
