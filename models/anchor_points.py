"""Anchor points: one per cell of every level, from which anchor-free heads measure boxes and keypoints.

YOLOX and RTMDet measure from a cell's upper left corner, YOLOv6 and YOLOv8 from its centre.

Shape suffixes: B images, A anchor points of all levels, K keypoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from utils.precision import full_precision

LARGEST_LOG_SIZE = 20.0
"""Sides are cut at e^20 cells: a box of that size is nonsense anyway, and its area still fits into float32."""


@dataclass(frozen=True)
class AnchorPoints:
    """The anchor points of all levels, level by level in the order of the head, each row by row.

    Attributes:
        corners: (A, 2) float32, x and y of each cell's upper left corner in pixels of the network input.
        strides: (A, 1) float32, pixels per cell.
        shapes: rows and columns of every level.
        level_strides: pixels per cell of every level.
    """

    corners: Tensor
    strides: Tensor
    shapes: tuple[tuple[int, int], ...]
    level_strides: tuple[float, ...]

    def __len__(self) -> int:
        return self.corners.shape[0]

    @property
    def centres(self) -> Tensor:
        """(A, 2) float32, x and y of each cell's centre in pixels."""
        return self.corners + self.strides / 2


def anchor_points(
    shapes: Sequence[tuple[int, int]], strides: Sequence[float], device: torch.device | None = None
) -> AnchorPoints:
    """Return the anchor points of levels.

    Args:
        shapes: rows and columns of every level.
        strides: pixels per cell of every level.
        device: where the tensors shall lie.
    """
    corners, widths = [], []
    for (rows, columns), stride in zip(shapes, strides, strict=True):
        y = torch.arange(rows, device=device, dtype=torch.float32) * stride
        x = torch.arange(columns, device=device, dtype=torch.float32) * stride
        row, column = torch.meshgrid(y, x, indexing="ij")
        corners.append(torch.stack((column, row), -1).reshape(-1, 2))
        widths.append(torch.full((rows * columns, 1), float(stride), device=device))
    sides = tuple((rows, columns) for rows, columns in shapes)
    return AnchorPoints(torch.cat(corners), torch.cat(widths), sides, tuple(float(stride) for stride in strides))


def flatten_levels(raw: Sequence[Tensor]) -> Tensor:
    """Return maps of several levels, each (B, channels, rows, columns), as one tensor (B, A, channels)."""
    return torch.cat([level.flatten(2).transpose(1, 2) for level in raw], 1)


def decode_boxes(values: Tensor, points: AnchorPoints) -> Tensor:
    """Return boxes from a head's box values: ``centre = (xy + cell) * stride``, ``size = exp(wh) * stride``.

    Args:
        values: (..., A, 4) x, y, log of width, log of height in cells; half precision is raised to float32.
        points: of the levels they belong to.

    Returns:
        (..., A, 4) centre x, centre y, width, height in pixels of the network input.
    """
    return decode_boxes_at(values, points.corners, points.strides)


def decode_boxes_at(values: Tensor, corners: Tensor, strides: Tensor) -> Tensor:
    """Return boxes of chosen points, as ``decode_boxes`` does.

    Args:
        values: (..., 4) raw box values.
        corners: (..., 2) of the points in pixels.
        strides: (..., 1) of the points in pixels.
    """
    values = full_precision(values)
    size = values[..., 2:].clamp(max=LARGEST_LOG_SIZE).exp() * strides
    return torch.cat((values[..., :2] * strides + corners, size), -1)


def encode_boxes_at(boxes: Tensor, corners: Tensor, strides: Tensor) -> Tensor:
    """Return the raw box values that decode to given boxes, as the L1 loss of YOLOX wants them.

    Args:
        boxes: (..., 4) centre x, centre y, width, height in pixels; a side of 0 has the logarithm of 1e-8 cells.
        corners: (..., 2) of the points in pixels.
        strides: (..., 1) of the points in pixels.
    """
    return torch.cat(((boxes[..., :2] - corners) / strides, (boxes[..., 2:] / strides + 1e-8).log()), -1)


def boxes_from_distances(distances: Tensor, places: Tensor, strides: Tensor) -> Tensor:
    """Return boxes from distances to their four sides, as RTMDet, YOLOv6 and YOLOv8 predict them.

    A distance may be negative; then its side lies on the other side of the place. Nothing is cut.

    Args:
        distances: (..., A, 4) left, top, right, bottom in strides; half precision is raised to float32.
        places: (A, 2), or (..., A, 2), x and y in pixels: ``AnchorPoints.corners`` for RTMDet, ``centres`` for YOLOv6
            and YOLOv8.
        strides: (A, 1), or (..., A, 1), pixels per cell.

    Returns:
        (..., A, 4) x1 y1 x2 y2 in pixels of the network input.
    """
    distances = full_precision(distances) * strides
    return torch.cat((places - distances[..., :2], places + distances[..., 2:]), -1)


def distances_of_boxes(boxes: Tensor, places: Tensor, strides: Tensor) -> Tensor:
    """Return the distances that ``boxes_from_distances`` makes given boxes of.

    Args:
        boxes: (..., A, 4) x1 y1 x2 y2 in pixels of the network input.
        places: (A, 2), or (..., A, 2), x and y in pixels.
        strides: (A, 1), or (..., A, 1), pixels per cell.

    Returns:
        (..., A, 4) left, top, right, bottom in strides; negative where a place lies outside its box.
    """
    return torch.cat((places - boxes[..., :2], boxes[..., 2:] - places), -1) / strides


def decode_keypoints(offsets: Tensor, points: AnchorPoints) -> Tensor:
    """Return keypoints from a head's offsets: ``place = (offset + cell) * stride``.

    Args:
        offsets: (B, A, 2K) x0, y0, x1, y1 ... in cells; half precision is raised to float32.
        points: of the levels they belong to.

    Returns:
        (B, A, K, 2) x and y in pixels of the network input.
    """
    return decode_keypoints_at(offsets, points.corners, points.strides)


def decode_keypoints_at(offsets: Tensor, corners: Tensor, strides: Tensor) -> Tensor:
    """Return (..., K, 2) keypoints of chosen points, as ``decode_keypoints`` does.

    Args:
        offsets: (..., 2K) raw offsets.
        corners: (..., 2) of the points in pixels.
        strides: (..., 1) of the points in pixels.
    """
    pairs = full_precision(offsets).unflatten(-1, (-1, 2))
    return pairs * strides[..., None, :] + corners[..., None, :]


def rows_at(values: Tensor, index: Tensor) -> Tensor:
    """Return (B, n, x) from (B, A, x): for every image the rows of its own indices (B, n).

    Whole rows are copied, which is several times faster than looking up single numbers with ``gather``.
    """
    images, points, width = values.shape
    first = torch.arange(images, device=index.device)[:, None] * points
    return values.reshape(images * points, width).index_select(0, (index + first).flatten()).view(*index.shape, width)
