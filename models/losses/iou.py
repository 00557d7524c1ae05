"""Overlap of box pairs as a loss needs it: IoU, GIoU (arXiv:1902.09630), DIoU and CIoU (arXiv:1911.08287)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

IouKind = Literal["iou", "giou", "diou", "ciou"]


def paired_iou(boxes: Tensor, others: Tensor, kind: IouKind = "iou", eps: float = 1e-7) -> Tensor:
    """Return the overlap of ``boxes[i]`` with ``others[i]``.

    Args:
        boxes: (n, 4) centre x, centre y, width, height.
        others: (n, 4) in the same form and unit.
        kind: plain, generalised, distance or complete IoU. The aspect term's weight in ``ciou`` carries no gradient.
        eps: added to heights and denominators, as the published formulas have it.

    Returns:
        (n,) at most 1; above 0 for ``iou``, down to about -1 (giou, diou) or -1.5 (ciou) otherwise.
    """
    (x1, y1, w1, h1), (x2, y2, w2, h2) = boxes.unbind(-1), others.unbind(-1)
    left1, right1, top1, bottom1 = x1 - w1 / 2, x1 + w1 / 2, y1 - h1 / 2, y1 + h1 / 2
    left2, right2, top2, bottom2 = x2 - w2 / 2, x2 + w2 / 2, y2 - h2 / 2, y2 + h2 / 2
    overlap_w = (torch.minimum(right1, right2) - torch.maximum(left1, left2)).clamp(min=0)
    overlap_h = (torch.minimum(bottom1, bottom2) - torch.maximum(top1, top2)).clamp(min=0)
    intersection = overlap_w * overlap_h
    width1, height1 = right1 - left1, bottom1 - top1 + eps
    width2, height2 = right2 - left2, bottom2 - top2 + eps
    union = width1 * height1 + width2 * height2 - intersection + eps
    iou = intersection / union
    if kind == "iou":
        return iou
    hull_w = torch.maximum(right1, right2) - torch.minimum(left1, left2)
    hull_h = torch.maximum(bottom1, bottom2) - torch.minimum(top1, top2)
    if kind == "giou":
        hull = hull_w * hull_h + eps
        return iou - (hull - union) / hull
    diagonal = hull_w**2 + hull_h**2 + eps
    distance = ((left2 + right2 - left1 - right1) ** 2 + (top2 + bottom2 - top1 - bottom1) ** 2) / 4
    if kind == "diou":
        return iou - distance / diagonal
    aspect = (4 / math.pi**2) * (torch.atan(width2 / height2) - torch.atan(width1 / height1)) ** 2
    with torch.no_grad():
        alpha = aspect / (aspect - iou + (1 + eps))
    return iou - (distance / diagonal + aspect * alpha)
