"""How far one output of a file is from the model's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEAST_MAGNITUDE = 0.01
"""Differences are told relative to an output's largest value, but at least to this one.

Smaller are only probabilities where nothing is to be seen, such as those of an untrained YOLOv8, and the sigmoid of
ONNX Runtime is good to 1e-7 of one, however small its value.
"""


@dataclass(frozen=True)
class Difference:
    """How far one output of a file is from the model's.

    Attributes:
        shape: of the output.
        absolute: largest difference of any value; infinite if a value of either is not finite.
        relative: ``absolute`` over the largest magnitude in the model's output, or over ``LEAST_MAGNITUDE``.
        image: what the network saw.
    """

    shape: tuple[int, ...]
    absolute: float
    relative: float
    image: str


def magnitude_of(values: np.ndarray) -> float:
    """Return what differences of an output are relative to."""
    return max(float(np.abs(values).max(initial=0)), LEAST_MAGNITUDE)
