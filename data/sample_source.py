"""What transforms and loaders ask of a data set, whatever lies behind it."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from data.samples import Sample


class SampleSource(Protocol):
    """Labelled images by index."""

    def __len__(self) -> int:
        """Return the number of samples."""

    def load(self, index: int, long_side: int | None = None, *, least: int | None = None) -> Sample:
        """Return sample ``index`` with its image's longer side at ``long_side`` pixels; None gives the native size.

        The image may be a read-only view of a cache; labels and masks belong to the caller.

        Args:
            index: of the sample.
            long_side: pixels of the longer side.
            least: instead of ``long_side``, for callers that resize it themselves: the image as it is decoded, which
                may be at a half, a quarter or an eighth of its size as long as its longer side has so many pixels.

        Raises:
            DataError: its files cannot be read.
        """


class TaskSource(SampleSource, Protocol):
    """Labelled images of one task whose sizes are known without loading them; ``TaskDataset`` is one."""

    task: str
    sizes: np.ndarray
    """(n, 2) int, native height and width."""
