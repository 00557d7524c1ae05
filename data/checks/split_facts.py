"""What the doctor knows of one split of one task after its files are read, good and bad."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from data.task_data import TaskData


@dataclass
class SplitFacts:
    """A split in flat arrays, every listed image included.

    Attributes:
        data: the task.
        split: train, val or test.
        images: n files.
        labels: label file or mask of each, None where there is none; of a set with one file for all, that file.
        sources: of each image, the task as its own source has it; of a set that is not mixed, ``data``.
        sizes: (n, 2) int32, height and width, 0 where an image cannot be read.
        offsets: (n + 1,) int64, image i owns the objects offsets[i] .. offsets[i + 1] - 1.
        classes: (m,) int64.
        boxes: (m, 4) float32, x1 y1 x2 y2 in 0..1 of their image.
        keypoints: (m, K, 3) float32, x y in 0..1, visibility.
        crowd: (m,) bool, regions with many objects.
        labelled: (n,) bool, False where training leaves an image out for want of a label file, or refuses all that
            its file holds.
        pixels: (n, C + 1) int64, pixels of each class in each mask and, last, those that do not count; None without
            masks. Masks that cannot be used have none.
    """

    data: TaskData
    split: str
    images: list[str]
    labels: list[str | None]
    sources: list[TaskData]
    sizes: np.ndarray
    offsets: np.ndarray
    classes: np.ndarray
    boxes: np.ndarray
    keypoints: np.ndarray
    crowd: np.ndarray
    labelled: np.ndarray
    pixels: np.ndarray | None = None

    @property
    def where(self) -> str:
        """Task and split, as findings name them."""
        return f"{self.data.key} {self.split}"

    @cached_property
    def position_of(self) -> dict[str, int]:
        """The position of every image."""
        return {image: i for i, image in enumerate(self.images)}

    @property
    def usable(self) -> np.ndarray:
        """Return (n,) bool: images that can be read and whose labels, or mask, can be used."""
        readable = (self.sizes > 0).all(1) & self.labelled
        return readable if self.pixels is None else readable & (self.pixels.sum(1) > 0)

    @property
    def owners(self) -> np.ndarray:
        """Return (m,) int64: the position of the image of each object."""
        return np.repeat(np.arange(len(self.images)), np.diff(self.offsets))

    def own(self, image: int) -> slice:
        """Return where the objects of an image are in the arrays of objects."""
        return slice(int(self.offsets[image]), int(self.offsets[image + 1]))

    def box_pixels(self, img_size: int) -> np.ndarray:
        """Return (m, 2) widths and heights of all boxes in pixels when the longer side of their image is a size."""
        native = self.sizes[self.owners].astype(np.float64)
        longest = np.maximum(native.max(1, initial=1, keepdims=True), 1)
        return (self.boxes[:, 2:] - self.boxes[:, :2]) * native[:, ::-1] * (img_size / longest)
