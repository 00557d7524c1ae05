"""A data set in which a sample that turns out to be unreadable is replaced by the next one, and reported."""

from __future__ import annotations

from collections.abc import Callable

from data.sample_source import SampleSource
from data.samples import Sample
from utils.errors import DataError

MOST_IN_A_ROW = 20


class SkippingDataset:
    """Looks like the data set it wraps, except that ``load`` gives the next readable sample instead of failing.

    Args:
        dataset: what to wrap.
        before_reading: called with the index of every sample before it is read.

    Attributes:
        skipped: one message per failed reading so far.
    """

    def __init__(self, dataset: SampleSource, before_reading: Callable[[int], None] | None = None):
        self.dataset = dataset
        self.before_reading = before_reading
        self.skipped: list[str] = []

    def __len__(self) -> int:
        return len(self.dataset)

    def load(self, index: int, long_side: int | None = None, *, least: int | None = None) -> Sample:
        """Load sample ``index`` or the first readable one after it (the first follows the last).

        Raises:
            DataError: the wrapped data set's own error, when no sample or 20 samples in a row cannot be read.
        """
        first_error = None
        for step in range(min(len(self.dataset), MOST_IN_A_ROW)):
            place = (index + step) % len(self.dataset)
            if self.before_reading is not None:
                self.before_reading(place)
            try:
                if least is not None:
                    return self.dataset.load(place, least=least)
                return self.dataset.load(place, long_side=long_side)
            except DataError as error:
                first_error = first_error or error
                self.skipped.append(str(error))
        raise first_error or DataError("the data set has no samples")
