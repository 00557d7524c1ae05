"""Suppression within groups of boxes, such as images or their views: all groups of a batch in a few calls.

Shape suffix: K candidates of the whole batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from utils.environment import torchvision_ops

FAR = 1e6
"""Pixels; no picture reaches so far, and boxes cut off there leave float64 enough digits for every group."""

AT_ONCE = 512
"""A call on a CPU takes about so many boxes, and not a whole batch: it compares each that stays with each behind it."""

AT_ONCE_ON_DEVICE = 4096
"""The same on a GPU, where starting a call costs more than comparing."""


def best_of_groups(
    boxes: Tensor, scores: Tensor, classes: Tensor, groups: Tensor, iou: float, most_before: int, most_after: int
) -> Tensor:
    """Suppress the boxes of every group among themselves; groups and classes never touch each other.

    Args:
        boxes: (K, 4) x1 y1 x2 y2 in pixels.
        scores: (K,) confidences.
        classes: (K,) int64 from 0; equal numbers everywhere let all boxes of a group suppress each other.
        groups: (K,) int64 from 0, such as the number of the image times that of the view.
        iou: overlap, 0..1, above which the weaker of two boxes goes.
        most_before: most boxes of a group that are looked at, the most confident ones.
        most_after: most boxes of a group that stay.

    Returns:
        (k,) int64 indices of those that stay, by group, and within a group by descending confidence; of equal ones the
        first comes first.
    """
    if len(boxes) == 0:
        return torch.zeros_like(groups)
    device = boxes.device
    if device.type == "mps":
        # It has no float64, which keeps many groups apart.
        boxes, scores, classes, groups = boxes.cpu(), scores.cpu(), classes.cpu(), groups.cpu()
    labels = groups * (classes.max() + 1) + classes
    at_once = AT_ONCE if boxes.device.type == "cpu" else AT_ONCE_ON_DEVICE
    if len(boxes) <= min(at_once, most_before):
        stay = torchvision_ops().nms(_side_by_side(boxes, labels), scores.double(), iou)
        return _first_of_groups(stay, groups, most_after).to(device)
    order = most_confident(scores, groups, most_before)
    order = order[labels[order].argsort(stable=True)]
    stay = order[_kept_by_calls(boxes[order], scores[order], _numbers(labels[order]), iou, at_once)].sort().values
    return stay[most_confident(scores[stay], groups[stay], most_after)].to(device)


def _kept_by_calls(boxes: Tensor, scores: Tensor, numbers: Tensor, iou: float, at_once: int) -> Tensor:
    """Return the indices of the boxes that others of their number leave; ``numbers`` (K,) is sorted, without gaps."""
    nms, place = torchvision_ops().nms, torch.arange(len(boxes), device=boxes.device)
    columns = place, _side_by_side(boxes, numbers), scores.double()
    parts = zip(*(column.split(_sizes_of_calls(numbers, at_once)) for column in columns), strict=True)
    return torch.cat([own[nms(own_boxes, own_scores, iou)] for own, own_boxes, own_scores in parts])


def _side_by_side(boxes: Tensor, numbers: Tensor) -> Tensor:
    """Return float64 boxes of which only those of equal number can touch; whole pixels between them add no rounding."""
    wide = boxes.double().clamp(-FAR, FAR)
    span = (wide.max() - wide.min() + 1).ceil()
    return wide + (numbers * span)[:, None]


def most_confident(scores: Tensor, groups: Tensor, most: int) -> Tensor:
    """Return the indices of the most confident boxes of every group, in the order of ``best_of_groups``.

    Args:
        scores: (K,) confidences.
        groups: (K,) int64 from 0.
        most: how many of a group are returned.
    """
    return _first_of_groups(scores.argsort(descending=True, stable=True), groups, most)


def _first_of_groups(order: Tensor, groups: Tensor, most: int) -> Tensor:
    """Return the first ``most`` indices in (k,) ``order`` of every group, group by group."""
    order = order[groups[order].argsort(stable=True)]
    return order[_rank(groups[order]) < most]


def _rank(groups: Tensor) -> Tensor:
    """Return the place, from 0, of every entry within its group; ``groups`` (K,) is sorted."""
    counts = torch.bincount(groups)
    starts = counts.cumsum(0) - counts
    return torch.arange(len(groups), device=groups.device) - starts[groups]


def _numbers(labels: Tensor) -> Tensor:
    """Return sorted (K,) labels as 0, 1, 2 ... without gaps."""
    changes = torch.zeros_like(labels)
    changes[1:] = labels[1:] != labels[:-1]
    return changes.cumsum(0)


def _sizes_of_calls(numbers: Tensor, at_once: int) -> list[int]:
    """Cut sorted (K,) numbers without gaps into calls of whole groups, each ended by the group that fills it."""
    counts = torch.bincount(numbers)
    call_of_group = (counts.cumsum(0) - counts) // at_once
    sizes = torch.zeros(int(call_of_group[-1]) + 1, dtype=torch.int64, device=numbers.device)
    return [size for size in sizes.index_add_(0, call_of_group, counts).tolist() if size]
