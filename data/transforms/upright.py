"""Zoom and shift alone: every picture is resized straight into its rectangle of the output.

A warp looks every output pixel up through a matrix. Where nothing is turned or slanted, ``cv2.resize`` makes the same
picture in about half the time, but from whole source pixels to whole output pixels. So the edges of what is shown are
rounded on both sides, and the labels move by what the pixels do then, not by what was drawn: at no point of the output
do the two differ by more than half a pixel of the output or half a pixel of the source, whichever is larger (a sliver
that shows a single source pixel may be off by that pixel). Pictures that touch on their canvas touch in the output too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from data.samples import Sample
from data.transforms.geometry import BORDER_GREY, IGNORED, MAX_ASPECT, boxes_to_keep, warp_sample

Rectangle = tuple[int, int, int, int]
"""x1 y1 x2 y2 in whole pixels, the last two exclusive."""


class Crop(NamedTuple):
    """Which part of a picture is shown, and where; a side of 0 in the output shows nothing.

    Attributes:
        source: of the picture.
        target: of the output.
    """

    source: Rectangle
    target: Rectangle

    @property
    def shows(self) -> bool:
        """Whether there is a pixel to be seen."""
        return self.target[2] > self.target[0] and self.target[3] > self.target[1]

    def zoom_and_shift(self) -> tuple[float, float, float, float]:
        """Return scale_x, scale_y, left, top of exactly what happens to the pixels; (1, 1, 0, 0) for none at all."""
        if not self.shows:
            return 1.0, 1.0, 0.0, 0.0
        x1, y1, x2, y2 = self.source
        left, top, right, bottom = self.target
        scale_x, scale_y = (right - left) / (x2 - x1), (bottom - top) / (y2 - y1)
        return scale_x, scale_y, left - scale_x * x1, top - scale_y * y1


class ZoomShift(NamedTuple):
    """A matrix that does nothing else: x becomes ``zoom_x * x + shift_x``, and y likewise; zooms are above 0."""

    zoom_x: float
    zoom_y: float
    shift_x: float
    shift_y: float


def zoom_and_shift(matrix: np.ndarray) -> ZoomShift | None:
    """Return what a (3, 3) matrix does, or None if it turns, slants, mirrors or tilts."""
    (zoom_x, slant_x, shift_x), (slant_y, zoom_y, shift_y), (tilt_x, tilt_y, one) = matrix.tolist()
    if slant_x or slant_y or tilt_x or tilt_y or one != 1 or zoom_x <= 0 or zoom_y <= 0:
        return None
    return ZoomShift(zoom_x, zoom_y, shift_x, shift_y)


def plan_crop(move: ZoomShift, corner: tuple[int, int], part: Rectangle, size: tuple[int, int]) -> Crop:
    """Round what is shown of a picture.

    Args:
        move: from the canvas to the output.
        corner: (left, top) of the picture on the canvas.
        part: of the canvas that the picture covers.
        size: (height, width) of the output.
    """
    left, top = corner
    x1, x2, target_x1, target_x2 = _round_ends(move.zoom_x, move.shift_x, part[0], part[2], size[1])
    y1, y2, target_y1, target_y2 = _round_ends(move.zoom_y, move.shift_y, part[1], part[3], size[0])
    return Crop((x1 - left, y1 - top, x2 - left, y2 - top), (target_x1, target_y1, target_x2, target_y2))


def _round_ends(zoom: float, shift: float, low: int, high: int, length: int) -> tuple[int, int, int, int]:
    """Return the ends in the source, then those in the output, of what is seen along one axis of ``low`` to ``high``.

    An end that lies within the output is kept in the source and rounded in the output. That takes nothing but its
    place on the canvas, which neighbours share. An end beyond the output is cut there and rounded in the source.
    """
    first, last = zoom * low + shift, zoom * high + shift
    start, end = max(round(first), 0), min(round(last), length)
    if end <= start:
        return low, low, 0, 0
    if first < 0:
        low = min(max(round(-shift / zoom), low), high - 1)
    if last > length:
        high = max(min(round((length - shift) / zoom), high), low + 1)
    return low, high, start, end


def cut_labels_by_crops(labels: Sample, counts: Sequence[int], crops: Sequence[Crop], size: tuple[int, int]) -> Sample:
    """Move boxes and keypoints as the pixels of their pictures move.

    Args:
        labels: the objects of all pictures, one picture after the other, in pixels of their pictures.
        counts: objects of each picture.
        crops: of each picture.
        size: (height, width) of the output.

    Returns:
        A sample of all the labels, in the output, each cut off at the rectangle in which its picture is shown, also
        where nothing is left of it; a keypoint beyond it is unlabelled. The image is still that of ``labels``.
    """
    table = np.array([(*crop.zoom_and_shift(), *crop.target) for crop in crops])
    rows = np.repeat(table, counts, axis=0) if len(crops) > 1 else table
    scales, shifts, low, high = rows[:, 0:2], rows[:, 2:4], rows[:, 4:6], rows[:, 6:8]
    moved = labels.boxes.reshape(-1, 2, 2) * scales[:, None] + shifts[:, None]
    boxes = np.minimum(np.maximum(moved, low[:, None]), high[:, None]).reshape(-1, 4).astype(np.float32)
    keypoints = labels.keypoints
    if keypoints is not None:
        points = keypoints[..., :2] * scales[:, None] + shifts[:, None]
        # The output's own border is no part of it, while a border between two pictures belongs to both.
        inside = (points >= low[:, None]) & (points <= high[:, None]) & (points < (size[1], size[0]))
        seen = inside.all(-1) & (keypoints[..., 2] > 0)
        points = np.where(seen[..., None], np.concatenate([points, keypoints[..., 2:]], -1), 0)
        keypoints = points.astype(np.float32)
    return Sample(image=labels.image, boxes=boxes, classes=labels.classes, keypoints=keypoints)


def move_labels_by_crops(
    labels: Sample,
    counts: Sequence[int],
    crops: Sequence[Crop],
    before: np.ndarray,
    size: tuple[int, int],
    scale: float,
    max_aspect: float = MAX_ASPECT,
) -> Sample:
    """Do what ``cut_labels_by_crops`` does, and drop objects that are no longer worth learning.

    Args:
        labels: the objects of all pictures, one picture after the other, in pixels of their pictures.
        counts: objects of each picture.
        crops: of each picture.
        before: (n, 4) the boxes that areas are compared with, see ``boxes_to_keep``.
        size: (height, width) of the output.
        scale: zoom that was drawn.
        max_aspect: see ``boxes_to_keep``.
    """
    moved = cut_labels_by_crops(labels, counts, crops, size)
    return moved.only(boxes_to_keep(before, moved.boxes, scale, max_aspect=max_aspect))


def show_sample(
    sample: Sample, matrix: np.ndarray, size: tuple[int, int], scale: float, max_aspect: float = MAX_ASPECT
) -> Sample:
    """Move a whole sample, pixels and labels, by one matrix, which is rounded where it zooms and shifts only.

    Args:
        sample: what to show.
        matrix: (3, 3), from its pixels to the result.
        size: (height, width) of the result.
        scale: zoom within the matrix, for the comparison of areas.
        max_aspect: see ``boxes_to_keep``.
    """
    move = zoom_and_shift(matrix)
    if move is None:
        return warp_sample(sample, matrix, size, scale, max_aspect)
    height, width = sample.image.shape[:2]
    crops = [plan_crop(move, (0, 0), (0, 0, width, height), size)]
    moved = move_labels_by_crops(sample, [len(sample.boxes)], crops, sample.boxes, size, scale, max_aspect)
    moved.id = sample.id
    return with_pixels(moved, [sample], crops, size)


def with_pixels(
    labels: Sample,
    tiles: Sequence[Sample],
    crops: Sequence[Crop],
    size: tuple[int, int],
    out: np.ndarray | None = None,
) -> Sample:
    """Give a sample the pixels of its tiles, ``out`` or a new image; it has a mask if any tile has."""
    labels.image = show_images([tile.image for tile in tiles], crops, size, out)
    if any(tile.mask is not None for tile in tiles):
        labels.mask = show_masks([tile.mask for tile in tiles], crops, size)
    return labels


def show_images(
    images: Sequence[np.ndarray], crops: Sequence[Crop], size: tuple[int, int], out: np.ndarray | None = None
) -> np.ndarray:
    """Show (H, W, 3) uint8 pictures, interpolated linearly, on grey 114, in ``out`` or a new image, (*size, 3)."""
    shown = np.empty((*size, 3), np.uint8) if out is None else out
    if sum(map(_pixels, crops)) < size[0] * size[1]:
        shown.fill(BORDER_GREY)
    for image, crop in zip(images, crops, strict=True):
        if crop.shows:
            part, onto = _cut(image, crop.source), _cut(shown, crop.target)
            cv2.resize(part, (onto.shape[1], onto.shape[0]), dst=onto, interpolation=cv2.INTER_LINEAR)
    return shown


def show_masks(masks: Sequence[np.ndarray | None], crops: Sequence[Crop], size: tuple[int, int]) -> np.ndarray:
    """Show (H, W) uint8 class masks, every pixel from its nearest; what none covers is ignored (255)."""
    shown = np.full(size, IGNORED, np.uint8)
    for mask, crop in zip(masks, crops, strict=True):
        if mask is not None and crop.shows:
            onto = _cut(shown, crop.target)
            part = _cut(mask, crop.source)
            cv2.resize(part, (onto.shape[1], onto.shape[0]), dst=onto, interpolation=cv2.INTER_NEAREST_EXACT)
    return shown


def _pixels(crop: Crop) -> int:
    left, top, right, bottom = crop.target
    return (right - left) * (bottom - top)


def _cut(picture: np.ndarray, part: Rectangle) -> np.ndarray:
    return picture[part[1] : part[3], part[0] : part[2]]
