"""Task-aligned assignment image by image, as ``benchmarks/assignment.py`` times it."""

from __future__ import annotations

import torch
from torch import Tensor

from models.anchor_points import AnchorPoints
from models.assigners.scored_points import LabelledBoxes
from models.assigners.task_aligned import TaskAlignedRule
from models.losses.iou import corner_iou


@torch.no_grad()
def task_aligned_by_loop(
    boxes: Tensor, classes: Tensor, labels: LabelledBoxes, points: AnchorPoints, rule: TaskAlignedRule
) -> tuple[Tensor, Tensor]:
    """Return the matched object (B, A), -1 where there is none, and the target score (B, A)."""
    matched = torch.full(boxes.shape[:2], -1, dtype=torch.int64, device=boxes.device)
    scores = torch.zeros(boxes.shape[:2], device=boxes.device)
    x, y = points.centres.unbind(1)
    for i in range(len(boxes)):
        objects = labels.boxes[i]
        left, top, right, bottom = objects[:, :, None].unbind(1)
        inside = (x > left) & (x < right) & (y > top) & (y < bottom)
        overlap = corner_iou(boxes[i][None], objects[:, None], rule.overlap, rule.overlap_eps).clamp(min=0)
        worth = classes[i].sigmoid().T[labels.classes[i]] ** rule.score_power * overlap**rule.overlap_power
        best = (worth * inside).topk(min(rule.most, len(x)), 1)
        taken = torch.zeros_like(inside).scatter(1, best.indices, best.values > 0)
        contested = taken.sum(0) > 1
        largest = overlap[:, contested].argmax(0)
        taken[:, contested] = False
        taken[largest, contested.nonzero()[:, 0]] = True
        worth, overlap = worth * taken, overlap * taken
        scaled = worth * overlap.amax(1, keepdim=True) / (worth.amax(1, keepdim=True) + rule.score_eps)
        scores[i] = scaled.amax(0)
        matched[i] = taken.int().argmax(0).where(taken.any(0), -1)
    return matched, scores
