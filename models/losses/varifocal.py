"""Varifocal loss (Zhang et al., arXiv:2008.13367), as YOLOv6 has it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

NEGATIVE_WEIGHT = 0.75


def varifocal(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross entropy of probabilities with quality targets, weighed by the target.

    Args:
        logits: of any shape.
        targets: of the same shape, 0..1; 0 for negatives, whose weight is 0.75 times the squared probability.

    Returns:
        The same shape, 0 or more. The weight of negatives carries a gradient too.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return entropy * targets.where(targets > 0, _negative_weight(logits))


def varifocal_of_negatives(logits: Tensor) -> Tensor:
    """Return what ``varifocal`` returns where all targets are 0, without a map of targets."""
    return F.softplus(logits) * _negative_weight(logits)


def _negative_weight(logits: Tensor) -> Tensor:
    return NEGATIVE_WEIGHT * logits.sigmoid().square()
