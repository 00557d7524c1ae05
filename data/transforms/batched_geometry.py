"""Geometry for a whole batch at once: matrices on the host, pixels on the device.

Suffixes: V views (what one matrix shows), T tiles of a view (4 in a mosaic, 1 alone), H rows, W columns. A view is a
canvas on which tiles lie without overlap, as in ``data.transforms.mosaic``, seen through an inverse matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data.transforms.geometry import BORDER_GREY, IGNORED

PIXELS_AT_ONCE = 8 * 2**20
"""Pixels of output that are made in one go; each takes about 80 bytes meanwhile."""


@dataclass(frozen=True)
class AffineRanges:
    """Ranges of ``data.transforms.geometry.draw_affine``, read from a checked recipe."""

    perspective: float
    degrees: float
    scale: float
    shear: float
    translate: float

    @classmethod
    def of(cls, hyp: dict) -> AffineRanges:
        """Return a recipe's ranges, 0 for absent keys."""
        return cls(*(float(hyp.get(key, 0)) for key in ("perspective", "degrees", "scale", "shear", "translate")))


def affine_matrices(
    units: np.ndarray, ranges: AffineRanges, source: np.ndarray, target: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return what ``affine_matrix`` makes of many draws.

    Args:
        units: (V, 8) as ``draw_affine`` draws them, -1..1.
        ranges: of the recipe.
        source: (V,) sides of the square inputs, pixels.
        target: side of the square output, pixels.

    Returns:
        (V, 3, 3) float64 from source to target, and (V,) zooms.
    """
    angles, zooms = np.deg2rad(units[:, 2] * ranges.degrees), 1 + units[:, 3] * ranges.scale
    cos, sin = zooms * np.cos(angles), zooms * np.sin(angles)
    centre, view, turn, shear, shift = np.tile(np.eye(3), (5, len(units), 1, 1))
    centre[:, :2, 2] = -source[:, None] / 2
    view[:, 2, :2] = units[:, :2] * ranges.perspective
    turn[:, 0, 0], turn[:, 0, 1], turn[:, 1, 0], turn[:, 1, 1] = cos, sin, -sin, cos
    slants = np.tan(np.deg2rad(units[:, 4:6] * ranges.shear))
    shear[:, 0, 1], shear[:, 1, 0] = slants[:, 0], slants[:, 1]
    shift[:, :2, 2] = (0.5 + units[:, 6:8] * ranges.translate) * target
    return shift @ shear @ turn @ view @ centre, zooms


def shift_matrices(left_top: np.ndarray) -> np.ndarray:
    """Return (V, 3, 3) matrices that shift by (V, 2) left and top."""
    matrices = np.tile(np.eye(3), (len(left_top), 1, 1))
    matrices[:, :2, 2] = left_top
    return matrices


def inverse_matrices(matrices: np.ndarray, across: np.ndarray, down: np.ndarray, side: int) -> np.ndarray:
    """Return (V, 3, 3) matrices from pixels of the mirrored output back to the source, their last number 1.

    Args:
        matrices: (V, 3, 3) from source to output.
        across: (V,) bool, whether the output is then mirrored left to right.
        down: (V,) bool, whether it is turned upside down.
        side: of the square output, pixels.
    """
    mirror = np.tile(np.eye(3), (len(matrices), 1, 1))
    for axis, flipped in enumerate((across, down)):
        mirror[:, axis, axis] = np.where(flipped, -1, 1)
        mirror[:, axis, 2] = np.where(flipped, side - 1, 0)
    inverse = np.linalg.inv(matrices) @ mirror
    return inverse / inverse[:, 2:, 2:]


@dataclass(frozen=True)
class Views:
    """Canvases on the device.

    Attributes:
        places: (V, T) int64, rows of the pictures.
        corners: (V, T, 2) float32, left and top of each tile on the canvas, whole numbers.
        canvas: (V, 2) float32, width and height; what lies beyond is no part of it.
        inverse: (V, 3, 3) float32, from pixels of the output to pixels of the canvas.
        frame: (2,) float32, width and height of the frames in which pictures are kept.
        perspective: whether a matrix' last row is more than 0 0 1.
    """

    places: Tensor
    corners: Tensor
    canvas: Tensor
    inverse: Tensor
    frame: Tensor
    perspective: bool

    def __len__(self) -> int:
        return self.places.shape[0]

    def part(self, rows: slice) -> Views:
        """Return some of the views."""
        return replace(
            self,
            places=self.places[rows],
            corners=self.corners[rows],
            canvas=self.canvas[rows],
            inverse=self.inverse[rows],
        )

    def points(self, size: tuple[int, int]) -> Tensor:
        """Return (V, H, W, 2) x and y on the canvas for every pixel of an output of the given size."""
        columns = torch.arange(size[1], device=self.inverse.device, dtype=torch.float32)
        rows = torch.arange(size[0], device=self.inverse.device, dtype=torch.float32)
        matrix = self.inverse[:, None, None]
        by_column = matrix[..., 0] * columns[:, None]
        by_row = matrix[..., 1] * rows[:, None, None] + matrix[..., 2]
        points = by_column[..., :2] + by_row[..., :2]
        if self.perspective:
            points = points / (by_column[..., 2:] + by_row[..., 2:])
        return points


def parts(count: int, size: tuple[int, int]) -> Iterator[slice]:
    """Yield slices of ``count`` outputs of the given size, each of at most ``PIXELS_AT_ONCE`` pixels."""
    step = max(1, PIXELS_AT_ONCE // (size[0] * size[1]))
    return (slice(first, min(first + step, count)) for first in range(0, count, step))


def warp_images(images: Tensor, views: Views, size: tuple[int, int]) -> Tensor:
    """Show views with linear interpolation; uncovered pixels are grey 114.

    Every pixel of a canvas belongs to one tile or to none. So the canvas, less its grey, is the sum over the tiles,
    each taken as zero beyond itself, and need not be put together.

    Args:
        images: (n, H, W, 3) uint8, grey beside and below the pictures.
        views: what to show.
        size: (height, width) of the output.

    Returns:
        (V, *size, 3) uint8.
    """
    shown = images.new_empty((len(views), *size, 3))
    for rows in parts(len(views), size):
        part = views.part(rows)
        points = part.points(size)
        nearest = points.clamp(min=torch.zeros_like(part.canvas[:, None, None]), max=part.canvas[:, None, None] - 1)
        # One pixel beyond its border a canvas has faded to grey.
        within = (1 - (points - nearest).abs_()).clamp_(min=0).prod(-1)
        summed = _sum_of_tiles(images, part, nearest)
        summed.mul_(within[:, None]).add_(BORDER_GREY + 0.5)
        shown[rows].permute(0, 3, 1, 2).copy_(summed)
    return shown


def _sum_of_tiles(images: Tensor, views: Views, points: Tensor) -> Tensor:
    """Return (V, 3, H, W) float32: the tiles at (V, H, W, 2) points of the canvas, less the grey."""
    summed = None
    # By place in the mosaic, not all four at once, which would take four times the memory.
    for tile in range(views.places.shape[1]):
        pixels = torch.sub(images.index_select(0, views.places[:, tile]).permute(0, 3, 1, 2), float(BORDER_GREY))
        # grid_sample counts from -1 to 1 between the outer edges of the outer pixels.
        start = (1 - 2 * views.corners[:, tile]) / views.frame - 1
        grid = torch.addcmul(start[:, None, None], points, 2 / views.frame)
        sampled = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        summed = sampled if summed is None else summed.add_(sampled)
    return summed


def warp_masks(masks: Tensor, views: Views, size: tuple[int, int]) -> Tensor:
    """Show views of (n, H, W) uint8 masks, every pixel from its nearest; uncovered pixels are 255.

    Args:
        masks: 255 beside and below the pictures.
        views: what to show.
        size: (height, width) of the output.

    Returns:
        (V, *size) uint8.
    """
    shown = masks.new_full((len(views), *size), IGNORED)
    height, width = masks.shape[1:]
    flat = masks.view(-1)
    for rows in parts(len(views), size):
        part = views.part(rows)
        # Rounded on the canvas, so that neighbouring tiles agree on whose a pixel is.
        points = part.points(size).add_(0.5).floor_()
        x, y = points.unbind(-1)
        on_canvas = (x >= 0) & (x < part.canvas[:, :1, None]) & (y >= 0) & (y < part.canvas[:, 1:, None])
        for tile in range(part.places.shape[1]):
            left, top = part.corners[:, tile, :, None, None].unbind(1)
            column, row = x - left, y - top
            covered = on_canvas & (column >= 0) & (column < width) & (row >= 0) & (row < height)
            place = part.places[:, tile, None, None] * height + row.clamp(0, height - 1).long()
            values = flat[place * width + column.clamp(0, width - 1).long()]
            # 255 is the greatest value, so the least of all tiles is the one that covers the pixel.
            shown[rows] = torch.minimum(shown[rows], torch.where(covered, values, IGNORED))
    return shown


def resize_and_cut(images: Tensor, places: Tensor, x: Tensor, y: Tensor, covered: tuple[Tensor, Tensor]) -> Tensor:
    """Show pictures at points that form a grid, with linear interpolation; uncovered pixels are black.

    Args:
        images: (n, H, W, 3) uint8.
        places: (V,) rows of the pictures.
        x: (V, w) float32, column of the picture for each column of the output, within the picture.
        y: (V, h) float32, row of the picture for each row of the output.
        covered: (V, w) and (V, h) bool, whether the picture reaches there.

    Returns:
        (V, h, w, 3) uint8.
    """
    count, size = len(places), (y.shape[1], x.shape[1])
    height, width = images.shape[1:3]
    shown = images.new_empty((count, *size, 3))
    for rows in parts(count, size):
        pixels = images.index_select(0, places[rows]).permute(0, 3, 1, 2).float()
        grid = x.new_empty((pixels.shape[0], *size, 2))
        grid[..., 0] = ((2 * x[rows] + 1) / width - 1)[:, None]
        grid[..., 1] = ((2 * y[rows] + 1) / height - 1)[:, :, None]
        sampled = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)
        reached = covered[0][rows][:, None, None] & covered[1][rows][:, None, :, None]
        shown[rows].permute(0, 3, 1, 2).copy_(sampled.add_(0.5).mul_(reached))
    return shown


def cut_masks(masks: Tensor, places: Tensor, columns: Tensor, lines: Tensor, covered: tuple[Tensor, Tensor]) -> Tensor:
    """Show masks at pixels that form a grid; uncovered pixels are 255.

    Args:
        masks: (n, H, W) uint8.
        places: (V,) rows of the masks.
        columns: (V, w) int64, column of the mask for each column of the output.
        lines: (V, h) int64, row of the mask for each row of the output.
        covered: (V, w) and (V, h) bool, whether the mask reaches there.

    Returns:
        (V, h, w) uint8.
    """
    height, width = masks.shape[1:]
    starts = (places[:, None] * height + lines) * width
    values = masks.view(-1)[starts[:, :, None] + columns[:, None]]
    return torch.where(covered[1][:, :, None] & covered[0][:, None], values, IGNORED)
