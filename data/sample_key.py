"""What a worker has to know to make one training sample."""

from __future__ import annotations

from typing import NamedTuple


class SampleKey(NamedTuple):
    """Names one training sample; together with the run's seed it determines every pixel and label of it.

    Attributes:
        epoch: pass over the data set, from 0.
        index: of the sample in the data set.
        mosaic: whether mosaic and mixup may be used; the last epochs of a run may go without.
        shape: (height, width) of the sample where a batch is rectangular; None is the transform's own size.
        partners: indices among which a mosaic finds its other pictures; empty is the whole data set.
    """

    epoch: int
    index: int
    mosaic: bool = True
    shape: tuple[int, int] | None = None
    partners: tuple[int, ...] = ()
