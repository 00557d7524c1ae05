"""Candidates that answer as a set, brought into the same order before the answers of two programs are compared.

A decoder whose queries are the best of several thousand proposals has them in the order of their scores. Where two
scores differ by less than rounding, another program has the two queries the other way round: the same set.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

Outputs = Mapping[str, np.ndarray]
"""Outputs of one head by name, each (B, N, ...): images, candidates, and what a candidate says."""


def in_order_of(expected: Outputs, found: Outputs) -> dict[str, np.ndarray]:
    """Return the found candidates in the order that comes nearest to the expected ones.

    All outputs of a candidate move together, so a box with the scores of another candidate remains a difference.

    Args:
        expected: outputs of one head.
        found: outputs of the same names.

    Returns:
        ``found`` with the candidates of each image reordered; as it is where shapes differ or values are not finite,
        which a comparison tells.
    """
    if not _comparable(expected, found):
        return dict(found)
    scales = {name: float(np.abs(values).max(initial=0)) or 1.0 for name, values in expected.items()}
    pairs = zip(_rows(expected, scales), _rows(found, scales), strict=True)
    orders = [linear_sum_assignment(cdist(ours, theirs, "chebyshev"))[1] for ours, theirs in pairs]
    return {
        name: np.stack([image[order] for image, order in zip(values, orders, strict=True)])
        for name, values in found.items()
    }


def _comparable(expected: Outputs, found: Outputs) -> bool:
    """Whether both hold finite values for the same images and candidates."""
    if any(values.shape != found[name].shape or values.ndim < 2 for name, values in expected.items()):
        return False
    if len({values.shape[:2] for values in expected.values()}) != 1:
        return False
    return all(np.isfinite(values).all() for values in (*expected.values(), *found.values()))


def _rows(outputs: Outputs, scales: Mapping[str, float]) -> np.ndarray:
    """Return (B, N, features): everything that a candidate says, every output by its scale."""
    parts = [values.reshape(*values.shape[:2], -1) / scales[name] for name, values in outputs.items()]
    return np.concatenate(parts, 2)
