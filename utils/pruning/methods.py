"""Pruning for good: the smallest weights, or the weakest channels, become zero.

The choice is that of ``torch.nn.utils.prune``; its masks are taken off at once, so a pruned model is an ordinary one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.utils import prune

from utils.pruning.prunable import Prunable

LAYER, MODEL = "layer", "model"
SCOPES = (LAYER, MODEL)
"""Whether each weight loses its own share of values, or all of them lose the smallest of all."""


def prune_values(weights: Sequence[Prunable], amount: float, scope: str) -> None:
    """Set the values of least magnitude to zero, in place.

    A weight keeps one value at least where each loses its own share.

    Args:
        weights: to prune.
        amount: share of the values, above 0 and below 1; values that are zero already count.
        scope: one of ``SCOPES``.
    """
    if scope == MODEL:
        chosen = [(weight.layer, weight.parameter) for weight in weights]
        prune.global_unstructured(chosen, pruning_method=prune.L1Unstructured, amount=amount)
    else:
        for weight in weights:
            prune.l1_unstructured(weight.layer, weight.parameter, _number(amount, weight.value.numel()))
    _make_permanent(weights)


@torch.no_grad()
def prune_channels(weights: Sequence[Prunable], amount: float) -> list[Prunable]:
    """Set all values of the output channels with the smallest L2 norms to zero, in place.

    Every weight keeps one channel at least. Where a BatchNorm follows, the mean that it knows of an emptied channel
    becomes zero too, which is what the channel is from now on; with the old one it would give any constant.

    Args:
        weights: to prune; those without channels that may be missing are left as they are.
        amount: share of each one's channels, above 0 and below 1.

    Returns:
        The weights that were pruned.
    """
    pruned = [weight for weight in weights if weight.channels is not None]
    for weight in pruned:
        number = _number(amount, weight.value.shape[weight.channels])
        prune.ln_structured(weight.layer, weight.parameter, number, n=2, dim=weight.channels)
    _make_permanent(pruned)
    for weight in pruned:
        empty = (weight.value.movedim(weight.channels, 0).flatten(1) == 0).all(1)
        for norm in weight.norms:
            norm.running_mean.masked_fill_(empty, 0)
    return pruned


def _number(amount: float, of: int) -> int:
    return min(round(amount * of), of - 1)


def _make_permanent(weights: Sequence[Prunable]) -> None:
    for weight in weights:
        prune.remove(weight.layer, weight.parameter)
