"""Network input sizes are multiples of the model's largest stride."""

from __future__ import annotations

import math


def round_up_to_stride(size: int, stride: int) -> int:
    """Return the smallest multiple of ``stride`` that is at least ``size``."""
    return math.ceil(size / stride) * stride
