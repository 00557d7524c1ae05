"""How a query of a deformable decoder says a class and a box: its layers as they begin, and boxes told from references.

Zhu et al., Deformable DETR, arXiv:2010.04159.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from models.layers.token_mlp import TokenMLP
from utils.precision import full_precision

FIRST_PROBABILITY = 0.01
"""What a class layer says of every class before it has learnt anything."""
FIRST_SIDE_LOGIT = -2.0
"""What a box layer says of width and height at first, where no reference says anything of them."""
EDGE = 1e-5
"""Fractions nearer to 0 or 1 than this count as this far from it before their logits are taken."""


def class_layer(width: int, labels: int) -> nn.Linear:
    """Return a linear layer for sigmoid classes that begins with ``FIRST_PROBABILITY``."""
    layer = nn.Linear(width, labels)
    nn.init.constant_(layer.bias, -math.log((1 - FIRST_PROBABILITY) / FIRST_PROBABILITY))
    return layer


def box_layer(width: int, sides_known: bool) -> TokenMLP:
    """Return a network that moves references, by nothing at first.

    Args:
        width: channels of a query.
        sides_known: whether references are boxes; where they are points, width and height begin small.
    """
    mlp = TokenMLP(width, 4)
    nn.init.zeros_(mlp[-1].weight)
    nn.init.zeros_(mlp[-1].bias)
    if not sides_known:
        nn.init.constant_(mlp[-1].bias[2:], FIRST_SIDE_LOGIT)
    return mlp


def logit(fractions: Tensor) -> Tensor:
    """Return the logits of numbers in 0..1, kept ``EDGE`` away from both ends."""
    kept = fractions.clamp(EDGE, 1 - EDGE)
    return torch.log(kept) - torch.log1p(-kept)


def moved(references: Tensor, answer: Tensor) -> Tensor:
    """Return the boxes that a box layer tells by moving references.

    Args:
        references: (..., 4) centre x, centre y, width, height or (..., 2) points, fractions, at least float32.
        answer: (..., 4) of the box layer, in any format.

    Returns:
        (..., 4) fractions, at least float32.
    """
    answer, start = full_precision(answer), logit(references)
    if references.shape[-1] == 4:
        return (answer + start).sigmoid()
    return torch.cat((answer[..., :2] + start, answer[..., 2:]), -1).sigmoid()
