"""Network input sizes: multiples of the model's largest stride, within what a machine can hold."""

from __future__ import annotations

import math
from collections.abc import Iterable

from utils.errors import UsageError

LARGEST_SIDE = 16_384
"""Of a network's input, pixels; a picture of that size takes gigabytes in the first rows of any model."""


LONG_LIMIT = 1333 / 800
"""How many times as long as its short side a picture may be where its short side is what a size means (DETR, YOLOS)."""


def long_limit(short: int, limit: float = LONG_LIMIT) -> int:
    """Return the greatest long side of pictures whose short side is ``short`` pixels.

    Args:
        short: pixels, 1 or more.
        limit: times the short side, 1 or more.
    """
    # Rounded first: 800 * (1333 / 800) must not be a hair below 1333.
    return math.floor(round(short * limit, 6))


def round_up_to_stride(size: int, stride: int) -> int:
    """Return the smallest multiple of ``stride`` that is at least ``size``."""
    return math.ceil(size / stride) * stride


def require_possible_sizes(what: str, sizes: Iterable[int | None], least: int = 1) -> None:
    """Refuse sizes of inputs that no model can take.

    Args:
        what: the option they come from, for the message.
        sizes: in pixels; None is passed over.
        least: the smallest possible size.

    Raises:
        UsageError: one is below ``least`` or above ``LARGEST_SIDE``.
    """
    for size in sizes:
        if size is not None and not least <= size <= LARGEST_SIDE:
            raise UsageError(f"{what} must be {least} to {LARGEST_SIDE:,} pixels, but is {size:,}")
