"""YOLOX's mosaic: four tiles on a canvas twice as large, zoomed, turned and slanted about the canvas' corner.

Points are (x, y) in pixels; sizes are (height, width).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np

from data.samples import Sample
from data.transforms.geometry import (
    BORDER_GREY,
    IGNORED,
    AffineDraw,
    affine_matrix,
    clip_boxes,
    similarity_matrix,
    visible_window,
    warp_boxes,
    warp_image,
    warp_keypoints,
    warp_mask,
)
from data.transforms.recipe import Recipe, recipe_number, recipe_range

MOSAIC_SCALE = (0.1, 2.0)
"""Published range of the zoom; that of the smallest models is (0.5, 1.5)."""
Rectangle = tuple[int, int, int, int]
"""x1 y1 x2 y2 in whole pixels, the last two exclusive."""


class TilePlace(NamedTuple):
    """Which part of a tile is seen, and where.

    Attributes:
        canvas: on the canvas.
        tile: of the tile; as large as ``canvas``.
    """

    canvas: Rectangle
    tile: Rectangle


def place_tile(position: int, centre: tuple[int, int], tile: tuple[int, int], canvas: tuple[int, int]) -> TilePlace:
    """Say where a tile lies on the canvas, cut off at its borders; both rectangles are empty where it lies beyond.

    Args:
        position: 0 upper left, 1 upper right, 2 lower left, 3 lower right of the centre, which it touches.
        centre: (x, y) where the tiles meet.
        tile: size of the tile.
        canvas: size of the canvas.
    """
    left = centre[0] - tile[1] if position % 2 == 0 else centre[0]
    top = centre[1] - tile[0] if position < 2 else centre[1]
    return _cut((left, top), tile, (0, 0, canvas[1], canvas[0]))


def draw_origin_affine(hyp: Recipe, rng: np.random.Generator) -> AffineDraw:
    """Draw uniformly within the recipe's ranges.

    Args:
        hyp: recipe with ``mosaic_scale`` (least and greatest zoom), ``degrees`` (0..180), ``translate`` (0..1, fraction
            of the side) and ``shear`` (0..89 degrees); the last three are 0 where they are absent.
        rng: source of the numbers; always six are drawn, so that one key never changes what another one draws.

    Raises:
        ModelError: a key of the recipe is out of its range.
    """
    degrees = recipe_number(hyp, "degrees", 0, 0, 180)
    low, high = recipe_range(hyp, "mosaic_scale", MOSAIC_SCALE, 0.01, 100)
    shear = recipe_number(hyp, "shear", 0, 0, 89)
    translate = recipe_number(hyp, "translate", 0, 0, 1)
    unit = rng.uniform(-1, 1, 6).tolist()
    return AffineDraw(
        degrees=unit[0] * degrees,
        scale=low + (unit[1] + 1) / 2 * (high - low),
        shear=(unit[2] * shear, unit[3] * shear),
        translate=(unit[4] * translate, unit[5] * translate),
    )


def origin_matrix(draw: AffineDraw, size: tuple[int, int]) -> np.ndarray:
    """Return the (3, 3) float64 matrix that turns and zooms about the source's origin, slants, and shifts.

    Args:
        draw: what was drawn; ``translate`` is where the origin lands.
        size: of the output, whose fractions ``translate`` holds.
    """
    # A source without an extent has its centre at the origin.
    return affine_matrix(draw, (0, 0), size)


def warp_mosaic(
    load: Callable[[int], Sample], centre: tuple[int, int], size: tuple[int, int], matrix: np.ndarray
) -> Sample:
    """Lay four samples around a centre on a canvas of twice the size, and warp it.

    Only the window of the canvas that the warp reads is ever made, and tiles that cannot reach into it are not loaded;
    their objects could not have been seen either.

    Args:
        load: gives the sample for a position (see ``place_tile``), no larger than ``size``.
        centre: (x, y) on the canvas.
        size: of the result.
        matrix: (3, 3), from the canvas to the result.

    Returns:
        The warped canvas under the id of the first sample, which is always loaded: uncovered pixels grey 114 and mask
        255, keypoints beyond canvas or result unlabelled, and every object of the loaded samples, also where nothing of
        it is left.
    """
    canvas = 2 * size[0], 2 * size[1]
    window = visible_window(matrix, canvas, size)
    seen = [i for i in range(4) if i == 0 or _is_seen(place_tile(i, centre, size, canvas), window)]
    tiles = [load(i) for i in seen]
    places = [place_tile(i, centre, tile.image.shape[:2], canvas) for i, tile in zip(seen, tiles, strict=True)]
    pixels, classes = _paste(tiles, places, window)
    to_result = matrix @ similarity_matrix(1, 1, window[0], window[1])
    labels = _labels_on_canvas(tiles, places, canvas)
    keypoints = labels.keypoints
    return replace(
        labels,
        image=warp_image(pixels, to_result, size),
        boxes=warp_boxes(labels.boxes, matrix, size),
        keypoints=None if keypoints is None else warp_keypoints(keypoints, matrix, size),
        mask=None if classes is None else warp_mask(classes, to_result, size),
    )


def _cut(corner: tuple[int, int], tile: tuple[int, int], part: Rectangle) -> TilePlace:
    """Cut a tile with its upper left corner at (left, top) to a part of the canvas."""
    (left, top), (height, width) = corner, tile
    x1, y1 = min(max(left, part[0]), part[2]), min(max(top, part[1]), part[3])
    x2, y2 = max(min(left + width, part[2]), x1), max(min(top + height, part[3]), y1)
    return TilePlace((x1, y1, x2, y2), (x1 - left, y1 - top, x2 - left, y2 - top))


def _is_seen(place: TilePlace, window: Rectangle) -> bool:
    x1, y1, x2, y2 = place.canvas
    return x1 < min(x2, window[2]) and x2 > window[0] and y1 < min(y2, window[3]) and y2 > window[1]


def _corner(place: TilePlace) -> tuple[int, int]:
    """Return (left, top) of a whole tile on the canvas."""
    return place.canvas[0] - place.tile[0], place.canvas[1] - place.tile[1]


def _paste(
    tiles: Sequence[Sample], places: Sequence[TilePlace], window: Rectangle
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the pixels, (H, W, 4) as ``warp_image`` likes them, and the mask of a window of the canvas."""
    width, height = max(window[2] - window[0], 1), max(window[3] - window[1], 1)
    pixels = np.full((height, width, 4), BORDER_GREY, np.uint8)
    mask = np.full((height, width), IGNORED, np.uint8) if any(tile.mask is not None for tile in tiles) else None
    for tile, place in zip(tiles, places, strict=True):
        (x1, y1, x2, y2), part = _cut(_corner(place), tile.image.shape[:2], window)
        onto = slice(y1 - window[1], y2 - window[1]), slice(x1 - window[0], x2 - window[0])
        source = slice(part[1], part[3]), slice(part[0], part[2])
        if x2 > x1 and y2 > y1:
            cv2.cvtColor(tile.image[source], cv2.COLOR_RGB2RGBA, dst=pixels[onto])
        if tile.mask is not None:
            mask[onto] = tile.mask[source]
    return pixels, mask


def _labels_on_canvas(tiles: Sequence[Sample], places: Sequence[TilePlace], canvas: tuple[int, int]) -> Sample:
    """Return the objects of all tiles where they lie on the canvas, cut off at its borders, without pixels."""
    counts = [len(tile.boxes) for tile in tiles]
    shifts = np.repeat(np.array([_corner(place) for place in places], np.float32), counts, axis=0)
    boxes = np.concatenate([tile.boxes for tile in tiles]) + np.concatenate([shifts, shifts], 1)
    keypoints = None
    if all(tile.keypoints is not None for tile in tiles):
        keypoints = np.concatenate([tile.keypoints for tile in tiles])
        keypoints[..., :2] += shifts[:, None]
        keypoints = warp_keypoints(keypoints, np.eye(3), canvas)
    return Sample(
        image=tiles[0].image,
        boxes=clip_boxes(boxes, canvas),
        classes=np.concatenate([tile.classes for tile in tiles]),
        keypoints=keypoints,
        id=tiles[0].id,
    )
