"""ATSS image by image with distances from all objects to all points, as ``benchmarks/assignment.py`` times it."""

from __future__ import annotations

import torch
from torch import Tensor

from models.anchor_points import AnchorPoints
from models.assigners.atss import NEAREST, SQUARE_SIDE
from models.assigners.scored_points import LabelledBoxes
from utils.boxes import box_iou_matrix


@torch.no_grad()
def atss_by_loop(boxes: Tensor, labels: LabelledBoxes, points: AnchorPoints) -> tuple[Tensor, Tensor]:
    """Return the matched object (B, A), -1 where there is none, and the target score (B, A)."""
    matched = torch.full(boxes.shape[:2], -1, dtype=torch.int64, device=boxes.device)
    scores = torch.zeros(boxes.shape[:2], device=boxes.device)
    half = SQUARE_SIDE / 2 * points.strides
    squares = torch.cat((points.centres - half, points.centres + half), 1)
    sizes = [rows * columns for rows, columns in points.shapes]
    x, y = points.centres.unbind(1)
    for i in range(len(boxes)):
        objects = labels.boxes[i]
        distance = torch.cdist((objects[:, :2] + objects[:, 2:]) / 2, points.centres)
        candidates, first = [], 0
        for size, level in zip(sizes, distance.split(sizes, 1), strict=True):
            candidates.append(level.topk(min(NEAREST, size), largest=False).indices + first)
            first += size
        candidate = torch.cat(candidates, 1)
        overlap = box_iou_matrix(objects, squares)
        near = overlap.gather(1, candidate)
        enough = near > near.mean(1, keepdim=True) + near.std(1, keepdim=True)
        left, top, right, bottom = objects[:, :, None].unbind(1)
        inside = (x > left) & (x < right) & (y > top) & (y < bottom)
        taken = torch.zeros_like(inside).scatter(1, candidate, enough) & inside
        contested = taken.sum(0) > 1
        largest = overlap[:, contested].argmax(0)
        taken[:, contested] = False
        taken[largest, contested.nonzero()[:, 0]] = True
        matched[i] = taken.int().argmax(0).where(taken.any(0), -1)
        scores[i] = (box_iou_matrix(objects, boxes[i]) * taken).amax(0)
    return matched, scores
