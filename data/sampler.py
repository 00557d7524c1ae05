"""Which samples make which batch: shuffled and resumable for training, of equal input shape for testing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from data.sample_key import BatchKey, SampleKey
from data.transforms.letterbox import CENTERED, LetterboxRule
from utils.image_size import round_up_to_stride

ORDER = 1
"""Keeps the numbers that shuffle a pass apart from those that make its samples, which have a 0 in this place."""

PARTNER_WINDOW = 256
"""Mosaic and mixup take their other pictures from about as many neighbours in the order of a pass. The pictures of a
window are asked for again and again within a short time and then no more in that pass, so that a small cache decodes
each of them about once per pass; the window is wide enough for partners to look drawn at random."""

ShapedBatch = tuple[list[int], tuple[int, int]]
"""Indices of a batch, and the (height, width) of the input that suits all of them."""


class _Pass(NamedTuple):
    """The order of one pass.

    Attributes:
        indices: (count,) int64, of samples.
        repeats: (count,) int64, how often each index came before; None where each comes once.
        cuts: (batches + 1,) int64, batch b holds the places cuts[b] .. cuts[b + 1] - 1.
        shapes: (height, width) of each batch, or None.
    """

    indices: np.ndarray
    repeats: np.ndarray | None
    cuts: np.ndarray
    shapes: list[tuple[int, int]] | None


class TrainOrder:
    """The batches of a whole run: pass after pass over the data, each in an order of its own.

    Batches are counted over the whole run, and every one is a pure function of its number, the seed and the image
    weights: a run goes on at any batch. A pass is shuffled by (seed, pass); its last batch may hold fewer samples.

    Args:
        count: samples in the data set.
        batch_size: samples per batch of all processes together.
        seed: of the shuffling, at least 0.
        share: (rank, size): this process gets part ``rank`` of ``size`` parts of every batch. The parts are equal to
            within one sample, and one after the other they are the whole batch.
        closing_batch: number of the first batch without mosaic; None never closes it.
        rectangles: batches of images of similar aspect, as ``aspect_batches`` makes them; a pass then shuffles whole
            batches, and there is no mosaic. None shuffles samples.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        seed: int,
        share: tuple[int, int] = (0, 1),
        closing_batch: int | None = None,
        rectangles: list[ShapedBatch] | None = None,
    ):
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.share, self.closing_batch, self.rectangles = share, closing_batch, rectangles
        self.weights: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        """Return the number of batches of a pass."""
        return math.ceil(self.count / self.batch_size)

    def set_weights(self, weights: np.ndarray, first_pass: int) -> None:
        """Draw the samples of a pass with replacement, in proportion to weights, from one pass on.

        Args:
            weights: (count,) at least 0; all 0 draws every sample equally.
            first_pass: the first pass that they hold for; those set for earlier passes stay.

        Raises:
            ValueError: weights of another number, below 0 or not finite, or batches are rectangular.
        """
        weights = np.array(weights, np.float64)
        if self.rectangles is not None:
            raise ValueError("image weights and rectangular batches exclude each other")
        if weights.shape != (self.count,) or not np.isfinite(weights).all() or (weights < 0).any():
            raise ValueError(f"image weights must be {self.count} finite numbers of at least 0")
        self.weights[first_pass] = weights if weights.any() else np.ones(self.count)

    def forget_weights_before(self, number: int) -> None:
        """Drop weights that pass ``number`` and all later ones do not need."""
        used = max((first for first in self.weights if first <= number), default=number)
        self.weights = {first: weights for first, weights in self.weights.items() if first >= used}

    def keys(self, first: int, last: int | None = None) -> Iterator[BatchKey]:
        """Yield this process's share of the batches ``first`` to ``last - 1`` of the run; for ever without ``last``."""
        number, current, order = first, -1, None
        while last is None or number < last:
            at, position = divmod(number, len(self))
            if order is None or at != current:
                current, order = at, self._order(at)
            yield self._batch(number, at, position, order)
            number += 1

    def _order(self, number: int) -> _Pass:
        rng = np.random.default_rng((self.seed, number, 0, 0, ORDER))
        if self.rectangles is not None:
            batches = [self.rectangles[i] for i in rng.permutation(len(self.rectangles))]
            indices = np.array([index for members, _ in batches for index in members], np.int64)
            cuts = np.cumsum([0] + [len(members) for members, _ in batches])
            return _Pass(indices, None, cuts, [shape for _, shape in batches])
        cuts = np.minimum(np.arange(len(self) + 1) * self.batch_size, self.count)
        first = max((first for first in self.weights if first <= number), default=None)
        if first is None:
            return _Pass(rng.permutation(self.count), None, cuts, None)
        weights = self.weights[first]
        indices = rng.choice(self.count, size=self.count, p=weights / weights.sum())
        return _Pass(indices, _occurrences(indices), cuts, None)

    def _batch(self, number: int, at: int, position: int, order: _Pass) -> BatchKey:
        start, end = order.cuts[position : position + 2].tolist()
        rank, size = self.share
        low, high = (start + (end - start) * part // size for part in (rank, rank + 1))
        empty = low == high
        places = slice(start, start + 1) if empty else slice(low, high)
        shape = None if order.shapes is None else order.shapes[position]
        mosaic = shape is None and (self.closing_batch is None or number < self.closing_batch)
        partners = self._partners(order, end) if mosaic else ()
        indices = order.indices[places].tolist()
        repeats = [0] * len(indices) if order.repeats is None else order.repeats[places].tolist()
        samples = [
            SampleKey(at, index, mosaic, shape, partners, repeat)
            for index, repeat in zip(indices, repeats, strict=True)
        ]
        return BatchKey(number, tuple(samples), empty)

    def _partners(self, order: _Pass, end: int) -> tuple[int, ...]:
        """Return the window of a whole batch that ends at place ``end``; at the start of a pass, its first places."""
        window = max(PARTNER_WINDOW, self.batch_size)
        if window >= self.count:
            # Weights hold for partners too: then the drawn samples are the set.
            return () if order.repeats is None else tuple(order.indices.tolist())
        last = max(end, window)
        return tuple(order.indices[last - window : last].tolist())


def _occurrences(values: np.ndarray) -> np.ndarray:
    """Return for every entry how many equal ones come before it."""
    by_value = np.argsort(values, kind="stable")
    ordered = values[by_value]
    places = np.arange(len(values))
    starts = np.maximum.accumulate(np.where(np.diff(ordered, prepend=ordered[:1] - 1) != 0, places, 0))
    found = np.empty_like(places)
    found[by_value] = places - starts
    return found


def aspect_batches(
    sizes: np.ndarray, batch_size: int, img_size: int, stride: int, pad: float = 0.0
) -> list[ShapedBatch]:
    """Cut a data set, sorted by aspect, into batches whose input is the smallest rectangle that suits all images.

    Args:
        sizes: (n, 2) int, native height and width.
        batch_size: samples per batch; the last batch, of the tallest images, may hold fewer.
        img_size: longer side of a picture within the input, pixels.
        stride: sides of an input are multiples of it, pixels.
        pad: strides that are added to both sides before rounding up.
    """
    order, shapes = _shapes_of_groups(sizes, batch_size, img_size, stride, pad)
    return [
        (order[first : first + batch_size].tolist(), tuple(shapes[order[first]].tolist()))
        for first in range(0, len(order), batch_size)
    ]


def _shapes_of_groups(
    sizes: np.ndarray, group: int, img_size: int, stride: int, margin: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the images in the order of their aspects, cut into groups, and (n, 2) the input that suits each group.

    Args:
        sizes: (n, 2) int, native height and width.
        group: images per group; the last one, of the tallest images, may hold fewer.
        img_size: longer side of a picture within the input, pixels.
        stride: sides of an input are multiples of it, pixels.
        margin: strides that are added to both sides before rounding up.
    """
    sizes = np.asarray(sizes, np.float64)
    aspects = sizes[:, 0] / sizes[:, 1]
    order = np.argsort(aspects, kind="stable")
    starts = np.arange(0, len(order), group)
    least, most = np.minimum.reduceat(aspects[order], starts), np.maximum.reduceat(aspects[order], starts)
    sides = np.column_stack([np.minimum(most, 1), np.minimum(1 / least, 1)])
    # Rounded first: 1 / (4 / 3) is a hair above 3/4 and would cost a whole stride.
    strides = np.ceil((sides * img_size / stride + margin).round(6)).astype(np.int64)
    shapes = np.empty((len(order), 2), np.int64)
    shapes[order] = np.repeat(strides * stride, group, axis=0)[: len(order)]
    return order, shapes


def square_batches(count: int, batch_size: int, img_size: int, stride: int) -> list[ShapedBatch]:
    """Cut a data set into batches in its own order, all with one square input.

    Args:
        count: samples in the data set.
        batch_size: samples per batch; the last batch may hold fewer.
        img_size: side of the input, pixels, rounded up to the stride.
        stride: of the network, pixels.
    """
    side = round_up_to_stride(img_size, stride)
    return equal_batches(count, batch_size, (side, side))


def equal_batches(count: int, batch_size: int, shape: tuple[int, int]) -> list[ShapedBatch]:
    """Cut a data set into batches in its own order, all with inputs of one (height, width).

    Args:
        count: samples in the data set.
        batch_size: samples per batch; the last batch may hold fewer.
        shape: of all inputs.
    """
    return [(list(range(first, min(first + batch_size, count))), shape) for first in range(0, count, batch_size)]


def rectangular_batches(
    sizes: np.ndarray,
    batch_size: int,
    img_size: int,
    stride: int,
    pad: float = 0.0,
    letterbox: LetterboxRule = CENTERED,
) -> list[ShapedBatch]:
    """Cut a data set into batches of images that need the same input, so that no image is padded for a batch's sake.

    What a network is shown of an image does not depend on the batch size then, and without ``pad`` it is what the image
    alone would be shown as; unless the model's letterbox wants rectangles that are shared by groups, see
    ``LetterboxRule.group``.

    Args:
        sizes: (n, 2) int, native height and width.
        batch_size: samples per batch; the last batch of a shape may hold fewer.
        img_size: longer side of a picture within the input, or its shorter one as the letterbox says, pixels, rounded
            up to the stride.
        stride: sides of an input are multiples of it, pixels.
        pad: strides that are added to both sides before rounding up.
        letterbox: of the model; one in the corner cuts sides to whole pixels, one in the middle rounds them. Its margin
            is added to ``pad``.

    Returns:
        Batches from the widest to the tallest inputs, the images of a shape in their own order.
    """
    side = round_up_to_stride(img_size, stride)
    if letterbox.margin or letterbox.group > 1:
        _, wanted = _shapes_of_groups(sizes, letterbox.group, side, stride, pad + letterbox.margin)
    else:
        wanted = _smallest_shapes(sizes, side, stride, pad, letterbox)
    shapes, group = np.unique(wanted, axis=0, return_inverse=True)
    batches: list[ShapedBatch] = []
    for number in np.argsort(shapes[:, 0] / shapes[:, 1], kind="stable"):
        members = np.flatnonzero(group.reshape(-1) == number).tolist()
        shape = (int(shapes[number, 0]), int(shapes[number, 1]))
        batches += [(members[first : first + batch_size], shape) for first in range(0, len(members), batch_size)]
    return batches


def _smallest_shapes(sizes: np.ndarray, side: int, stride: int, pad: float, letterbox: LetterboxRule) -> np.ndarray:
    """Return (n, 2) the whole strides that the whole pixels of each picture need, ``side`` pixels long, and ``pad``.

    By the short side there is no padding, and pictures are resized to whole strides.
    """
    if letterbox.by_short_side:
        return letterbox.sizes_alone(sizes, side, stride)
    sizes = np.asarray(sizes, np.float64)
    whole = np.rint if letterbox.anchor == "center" else np.trunc
    resized = np.maximum(whole(sizes * (side / sizes.max(1, keepdims=True))), 1)
    return np.ceil(resized / stride + pad).astype(np.int64) * stride
