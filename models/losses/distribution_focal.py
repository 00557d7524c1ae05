"""Distances as distributions over bins, and their loss (Li et al., arXiv:2006.04388), as YOLOv8 has them.

A distance is a softmax over bins that stand for 0, 1, 2 ... strides; its value is their mean.
"""

from __future__ import annotations

import torch
from torch import Tensor

from utils.precision import full_precision

SIDES = 4
"""Left, top, right, bottom."""
_BELOW_LAST_BIN = 0.01


def expected_distances(logits: Tensor, bins: int) -> Tensor:
    """Return the mean distances of distributions.

    Args:
        logits: (..., 4 bins), all bins of the left side first, then of the top, right and bottom side; half precision
            is raised to float32.
        bins: of one distribution.

    Returns:
        (..., 4) left, top, right, bottom in strides, 0..bins - 1.
    """
    shares = full_precision(logits).unflatten(-1, (SIDES, bins)).softmax(-1)
    return shares @ torch.arange(bins, dtype=shares.dtype, device=shares.device)


def distribution_focal(logits: Tensor, distances: Tensor) -> Tensor:
    """Return the cross entropy of distributions with the two bins around the true distances.

    The nearer bin counts more: the two weights make a mean that is the true distance.

    Args:
        logits: (..., 4, bins) of the distributions of the four sides.
        distances: (..., 4) the true ones in strides; they are cut to 0..bins - 1.01.

    Returns:
        (..., 4), 0 or more.
    """
    distances = distances.clamp(0, logits.shape[-1] - 1 - _BELOW_LAST_BIN)
    low = distances.floor()
    share = distances - low
    entropies = -logits.log_softmax(-1)
    around = entropies.gather(-1, torch.stack((low, low + 1), -1).long())
    return around[..., 0] * (1 - share) + around[..., 1] * share
