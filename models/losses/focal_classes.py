"""Classes of queries under the sigmoid focal loss (Lin et al., arXiv:1708.02002), as Deformable DETR has it.

Shape suffixes: B images, Q queries, L labels, M padded objects.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.losses.set_targets import SetTargets

TINY_PROBABILITY = 1e-8
"""Added to probabilities within the logarithms of costs, as published."""


class FocalClasses:
    """Classes each of which has a probability of its own; a query without an object has all of them low.

    Args:
        alpha: weight of the class that is there, 0..1; those that are not weigh the rest.
        gamma: how much less a class counts that is nearly right already, 0 or more.
    """

    def __init__(self, alpha: float, gamma: float) -> None:
        self.alpha, self.gamma = alpha, gamma

    def probabilities(self, logits: Tensor, targets: SetTargets) -> Tensor:
        """Return (..., B, Q, M), how likely each query has each object's class, for logits (..., B, Q, L)."""
        index = targets.classes[:, None].expand(*logits.shape[:-1], -1)
        return logits.gather(-1, index).sigmoid()

    def costs(self, logits: Tensor, targets: SetTargets) -> Tensor:
        """Return (..., B, Q, M), by how much each object's class would raise the loss, for logits (..., B, Q, L)."""
        p = self.probabilities(logits, targets)
        there = self.alpha * (1 - p) ** self.gamma * -(p + TINY_PROBABILITY).log()
        absent = (1 - self.alpha) * p**self.gamma * -(1 - p + TINY_PROBABILITY).log()
        return there - absent

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return (...), the focal loss of every query, summed over its labels.

        Args:
            logits: (..., L), at least float32.
            labels: (...) int64, below 0 where there is no object.
        """
        # As if no class were there, and then the other loss for the one that is: most queries have none.
        every = (1 - self.alpha) * AbsentClass.apply(logits, self.gamma).sum(-1)
        own = logits.gather(-1, labels.clamp(min=0)[..., None])[..., 0]
        there = self.alpha * AbsentClass.apply(-own, self.gamma)
        absent = (1 - self.alpha) * AbsentClass.apply(own, self.gamma)
        return every + (there - absent).where(labels >= 0, 0)

    def total(self, totals: Tensor) -> Tensor:
        """Return what sums of ``losses`` are divided by: the objects of the nominal batch, at least one."""
        return totals[0].clamp(min=1)


class AbsentClass(torch.autograd.Function):
    """The focal loss of classes that are not there, without alpha: ``p ** gamma * -log(1 - p)``, ``p`` of the logits.

    An encoder has millions of them. This keeps the logits alone for the backward pass, and no part of the gradient is
    infinite, whatever the exponent.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, gamma: float) -> Tensor:
        """Return the loss in the shape of ``logits``."""
        ctx.save_for_backward(logits)
        ctx.gamma = gamma
        return logits.sigmoid().pow_(gamma).mul_(F.softplus(logits))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return the gradient ``p ** gamma * (gamma * (1 - p) * -log(1 - p) + p)``, times what comes in."""
        (logits,) = ctx.saved_tensors
        p = logits.sigmoid()
        slope = F.softplus(logits).mul_(1 - p).mul_(ctx.gamma).add_(p)
        return slope.mul_(p.pow_(ctx.gamma)).mul_(gradient), None
