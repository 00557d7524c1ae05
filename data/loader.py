"""Loaders: worker processes make samples, the main process gets batches, and every failure keeps its own sentence."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from data.sample_key import SampleKey
from data.sample_source import SampleSource, TaskSource
from data.sampler import EpochBatchSampler, ShapedBatch, rectangular_batches, square_batches
from data.samples import Batch, Sample, collate
from data.skipping import SkippingDataset
from data.transforms.testing import TestTransform
from utils.errors import DataError, RunError, YolographError

WORKER_NICENESS = 10
TrainTransform = Callable[[SampleSource, SampleKey, np.random.Generator], Sample]
"""``transform(dataset, key, rng) -> Sample``"""
TestKey = tuple[int, tuple[int, int]]
"""Index of a sample, and the (height, width) of its batch's input."""


def build_train_loader(
    dataset: TaskSource, transform: TrainTransform, batch_size: int, workers: int, seed: int
) -> TrainLoader:
    """Return a loader of shuffled, augmented batches.

    Args:
        dataset: the samples.
        transform: makes the sample of a key out of the data set with a given generator.
        batch_size: samples per batch; the last batch of an epoch may hold fewer.
        workers: worker processes, at most one per core; 0 works in the main process. The content of the batches does
            not depend on it.
        seed: of shuffling and augmentation, at least 0.

    Raises:
        DataError: the data set is empty.
    """
    _require_samples(dataset)
    return TrainLoader(dataset, transform, batch_size, workers, seed)


def build_test_loader(
    dataset: TaskSource,
    img_size: int,
    batch_size: int,
    stride: int,
    workers: int,
    rect: bool = True,
    pad: float = 0.0,
) -> TestLoader:
    """Return a loader of letterboxed batches with placements and native masks; every sample comes exactly once.

    Args:
        dataset: the samples.
        img_size: longer side of a picture within the input, pixels, rounded up to the stride.
        batch_size: samples per batch.
        stride: sides of inputs are multiples of it, pixels.
        workers: worker processes, at most one per core; 0 works in the main process.
        rect: batches of images that need the same rectangular input (the ids tell which image is which) instead of
            square inputs in the data set's own order.
        pad: strides of extra padding of rectangular inputs.

    Raises:
        DataError: the data set is empty.
    """
    _require_samples(dataset)
    if rect:
        batches = rectangular_batches(dataset.sizes, batch_size, img_size, stride, pad)
    else:
        batches = square_batches(len(dataset), batch_size, img_size, stride)
    return TestLoader(dataset, batches, img_size, stride, workers)


class TrainLoader:
    """Batches by (epoch, position); the workers live on from epoch to epoch. See ``build_train_loader``.

    Attributes:
        skipped: messages of unreadable images met since ``batches`` was last called, each once; every one of them was
            replaced by the next readable sample.
    """

    def __init__(self, dataset: SampleSource, transform: TrainTransform, batch_size: int, workers: int, seed: int):
        self.skipped: list[str] = []
        self._sampler = EpochBatchSampler(len(dataset), batch_size, seed)
        self._loader = _torch_loader(TrainItems(dataset, transform, seed), self._sampler, workers)

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return len(self._sampler)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Start the workers on an epoch, from batch ``start`` on, and return its batches.

        A loader serves one iterator at a time: a new one takes over, and an earlier one must not be used any more.

        Raises:
            YolographError: what a transform or the data set raised, in its own words.
            RunError: a worker process died.
        """
        self._sampler.set_position(epoch, start)
        self.skipped = []
        return _receive(iter(self._loader), self.skipped)


class TestLoader:
    """Letterboxed batches in a fixed order. See ``build_test_loader``.

    Attributes:
        skipped: messages of images that could not be read in the last iteration; they are missing from its batches.
    """

    __test__ = False  # pytest would otherwise take the name for a test case

    def __init__(self, dataset: SampleSource, batches: list[ShapedBatch], img_size: int, stride: int, workers: int):
        self.skipped: list[str] = []
        keys = [[(index, shape) for index in indices] for indices, shape in batches]
        self._loader = _torch_loader(TestItems(dataset, img_size, stride), keys, workers)

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        """Yield all batches.

        Raises:
            DataError: not one image could be read.
            RunError: a worker process died.
        """
        self.skipped = skipped = []
        empty = True
        for batch in _receive(iter(self._loader), skipped):
            empty = False
            yield batch
        if empty:
            raise DataError(skipped[0])


Failure = tuple[type[YolographError], str]
"""An error as plain values: a kept exception would keep its traceback, and that the iterator and its workers."""


@dataclass
class Made:
    """What became of one item: a sample, or what failed.

    Attributes:
        sample: None where there is none.
        skipped: messages of unreadable images met on the way.
        failure: kind and message of an error that has to stop the run.
    """

    sample: Sample | None = None
    skipped: list[str] | tuple[()] = ()
    failure: Failure | None = None


class TrainItems(Dataset):
    """Augmented samples by key, a pure function of (seed, epoch, index)."""

    def __init__(self, dataset: SampleSource, transform: TrainTransform, seed: int):
        self.dataset = dataset
        self.transform = transform
        self.seed = seed

    def __getitem__(self, key: SampleKey) -> Made:
        source = SkippingDataset(self.dataset)
        try:
            sample = self.transform(source, key, np.random.default_rng((self.seed, key.epoch, key.index)))
        except YolographError as error:
            return Made(skipped=source.skipped, failure=(type(error), str(error)))
        return Made(sample, source.skipped)


class TestItems(Dataset):
    """Letterboxed samples by (index, input shape) key."""

    __test__ = False

    def __init__(self, dataset: SampleSource, img_size: int, stride: int):
        self.dataset = dataset
        self.img_size = img_size
        self.stride = stride

    def __getitem__(self, key: TestKey) -> Made:
        index, shape = key
        try:
            return Made(TestTransform(self.img_size, self.stride, shape)(self.dataset, index))
        except DataError as error:
            return Made(skipped=[str(error)])
        except YolographError as error:
            return Made(failure=(type(error), str(error)))


@dataclass
class Delivery:
    """What travels from a worker to the main process.

    Native masks travel as one flat tensor: one shared-memory file per batch instead of one per image, of which a
    process may hold only so many.

    Attributes:
        batch: without native masks; None where every sample failed.
        skipped: messages of unreadable images.
        failure: kind and message of the first error that has to stop the run.
        flat_masks: (sum of h * w,) uint8, or None.
        mask_shapes: (h, w) per image.
    """

    batch: Batch | None
    skipped: list[str]
    failure: Failure | None
    flat_masks: Tensor | None = None
    mask_shapes: list[tuple[int, int]] | tuple[()] = ()

    def pin_memory(self) -> Delivery:
        """Return the delivery with its batch in page-locked memory; DataLoader calls this."""
        return replace(self, batch=None if self.batch is None else self.batch.pin_memory())

    def open(self) -> Batch | None:
        """Return the batch with its native masks back in place.

        Raises:
            YolographError: the failure, if there is one.
        """
        if self.failure is not None:
            kind, message = self.failure
            raise kind(message)
        if self.batch is None or self.flat_masks is None:
            return self.batch
        flat = self.flat_masks.split([height * width for height, width in self.mask_shapes])
        masks = [mask.view(shape) for mask, shape in zip(flat, self.mask_shapes, strict=True)]
        return replace(self.batch, native_masks=masks)


def pack(items: list[Made]) -> Delivery:
    """Collate what became of a batch's items; samples that failed are left out."""
    skipped = [message for item in items for message in item.skipped]
    failure = next((item.failure for item in items if item.failure is not None), None)
    samples = [item.sample for item in items if item.sample is not None]
    if failure is not None or not samples:
        return Delivery(None, skipped, failure)
    batch = collate(samples)
    if batch.native_masks is None:
        return Delivery(batch, skipped, None)
    flat = torch.cat([mask.flatten() for mask in batch.native_masks])
    shapes = [tuple(mask.shape) for mask in batch.native_masks]
    return Delivery(replace(batch, native_masks=None), skipped, None, flat, shapes)


def _require_samples(dataset: TaskSource) -> None:
    if len(dataset) == 0:
        raise DataError(f"the data set for the task '{dataset.task}' is empty; check the folders its data YAML names")


def _torch_loader(
    items: Dataset, batch_sampler: Sampler[list[SampleKey]] | list[list[TestKey]], workers: int
) -> DataLoader:
    workers = min(workers, os.cpu_count() or 1, len(batch_sampler))
    return DataLoader(
        items,
        batch_sampler=batch_sampler,
        num_workers=workers,
        collate_fn=pack,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        worker_init_fn=_start_worker,
        # Its own generator: DataLoader draws a number per iteration, which must not move the run's global one.
        generator=torch.Generator(),
    )


def _start_worker(_: int) -> None:
    # One thread per worker: the workers are the parallelism, and OpenCV's threads do not survive a fork.
    cv2.setNumThreads(0)
    # Where the model computes on the same cores, its threads wait for each other at every step of the arithmetic: one
    # that a worker pushed aside would hold up all. Workers run ahead in batches and can wait.
    if not torch.cuda.is_available() and hasattr(os, "nice"):
        os.nice(WORKER_NICENESS)
    # Ctrl-C reaches every process of the terminal; the main one ends its workers without a traceback from each.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _receive(deliveries: Iterator[Delivery], skipped: list[str]) -> Iterator[Batch]:
    """Open deliveries one by one; new messages go to ``skipped``."""
    known = set()
    while True:
        try:
            delivery = next(deliveries)
        except StopIteration:
            return
        except RuntimeError as error:
            if "DataLoader worker" not in str(error) or "Caught" in str(error):
                raise
            raise RunError(
                "a data worker process was ended by the system, most likely for want of memory; "
                "use fewer --workers, a smaller --batch-size or no image cache"
            ) from error
        fresh = [message for message in dict.fromkeys(delivery.skipped) if message not in known]
        known.update(fresh)
        skipped.extend(fresh)
        batch = delivery.open()
        if batch is not None:
            yield batch
