"""What RTMDet shows of a mosaic or of a single picture: resized with its aspect kept, then cropped at random.

The published program lays four tiles on a canvas, resizes all of it and cuts a window out. Here the window is planned
first, and only what is seen of each tile is resized, straight into its place (``data.transforms.upright``). The pixels
differ from resizing the whole in two ways: along an edge between tiles, or between a tile and the grey, nothing of one
is mixed into the other; and where the window cuts a tile, the cut is rounded to a whole pixel of the tile, which labels
follow. Sizes are (height, width) in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from data.samples import Sample
from data.transforms.mosaic import crop_tiles, join_labels
from data.transforms.upright import Crop, ZoomShift, cut_labels_by_crops, with_pixels


class WindowDraw(NamedTuple):
    """The random part of a view.

    Attributes:
        centre: where tiles meet, as shares (x, y) of the side from half a side on, 0..1.
        ratio: of the resizing, above 0.
        room: where the window lies, as shares (x, y) of the room that there is, 0..1.
    """

    centre: tuple[float, float]
    ratio: float
    room: tuple[float, float]


class View(NamedTuple):
    """What is shown, before a pixel is made.

    Attributes:
        labels: every object of which something is left, cut off at the borders; without pixels and mask.
        tiles: the pictures that are seen, at least one.
        crops: what is shown of each, and where.
        size: of what is shown; it may be smaller than was asked.
    """

    labels: Sample
    tiles: list[Sample]
    crops: list[Crop]
    size: tuple[int, int]

    def pixels(self, out: np.ndarray) -> Sample:
        """Return the sample with its pixels in ``out``, (*size, 3) uint8; what no tile covers is grey 114, and 255 in
        the mask."""
        return with_pixels(self.labels, self.tiles, self.crops, self.size, out)


def view_of_four(load: Callable[[int], Sample], indices: Sequence[int], side: int, draw: WindowDraw) -> View:
    """Plan a window of ``side`` into four tiles on a canvas of ``2 * side`` that is resized by the drawn ratio.

    A canvas that has become smaller than the window is shown whole. Tiles that cannot be seen are not loaded.

    Args:
        load: gives a sample whose longer side is ``side`` pixels.
        indices: of the tiles upper left, upper right, lower left, lower right; each touches the centre.
        side: of the window, pixels.
        draw: what was drawn.
    """
    resized = max(int(2 * side * draw.ratio), 1)
    length = min(resized, side)
    zoom = resized / (2 * side)
    left, top = (_offset(share, resized, length) for share in draw.room)
    centre = int(side * (0.5 + draw.centre[0])), int(side * (0.5 + draw.centre[1]))
    move = ZoomShift(zoom, zoom, -left, -top)
    tiles, _, crops = crop_tiles(load, indices, centre, side, move, (length, length))
    return _view(tiles, crops, (length, length))


def view_of_one(sample: Sample, most: tuple[int, int], draw: WindowDraw) -> View:
    """Plan a window into a picture that has been resized already; it is no larger than the picture.

    Args:
        sample: the picture.
        most: greatest size of the window.
        draw: what was drawn; its ratio and its centre do not count.
    """
    height, width = sample.image.shape[:2]
    size = min(height, most[0]), min(width, most[1])
    left, top = _offset(draw.room[0], width, size[1]), _offset(draw.room[1], height, size[0])
    crop = Crop((left, top, left + size[1], top + size[0]), (0, 0, size[1], size[0]))
    return _view([sample], [crop], size)


def _view(tiles: list[Sample], crops: list[Crop], size: tuple[int, int]) -> View:
    moved = cut_labels_by_crops(join_labels(tiles), [len(tile.boxes) for tile in tiles], crops, size)
    moved.id = tiles[0].id
    keep = (moved.boxes[:, 2:] > moved.boxes[:, :2]).all(1)
    if moved.keypoints is not None:
        # Somebody of whom no keypoint is seen teaches nothing, as in YOLOX's pipeline.
        keep &= (moved.keypoints[..., 2] > 0).any(1)
    return View(moved.only(keep), tiles, crops, size)


def _offset(share: float, length: int, window: int) -> int:
    """Return where a window begins: every whole pixel at which it fits has the same chance."""
    return int(share * (length - window + 1))
