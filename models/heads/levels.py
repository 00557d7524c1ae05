"""Which of a head's levels take part in a pass of test-time augmentation."""

from __future__ import annotations

from collections.abc import Sequence

from models.views import Level


def levels_without(level: Level, strides: Sequence[int]) -> list[int]:
    """Return the indices of all levels but an outermost one, in order; a single level is not left out.

    Args:
        level: the one to leave out: ``coarsest`` has the largest stride, ``finest`` the smallest.
        strides: of the head's levels.
    """
    by_stride = sorted(range(len(strides)), key=strides.__getitem__)
    left_out = by_stride[-1] if level == "coarsest" else by_stride[0]
    return [i for i in range(len(strides)) if i != left_out or len(strides) == 1]
