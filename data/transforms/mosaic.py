"""Several samples in one: four tiles on a canvas, or two pictures blended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from data.samples import Sample
from data.transforms.geometry import BORDER_GREY, IGNORED, clip_boxes, similarity_matrix, warp_keypoints


def draw_centre(side: int, rng: np.random.Generator) -> tuple[int, int]:
    """Draw where the four tiles of a canvas of ``2 * side`` meet: x and y from side / 2 to 3 * side / 2."""
    x, y = rng.uniform(side / 2, 3 * side / 2, 2).astype(int).tolist()
    return x, y


def mosaic(tiles: Sequence[Sample], side: int, centre: tuple[int, int]) -> Sample:
    """Lay four samples around a centre on a square canvas of ``2 * side`` pixels.

    Pasting and then warping the canvas once was measured to be as fast as warping each tile, and has no seams.

    Args:
        tiles: upper left, upper right, lower left, lower right; each touches the centre with its inner corner.
        side: half of the canvas' side, pixels.
        centre: (x, y) on the canvas.

    Returns:
        The canvas: uncovered pixels grey 114 and mask 255, boxes clipped to the canvas and not yet filtered, keypoints
        beyond it unlabelled. It has a mask (keypoints) if any tile has. The id is the first tile's.
    """
    canvas = np.full((2 * side, 2 * side, 3), BORDER_GREY, np.uint8)
    mask = np.full(canvas.shape[:2], IGNORED, np.uint8) if any(tile.mask is not None for tile in tiles) else None
    placed = []
    for position, tile in enumerate(tiles):
        height, width = tile.image.shape[:2]
        left = centre[0] - width if position % 2 == 0 else centre[0]
        top = centre[1] - height if position < 2 else centre[1]
        onto, source = _overlap((top, left), (height, width), canvas.shape[:2])
        canvas[onto] = tile.image[source]
        if tile.mask is not None:
            mask[onto] = tile.mask[source]
        placed.append(_shift_labels(tile, left, top, canvas.shape[:2]))
    return _join_labels(Sample(image=canvas, mask=mask, id=tiles[0].id), placed)


def mixup(first: Sample, second: Sample, share: float) -> Sample:
    """Blend two samples of equal size and keep the objects of both.

    Args:
        first: weighs ``share``.
        second: weighs ``1 - share``.
        share: 0..1.

    Returns:
        The blend. Where the two masks disagree a pixel has no one class, so it is ignored (255).
    """
    image = cv2.addWeighted(first.image, share, second.image, 1 - share, 0)
    mask = None
    if first.mask is not None and second.mask is not None:
        mask = np.where(first.mask == second.mask, first.mask, np.uint8(IGNORED))
    return _join_labels(Sample(image=image, mask=mask, id=first.id), [first, second])


def _overlap(origin: tuple[int, int], size: tuple[int, int], canvas: tuple[int, int]) -> tuple[tuple, tuple]:
    """Return slices of the canvas and of the tile for the part of a tile at (top, left) that lies on the canvas."""
    onto, source = [], []
    for start, length, limit in zip(origin, size, canvas, strict=True):
        low = min(max(start, 0), limit)
        high = max(min(start + length, limit), low)
        onto.append(slice(low, high))
        source.append(slice(low - start, high - start))
    return tuple(onto), tuple(source)


def _shift_labels(tile: Sample, left: int, top: int, canvas: tuple[int, int]) -> Sample:
    boxes = clip_boxes(tile.boxes + np.array([left, top, left, top], np.float32), canvas)
    keypoints = tile.keypoints
    if keypoints is not None:
        keypoints = warp_keypoints(keypoints, similarity_matrix(1, 1, left, top), canvas)
    return replace(tile, boxes=boxes, keypoints=keypoints)


def _join_labels(onto: Sample, samples: Sequence[Sample]) -> Sample:
    """Give ``onto`` the objects of all samples; where only some have keypoints, the others get unlabelled ones."""
    shapes = [sample.keypoints.shape[1:] for sample in samples if sample.keypoints is not None]
    keypoints = None
    if shapes:
        keypoints = np.concatenate(
            [
                np.zeros((len(sample.boxes), *shapes[0]), np.float32) if sample.keypoints is None else sample.keypoints
                for sample in samples
            ]
        )
    boxes = np.concatenate([sample.boxes for sample in samples])
    classes = np.concatenate([sample.classes for sample in samples])
    return replace(onto, boxes=boxes, classes=classes, keypoints=keypoints)
