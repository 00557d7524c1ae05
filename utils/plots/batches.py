"""Pictures of whole batches, with their labels or with results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from pathlib import Path

import cv2
import numpy as np

from data.keypoints import KeypointSpec, generic_keypoints
from data.samples import Batch, Placement
from models.predictions import DetectionResult, MaskResult, PoseResult
from utils.boxes import points_to_network, scale_to_network
from utils.plots.drawing import IGNORED, blend_mask, draw_boxes, label_texts
from utils.plots.legend import draw_legend
from utils.plots.palette import mask_palette
from utils.plots.skeletons import LEAST_SCORE, Poses2d, draw_poses
from utils.plots.text import fitted_text, text_mask

_LONGEST_SIDE = 1920
_GAP = 4
_ROOM = 255
_STRIP = 18
"""Rows below every picture for its name, which would hide results if it stood on the picture."""

_READABLE = 384
_MOST_ENLARGED = 2.0
"""Smaller pictures are enlarged to ``_READABLE`` pixels, but at most so much: labels, whose letters have a least size,
would hide them."""

_STRIP_GREY = 48
_FONT = 12
_LEAST_SCORE = 0.25


def picture_of_labels(
    batch: Batch, names: Sequence[str], keypoints: KeypointSpec | None = None, most: int = 16
) -> np.ndarray:
    """Draw the first images of a batch in a grid with their boxes, keypoints and masks, above a legend of the masks.

    Args:
        batch: for training or testing, on any device.
        names: class names of the boxes or masks.
        keypoints: what the batch's keypoints are; None draws them as dots of which nothing is known.
        most: images in the grid.

    Returns:
        (H, W, 3) uint8 RGB; the grid has at most 1920 pixels a side.
    """
    present = np.zeros(256, bool)

    def draw(i: int, image: np.ndarray, scale: float) -> np.ndarray:
        mask = _mask_of(batch, i)
        if mask is not None:
            present[mask] = True
            image = blend_mask(image, _resize_map(mask, image.shape[:2]), mask_palette(names), alpha=0.5)
        valid = batch.valid[i].cpu().numpy()
        classes = batch.classes[i].cpu().numpy()[valid]
        boxes = batch.boxes[i].float().cpu().numpy()[valid] * scale
        if batch.keypoints is not None:
            points = batch.keypoints[i].float().cpu().numpy()[valid] * np.array((scale, scale, 1), np.float32)
            image = draw_poses(image, Poses2d.from_labels(points), keypoints or generic_keypoints(points.shape[1]))
        texts = label_texts(names, classes)
        if batch.crowd is not None:
            crowd = batch.crowd[i].cpu().numpy()[valid].tolist()
            texts = [f"{text} (crowd)" if many else text for text, many in zip(texts, crowd, strict=True)]
        return draw_boxes(image, boxes, classes, texts)

    return _with_legend(grid_of_images(batch, draw, most), present, names)


def picture_of_results(
    batch: Batch, results: Sequence[DetectionResult | MaskResult], names: Sequence[str], most: int = 16
) -> np.ndarray:
    """Draw the first images of a test batch in a grid with what was found in them, above a legend of class maps.

    Args:
        batch: with placements, on any device.
        results: one per image, in native pixels; objects below confidence 0.25 and keypoints below 0.3 are left out.
        names: class names.
        most: images in the grid.

    Returns:
        (H, W, 3) uint8 RGB; the grid has at most 1920 pixels a side.
    """
    if batch.placements is None:
        raise ValueError("results can be drawn only on a test batch, which knows the placements of its images")

    present = np.zeros(256, bool)

    def draw(i: int, image: np.ndarray, scale: float) -> np.ndarray:
        result, placement = results[i], batch.placements[i]
        if isinstance(result, MaskResult):
            present[result.class_map.cpu().numpy()] = True
            network = _place_map(result.class_map.cpu().numpy(), placement, tuple(batch.images.shape[2:]))
            return blend_mask(image, _resize_map(network, image.shape[:2]), mask_palette(names), alpha=0.5)
        scores = result.scores.float().cpu().numpy()
        sure = scores > _LEAST_SCORE
        classes = result.classes.cpu().numpy()[sure]
        boxes = scale_to_network(result.boxes.float().cpu().numpy()[sure], placement) * scale
        if isinstance(result, PoseResult):
            points = points_to_network(result.keypoints.float().cpu().numpy()[sure], placement)
            points *= np.array((scale, scale, 1), np.float32)
            image = draw_poses(image, Poses2d.from_scores(points, LEAST_SCORE), result.spec)
        return draw_boxes(image, boxes, classes, label_texts(names, classes, scores[sure]))

    return _with_legend(grid_of_images(batch, draw, most), present, names)


def _with_legend(grid: np.ndarray, present: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Add the names and colours of the classes of areas that occur, (256,) bool, below a grid."""
    shown = np.flatnonzero(present[: min(len(names), IGNORED)])
    legend = draw_legend([names[c] for c in shown], mask_palette(names)[shown], grid.shape[1])
    return np.concatenate([grid, legend])


def _mask_of(batch: Batch, i: int) -> np.ndarray | None:
    """Return the label mask of an image at the network's input size, or None."""
    if batch.masks is not None:
        return batch.masks[i].cpu().numpy()
    if batch.native_masks is None or batch.placements is None:
        return None
    return _place_map(batch.native_masks[i].cpu().numpy(), batch.placements[i], tuple(batch.images.shape[2:]))


def _resize_map(class_map: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if class_map.shape == size:
        return class_map
    return cv2.resize(class_map, (size[1], size[0]), interpolation=cv2.INTER_NEAREST)


def _place_map(class_map: np.ndarray, placement: Placement, size: tuple[int, int]) -> np.ndarray:
    """Move a native class map into a network input of (height, width); the padding is ignored."""
    matrix = np.array(
        [[placement.scale_x, 0, placement.left], [0, placement.scale_y, placement.top]],
        np.float64,
    )
    # A pixel's centre lies half a pixel from its corner, on both sides of the map.
    matrix[:, 2] += matrix[:, :2].sum(1) / 2 - 0.5
    return cv2.warpAffine(
        class_map,
        matrix,
        (size[1], size[0]),
        flags=cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=IGNORED,
    )


def grid_of_images(batch: Batch, draw: Callable[[int, np.ndarray, float], np.ndarray], most: int) -> np.ndarray:
    """Resize the images so that the grid has a fitting size, draw on each, name each, and lay them side by side.

    Args:
        batch: whose images.
        draw: returns the picture of an image, given its index, a resized copy of it, and by what its sides were
            multiplied.
        most: images in the grid.

    Returns:
        (H, W, 3) uint8 RGB, at most 1920 pixels a side.
    """
    count = min(len(batch), most)
    height, width = batch.images.shape[2:]
    columns = ceil(count**0.5)
    rows = ceil(count / columns)
    strip = _STRIP if any(batch.ids[:count]) else 0
    room_x = (_LONGEST_SIDE - (columns + 1) * _GAP) / columns
    room_y = (_LONGEST_SIDE - (rows + 1) * _GAP) / rows - strip
    enlarged = min(max(_READABLE / max(width, height), 1.0), _MOST_ENLARGED)
    scale = min(room_x / width, room_y / height, enlarged)
    tile_width, tile_height = max(int(width * scale), 1), max(int(height * scale), 1)
    step_y = tile_height + strip + _GAP
    grid = np.full((rows * step_y + _GAP, columns * (tile_width + _GAP) + _GAP, 3), _ROOM, np.uint8)
    for i in range(count):
        image = np.array(batch.images[i].permute(1, 2, 0).cpu().numpy(), order="C")
        if batch.sizes is not None:
            # White as the room between pictures: padding is no part of one.
            own_height, own_width = batch.sizes[i]
            image[own_height:], image[:, own_width:] = _ROOM, _ROOM
        if (tile_width, tile_height) != (width, height):
            how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            image = cv2.resize(image, (tile_width, tile_height), interpolation=how)
        y, x = _GAP + i // columns * step_y, _GAP + i % columns * (tile_width + _GAP)
        grid[y : y + tile_height, x : x + tile_width] = draw(i, image, scale)
        if i < len(batch.ids) and batch.ids[i]:
            _write_name(grid[y + tile_height : y + tile_height + strip, x : x + tile_width], Path(batch.ids[i]).name)
    return grid


def _write_name(strip: np.ndarray, name: str) -> None:
    """Write a file name into the dark strip below a tile."""
    strip[:] = _STRIP_GREY
    room = strip.shape[1] - 2 * _GAP
    if room < _FONT:
        return
    mask = text_mask(*fitted_text(name, _FONT, room))[: strip.shape[0], :room]
    top = (strip.shape[0] - mask.shape[0]) // 2
    place = strip[top : top + mask.shape[0], _GAP : _GAP + mask.shape[1]]
    np.maximum(place, mask[..., None], out=place)
