"""Arithmetic in float32 where networks run in reduced formats."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def full_precision(values: Tensor) -> Tensor:
    """Return half precision as float32; float32 and float64 stay what they are."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def without_autocast(device: torch.device) -> AbstractContextManager:
    """Return a context in which no operation on ``device`` is moved to a reduced format."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
