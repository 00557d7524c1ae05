"""Classes of queries that exclude each other, as in DETR (Carion et al., arXiv:2005.12872).

Shape suffixes: B images, Q queries, L labels, M padded objects.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.losses.set_targets import SetTargets


class SoftmaxClasses:
    """Classes that exclude each other, with one more label behind them, L, that says that there is no object.

    Args:
        no_object: weight of that label in the mean; all others weigh 1.
    """

    def __init__(self, no_object: float) -> None:
        self.no_object = no_object

    def probabilities(self, logits: Tensor, targets: SetTargets) -> Tensor:
        """Return (..., B, Q, M), how likely each query has each object's class, for logits (..., B, Q, L + 1)."""
        index = targets.classes[:, None].expand(*logits.shape[:-1], -1)
        return logits.softmax(-1).gather(-1, index)

    def costs(self, logits: Tensor, targets: SetTargets) -> Tensor:
        """Return (..., B, Q, M), minus the probability of each object's class, for logits (..., B, Q, L + 1)."""
        return -self.probabilities(logits, targets)

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return (...), the weighed cross entropy of every query.

        Args:
            logits: (..., L + 1), at least float32.
            labels: (...) int64, below 0 where there is no object.
        """
        nothing = logits.shape[-1] - 1
        weights = logits.new_ones(nothing + 1)
        weights[nothing] = self.no_object
        goal = labels.where(labels >= 0, nothing)
        found = F.cross_entropy(logits.flatten(0, -2), goal.flatten(), weights, reduction="none")
        return found.view(labels.shape)

    def total(self, totals: Tensor) -> Tensor:
        """Return what sums of ``losses`` are divided by: the weights of all labels of the nominal batch."""
        # Without objects, and with a weight of 0 for the rest, nothing is left to learn: 0 / tiny.
        return totals[1].clamp(min=torch.finfo(torch.float32).tiny)

    def sees_object(self, logits: Tensor) -> Tensor:
        """Return (...) bool, whether a query's likeliest label is an object, for logits (..., L + 1)."""
        return logits.argmax(-1) != logits.shape[-1] - 1
