"""Many small tensors side by side in one, so that a device does one thing instead of many."""

from __future__ import annotations

import torch
from torch import Tensor


def flat(tensors: list[Tensor]) -> Tensor:
    """Return a copy of the values of tensors of one format, side by side."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def spread(values: Tensor, tensors: list[Tensor]) -> None:
    """Write values that lie side by side into their tensors."""
    parts = values.split([tensor.numel() for tensor in tensors])
    torch._foreach_copy_(tensors, [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)])
