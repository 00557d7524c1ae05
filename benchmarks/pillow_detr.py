"""DETR's augmentation as people write it with Pillow: decode, mirror, resize, crop, resize again, pad to a batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from data.dataset import TaskDataset


class PillowPipeline:
    """Padded batches of pictures in random sizes, one Pillow call after the other.

    Args:
        dataset: for the files and boxes; nothing else of it is used.
        hyp: the recipe.
        size: ``--img-size``, by which the sides of the recipe are scaled.
        batch: pictures per batch.
        decoded: whether all pictures are decoded now and kept in a list.
    """

    def __init__(self, dataset: TaskDataset, hyp: Mapping[str, Any], size: int, batch: int, decoded: bool):
        self.files, self.batch, self.rng = dataset.ids, batch, np.random.default_rng(0)
        bounds = zip(dataset.offsets[:-1], dataset.offsets[1:], strict=True)
        self.boxes = [dataset.boxes[first:last] for first, last in bounds]
        ratio = size / hyp["resize_base"]
        first, last, step = hyp["resize_sides"]
        self.sides = range(round(first * ratio / 16) * 16, round(last * ratio / 16) * 16 + 1, step)
        self.crop_sides = [round(side * ratio) for side in hyp["crop_sides"]]
        self.crop_range = [round(side * ratio) for side in hyp["crop_range"]]
        self.longest = self.sides[-1] * 1333 // 800
        self.images = [self.decode(file) for file in self.files] if decoded else None

    def batches(self) -> Iterator[np.ndarray]:
        """Yield (N, H, W, 3) uint8 images, black where a picture does not reach, for ever."""
        while True:
            made = [self.sample(int(i))[0] for i in self.rng.integers(len(self.files), size=self.batch)]
            height, width = (max(image.shape[axis] for image in made) for axis in (0, 1))
            padded = np.zeros((len(made), height, width, 3), np.uint8)
            for frame, image in zip(padded, made, strict=True):
                frame[: image.shape[0], : image.shape[1]] = image
            yield padded

    def decode(self, file: str) -> Image.Image:
        """Return a picture."""
        with Image.open(file) as image:
            return ImageOps.exif_transpose(image).convert("RGB")

    def resized(self, image: Image.Image, short: int, longest: int | None) -> Image.Image:
        """Return a picture with this short side, or less where the long one would be too long, in multiples of 16."""
        low, high = min(image.size), max(image.size)
        if longest is not None and high / low * short > longest:
            short = round(longest * low / high)
        sides = [short * side // low // 16 * 16 for side in image.size]
        return image.resize((max(sides[0], 16), max(sides[1], 16)), Image.Resampling.BILINEAR)

    def sample(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the pixels and boxes of one sample."""
        rng = self.rng
        image = self.images[index] if self.images is not None else self.decode(self.files[index])
        boxes = self.boxes[index]
        if rng.random() < 0.5:
            image, boxes = ImageOps.mirror(image), boxes[:, [2, 1, 0, 3]] * (-1, 1, -1, 1) + (1, 0, 1, 0)
        if rng.random() < 0.5:
            image, boxes = self.cropped(self.resized(image, int(rng.choice(self.crop_sides)), None), boxes)
        image = self.resized(image, int(rng.choice(self.sides)), self.longest)
        boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)]
        return np.asarray(image), boxes * [*image.size, *image.size]

    def cropped(self, image: Image.Image, boxes: np.ndarray) -> tuple[Image.Image, np.ndarray]:
        """Return a random part of a picture, and the boxes (0..1) that are left of it, as shares of it."""
        spans = []
        for length in image.size:
            window = int(self.rng.integers(min(self.crop_range[0], length), min(self.crop_range[1], length) + 1))
            first = int(self.rng.integers(length - window + 1))
            spans.append((first, first + window))
        (left, right), (top, bottom) = spans
        moved = boxes * [*image.size, *image.size] - [left, top, left, top]
        moved = moved / [right - left, bottom - top, right - left, bottom - top]
        return image.crop((left, top, right, bottom)), moved.clip(0, 1)
