"""Where an object's positive points may lie: in a square around its centre, and in some variants also in its box.

Shape suffixes: B images, G objects (padded), A anchor points, P candidates (padded).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from models.anchor_points import AnchorPoints
from models.assigners.candidates import Candidates, side_by_side


@dataclass(frozen=True)
class Region:
    """A rule about regions.

    Attributes:
        radius: half the side of an object's centre region, in strides of the point that is asked.
        boxes_count: points inside a box are candidates too, and a point is its object's own only inside both the box
            and the centre region. Otherwise the centre region alone decides both.
    """

    radius: float
    boxes_count: bool


def find_candidates(boxes: Tensor, valid: Tensor, points: AnchorPoints, region: Region) -> Candidates:
    """Find the candidates of all images.

    A region is a stretch of columns times a stretch of rows, so that two small tables per level tell everything.

    Args:
        boxes: (B, G, 4) centre x, centre y, width, height in pixels.
        valid: (B, G) bool.
        points: the anchor points.
        region: the rule.

    Returns:
        The points that lie in the region of any object of their image.
    """
    boxes, valid = boxes.float(), valid[..., None]
    masks = []
    for (rows, columns), stride in zip(points.shapes, points.level_strides, strict=True):
        near, inside = [], []
        for axis, cells in ((1, rows), (0, columns)):
            centre = (torch.arange(cells, device=boxes.device) + 0.5) * stride
            middle, half = boxes[..., axis, None], boxes[..., axis + 2, None] / 2
            near.append(_within(centre, middle, region.radius * stride) & valid)
            inside.append(_between(centre, middle, half) & valid)
        # How many objects' regions hold a cell, without a tensor over objects and cells.
        count = near[0].mT.float() @ near[1].float()
        if region.boxes_count:
            count += inside[0].mT.float() @ inside[1].float()
        masks.append(count.flatten(1) > 0)
    mask_BA = torch.cat(masks, 1)
    possible = mask_BA.shape[1]
    if not region.boxes_count:
        possible = min(possible, boxes.shape[1] * len(masks) * math.ceil(2 * region.radius) ** 2)
    return side_by_side(mask_BA, possible)


def is_own(boxes: Tensor, index_BP: Tensor, points: AnchorPoints, region: Region) -> Tensor:
    """Return (B, G, P) bool: whether points lie in the region of an object.

    Args:
        boxes: (B, G, 4) centre x, centre y, width, height in pixels.
        index_BP: of the points.
        points: the anchor points.
        region: the rule.
    """
    own = None
    reach = region.radius * points.strides[index_BP, 0][:, None]
    centres = points.centres[index_BP]
    for axis in (0, 1):
        centre, middle = centres[:, None, :, axis], boxes[..., axis, None]
        inside = _within(centre, middle, reach)
        if region.boxes_count:
            inside &= _between(centre, middle, boxes[..., axis + 2, None] / 2)
        own = inside if own is None else own.logical_and_(inside)
    return own


def _within(centre: Tensor, middle: Tensor, reach: Tensor | float) -> Tensor:
    return (centre - middle).abs() < reach


def _between(centre: Tensor, middle: Tensor, half: Tensor) -> Tensor:
    return (centre > middle - half) & (centre < middle + half)
