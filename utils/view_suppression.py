"""Suppression within groups of boxes, such as the views of an image: all groups of a batch in a few calls.

Shape suffix: K candidates of the whole batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from utils.environment import torchvision_ops

FAR = 1e6
"""Pixels; no picture reaches so far, and boxes cut off there leave float64 enough digits for every group."""

AT_ONCE = 4096
"""Suppression compares each box of a call with each other one, so a call takes about so many and not a whole batch."""


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
        (k,) int64 indices of those that stay, ascending.
    """
    if len(boxes) == 0:
        return torch.zeros_like(groups)
    device = boxes.device
    if device.type == "mps":
        # It has no float64, which keeps thousands of groups apart.
        boxes, scores, classes, groups = boxes.cpu(), scores.cpu(), classes.cpu(), groups.cpu()
    order = scores.argsort(descending=True, stable=True)
    order = order[groups[order].argsort(stable=True)]
    order = order[_rank(groups[order]) < most_before]
    wide = boxes.double().clamp(-FAR, FAR)
    labels = groups * (classes.max() + 1) + classes
    shifted = wide + (labels.to(wide) * (wide.max() - wide.min() + 1))[:, None]
    confidences = scores.to(wide)
    kept = [
        part[torchvision_ops().nms(shifted[part], confidences[part], iou).sort().values]
        for part in order.split(_sizes_of_calls(groups[order]))
    ]
    stay = torch.cat(kept)
    return stay[_rank(groups[stay]) < most_after].sort().values.to(device)


def _rank(groups: Tensor) -> Tensor:
    """Return the place, from 0, of every entry within its group; ``groups`` (K,) is sorted."""
    counts = torch.bincount(groups)
    starts = counts.cumsum(0) - counts
    return torch.arange(len(groups), device=groups.device) - starts[groups]


def _sizes_of_calls(groups: Tensor) -> list[int]:
    """Cut sorted (K,) groups into calls of whole groups, each ended by the group that fills it."""
    counts = torch.bincount(groups)
    call_of_group = (counts.cumsum(0) - counts) // AT_ONCE
    sizes = torch.zeros(int(call_of_group[-1]) + 1, dtype=torch.int64, device=groups.device)
    return sizes.index_add_(0, call_of_group, counts).tolist()
