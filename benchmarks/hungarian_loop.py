"""Hungarian matching image by image, each with a copy of its own, as ``benchmarks/assignment.py`` times it."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import generalized_box_iou

from models.assigners.hungarian import CostWeights
from models.losses.set_targets import SetTargets
from utils.boxes import xywh_to_xyxy


@torch.no_grad()
def hungarian_by_loop(logits: Tensor, boxes: Tensor, targets: SetTargets, weights: CostWeights) -> Tensor:
    """Return the matched object (B, Q), -1 where there is none.

    Args:
        logits: (B, Q, L + 1) of all labels and of no object.
        boxes: (B, Q, 4) centre x, centre y, width, height as fractions.
        targets: the objects.
        weights: of a cost's parts.
    """
    matched = torch.full(boxes.shape[:2], -1, dtype=torch.int64, device=boxes.device)
    for i in range(len(boxes)):
        objects, classes = targets.boxes[i][targets.valid[i]], targets.classes[i][targets.valid[i]]
        probability = logits[i].softmax(-1)[:, classes]
        distance = torch.cdist(boxes[i], objects, p=1)
        overlap = generalized_box_iou(xywh_to_xyxy(boxes[i]), xywh_to_xyxy(objects))
        cost = weights.box * distance - weights.classes * probability - weights.giou * overlap
        query, column = linear_sum_assignment(cost.cpu().numpy())
        matched[i, torch.from_numpy(query).to(boxes.device)] = torch.from_numpy(column).to(boxes.device)
    return matched
