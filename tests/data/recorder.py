"""A data set that tells which samples a transform asked it for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from data.samples import Sample


class Recorder:
    """Keeps the indices it is asked for, and may have objects in some pictures only.

    Args:
        dataset: where samples come from.
        with_objects: whether the picture of an index has objects.
    """

    def __init__(self, dataset: Any, with_objects: Callable[[int], bool] = lambda index: True) -> None:
        self.dataset, self.with_objects = dataset, with_objects
        self.loaded: list[int] = []

    def __len__(self) -> int:
        return len(self.dataset)

    def load(self, index: int, long_side: int | None = None) -> Sample:
        self.loaded.append(index)
        sample = self.dataset.load(index, long_side)
        return sample if self.with_objects(index) else sample.only(np.zeros(len(sample.boxes), bool))
