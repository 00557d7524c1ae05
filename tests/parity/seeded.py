"""Weights and images that depend on nothing but a name, a shape or a seed, so that no weight file has to travel.

Two implementations that fill the tensors of the same published names by this rule must compute the same numbers.
NumPy's ``RandomState`` streams never change between versions, so the values are the same everywhere.
"""

from __future__ import annotations

import math
import zlib

import numpy as np

SPREAD = 0.1
"""Standard deviation of everything that is not a matrix: biases, running means, and scales around one."""
MATRIX_GAIN = 1.4
"""Standard deviation of a matrix entry times the square root of its fan-in; keeps a signal's size through layers."""


def seeded_tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the value of the state entry ``name``: float32, or int64 zeros for a counter of batches."""
    kind = name.split(".")[-1]
    if kind == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    draw = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    if kind == "running_var":
        value = 1.0 + SPREAD * np.abs(draw)
    elif kind == "running_mean":
        value = SPREAD * draw
    elif len(shape) > 1:
        # NumPy's own square root makes the product float64 before it is rounded, as in the published rule.
        value = MATRIX_GAIN / np.sqrt(max(math.prod(shape[1:]), 1)) * draw
    elif kind == "weight":
        value = 1.0 + SPREAD * draw
    else:
        value = SPREAD * draw
    return np.asarray(value, np.float32)


def seeded_image(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Return a float32 batch (N, 3, H, W) with values in 0..1."""
    return np.random.RandomState(seed).random_sample(shape).astype(np.float32)
