"""Dynamic soft labels image by image and object by object, as ``benchmarks/assignment.py`` times them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.anchor_points import AnchorPoints
from models.assigners.dynamic_soft_label import CENTRE_RADIUS, IOU_WEIGHT, MOST_CHOICES, UNREACHABLE
from models.assigners.scored_points import LabelledBoxes
from utils.boxes import box_iou_matrix


@torch.no_grad()
def dynamic_soft_labels_by_loop(boxes: Tensor, classes: Tensor, labels: LabelledBoxes, points: AnchorPoints) -> Tensor:
    """Return the matched object (B, A), -1 where there is none; arguments are those of the assignment."""
    matched = torch.full(boxes.shape[:2], -1, dtype=torch.int64, device=boxes.device)
    x, y = points.corners.unbind(1)
    for i in range(len(boxes)):
        own = labels.boxes[i]
        left, top, right, bottom = own[:, :, None].unbind(1)
        valid = ((x > left) & (x < right) & (y > top) & (y < bottom)).any(0)
        iou = box_iou_matrix(own, boxes[i])
        distance = torch.hypot(x - (left + right) / 2, y - (top + bottom) / 2) / points.strides[:, 0]
        logit = classes[i].T[labels.classes[i]]
        entropy = F.binary_cross_entropy_with_logits(logit, iou, reduction="none")
        cost = entropy * (iou - logit.sigmoid()).abs() ** 2 - IOU_WEIGHT * (iou + 1e-7).log()
        cost = (cost + 10 ** (distance - CENTRE_RADIUS)).where(valid, UNREACHABLE)
        taken = torch.zeros_like(cost, dtype=torch.bool)
        counts = iou.topk(min(MOST_CHOICES, iou.shape[1]), 1).values.sum(1).int().clamp(min=1).tolist()
        for number, count in enumerate(counts):
            taken[number, cost[number].topk(count, largest=False).indices] = True
        taken &= cost < UNREACHABLE
        contested = taken.sum(0) > 1
        cheapest = cost[:, contested].argmin(0)
        taken[:, contested] = False
        taken[cheapest, contested.nonzero()[:, 0]] = True
        matched[i] = taken.int().argmax(0).where(taken.any(0), -1)
    return matched
