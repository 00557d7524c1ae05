"""Whether a network runs for its numbers, or is recorded for a compiler or an export."""

from __future__ import annotations

import torch


def is_traced() -> bool:
    """Return whether a compiler or TorchScript follows what runs; what is kept from earlier runs becomes a constant."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()
