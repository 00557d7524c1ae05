"""Quality focal loss (Li et al., arXiv:2006.04388): a class' logit learns how good the box beside it is.

Shape suffixes: B images, A anchor points, C classes, S slots for positive points (most are not used).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def quality_focal(logits: Tensor, quality: Tensor | float) -> Tensor:
    """Return the element-wise loss: cross entropy with the quality, times the square of how far the guess is off.

    Args:
        logits: any shape.
        quality: 0..1, the same shape or a number; 0 for other classes and for points that are not positive.
    """
    entropy = F.softplus(logits) - logits * quality
    return entropy * (logits.sigmoid() - quality).square()


def sum_of_quality_focal(logits_BAC: Tensor, own_BS: Tensor, quality_BS: Tensor, used_BS: Tensor) -> Tensor:
    """Return the sum of the loss over all points and classes, without a map of targets.

    Args:
        logits_BAC: of all points.
        own_BS: for every positive point the logit of its object's class, once more.
        quality_BS: what that logit should say, as a probability.
        used_BS: bool, False where a slot holds no positive point.
    """
    correction = quality_focal(own_BS, quality_BS) - quality_focal(own_BS, 0.0)
    return quality_focal(logits_BAC, 0.0).sum() + correction.where(used_BS, 0.0).sum()
