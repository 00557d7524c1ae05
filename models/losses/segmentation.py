"""Pixel-wise losses of the segmentation heads: cross entropy, OHEM (arXiv:1604.03540), focal (arXiv:1708.02002).

Every function takes full-size logits (B, C, H, W) and class indices (B, H, W) and returns a sum over pixels and how
many pixels the sum is to be divided by, so that a nominal batch can be cut into micro-batches.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def pixel_cross_entropy(
    logits: Tensor, target: Tensor, ignore_index: int, class_weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return summed cross entropy and the weight of the labelled pixels (their count without class weights)."""
    total = F.cross_entropy(logits, target, weight=class_weights, ignore_index=ignore_index, reduction="sum")
    return total, labelled_weight(target, ignore_index, class_weights)


def labelled_weight(target: Tensor, ignore_index: int, class_weights: Tensor | None = None) -> Tensor:
    """Return how much the labelled pixels of ``target`` weigh together, a float32 scalar."""
    labelled = target != ignore_index
    if class_weights is None:
        return labelled.sum().float()
    # Every pixel looks its weight up, labelled or not: picking the labelled ones out would make a GPU's host wait.
    weights = class_weights[target.long().clamp(0, len(class_weights) - 1)]
    return (weights * labelled).sum()


def pixel_focal(logits: Tensor, target: Tensor, ignore_index: int, gamma: float) -> tuple[Tensor, Tensor]:
    """Return summed per-pixel focal loss ``(1 - p_true)^gamma * CE`` and the count of labelled pixels."""
    loss = F.cross_entropy(logits, target, ignore_index=ignore_index, reduction="none")
    return (loss * (1 - torch.exp(-loss)) ** gamma).sum(), labelled_weight(target, ignore_index)


def hardest_pixels(logits: Tensor, target: Tensor, ignore_index: int, threshold: float = 0.7) -> tuple[Tensor, Tensor]:
    """Online hard example mining: keep the pixels whose true class has a probability below ``threshold``.

    At least a sixteenth of the labelled pixels is kept, the hardest ones.

    Returns:
        The summed cross entropy of the kept pixels and their count. Which pixels are kept depends on the
        predictions, so the count is known only for the micro-batch at hand.
    """
    loss = F.cross_entropy(logits, target, ignore_index=ignore_index, reduction="none").flatten()
    hard = loss > -math.log(threshold)
    count = hard.sum()
    least = (target != ignore_index).sum() // 16
    # As many as there could be at most, so that no count has to come back from the device.
    hardest = loss.topk(loss.numel() // 16).values
    first = torch.arange(len(hardest), device=loss.device) < least
    enough = count >= least
    summed = torch.where(enough, (loss * hard).sum(), (hardest * first).sum())
    return summed, torch.where(enough, count, least).to(loss.dtype)


def rare_probability_pixels(
    logits: Tensor, target: Tensor, ignore_index: int, threshold: float = 0.7, min_kept: int = 256
) -> tuple[Tensor, Tensor]:
    """OHEM by probability: ignore pixels whose true class is more likely than the threshold.

    The threshold rises to the ``min_kept``-th smallest probability of the true class where fewer would remain.

    Returns:
        The summed cross entropy of the kept pixels and their count.
    """
    loss = F.cross_entropy(logits, target, ignore_index=ignore_index, reduction="none").flatten()
    labelled = loss[target.flatten() != ignore_index]
    if labelled.numel() == 0:
        return labelled.sum(), labelled.new_tensor(0.0)
    probability = torch.exp(-labelled.detach())
    smallest = probability.kthvalue(min(min_kept, probability.numel())).values
    kept = labelled[probability <= torch.clamp(smallest, min=threshold)]
    return kept.sum(), kept.new_tensor(float(kept.numel()))
