"""Loaders: batches by their place in the run, made by worker processes; every failure keeps its own sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from data.deliveries import Delivery, TestBatchMaker, TrainBatchMaker, TrainTransform
from data.sample_source import SampleSource, TaskSource
from data.sampler import ShapedBatch, TrainOrder, aspect_batches, equal_batches, rectangular_batches, square_batches
from data.samples import Batch
from data.shares import share_of_batches
from data.transforms.letterbox import CENTERED, LetterboxRule
from data.workers import WorkerPool
from utils.errors import DataError, UsageError


def build_train_loader(
    dataset: TaskSource,
    transform: TrainTransform,
    batch_size: int,
    workers: int,
    seed: int,
    *,
    share: tuple[int, int] = (0, 1),
    closing_batch: int | None = None,
    rect: tuple[int, int] | None = None,
) -> TrainLoader:
    """Return a loader of shuffled, augmented batches.

    Args:
        dataset: the samples.
        transform: makes the sample of a key out of the data set with a given generator.
        batch_size: samples per batch of all processes together; the last batch of a pass may hold fewer.
        workers: worker processes of this process, at most one per core; 0 works in the main process. The content of
            the batches does not depend on it.
        seed: of shuffling and augmentation, at least 0.
        share: (rank, size): this process gets part ``rank`` of ``size`` parts of every batch, equal to within one
            sample. Where its part is empty, in the last batch of a pass, it gets a batch with N = 0.
        closing_batch: number of the first batch of the run without mosaic and mixup; None never closes it.
        rect: (img_size, stride): rectangular batches of images of similar aspect, without mosaic. None gives every
            sample the transform's own size.

    Raises:
        DataError: the data set is empty.
    """
    _require_samples(dataset)
    rectangles = None if rect is None else aspect_batches(dataset.sizes, batch_size, *rect)
    order = TrainOrder(len(dataset), batch_size, seed, share, closing_batch, rectangles)
    return TrainLoader(dataset, transform, order, workers)


def build_test_loader(
    dataset: TaskSource,
    img_size: int,
    batch_size: int,
    stride: int,
    workers: int,
    rect: bool = True,
    pad: float = 0.0,
    share: tuple[int, int] = (0, 1),
    letterbox: LetterboxRule = CENTERED,
) -> TestLoader:
    """Return a loader of letterboxed batches with placements and native masks; every sample comes exactly once.

    Args:
        dataset: the samples.
        img_size: longer side of a picture within the input, or its shorter one as the letterbox says, pixels, rounded
            up to the stride.
        batch_size: samples per batch.
        stride: sides of inputs are multiples of it, pixels.
        workers: worker processes, at most one per core; 0 works in the main process.
        rect: batches of images that need the same rectangular input (the ids tell which image is which) instead of
            square inputs in the data set's own order. A letterbox that wants squares has them in any case. One that
            goes by the short side has no squares: in the data set's own order a batch is padded at its right and bottom
            to its largest picture, and has ``sizes``. A letterbox of one shape gives every input that shape.
        pad: strides of extra padding of rectangular inputs.
        share: (rank, size): this process gets its share of the batches, which are the same however many processes
            there are. Its share may be empty.
        letterbox: how the model wants pictures to lie within its input.

    Raises:
        DataError: the data set is empty.
        UsageError: there is ``pad`` and a letterbox that pads nothing, or that has one shape.
    """
    _require_samples(dataset)
    if pad and letterbox.by_short_side:
        raise UsageError("--pad: this model's pictures are resized to whole strides and not padded; leave it out")
    if pad and letterbox.shape is not None:
        raise UsageError("--pad: this model's inputs have one size, which leaves no room; leave it out")
    if letterbox.shape is not None:
        batches = equal_batches(len(dataset), batch_size, letterbox.shape)
    elif rect and not letterbox.square:
        batches = rectangular_batches(dataset.sizes, batch_size, img_size, stride, pad, letterbox)
    else:
        batches = square_batches(len(dataset), batch_size, img_size, stride)
    batches = share_of_batches(batches, share)
    return TestLoader(dataset, batches, img_size, stride, workers, is_share=share[1] > 1, letterbox=letterbox)


class TrainLoader:
    """Batches by their number in the run; workers live, and work ahead, across passes. See ``build_train_loader``.

    A loader serves one iterator at a time: a new one takes over, and an earlier one refuses to go on.

    Attributes:
        skipped: messages of unreadable images met so far, each once; every one of them was replaced by the next
            readable sample.
    """

    def __init__(self, dataset: SampleSource, transform: TrainTransform, order: TrainOrder, workers: int):
        self.skipped: list[str] = []
        self._order = order
        self._known: set[str] = set()
        self._pool = WorkerPool(TrainBatchMaker(dataset, transform, order.seed), workers)
        self._next_pass = 0
        self._endless = False

    def __len__(self) -> int:
        """Return the number of batches of a pass."""
        return len(self._order)

    @property
    def image_weights(self) -> dict[int, np.ndarray]:
        """The weights that the pass under way and later ones need, by the first pass that they hold for.

        They are part of a run's state: one that is resumed assigns what it has saved before it streams.

        Raises:
            ValueError: see ``set_image_weights``.
        """
        return dict(self._order.weights)

    @image_weights.setter
    def image_weights(self, weights: Mapping[int, np.ndarray]) -> None:
        self._order.weights = {}
        for first_pass, values in weights.items():
            self.set_image_weights(values, first_pass)

    def set_image_weights(self, weights: np.ndarray, first_pass: int | None = None) -> None:
        """Draw samples with replacement, in proportion to weights, from one pass on.

        Weights must be set before the first stream begins; from then on the workers do not work ahead beyond the end of
        a pass, because the next one may get other weights.

        Args:
            weights: (n,) one per sample, finite and at least 0; all 0 draws every sample equally.
            first_pass: the first pass that they hold for; None is the next one that has not begun.

        Raises:
            ValueError: the weights do not fit the data set, batches are rectangular, or the workers already work ahead
                without weights.
        """
        if self._endless:
            raise ValueError("image weights must be set before the first stream begins")
        self._order.set_weights(weights, self._next_pass if first_pass is None else first_pass)

    def stream(self, first_batch: int = 0) -> Iterator[Batch]:
        """Start the workers at batch ``first_batch`` of the run, and return the batches from there on, for ever.

        Raises:
            YolographError: what a transform or the data set raised, in its own words.
            RunError: workers were ended by the system too often, or hang.
        """
        if self._order.weights:
            number, start = divmod(first_batch, len(self))
            # A pass that has not begun may still get weights: a run that was stopped before its validation weighs then.
            self._next_pass = number
            return self._pass_by_pass(self.batches(number, start) if start else iter(()))
        self._endless = True
        return self._receive(self._pool.run(self._order.keys, first_batch))

    def batches(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Start the workers on one pass, from its batch ``start`` on, and return its batches.

        Raises:
            YolographError: what a transform or the data set raised, in its own words.
            RunError: workers were ended by the system too often, or hang.
        """
        self._next_pass = number + 1
        self._order.forget_weights_before(number)
        end = (number + 1) * len(self)
        return self._receive(self._pool.run(lambda first: self._order.keys(first, end), number * len(self) + start))

    def close(self) -> None:
        """End the workers at once."""
        self._pool.close()

    def _pass_by_pass(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            yield from batches
            batches = self.batches(self._next_pass)

    def _receive(self, deliveries: Iterator[Delivery]) -> Iterator[Batch]:
        for delivery in deliveries:
            batch = _open(delivery, self._known, self.skipped)
            if batch is not None:
                yield batch


class TestLoader:
    """Letterboxed batches in a fixed order. See ``build_test_loader``.

    Attributes:
        skipped: messages of images that could not be read in the last iteration; they are missing from its batches.
    """

    __test__ = False  # pytest would otherwise take the name for a test case

    def __init__(
        self,
        dataset: SampleSource,
        batches: list[ShapedBatch],
        img_size: int,
        stride: int,
        workers: int,
        is_share: bool = False,
        letterbox: LetterboxRule = CENTERED,
    ):
        self.skipped: list[str] = []
        self._batches, self._is_share = batches, is_share
        self._pool = WorkerPool(TestBatchMaker(dataset, img_size, stride, letterbox), min(workers, len(batches)))

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        """Yield all batches.

        Raises:
            DataError: not one image could be read; of a share in a run of several processes that is no error.
            RunError: workers were ended by the system too often, or hang.
        """
        self.skipped, known = [], set()
        skipped = self.skipped
        empty = True
        for delivery in self._pool.run(lambda first: iter(self._batches[first:])):
            batch = _open(delivery, known, skipped)
            if batch is not None:
                empty = False
                yield batch
        if empty and not self._is_share:
            raise DataError(skipped[0])


def _require_samples(dataset: TaskSource) -> None:
    if len(dataset) == 0:
        raise DataError(f"the data set for the task '{dataset.task}' is empty; check the folders its data YAML names")


def _open(delivery: Delivery, known: set[str], skipped: list[str]) -> Batch | None:
    """Return the batch of a delivery; messages that are not ``known`` go to ``skipped``."""
    fresh = [message for message in dict.fromkeys(delivery.skipped) if message not in known]
    known.update(fresh)
    skipped.extend(fresh)
    return delivery.open()
