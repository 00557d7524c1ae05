"""All pictures of a data set decoded once and kept on the device; their labels beside them, on the host."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from data.sample_source import SampleSource, TaskSource
from data.samples import Sample
from data.skipping import MOST_IN_A_ROW
from data.transforms.geometry import BORDER_GREY, IGNORED
from utils.errors import DataError

MOST_OF_DEVICE = 0.6
"""Share of a device's free memory that pictures may take; the rest is the training step's."""

_AT_ONCE = 32
_AHEAD = 4
_QUIET_SECONDS = 1.0
_COLUMNS = 16


@dataclass
class DevicePictures:
    """Pictures of a data set at one size each, in the upper left corners of equal frames; and their labels.

    A sample that cannot be read has the place of the next readable one, as in ``SkippingDataset``.

    Attributes:
        images: (n, H, W, 3) uint8 RGB on the device, grey 114 beside and below a picture.
        masks: (n, H, W) uint8 on the device, 255 beside and below; None for data without masks.
        places: (n,) int64, where the picture of a sample lies; all other arrays go by place.
        sizes: (n, 2) int64, height and width of a picture as it is kept.
        native: (n, 2) int64, height and width of a picture's file.
        offsets: (n + 1,) int64, picture i owns the objects offsets[i] .. offsets[i + 1] - 1.
        boxes: (m, 4) float32, x1 y1 x2 y2 in pixels of the picture as it is kept.
        classes: (m,) int64.
        keypoints: (m, K, 3) float32 in the same pixels, or None.
        ids: path or name of each picture.
        skipped: one message per picture that could not be read.
    """

    images: Tensor
    masks: Tensor | None
    places: np.ndarray
    sizes: np.ndarray
    native: np.ndarray
    offsets: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    keypoints: np.ndarray | None
    ids: list[str]
    skipped: list[str]

    def __len__(self) -> int:
        return len(self.places)


def kept_sizes(sizes: np.ndarray, long_side: int, enlarge: bool) -> np.ndarray:
    """Return (n, 2) int64 heights and widths at which pictures are kept.

    Args:
        sizes: (n, 2) native heights and widths.
        long_side: pixels of a picture's longer side.
        enlarge: whether a picture that is smaller is enlarged to it; otherwise it keeps its native size.
    """
    sizes = np.asarray(sizes, np.int64)
    ratio = long_side / sizes.max(1, keepdims=True)
    # Rounds as utils.boxes.plan_letterbox does, which says how large the data set's own pictures are.
    return np.maximum(np.rint(sizes * (ratio if enlarge else np.minimum(ratio, 1.0))), 1).astype(np.int64)


def frame_size(kept: np.ndarray) -> tuple[int, int]:
    """Return the (height, width) that holds every picture; whole frames are then multiples of 16 bytes."""
    height, width = kept.max(0).tolist()
    return height, -(-width // _COLUMNS) * _COLUMNS


def bytes_needed(sizes: np.ndarray, long_side: int, enlarge: bool, masks: bool) -> int:
    """Return the bytes that ``load_pictures`` will take on the device; arguments as in ``kept_sizes``.

    Args:
        sizes: (n, 2) native heights and widths.
        long_side: pixels of a picture's longer side.
        enlarge: see ``kept_sizes``.
        masks: whether there is a mask to every picture.
    """
    height, width = frame_size(kept_sizes(sizes, long_side, enlarge))
    return len(sizes) * height * width * (4 if masks else 3)


def free_memory(device: torch.device) -> int:
    """Return the bytes that can be taken on a GPU: free ones, and those that PyTorch holds and does not use."""
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused


def load_pictures(
    dataset: TaskSource, long_side: int, enlarge: bool, masks: bool, device: torch.device
) -> DevicePictures:
    """Decode every picture of a data set, several at once, and bring them to the device.

    Args:
        dataset: the samples; ``load`` is called from several threads.
        long_side: pixels of a picture's longer side.
        enlarge: see ``kept_sizes``.
        masks: whether the samples have masks.
        device: for the pictures and masks.

    Raises:
        DataError: no picture, or none of 20 in a row, can be read; or the samples differ in what labels they have.
    """
    kept = kept_sizes(dataset.sizes, long_side, enlarge)
    frame = frame_size(kept)
    images = torch.empty((len(kept), *frame, 3), dtype=torch.uint8, device=device)
    mask_frames = torch.empty((len(kept), *frame), dtype=torch.uint8, device=device) if masks else None
    gathered = _Gathered(kept, np.asarray(dataset.sizes, np.int64))
    with tqdm(total=len(kept), desc=f"pictures to {device}", unit="img", delay=_QUIET_SECONDS, leave=False) as bar:
        samples = _loaded(dataset, kept.max(1))
        for first in range(0, len(kept), _AT_ONCE):
            last = min(first + _AT_ONCE, len(kept))
            pixels = np.full((last - first, *frame, 3), BORDER_GREY, np.uint8)
            classes = np.full((last - first, *frame), IGNORED, np.uint8) if masks else None
            for row in range(last - first):
                sample = next(samples)
                if gathered.add(sample):
                    height, width = gathered.kept[first + row]
                    pixels[row, :height, :width] = sample.image
                    if classes is not None and sample.mask is not None:
                        classes[row, :height, :width] = sample.mask
                bar.update()
            images[first:last].copy_(torch.from_numpy(pixels))
            if classes is not None:
                mask_frames[first:last].copy_(torch.from_numpy(classes))
    return gathered.join(images, mask_frames)


class _Gathered:
    """Collects the labels of samples in their order."""

    def __init__(self, kept: np.ndarray, native: np.ndarray):
        self.kept, self.native = kept, native
        self.ids: list[str] = []
        self.failures: dict[int, str] = {}
        self._boxes: list[np.ndarray] = []
        self._classes: list[np.ndarray] = []
        self._keypoints: list[np.ndarray | None] = []
        self._kinds: set[tuple[bool, bool]] = set()

    def add(self, sample: Sample | DataError) -> bool:
        """Note the next sample, or why there is none; return whether there is one."""
        place = len(self.ids)
        if isinstance(sample, DataError):
            self.failures[place] = str(sample)
            sample = Sample(image=np.empty((0, 0, 3), np.uint8))
            self._keypoints.append(None)
        else:
            if sample.image.shape[:2] != tuple(self.kept[place]):
                raise DataError(
                    f"{sample.id}: the image is {sample.image.shape[1]}x{sample.image.shape[0]} where its data set "
                    f"says {self.kept[place][1]}x{self.kept[place][0]}; has the file changed? Start the command again"
                )
            self._kinds.add((sample.mask is not None, sample.keypoints is not None))
            if len(self._kinds) > 1:
                raise DataError(f"{sample.id}: has other kinds of labels than the images before it; give all the same")
            self._keypoints.append(sample.keypoints)
        self.ids.append(sample.id)
        self._boxes.append(sample.boxes)
        self._classes.append(sample.classes)
        return place not in self.failures

    def join(self, images: Tensor, masks: Tensor | None) -> DevicePictures:
        """Return all that was noted, beside the pixels."""
        counts = [len(boxes) for boxes in self._boxes]
        with_keypoints = [keypoints for keypoints in self._keypoints if keypoints is not None]
        return DevicePictures(
            images=images,
            masks=masks,
            places=_places(len(self.ids), self.failures),
            sizes=self.kept,
            native=self.native,
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            boxes=np.concatenate(self._boxes).astype(np.float32),
            classes=np.concatenate(self._classes).astype(np.int64),
            keypoints=np.concatenate(with_keypoints).astype(np.float32) if with_keypoints else None,
            ids=self.ids,
            skipped=list(self.failures.values()),
        )


def _places(count: int, failures: dict[int, str]) -> np.ndarray:
    """Return where each sample's picture is: its own place, or that of the next readable one."""
    places = np.arange(count)
    for index, message in failures.items():
        steps = range(1, min(count, MOST_IN_A_ROW))
        found = next((place for step in steps if (place := (index + step) % count) not in failures), None)
        if found is None:
            raise DataError(message)
        places[index] = found
    return places


def _loaded(dataset: SampleSource, long_sides: np.ndarray) -> Iterator[Sample | DataError]:
    """Yield every sample in order, or the error that it met; a few are decoded ahead."""

    def load(index: int) -> Sample | DataError:
        try:
            return dataset.load(index, long_side=int(long_sides[index]))
        except DataError as error:
            # Without its traceback, which would hold the picture that was being read.
            return error.with_traceback(None)

    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        yield from _in_order(pool, load, range(len(long_sides)), threads * _AHEAD)


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[int], Sample | DataError], items: Sequence[int], ahead: int
) -> Iterator[Sample | DataError]:
    """Yield ``work(item)`` in the order of the items, with at most ``ahead`` results waiting in memory."""
    waiting: deque[Future] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
