"""Batch normalisation whose four vectors never change: a factor and a summand per channel, folded in as it runs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FROZEN_EPS = 1e-5


class FrozenNorm(nn.Module):
    """BatchNorm that neither learns nor follows the data, as in DETR and its successors::

        y = (x - running_mean) / sqrt(running_var + eps) * weight + bias

    All four vectors are buffers, so no optimizer sees them and weights of a trained BatchNorm fill them by name.

    Args:
        channels: of the map.
    """

    affine = True

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.num_features, self.eps = channels, FROZEN_EPS
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((channels,), value))

    def factors(self) -> tuple[Tensor, Tensor]:
        """Return factor and summand of every channel, (C,) float32 each."""
        scale = self.weight.float() * (self.running_var.float() + self.eps).rsqrt()
        return scale, self.bias.float() - self.running_mean.float() * scale

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised map (B, C, H, W)."""
        scale, shift = (factor.to(x.dtype).view(1, -1, 1, 1) for factor in self.factors())
        return torch.addcmul(shift, x, scale)

    def extra_repr(self) -> str:
        """Return the channels."""
        return f"{self.num_features}, eps={self.eps}"


def normalised(conv: nn.Conv2d, norm: nn.Module, x: Tensor) -> Tensor:
    """Return ``norm(conv(x))``.

    A frozen norm goes into the weights of the convolution first. Maps are much larger than weights, so this takes less
    time than normalising the map, and nothing of the norm is kept for the backward pass.

    Args:
        conv: a convolution without bias where the norm is frozen.
        norm: of its output channels.
        x: (B, C, H, W).
    """
    if not isinstance(norm, FrozenNorm):
        return norm(conv(x))
    scale, shift = norm.factors()
    weight = conv.weight * scale.to(conv.weight.dtype).view(-1, 1, 1, 1)
    return F.conv2d(x, weight, shift.to(weight.dtype), conv.stride, conv.padding, conv.dilation, conv.groups)
