"""Several samples in one: four tiles on a canvas, or two pictures blended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np

from data.samples import Sample
from data.transforms.geometry import (
    BORDER_GREY,
    IGNORED,
    MAX_ASPECT,
    clip_boxes,
    move_labels,
    similarity_matrix,
    visible_window,
    warp_image,
    warp_keypoints,
    warp_mask,
)
from data.transforms.upright import (
    Crop,
    Rectangle,
    ZoomShift,
    move_labels_by_crops,
    plan_crop,
    with_pixels,
    zoom_and_shift,
)

_NO_PIXELS = np.zeros((0, 0, 3), np.uint8)


def draw_centre(side: int, rng: np.random.Generator) -> tuple[int, int]:
    """Draw where the four tiles of a canvas of ``2 * side`` meet: x and y from side / 2 to 3 * side / 2."""
    x, y = rng.uniform(side / 2, 3 * side / 2, 2).astype(int).tolist()
    return x, y


def mosaic(
    load: Callable[[int], Sample],
    indices: Sequence[int],
    centre: tuple[int, int],
    side: int,
    matrix: np.ndarray,
    scale: float,
    max_aspect: float = MAX_ASPECT,
) -> Sample:
    """Lay four samples around a centre on a square canvas of ``2 * side`` pixels and show it at ``side`` pixels.

    Only what is seen of the canvas is ever made, and tiles that cannot be seen are not loaded; their objects could not
    have been seen either. A matrix that only zooms and shifts is rounded to whole pixels, see
    ``data.transforms.upright``.

    Args:
        load: gives a sample whose longer side is ``side`` pixels.
        indices: of the tiles upper left, upper right, lower left, lower right; each touches the centre with its inner
            corner.
        centre: (x, y) on the canvas.
        side: of the result, pixels.
        matrix: (3, 3), from the canvas to the result.
        scale: zoom of the matrix, for ``boxes_to_keep``.
        max_aspect: likewise.

    Returns:
        What is seen of the canvas: uncovered pixels grey 114 and mask 255, boxes of what is left of an object after the
        borders of canvas and result have cut it, keypoints beyond either unlabelled. It has a mask (keypoints) if any
        tile has. It has no id.
    """
    move = zoom_and_shift(matrix)
    if move is None:
        return _warped_mosaic(load, indices, centre, side, matrix, scale, max_aspect)
    size = side, side
    tiles, corners, crops = crop_tiles(load, indices, centre, side, move, size)
    joined, counts = join_labels(tiles), [len(tile.boxes) for tile in tiles]
    before = _boxes_on_canvas(joined.boxes, counts, corners, (2 * side, 2 * side))
    moved = move_labels_by_crops(joined, counts, crops, before, size, scale, max_aspect)
    return with_pixels(moved, tiles, crops, size)


def crop_tiles(
    load: Callable[[int], Sample],
    indices: Sequence[int],
    centre: tuple[int, int],
    side: int,
    move: ZoomShift,
    size: tuple[int, int],
) -> tuple[list[Sample], list[tuple[int, int]], list[Crop]]:
    """Load the tiles of a canvas of ``2 * side`` that can be seen, and say what is shown of each.

    Args:
        load: see ``mosaic``.
        indices: see ``mosaic``.
        centre: see ``mosaic``.
        side: of a tile, pixels.
        move: from the canvas to the output.
        size: (height, width) of the output.

    Returns:
        The tiles, where each has its upper left corner on the canvas, and what is shown of each. One is taken even
        where a large shift shows none, so that the result has the kinds of labels that all others have.
    """
    canvas = 2 * side, 2 * side

    def crop(corner: tuple[int, int], shape: tuple[int, ...]) -> Crop:
        return plan_crop(move, corner, _on_canvas(corner, shape, canvas), size)

    seen = [i for i in range(4) if crop(_upper_left(i, centre, (side, side)), (side, side)).shows] or [0]
    tiles = [load(indices[i]) for i in seen]
    corners = [_upper_left(i, centre, tile.image.shape) for i, tile in zip(seen, tiles, strict=True)]
    return tiles, corners, [crop(corner, tile.image.shape) for corner, tile in zip(corners, tiles, strict=True)]


def _warped_mosaic(
    load: Callable[[int], Sample],
    indices: Sequence[int],
    centre: tuple[int, int],
    side: int,
    matrix: np.ndarray,
    scale: float,
    max_aspect: float,
) -> Sample:
    canvas, size = (2 * side, 2 * side), (side, side)
    window = visible_window(matrix, canvas, size)
    seen = [i for i in range(4) if _may_overlap(i, centre, side, window)] or [0]
    tiles = [load(indices[i]) for i in seen]
    corners = [_upper_left(i, centre, tile.image.shape) for i, tile in zip(seen, tiles, strict=True)]
    moved = move_labels(_labels_on_canvas(tiles, corners, canvas), matrix, size, scale, max_aspect)
    to_result = matrix @ similarity_matrix(1, 1, window[0], window[1])
    pixels, classes = _paste(tiles, corners, window)
    mask = None if classes is None else warp_mask(classes, to_result, size)
    return replace(moved, image=warp_image(pixels, to_result, size), mask=mask)


def mixup(first: Sample, second: Sample, share: float, out: np.ndarray | None = None) -> Sample:
    """Blend two samples of equal size and keep the objects of both.

    Args:
        first: weighs ``share``.
        second: weighs ``1 - share``.
        share: 0..1.
        out: where the pixels go, which may be the image of either; None leaves both as they are.

    Returns:
        The blend. Where the two masks disagree a pixel has no one class, so it is ignored (255).
    """
    image = cv2.addWeighted(first.image, share, second.image, 1 - share, 0, dst=out)
    mask = None
    if first.mask is not None and second.mask is not None:
        mask = np.where(first.mask == second.mask, first.mask, np.uint8(IGNORED))
    return replace(join_labels([first, second]), image=image, mask=mask, id=first.id)


def _may_overlap(position: int, centre: tuple[int, int], side: int, window: tuple[int, int, int, int]) -> bool:
    """Tell whether a tile at a position, which is ``side`` pixels wide and high at most, can reach into a window."""
    left = centre[0] - side if position % 2 == 0 else centre[0]
    top = centre[1] - side if position < 2 else centre[1]
    return left < window[2] and left + side > window[0] and top < window[3] and top + side > window[1]


def _upper_left(position: int, centre: tuple[int, int], shape: tuple[int, ...]) -> tuple[int, int]:
    """Return (left, top) of a tile on the canvas."""
    left = centre[0] - shape[1] if position % 2 == 0 else centre[0]
    top = centre[1] - shape[0] if position < 2 else centre[1]
    return left, top


def _on_canvas(corner: tuple[int, int], shape: tuple[int, ...], canvas: tuple[int, int]) -> Rectangle:
    """Return the part of the canvas that a tile covers."""
    (left, top), (height, width) = corner, shape[:2]
    x1, y1 = min(max(left, 0), canvas[1]), min(max(top, 0), canvas[0])
    return x1, y1, max(min(left + width, canvas[1]), x1), max(min(top + height, canvas[0]), y1)


def _paste(
    tiles: Sequence[Sample], corners: Sequence[tuple[int, int]], window: tuple[int, int, int, int]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the pixels, (H, W, 4) as ``warp_image`` likes them, and the mask of a window of the canvas."""
    width, height = max(window[2] - window[0], 1), max(window[3] - window[1], 1)
    pixels = np.full((height, width, 4), BORDER_GREY, np.uint8)
    mask = np.full((height, width), IGNORED, np.uint8) if any(tile.mask is not None for tile in tiles) else None
    for tile, (left, top) in zip(tiles, corners, strict=True):
        onto, source = _overlap((top - window[1], left - window[0]), tile.image.shape[:2], (height, width))
        part = tile.image[source]
        if part.size:
            cv2.cvtColor(part, cv2.COLOR_RGB2RGBA, dst=pixels[onto])
        if tile.mask is not None:
            mask[onto] = tile.mask[source]
    return pixels, mask


def _overlap(origin: tuple[int, int], size: tuple[int, int], canvas: tuple[int, int]) -> tuple[tuple, tuple]:
    """Return slices of the canvas and of the tile for the part of a tile at (top, left) that lies on the canvas."""
    onto, source = [], []
    for start, length, limit in zip(origin, size, canvas, strict=True):
        low = min(max(start, 0), limit)
        high = max(min(start + length, limit), low)
        onto.append(slice(low, high))
        source.append(slice(low - start, high - start))
    return tuple(onto), tuple(source)


def _labels_on_canvas(tiles: Sequence[Sample], corners: Sequence[tuple[int, int]], canvas: tuple[int, int]) -> Sample:
    """Return the objects of all tiles where they lie on the canvas, cut off at its borders."""
    joined = join_labels(tiles)
    counts = [len(tile.boxes) for tile in tiles]
    boxes = _boxes_on_canvas(joined.boxes, counts, corners, canvas)
    keypoints = joined.keypoints
    if keypoints is not None:
        keypoints[..., :2] += np.repeat(np.array(corners, np.float32), counts, axis=0)[:, None]
        keypoints = warp_keypoints(keypoints, np.eye(3), canvas)
    return replace(joined, boxes=boxes, keypoints=keypoints)


def _boxes_on_canvas(
    boxes: np.ndarray, counts: Sequence[int], corners: Sequence[tuple[int, int]], canvas: tuple[int, int]
) -> np.ndarray:
    """Return the boxes of all tiles where they lie on the canvas, cut off at its borders."""
    shifts = np.repeat(np.array([corner * 2 for corner in corners], np.float32), counts, axis=0)
    return clip_boxes(boxes + shifts, canvas)


def join_labels(samples: Sequence[Sample]) -> Sample:
    """Return a sample with nothing but the objects of all; where some have keypoints, others get unlabelled ones."""
    if not samples:
        return Sample(image=_NO_PIXELS)
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
    return Sample(image=_NO_PIXELS, boxes=boxes, classes=classes, keypoints=keypoints)
