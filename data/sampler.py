"""Which samples make which batch: shuffled and resumable for training, of equal input shape for testing."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from data.sample_key import SampleKey
from utils.image_size import round_up_to_stride


class EpochBatchSampler(Sampler[list[SampleKey]]):
    """Batches of sample keys in an order shuffled by (seed, epoch); the last batch may hold fewer.

    The position is set from outside before each iteration, in the main process, so workers can live on from epoch to
    epoch and a run can go on at any batch.

    Args:
        count: samples in the data set.
        batch_size: samples per batch.
        seed: of the shuffling, at least 0.
    """

    def __init__(self, count: int, batch_size: int, seed: int):
        self.count = count
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        self.start = 0

    def set_position(self, epoch: int, start: int) -> None:
        """Make the next iteration begin at batch ``start`` of an epoch."""
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        return math.ceil(self.count / self.batch_size)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        epoch, size = self.epoch, self.batch_size
        order = np.random.default_rng((self.seed, epoch)).permutation(self.count).tolist()
        firsts = range(self.start * size, self.count, size)
        # An expression, not a generator method: the position is read now, whenever the first batch is asked for.
        return ([SampleKey(epoch, index) for index in order[first : first + size]] for first in firsts)


ShapedBatch = tuple[list[int], tuple[int, int]]
"""Indices of a batch, and the (height, width) of the input that suits all of them."""


def square_batches(count: int, batch_size: int, img_size: int, stride: int) -> list[ShapedBatch]:
    """Cut a data set into batches in its own order, all with one square input.

    Args:
        count: samples in the data set.
        batch_size: samples per batch; the last batch may hold fewer.
        img_size: side of the input, pixels, rounded up to the stride.
        stride: of the network, pixels.
    """
    side = round_up_to_stride(img_size, stride)
    return [(list(range(first, min(first + batch_size, count))), (side, side)) for first in range(0, count, batch_size)]


def rectangular_batches(
    sizes: np.ndarray, batch_size: int, img_size: int, stride: int, pad: float = 0.0
) -> list[ShapedBatch]:
    """Cut a data set into batches of images that need the same input, so that no image is padded for another's sake.

    What a network is shown of an image does not depend on the batch size then, and without ``pad`` it is what the image
    alone would be shown as.

    Args:
        sizes: (n, 2) int, native height and width.
        batch_size: samples per batch; the last batch of a shape may hold fewer.
        img_size: longer side of a picture within the input, pixels, rounded up to the stride.
        stride: sides of an input are multiples of it, pixels.
        pad: strides that are added to both sides before rounding up.

    Returns:
        Batches from the widest to the tallest inputs, the images of a shape in their own order.
    """
    sizes = np.asarray(sizes, np.float64)
    side = round_up_to_stride(img_size, stride)
    resized = np.maximum(np.rint(sizes * (side / sizes.max(1, keepdims=True))), 1)
    shapes, group = np.unique(np.ceil(resized / stride + pad).astype(np.int64) * stride, axis=0, return_inverse=True)
    batches: list[ShapedBatch] = []
    for number in np.argsort(shapes[:, 0] / shapes[:, 1], kind="stable"):
        members = np.flatnonzero(group.reshape(-1) == number).tolist()
        shape = (int(shapes[number, 0]), int(shapes[number, 1]))
        batches += [(members[first : first + batch_size], shape) for first in range(0, len(members), batch_size)]
    return batches
