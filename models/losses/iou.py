"""Overlap of box pairs as losses need it.

IoU, GIoU (arXiv:1902.09630), DIoU and CIoU (arXiv:1911.08287), SIoU (arXiv:2205.12740). Families agree on the formulas
but not on where they add a small number against division by zero, so there are two functions: ``corner_iou`` for
YOLO-MS, YOLOv6 and YOLOv8, ``paired_iou`` for YOLOv5.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

IouKind = Literal["iou", "giou", "diou", "ciou", "siou"]


class _Edges(NamedTuple):
    """Boxes by their edges, each of the shape of the boxes without their last axis."""

    left: Tensor
    top: Tensor
    right: Tensor
    bottom: Tensor


def corner_iou(boxes: Tensor, others: Tensor, kind: IouKind = "iou", eps: float = 1e-7) -> Tensor:
    """Return the overlap of ``boxes[i]`` with ``others[i]``, both given by corners.

    Everything is elementwise; shapes broadcast.

    Args:
        boxes: (..., 4) x1, y1, x2, y2. Boxes turned inside out (x2 < x1) have IoU 0; the other kinds are finite there,
            but mean nothing.
        others: (..., 4) in the same unit.
        kind: plain, generalised, distance, complete or SCYLLA IoU. The weight of the aspect term in ``ciou`` carries no
            gradient.
        eps: added to the union, to the hull's area or squared diagonal, and to both heights within the arctangents of
            ``ciou``; the least side that ``siou`` divides by.

    Returns:
        (...) at most 1; from 0 for ``iou``, down to about -1 (giou, diou), -1.5 (ciou) or -2 (siou) otherwise.
    """
    return _overlap(_Edges(*boxes.unbind(-1)), _Edges(*others.unbind(-1)), kind, eps, 0.0)


def paired_iou(boxes: Tensor, others: Tensor, kind: IouKind = "iou", eps: float = 1e-7) -> Tensor:
    """Return the overlap of ``boxes[i]`` with ``others[i]``, both given by centre and size, as YOLOv5 has it.

    Args:
        boxes: (..., 4) centre x, centre y, width, height.
        others: (..., 4) in the same form and unit.
        kind: as in ``corner_iou``.
        eps: as in ``corner_iou``, and added to the heights wherever they occur, also in the areas.

    Returns:
        (...) in the ranges of ``corner_iou``.
    """
    return _overlap(_edges_around(boxes), _edges_around(others), kind, eps, eps)


def _edges_around(boxes: Tensor) -> _Edges:
    x, y, width, height = boxes.unbind(-1)
    return _Edges(x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def _overlap(one: _Edges, two: _Edges, kind: IouKind, eps: float, area_eps: float) -> Tensor:
    """Return the overlap; ``area_eps`` is what the areas add to the heights."""
    shared_w = (torch.minimum(one.right, two.right) - torch.maximum(one.left, two.left)).clamp(min=0)
    shared_h = (torch.minimum(one.bottom, two.bottom) - torch.maximum(one.top, two.top)).clamp(min=0)
    intersection = shared_w * shared_h
    width1, height1 = one.right - one.left, one.bottom - one.top
    width2, height2 = two.right - two.left, two.bottom - two.top
    areas = width1 * (height1 + area_eps) + width2 * (height2 + area_eps)
    # The union is below 0 only where a box is turned inside out; the intersection is 0 there.
    union = (areas - intersection).clamp(min=0) + eps
    iou = intersection / union
    if kind == "iou":
        return iou
    hull_w = torch.maximum(one.right, two.right) - torch.minimum(one.left, two.left)
    hull_h = torch.maximum(one.bottom, two.bottom) - torch.minimum(one.top, two.top)
    if kind == "giou":
        hull = hull_w * hull_h + eps
        return iou - (hull - union) / hull
    # Twice the offset of the centres.
    offset_x = two.left + two.right - one.left - one.right
    offset_y = two.top + two.bottom - one.top - one.bottom
    if kind == "siou":
        distance = _distance_cost(offset_x / 2, offset_y / 2, hull_w.clamp(min=eps), hull_h.clamp(min=eps))
        return iou - (distance + _shape_cost(width1, width2, eps) + _shape_cost(height1, height2, eps)) / 2
    distance = (offset_x**2 + offset_y**2) / 4 / (hull_w**2 + hull_h**2 + eps)
    if kind == "diou":
        return iou - distance
    angle = torch.atan(width2 / (height2 + eps)) - torch.atan(width1 / (height1 + eps))
    aspect = (4 / math.pi**2) * angle**2
    with torch.no_grad():
        alpha = aspect / (aspect - iou + (1 + eps))
    return iou - (distance + aspect * alpha)


def _distance_cost(offset_x: Tensor, offset_y: Tensor, hull_w: Tensor, hull_h: Tensor) -> Tensor:
    """Return SIoU's cost of centres that lie apart, 0..2; it counts more along an axis than along a diagonal."""
    # The angle cost is the sine of twice the angle between the offset and an axis. Without an offset it has no say.
    product, square = (offset_x * offset_y).abs(), offset_x**2 + offset_y**2
    gamma = 2 - 2 * product / square.clamp(min=1e-14)
    cost_x = 1 - torch.exp(-gamma * (offset_x / hull_w) ** 2)
    return cost_x + 1 - torch.exp(-gamma * (offset_y / hull_h) ** 2)


def _shape_cost(side: Tensor, other: Tensor, eps: float) -> Tensor:
    """Return SIoU's cost of sides that differ, 0..1."""
    # eps decides where both sides are 0 alone.
    share = (side - other).abs() / torch.maximum(side, other).clamp(min=eps)
    return (1 - torch.exp(-share)) ** 4
