"""Several passes side by side: predictors that share their weights, each used by one thread at a time."""

from __future__ import annotations

import queue
from collections.abc import Sequence
from typing import Any

import numpy as np

from models.predictor import Predictor


class PredictorPool:
    """Looks at pictures for as many threads at once as it has predictors; more wait for their turn.

    Args:
        predictor: is one of them.
        count: predictors, at least 1; all have the memory of their own intermediate results.
    """

    def __init__(self, predictor: Predictor, count: int = 1) -> None:
        self._free: queue.SimpleQueue[Predictor] = queue.SimpleQueue()
        for each in (predictor, *(predictor.twin() for _ in range(count - 1))):
            self._free.put(each)

    def __call__(self, images: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        """Return the results of every picture by head, see ``Predictor``."""
        predictor = self._free.get()
        try:
            return predictor(images)
        finally:
            self._free.put(predictor)
