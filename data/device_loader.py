"""``--cache device``: a loader whose pictures live on the device, where whole batches are augmented at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from data.background import Ahead
from data.deliveries import Delivery
from data.device_pictures import MOST_OF_DEVICE, bytes_needed, free_memory, load_pictures
from data.loader import TrainLoader
from data.packed_arrays import arrays_to_device
from data.sample_key import BatchKey
from data.sample_source import TaskSource
from data.sampler import TrainOrder
from data.samples import Batch
from data.transforms.batched import BatchTransform
from data.transforms.batched_detection import DetectionBatches
from data.transforms.batched_segmentation import SegmentationBatches
from data.transforms.detection import DetectionTrainTransform
from data.transforms.effects import EFFECTS
from data.transforms.segmentation import SegmentationTrainTransform
from utils.errors import DataError

SampleTransform = DetectionTrainTransform | SegmentationTrainTransform
BATCHES_AHEAD = 2
_GB = 1e9
Handed = tuple[Batch, torch.cuda.Event]
"""A batch, and the event that says when the device has made it."""


def device_bytes(dataset: TaskSource, transform: SampleTransform) -> int:
    """Return the bytes that a data set's pictures and masks take on a device."""
    long_side, enlarge = _kept_at(transform)
    return bytes_needed(dataset.sizes, long_side, enlarge, masks=dataset.task == "segment")


def why_not_on_device(needed: int, device: torch.device) -> str | None:
    """Return why pictures cannot be kept on a device, in one sentence, or None if they can.

    Args:
        needed: bytes of all data sets together.
        device: where the model runs.
    """
    if device.type != "cuda":
        return (
            f"--cache device: keeps pictures on a CUDA GPU, and on {device} worker processes are "
            "faster, so main memory is used (ram)"
        )
    free = free_memory(device)
    if needed <= MOST_OF_DEVICE * free:
        return None
    return (
        f"--cache device: pictures need {needed / _GB:.1f} GB and may take {MOST_OF_DEVICE:.0%} of the "
        f"{free / _GB:.1f} GB that are free on {device}, so main memory is used (ram)"
    )


def build_device_loader(
    dataset: TaskSource,
    transform: SampleTransform,
    batch_size: int,
    seed: int,
    device: torch.device,
    *,
    share: tuple[int, int] = (0, 1),
    closing_batch: int | None = None,
) -> DeviceLoader:
    """Decode a data set onto a device and return a loader of shuffled, augmented batches.

    The batches are those of ``build_train_loader``: the same samples and draws, the same labels, the same pixels to the
    rounding of interpolation. Where a sample is only zoomed and shifted, that loader rounds to whole pixels (see
    ``data.transforms.upright``) and this one does not. Ask ``why_not_on_device`` first; on the CPU the same code runs,
    for tests, and is slow.

    Args:
        dataset: the samples.
        transform: makes single samples; its batched counterpart is used.
        batch_size: samples per batch of all processes together.
        seed: of shuffling and augmentation, at least 0.
        device: for pictures, masks and what is made of them; labels stay on the host.
        share: (rank, size), see ``build_train_loader``.
        closing_batch: number of the first batch of the run without mosaic and mixup; None never closes it.

    Raises:
        DataError: the data set is empty, or no picture, or none of 20 in a row, can be read.
    """
    if len(dataset) == 0:
        raise DataError(f"the data set for the task '{dataset.task}' is empty; check the folders its data YAML names")
    long_side, enlarge = _kept_at(transform)
    pictures = load_pictures(dataset, long_side, enlarge, dataset.task == "segment", device)
    if isinstance(transform, SegmentationTrainTransform):
        batches: BatchTransform = SegmentationBatches(transform, pictures)
    else:
        batches = DetectionBatches(transform, pictures)
    order = TrainOrder(len(dataset), batch_size, seed, share, closing_batch)
    return DeviceLoader(dataset, transform, batches, order, device)


class DeviceLoader(TrainLoader):
    """A ``TrainLoader`` whose batches are made on the device; see ``build_device_loader``.

    Attributes:
        skipped: messages of all unreadable images; each was replaced by the next readable sample.
    """

    def __init__(
        self,
        dataset: TaskSource,
        transform: SampleTransform,
        batches: BatchTransform,
        order: TrainOrder,
        device: torch.device,
    ):
        super().__init__(dataset, transform, order, workers=0)
        self._pool = DeviceBatches(batches, order.seed, device)
        self.skipped += batches.pictures.skipped
        self._made_of = dataset, transform, batches, device

    def twin(self) -> DeviceLoader:
        """Return a loader of the same batches, without image weights, whose iterations do not end this one's.

        Both share the pictures, so it takes no memory.
        """
        dataset, transform, batches, device = self._made_of
        order = self._order
        fresh = TrainOrder(order.count, order.batch_size, order.seed, order.share, order.closing_batch)
        return DeviceLoader(dataset, transform, batches, fresh, device)


class DeviceBatches:
    """Deliveries in the order of their keys, as ``WorkerPool`` gives them, but made on a device.

    On a GPU a thread prepares the next batches on a stream of its own, while the training step runs on another.

    Args:
        transform: makes batches.
        seed: of augmentation.
        device: of the pictures.
    """

    def __init__(self, transform: BatchTransform, seed: int, device: torch.device):
        self._transform, self._seed, self._device = transform, seed, device
        self._ahead: Ahead | None = None
        self._turn = 0

    def run(self, keys_from: Callable[[int], Iterator[BatchKey]], first: int = 0) -> Iterator[Delivery]:
        """Return the deliveries of a sequence of keys, which takes over from an earlier one.

        Args:
            keys_from: returns the keys from a position on.
            first: position to begin at.
        """
        self.close()
        self._turn += 1
        keys = keys_from(first)
        batches = self._overlapping(keys) if self._device.type == "cuda" else map(self.make, keys)
        return self._deliver(self._turn, batches)

    def close(self) -> None:
        """End the thread."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def make(self, key: BatchKey) -> Batch:
        """Return the batch of a key, its images and masks on the device and its labels on the host."""
        samples = key.samples
        plan = self._transform.plan(samples, [sample.generator(self._seed) for sample in samples])
        images, masks = self._transform.render(arrays_to_device(plan.arrays, self._device))
        objects = plan.objects
        batch = Batch(
            images=images.permute(0, 3, 1, 2),
            boxes=torch.from_numpy(objects.boxes),
            classes=torch.from_numpy(objects.classes),
            valid=torch.from_numpy(objects.valid),
            keypoints=None if objects.keypoints is None else torch.from_numpy(objects.keypoints),
            masks=masks,
            ids=plan.ids,
        )
        return batch.without_samples() if key.empty else batch

    def _deliver(self, turn: int, batches: Iterator[Batch]) -> Iterator[Delivery]:
        while True:
            if turn != self._turn:
                raise RuntimeError("another iteration of this loader has begun; this one cannot go on")
            batch = next(batches, None)
            if batch is None:
                return
            yield Delivery(batch, [], None)

    def _overlapping(self, keys: Iterator[BatchKey]) -> Iterator[Batch]:
        """Make batches ahead on a stream of their own, and hand them to the stream that uses them."""
        stream = torch.cuda.Stream(self._device)
        # Whatever brought the pictures there comes first.
        stream.wait_stream(torch.cuda.current_stream(self._device))
        self._ahead = Ahead(self._on_stream(keys, stream), BATCHES_AHEAD)
        return map(self._hand_over, self._ahead)

    def _on_stream(self, keys: Iterator[BatchKey], stream: torch.cuda.Stream) -> Iterator[Handed]:
        for key in keys:
            with torch.cuda.device(self._device), torch.cuda.stream(stream):
                batch = self.make(key)
                made = torch.cuda.Event()
                made.record(stream)
            yield batch, made

    def _hand_over(self, entry: Handed) -> Batch:
        batch, made = entry
        user = torch.cuda.current_stream(self._device)
        user.wait_event(made)
        for tensor in (batch.images, batch.masks):
            if tensor is not None:
                # Its memory belongs to the other stream, which must not take it back while this one reads it.
                tensor.record_stream(user)
        return batch


def why_not_in_batches(transform: object) -> str:
    """Return why the samples of a transform cannot be augmented on a device, as words after "but"; "" if they can."""
    if not isinstance(transform, SampleTransform):
        return f"the recipe says augment: {getattr(transform, 'name', 'another one')}"
    if isinstance(transform, DetectionTrainTransform) and any(transform.effects):
        return f"the recipe has effects ({', '.join(EFFECTS)})"
    return ""


def _kept_at(transform: SampleTransform) -> tuple[int, bool]:
    """Return the long side at which a transform's pictures are kept, and whether smaller ones are enlarged to it."""
    if isinstance(transform, SegmentationTrainTransform):
        return transform.largest_side, False
    return transform.img_size, True
