"""Dealing the batches of a test over several processes."""

from __future__ import annotations

import numpy as np

from data.sampler import ShapedBatch


def share_of_batches(batches: list[ShapedBatch], share: tuple[int, int]) -> list[ShapedBatch]:
    """Return the batches of one process: neighbours in the list, so that all shares one after another are the list.

    The cuts lie where every process has about as many pixels to look at; with fewer batches than processes, some have
    none.

    Args:
        batches: of the whole test.
        share: (rank, size).
    """
    rank, size = share
    if size == 1:
        return batches
    pixels = np.array([len(indices) * height * width for indices, (height, width) in batches], np.float64)
    # A batch goes to the process in whose part of the work its middle lies.
    middles = np.cumsum(pixels) - pixels / 2
    first, last = np.searchsorted(middles, pixels.sum() * np.array([rank, rank + 1]) / size)
    return batches[first:last] if rank < size - 1 else batches[first:]
