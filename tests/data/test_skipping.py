from __future__ import annotations

import numpy as np
import pytest

from data.samples import Sample
from data.skipping import MOST_IN_A_ROW, SkippingDataset
from utils.errors import DataError


class Partly:
    task = "detect"

    def __init__(self, count: int, broken: set[int]):
        self.sizes = np.full((count, 2), 8)
        self.broken = broken
        self.tried = []

    def __len__(self) -> int:
        return len(self.sizes)

    def load(self, index: int, long_side: int | None = None) -> Sample:
        self.tried.append(index)
        if index in self.broken:
            raise DataError(f"{index}.png: corrupt")
        return Sample(image=np.zeros((8, long_side or 8, 3), np.uint8), id=f"{index}.png")


def test_the_next_readable_sample_takes_the_place():
    dataset = SkippingDataset(Partly(4, {2, 3}))
    assert dataset.load(1).id == "1.png" and dataset.skipped == []
    assert dataset.load(2, long_side=5).id == "0.png"
    assert dataset.load(2, long_side=5).image.shape == (8, 5, 3)
    assert dataset.skipped == ["2.png: corrupt", "3.png: corrupt"] * 2
    assert len(dataset) == 4


def test_the_first_error_is_raised_when_nothing_can_be_read():
    with pytest.raises(DataError, match=r"^1\.png: corrupt$"):
        SkippingDataset(Partly(3, {0, 1, 2})).load(1)


def test_the_search_ends_after_a_while():
    dataset = Partly(1000, set(range(1000)))
    with pytest.raises(DataError):
        SkippingDataset(dataset).load(5)
    assert len(dataset.tried) == MOST_IN_A_ROW
