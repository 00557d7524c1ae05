"""Sample and Batch: the only shapes in which images and labels travel.

Shape suffixes: N images, M objects (padded), K keypoints, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

_IGNORED = 255


@dataclass(frozen=True)
class Placement:
    """Where a picture of its native size lies inside the network's input.

    A native point (x, y) appears at ``(x * scale_x + left, y * scale_y + top)``.

    Attributes:
        height: native height in pixels.
        width: native width in pixels.
        scale_x: network pixels per native pixel along x.
        scale_y: network pixels per native pixel along y.
        left: columns of padding before the picture.
        top: rows of padding above the picture.
    """

    height: int
    width: int
    scale_x: float = 1.0
    scale_y: float = 1.0
    left: float = 0.0
    top: float = 0.0


def _no_boxes() -> np.ndarray:
    return np.zeros((0, 4), np.float32)


def _no_classes() -> np.ndarray:
    return np.zeros((0,), np.int64)


@dataclass
class Sample:
    """One image with whatever labels its data set has.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        boxes: (n, 4) float32, x1 y1 x2 y2 in pixels of ``image``.
        classes: (n,) int64.
        keypoints: (n, K, 3) float32, x y in pixels and visibility 0, 1 or 2; or None.
        mask: (H, W) uint8 class indices, 255 = ignored; or None. Under test transforms it keeps its native size.
        id: path or name of the image.
        placement: set by letterbox for testing, None after augmentation.
        areas: (n,) float32, areas of the objects as their annotation gives them, in square pixels of the file's own
            size whatever the size of ``image``; None where the annotations have none. Only for testing.
        crowd: (n,) bool, regions with many objects that are not told apart; None as above.
    """

    image: np.ndarray
    boxes: np.ndarray = field(default_factory=_no_boxes)
    classes: np.ndarray = field(default_factory=_no_classes)
    keypoints: np.ndarray | None = None
    mask: np.ndarray | None = None
    id: str = ""
    placement: Placement | None = None
    areas: np.ndarray | None = None
    crowd: np.ndarray | None = None

    def only(self, keep: np.ndarray) -> Sample:
        """Return the sample with the objects alone for which ``keep``, (n,) bool, is true; pixels are shared.

        Areas and crowd marks are for testing, where no object is left out: they are gone.
        """
        keypoints = None if self.keypoints is None else self.keypoints[keep]
        return replace(
            self, boxes=self.boxes[keep], classes=self.classes[keep], keypoints=keypoints, areas=None, crowd=None
        )


@dataclass
class Batch:
    """Samples stacked, targets padded with a validity mask, so that everything reaches the device in one move.

    Attributes:
        images: (N, 3, H, W) uint8 RGB with channels-last strides.
        boxes: (N, M, 4) float32, x1 y1 x2 y2 in pixels of ``images``.
        classes: (N, M) int64.
        valid: (N, M) bool, False where the row is padding.
        keypoints: (N, M, K, 3) float32 or None.
        masks: (N, H, W) uint8, 255 = ignored, or None.
        native_masks: one (h, w) uint8 tensor per image at its native size, only under test transforms.
        ids: one path or name per image.
        placements: one per image, only under test transforms.
        areas: (N, M) float32, annotated areas in square pixels of the files' own sizes, or None.
        crowd: (N, M) bool, or None.
        sizes: (height, width) of each image where they differ: its pixels lie in the upper left corner of ``images``
            and what lies right of them and below is padding. Plain numbers on the host, so nobody waits for a device to
            know them. None where every image fills its input.
    """

    images: Tensor
    boxes: Tensor
    classes: Tensor
    valid: Tensor
    keypoints: Tensor | None = None
    masks: Tensor | None = None
    native_masks: list[Tensor] | None = None
    ids: list[str] = field(default_factory=list)
    placements: list[Placement] | None = None
    areas: Tensor | None = None
    crowd: Tensor | None = None
    sizes: list[tuple[int, int]] | None = None

    def __len__(self) -> int:
        return self.images.shape[0]

    def to(self, device: torch.device) -> Batch:
        """Return the batch with every padded tensor on ``device``; native masks stay where they are."""
        moved = {
            entry.name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
            for entry in fields(self)
            for value in [getattr(self, entry.name)]
        }
        return Batch(**moved)

    def without_samples(self) -> Batch:
        """Return a batch of no images at all (N = 0) whose tensors keep their other sizes, types and strides."""
        return Batch(
            images=self.images[:0],
            boxes=self.boxes[:0],
            classes=self.classes[:0],
            valid=self.valid[:0],
            keypoints=None if self.keypoints is None else self.keypoints[:0],
            masks=None if self.masks is None else self.masks[:0],
            native_masks=None if self.native_masks is None else [],
            placements=None if self.placements is None else [],
            areas=None if self.areas is None else self.areas[:0],
            crowd=None if self.crowd is None else self.crowd[:0],
        )

    def cut(self, pieces: int) -> list[Batch]:
        """Return the batch as several smaller ones, in order, whose sizes differ by one image at most.

        Padding beside and below the images that none of a piece needs is left out. So are, on the CPU, rows of objects
        that are padding; on another device that would have to be waited for.

        Args:
            pieces: how many; with fewer images there are fewer pieces, but always one.
        """
        count = len(self)
        pieces = max(1, min(pieces, count))
        if pieces == 1:
            return [self]
        edges = [round(count * i / pieces) for i in range(pieces + 1)]
        return [self._images_from(first, last) for first, last in pairwise(edges)]

    def _images_from(self, first: int, last: int) -> Batch:
        """Return a batch of the images from ``first`` to before ``last``."""
        part = slice(first, last)
        valid = self.valid[part]
        most = valid.shape[1]
        if valid.device.type == "cpu":
            most = int(valid.any(0).nonzero().max()) + 1 if bool(valid.any()) else 0
        images, masks = self.images[part], None if self.masks is None else self.masks[part]
        sizes = None if self.sizes is None else self.sizes[first:last]
        if sizes:
            height, width = largest_size(sizes)
            if (height, width) != tuple(images.shape[-2:]):
                images = images[..., :height, :width].contiguous(memory_format=torch.channels_last)
                masks = None if masks is None else masks[..., :height, :width].contiguous()
            sizes = unless_equal(sizes)
        return Batch(
            images=images,
            boxes=self.boxes[part, :most],
            classes=self.classes[part, :most],
            valid=valid[:, :most],
            keypoints=None if self.keypoints is None else self.keypoints[part, :most],
            masks=masks,
            native_masks=None if self.native_masks is None else self.native_masks[part],
            ids=self.ids[part],
            placements=None if self.placements is None else self.placements[part],
            areas=None if self.areas is None else self.areas[part, :most],
            crowd=None if self.crowd is None else self.crowd[part, :most],
            sizes=sizes,
        )

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory; DataLoader calls this when ``pin_memory`` is on."""
        pinned = {
            entry.name: value.pin_memory() if isinstance(value, Tensor) else value
            for entry in fields(self)
            for value in [getattr(self, entry.name)]
        }
        return Batch(**pinned)


def largest_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the (height, width) that holds pictures of all these sizes."""
    return max(height for height, _ in sizes), max(width for _, width in sizes)


def unless_equal(sizes: list[tuple[int, int]]) -> list[tuple[int, int]] | None:
    """Return the sizes of images in their common canvas, or None where every image fills it."""
    return None if len(set(sizes)) <= 1 else sizes


def collate(samples: list[Sample]) -> Batch:
    """Stack samples into a batch.

    Where their images differ in size they lie in the upper left corner of the smallest canvas that holds all of them;
    the rest is 0 in images and 255 in masks.

    Args:
        samples: all or none with masks and with keypoints.

    Returns:
        A batch whose images are a channels-last view of one contiguous (N, H, W, 3) block; it has ``sizes`` where the
        images differ in size.
    """
    sizes = [(int(sample.image.shape[0]), int(sample.image.shape[1])) for sample in samples]
    images = torch.from_numpy(stack_pictures([sample.image for sample in samples], sizes, 0)).permute(0, 3, 1, 2)
    count, most = len(samples), max((len(sample.boxes) for sample in samples), default=0)
    boxes = np.zeros((count, most, 4), np.float32)
    classes = np.zeros((count, most), np.int64)
    valid = np.zeros((count, most), bool)
    with_keypoints = all(sample.keypoints is not None for sample in samples)
    keypoints = np.zeros((count, most, samples[0].keypoints.shape[1], 3), np.float32) if with_keypoints else None
    for i, sample in enumerate(samples):
        n = len(sample.boxes)
        boxes[i, :n], classes[i, :n], valid[i, :n] = sample.boxes, sample.classes, True
        if keypoints is not None:
            keypoints[i, :n] = sample.keypoints
    areas = _padded([sample.areas for sample in samples], most, np.float32)
    crowd = _padded([sample.crowd for sample in samples], most, np.bool_)
    testing = all(sample.placement is not None for sample in samples)
    masks, native_masks = None, None
    if all(sample.mask is not None for sample in samples):
        if testing:
            native_masks = [torch.from_numpy(np.ascontiguousarray(sample.mask)) for sample in samples]
        else:
            masks = torch.from_numpy(stack_pictures([sample.mask for sample in samples], sizes, _IGNORED))
    return Batch(
        images=images,
        boxes=torch.from_numpy(boxes),
        classes=torch.from_numpy(classes),
        valid=torch.from_numpy(valid),
        keypoints=None if keypoints is None else torch.from_numpy(keypoints),
        masks=masks,
        native_masks=native_masks,
        ids=[sample.id for sample in samples],
        placements=[sample.placement for sample in samples] if testing else None,
        areas=areas,
        crowd=crowd,
        sizes=unless_equal(sizes),
    )


def stack_pictures(pictures: list[np.ndarray], sizes: list[tuple[int, int]], value: int) -> np.ndarray:
    """Return (N, H, W, ...) uint8 pictures of these sizes, with ``value`` to the right of each and below."""
    if len(set(sizes)) == 1:
        return np.stack(pictures)
    height, width = largest_size(sizes)
    stacked = np.empty((len(pictures), height, width, *pictures[0].shape[2:]), np.uint8)
    for frame, picture, (own_height, own_width) in zip(stacked, pictures, sizes, strict=True):
        frame[:own_height, :own_width] = picture
        frame[:own_height, own_width:] = value
        frame[own_height:] = value
    return stacked


def _padded(rows: list[np.ndarray | None], most: int, dtype: type) -> Tensor | None:
    """Return (N, most) of one value per object, 0 where there is no object; None unless every sample has them."""
    if any(row is None for row in rows):
        return None
    padded = np.zeros((len(rows), most), dtype)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return torch.from_numpy(padded)
