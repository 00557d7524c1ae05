"""What worker processes make: from the key of a batch to everything of it that travels to the main process."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.multiprocessing
from torch import Tensor
from torch.utils.data import Dataset

from data.picture_store import write_all
from data.sample_key import BatchKey, SampleKey
from data.sample_source import SampleSource
from data.sampler import ShapedBatch
from data.samples import Batch, Sample, collate
from data.skipping import SkippingDataset
from data.transforms.letterbox import CENTERED, LetterboxRule
from data.transforms.testing import TestTransform
from data.watchdog import ReadingTable
from utils.errors import DataError, YolographError

TrainTransform = Callable[[SampleSource, SampleKey, np.random.Generator], Sample]
"""``transform(dataset, key, rng) -> Sample``"""
_LABELS = ("boxes", "classes", "valid", "keypoints", "areas", "crowd")
_PIXELS = ("images", "masks")
Failure = tuple[type[YolographError], str]
"""An error as plain values: a kept exception would keep its traceback, and that the iterator and its workers."""


@dataclass
class Made:
    """What became of one sample.

    Attributes:
        sample: None where there is none.
        skipped: messages of unreadable images met on the way.
        failure: kind and message of an error that has to stop the run.
    """

    sample: Sample | None = None
    skipped: list[str] | tuple[()] = ()
    failure: Failure | None = None


@dataclass
class Delivery:
    """What travels from a worker to the main process.

    Pixels travel as shared memory, a file per tensor, for which the main process has to ask the worker one by one. So
    native masks travel as one flat tensor, and labels as plain values within the message.

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

    def __getstate__(self) -> dict:
        labels, batch = {}, self.batch
        if batch is not None:
            labels = {name: value.numpy() for name in _LABELS if (value := getattr(batch, name)) is not None}
            batch = replace(batch, **dict.fromkeys(labels), **{name: _shared(getattr(batch, name)) for name in _PIXELS})
        return {**self.__dict__, "batch": batch, "labels": labels, "flat_masks": _shared(self.flat_masks)}

    def __setstate__(self, state: dict) -> None:
        labels = {name: torch.from_numpy(value) for name, value in state.pop("labels").items()}
        self.__dict__.update(state)
        if labels:
            self.batch = replace(self.batch, **labels)

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


def _shared(tensor: Tensor | None) -> Tensor | None:
    """Return a copy of a tensor in memory that travels to another process, where the system has memory without names.

    Torch's own way maps a file of /dev/shm and copies into it: one fault per page makes it take twice as long, and
    where /dev/shm is full it ends the process.
    """
    by_number = torch.multiprocessing.get_sharing_strategy() == "file_descriptor"
    if tensor is None or not by_number or not hasattr(os, "memfd_create"):
        return tensor
    if tensor.numel() == 0:
        # It may be cut from a whole batch, which has no reason to travel.
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)
    pixels = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage()).numpy()
    file = os.memfd_create("yolograph")
    try:
        write_all(file, pixels, 0)
    except OSError:
        os.close(file)
        return tensor
    try:
        storage = torch.UntypedStorage._new_shared_fd_cpu(file, pixels.nbytes)
    finally:
        os.close(file)
    return torch.empty(0, dtype=tensor.dtype).set_(storage, tensor.storage_offset(), tensor.shape, tensor.stride())


def pack(items: list[Made]) -> Delivery:
    """Collate what became of a batch's samples; those that failed are left out."""
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


class BatchMaker(Dataset):
    """Makes deliveries by batch key; one copy of it lives in every worker.

    Attributes:
        readings: where a worker writes what it is reading; None keeps no books.
    """

    def __init__(self, dataset: SampleSource):
        self.dataset = dataset
        self.readings: ReadingTable | None = None

    def _before_reading(self, index: int) -> None:
        if self.readings is not None:
            ids = getattr(self.dataset, "ids", None)
            self.readings.begin(f"sample {index}" if ids is None else str(ids[index]))

    def _at_rest(self) -> None:
        if self.readings is not None:
            self.readings.end()


class TrainBatchMaker(BatchMaker):
    """Augmented batches, every sample a pure function of the seed and its key."""

    def __init__(self, dataset: SampleSource, transform: TrainTransform, seed: int):
        super().__init__(dataset)
        self.transform = transform
        self.seed = seed

    def __getitem__(self, key: BatchKey) -> Delivery:
        delivery = pack([self._make(sample) for sample in key.samples])
        self._at_rest()
        if key.empty and delivery.batch is not None:
            return replace(delivery, batch=delivery.batch.without_samples())
        return delivery

    def _make(self, key: SampleKey) -> Made:
        source = SkippingDataset(self.dataset, self._before_reading)
        rng = key.generator(self.seed)
        try:
            sample = self.transform(source, key, rng)
        except YolographError as error:
            return Made(skipped=source.skipped, failure=(type(error), str(error)))
        return Made(sample, source.skipped)


class TestBatchMaker(BatchMaker):
    """Letterboxed batches by indices and input shape."""

    __test__ = False  # pytest would otherwise take the name for a test case

    def __init__(self, dataset: SampleSource, img_size: int, stride: int, letterbox: LetterboxRule = CENTERED):
        super().__init__(dataset)
        self.img_size = img_size
        self.stride = stride
        self.letterbox = letterbox

    def __getitem__(self, key: ShapedBatch) -> Delivery:
        indices, shape = key
        transform = TestTransform(self.img_size, self.stride, shape, self.letterbox)
        delivery = pack([self._make(transform, index) for index in indices])
        self._at_rest()
        return delivery

    def _make(self, transform: TestTransform, index: int) -> Made:
        self._before_reading(index)
        try:
            return Made(transform(self.dataset, index))
        except DataError as error:
            return Made(skipped=[str(error)])
        except YolographError as error:
            return Made(failure=(type(error), str(error)))
