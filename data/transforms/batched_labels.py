"""Boxes and keypoints of a whole batch moved at once, on the host, as ``data.transforms.geometry`` moves one sample's.

Suffixes: m objects of all images one after the other, N images, M objects of an image with padding, K keypoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.device_pictures import DevicePictures
from data.transforms.geometry import MAX_ASPECT, boxes_to_keep, clip_boxes
from utils.errors import DataError


@dataclass
class Objects:
    """Objects of a batch, in the order of its images.

    Attributes:
        image: (m,) int64, position of the image in the batch, never falling.
        boxes: (m, 4) float32, x1 y1 x2 y2.
        classes: (m,) int64.
        keypoints: (m, K, 3) float32 or None.
    """

    image: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    keypoints: np.ndarray | None

    def only(self, keep: np.ndarray) -> Objects:
        """Return the objects where ``keep`` (m,) is true."""
        keypoints = None if self.keypoints is None else self.keypoints[keep]
        return Objects(self.image[keep], self.boxes[keep], self.classes[keep], keypoints)


@dataclass
class PaddedObjects:
    """Objects of a batch as ``data.samples.Batch`` holds them: (N, M, 4), (N, M), (N, M) and (N, M, K, 3) or None."""

    boxes: np.ndarray
    classes: np.ndarray
    valid: np.ndarray
    keypoints: np.ndarray | None


def require_flip_pairs(pictures: DevicePictures, flip_pairs: Sequence[tuple[int, int]]) -> None:
    """Raise DataError if a pair of keypoint indices names one that the pictures do not have."""
    if pictures.keypoints is None or not flip_pairs:
        return
    count = pictures.keypoints.shape[1]
    if max(index for pair in flip_pairs for index in pair) >= count:
        raise DataError(
            f"the recipe's flip_pairs name a keypoint beyond the {count} of the data set; "
            f"use indices from 0 to {count - 1}"
        )


def objects_of(pictures: DevicePictures, places: np.ndarray, image: np.ndarray) -> tuple[Objects, np.ndarray]:
    """Return the objects of pictures, and (m,) which entry of ``places`` each belongs to.

    Args:
        pictures: with labels.
        places: (t,) rows of the pictures.
        image: (t,) position in the batch of the image that shows the picture, never falling.
    """
    first, counts = pictures.offsets[places], pictures.offsets[places + 1] - pictures.offsets[places]
    entry = np.repeat(np.arange(len(places)), counts)
    starts = np.cumsum(counts) - counts
    rows = np.arange(len(entry)) + (first - starts)[entry]
    keypoints = None if pictures.keypoints is None else pictures.keypoints[rows]
    return Objects(image[entry], pictures.boxes[rows], pictures.classes[rows], keypoints), entry


def shift_onto_canvas(objects: Objects, left_top: np.ndarray, canvas: np.ndarray, cut: np.ndarray) -> None:
    """Shift objects in place.

    Args:
        objects: of a batch.
        left_top: (m, 2) pixels.
        canvas: (m, 2) width and height of what they are shifted onto.
        cut: (m,) bool, whether a box is cut off at the canvas, and a keypoint beyond it becomes unlabelled.
    """
    low, high = np.where(cut[:, None], 0, -np.inf), np.where(cut[:, None], canvas, np.inf)
    boxes = objects.boxes + np.tile(left_top, 2).astype(np.float32)
    objects.boxes = boxes.clip(low.astype(np.float32), np.tile(high, 2).astype(np.float32))
    if objects.keypoints is not None:
        points, visibility = objects.keypoints[..., :2] + left_top[:, None], objects.keypoints[..., 2:]
        objects.keypoints = _only_inside(points, visibility, low[:, None], high[:, None])


def move_objects(
    objects: Objects,
    matrices: np.ndarray,
    size: tuple[int, int],
    zooms: np.ndarray,
    max_aspect: float = MAX_ASPECT,
) -> Objects:
    """Move every object by its own matrix and drop those that are no longer worth learning.

    Args:
        objects: of a batch.
        matrices: (m, 3, 3) float64.
        size: (height, width) of the output.
        zooms: (m,) within the matrices, for the comparison of areas.
        max_aspect: see ``boxes_to_keep``.
    """
    corners = _move_points(objects.boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2), matrices)
    boxes = clip_boxes(np.concatenate([corners.min(1), corners.max(1)], 1), size).astype(np.float32)
    keep = boxes_to_keep(objects.boxes, boxes, zooms.astype(np.float32)[:, None], max_aspect=max_aspect)
    keypoints = objects.keypoints
    if keypoints is not None:
        points = _move_points(keypoints[..., :2], matrices)
        keypoints = _only_inside(points, keypoints[..., 2:], np.zeros(2), np.array([size[1], size[0]]))
    return Objects(objects.image, boxes, objects.classes, keypoints).only(keep)


def flip_objects(
    objects: Objects,
    across: np.ndarray,
    down: np.ndarray,
    size: tuple[int | np.ndarray, int | np.ndarray],
    flip_pairs: Sequence[tuple[int, int]],
) -> None:
    """Mirror objects in place.

    Args:
        objects: of a batch.
        across: (m,) bool, left to right; keypoints of a pair trade places.
        down: (m,) bool, upside down.
        size: height and width of the image, or (m,) of each object's.
        flip_pairs: pairs of keypoint indices.
    """
    boxes, keypoints = objects.boxes.copy(), objects.keypoints
    sides = [np.broadcast_to(side, across.shape).astype(np.float32) for side in (size[1], size[0])]
    for axis, flipped in enumerate((across, down)):
        boxes[flipped, axis], boxes[flipped, axis + 2] = (
            sides[axis][flipped] - objects.boxes[flipped, axis + 2],
            sides[axis][flipped] - objects.boxes[flipped, axis],
        )
    objects.boxes = boxes
    if keypoints is None:
        return
    order = np.arange(keypoints.shape[1])
    for left, right in flip_pairs:
        order[[left, right]] = right, left
    keypoints = np.where(across[:, None, None], keypoints[:, order], keypoints)
    for axis, flipped in enumerate((across, down)):
        mirrored = np.where(keypoints[..., 2] > 0, sides[axis][:, None] - keypoints[..., axis], 0)
        keypoints[..., axis] = np.where(flipped[:, None], mirrored, keypoints[..., axis])
    objects.keypoints = keypoints


def pad_objects(objects: Objects, count: int) -> PaddedObjects:
    """Give every one of ``count`` images as many rows as the image with the most objects has."""
    counts = np.bincount(objects.image, minlength=count)
    row = np.arange(len(objects.image)) - np.repeat(np.cumsum(counts) - counts, counts)
    most = int(counts.max(initial=0))
    boxes = np.zeros((count, most, 4), np.float32)
    classes = np.zeros((count, most), np.int64)
    valid = np.zeros((count, most), bool)
    where = objects.image, row
    boxes[where], classes[where], valid[where] = objects.boxes, objects.classes, True
    keypoints = None
    if objects.keypoints is not None:
        keypoints = np.zeros((count, most, *objects.keypoints.shape[1:]), np.float32)
        keypoints[where] = objects.keypoints
    return PaddedObjects(boxes, classes, valid, keypoints)


def _move_points(points: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """Move (m, p, 2) points, each row by its own (3, 3) matrix."""
    moved = points @ matrices[:, :, :2].transpose(0, 2, 1) + matrices[:, None, :, 2]
    return moved[..., :2] / moved[..., 2:]


def _only_inside(points: np.ndarray, visibility: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return (m, K, 3) keypoints; one that is unlabelled, or not from ``low`` to below ``high``, becomes zeros."""
    inside = ((points >= low) & (points < high)).all(-1, keepdims=True) & (visibility > 0)
    return np.where(inside, np.concatenate([points, visibility], -1), 0).astype(np.float32)
