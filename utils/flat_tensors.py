"""Many small tensors side by side in one, so that a device does one thing instead of many."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def flat(tensors: list[Tensor]) -> Tensor:
    """Return a copy of the values of tensors of one format, side by side."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def spread(values: Tensor, tensors: list[Tensor]) -> None:
    """Write values that lie side by side into their tensors."""
    parts = values.split([tensor.numel() for tensor in tensors])
    torch._foreach_copy_(tensors, [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)])


def to_host(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return copies of tensors on the CPU, for which their device is waited for once and not for each.

    Args:
        tensors: one at least, float32, or of whole numbers below 2**24, which float32 holds exactly.

    Returns:
        The same shapes, formats and values, each with memory of its own.
    """
    together = flat([tensor.float() for tensor in tensors]).cpu()
    parts = together.split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape).to(tensor.dtype, copy=True) for part, tensor in zip(parts, tensors, strict=True)]
