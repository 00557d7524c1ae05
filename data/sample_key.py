"""What a worker has to know to make one training sample, or one batch of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class SampleKey(NamedTuple):
    """Names one training sample; together with the run's seed it determines every pixel and label of it.

    Attributes:
        epoch: pass over the data set, from 0.
        index: of the sample in the data set.
        mosaic: whether mosaic and mixup may be used; the last batches of a run may go without.
        shape: (height, width) of the sample where a batch is rectangular: a single picture is letterboxed into it and
            then warped, without mosaic; None is the transform's own size.
        partners: indices among which mosaic and mixup find their other pictures; empty is the whole data set. All keys
            of a batch hold the same tuple object, which therefore travels to a worker once per batch.
        repeat: how often the index came before in this pass; above 0 only where samples are drawn with replacement. It
            belongs to the seed of the sample, so that repetitions are augmented differently.
    """

    epoch: int
    index: int
    mosaic: bool = True
    shape: tuple[int, int] | None = None
    partners: tuple[int, ...] = ()
    repeat: int = 0

    def generator(self, seed: int) -> np.random.Generator:
        """Return the only source of randomness of this sample in a run with ``seed``."""
        return np.random.default_rng((seed, self.epoch, self.index, self.repeat))


class BatchKey(NamedTuple):
    """Names one training batch, or one process's share of it.

    Attributes:
        number: of the batch, counted over the whole run.
        samples: at least one.
        empty: the share of this process is no sample at all; ``samples`` then holds one whose shape the empty batch
            takes.
    """

    number: int
    samples: tuple[SampleKey, ...]
    empty: bool = False
