"""A BatchNorm in inference as what it is there: a factor and a summand per channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.layers.frozen_norm import FrozenNorm


@torch.no_grad()
def scale_and_shift(norm: nn.BatchNorm2d | FrozenNorm) -> tuple[Tensor, Tensor]:
    """Return ``s`` and ``t`` with ``norm(x) = s x + t`` per channel, in eval mode.

    ``s = gamma / sqrt(variance + eps)`` and ``t = beta - mean s``.

    Args:
        norm: with running statistics; not changed.

    Returns:
        Two tensors (channels,) in float64, which loses nothing worth the name before weights are rounded again.
    """
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    shift = -norm.running_mean.double() * scale
    if norm.affine:
        scale, shift = scale * norm.weight.double(), shift * norm.weight.double() + norm.bias.double()
    return scale, shift
