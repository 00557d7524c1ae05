"""The few points of each image that may answer for an object, laid side by side.

Shape suffixes: B images, G objects (padded), A anchor points, P candidates (padded).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.anchor_points import AnchorPoints


@dataclass(frozen=True)
class Candidates:
    """The points of each image that may answer for any of its objects, in their order, side by side.

    Attributes:
        index: (B, P) of the anchor point; 0 in columns of padding.
        real: (B, P) bool, False where the column is padding.
    """

    index: Tensor
    real: Tensor


def find_points_inside(boxes: Tensor, valid: Tensor, points: AnchorPoints, place: float) -> Candidates:
    """Find the points that lie inside any object of their image, not on its edge.

    An object covers a stretch of columns times a stretch of rows, so that two small tables per level tell everything.

    Args:
        boxes: (B, G, 4) x1 y1 x2 y2 in pixels.
        valid: (B, G) bool, False where the row is padding.
        points: the anchor points.
        place: where in its cell a point lies, in cells: 0 at the upper left corner, 0.5 in the middle.
    """
    low, high = boxes[..., :2, None], boxes[..., 2:, None]
    masks = []
    for (rows, columns), stride in zip(points.shapes, points.level_strides, strict=True):
        inside = []
        for axis, cells in ((1, rows), (0, columns)):
            at = (torch.arange(cells, device=boxes.device) + place) * stride
            inside.append((at > low[..., axis, :]) & (at < high[..., axis, :]) & valid[..., None])
        # How many objects hold a point, without a tensor over objects and points.
        masks.append((inside[0].mT.float() @ inside[1].float()).flatten(1) > 0)
    return side_by_side(torch.cat(masks, 1), len(points))


def side_by_side(mask_BA: Tensor, possible: int) -> Candidates:
    """Return the points where a mask is True.

    Args:
        mask_BA: bool.
        possible: how many points of an image the mask can hold at most, as far as the shapes tell.

    Returns:
        As many columns as an image has candidates at most: on the CPU those of the fullest image, elsewhere, where
        nobody waits for a count, all that are possible.
    """
    most = _columns(mask_BA, possible)
    rank = mask_BA.cumsum(1)
    column = torch.arange(mask_BA.shape[1], device=mask_BA.device).expand_as(mask_BA)
    # The last place takes what is no candidate, and is cut off.
    place = (rank - 1).where(mask_BA, most).clamp(max=most)
    index = column.new_zeros(len(mask_BA), most + 1).scatter(1, place, column)[:, :most]
    return Candidates(index, torch.arange(most, device=mask_BA.device) < rank[:, -1:])


def _columns(mask_BA: Tensor, possible: int) -> int:
    """Return how many columns hold the candidates: what is needed where that costs no waiting, else all possible."""
    return int(mask_BA.sum(1).max()) if mask_BA.device.type == "cpu" else possible
