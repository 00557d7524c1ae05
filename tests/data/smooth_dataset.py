"""A data set of smooth pictures, in which the last digits of a geometry change little, with all kinds of labels."""

from __future__ import annotations

import cv2
import numpy as np

from data.samples import Sample
from utils.boxes import plan_letterbox
from utils.errors import DataError

SIZES = [(90, 120), (120, 90), (100, 100), (40, 140), (75, 100), (64, 64), (130, 50)]


class SmoothDataset:
    """Pictures of random soft colours; boxes, keypoints or masks as the task asks.

    Args:
        task: detect, pose or segment.
        sizes: (height, width) of each picture.
        broken: indices that cannot be read.
    """

    def __init__(self, task: str = "detect", sizes: list[tuple[int, int]] | None = None, broken: tuple[int, ...] = ()):
        self.task, self.broken = task, broken
        self.sizes = np.array(SIZES if sizes is None else sizes)
        self.ids = [f"{i}.png" for i in range(len(self.sizes))]

    def __len__(self) -> int:
        return len(self.sizes)

    def load(self, index: int, long_side: int | None = None, *, least: int | None = None) -> Sample:
        """Return the picture of an index, whose content depends on it alone."""
        if index in self.broken:
            raise DataError(f"{index}.png: the file is cut off; copy it again")
        native = (int(self.sizes[index, 0]), int(self.sizes[index, 1]))
        height, width = native if long_side is None else plan_letterbox(native, (long_side, long_side)).resized
        rng = np.random.default_rng(index)
        image = rng.integers(0, 256, (7, 9, 3), np.uint8)
        image = cv2.resize(image, (native[1], native[0]), interpolation=cv2.INTER_CUBIC)
        mask = cv2.resize(rng.integers(0, 5, (7, 9), np.uint8), (native[1], native[0]), interpolation=cv2.INTER_NEAREST)
        count = int(rng.integers(0, 6))
        corner = rng.uniform(0, 0.6, (count, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(0.05, 0.4, (count, 2))], 1)
        points = np.concatenate([rng.uniform(0, 1, (count, 4, 2)), rng.integers(0, 3, (count, 4, 1))], -1)
        sample = Sample(
            image=cv2.resize(image, (width, height)),
            boxes=boxes.astype(np.float32) * np.array([width, height, width, height], np.float32),
            classes=rng.integers(0, 4, count),
            id=self.ids[index],
        )
        if self.task == "pose":
            sample.keypoints = (points * np.array([width, height, 1])).astype(np.float32)
        if self.task == "segment":
            sample.mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        return sample
