"""Binary cross entropy with an optional focal factor (Lin et al., arXiv:1708.02002)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def binary_cross_entropy(
    logits: Tensor, targets: Tensor, pos_weight: float = 1.0, gamma: float = 0.0, alpha: float = 0.25
) -> Tensor:
    """Return the element-wise loss of logits against soft targets.

    Args:
        logits: any shape.
        targets: the same shape, 0..1.
        pos_weight: weight of the positive part.
        gamma: focusing exponent; 0 leaves plain binary cross entropy.
        alpha: weight of the positive class in the focal factor, used when ``gamma`` is above 0.

    Returns:
        The loss in the shape of ``logits``.
    """
    weight = None if pos_weight == 1.0 else logits.new_tensor(pos_weight)
    loss = F.binary_cross_entropy_with_logits(logits, targets, pos_weight=weight, reduction="none")
    if gamma <= 0:
        return loss
    probability = torch.sigmoid(logits)
    p_true = targets * probability + (1 - targets) * (1 - probability)
    return loss * (targets * alpha + (1 - targets) * (1 - alpha)) * (1.0 - p_true) ** gamma
