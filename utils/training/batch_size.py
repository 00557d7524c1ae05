"""``--batch-size -1``: the largest batch that fills a given share of the free memory."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from data.dataset import TaskDataset
from data.samples import Batch
from data.transforms.detr import DETRTrainTransform
from models.graph import Graph
from models.heads.base import Head
from utils.errors import is_out_of_memory
from utils.training.peak_memory import free_memory, peak_memory
from utils.training.tasks import crop_size

LOGGER = logging.getLogger("yolograph")
COUNTED = (2, 3)
"""Batch sizes on the CPU, where counted bytes lie on a line exactly. One image is too few for some norms."""
MEASURED = (2, 4, 8, 16)
"""Batch sizes on a GPU, where kernels take workspace of their own."""
CPU_MARGIN = 1.5
"""What a process grows by for each byte counted: kernels have their own memory, and freed pieces leave gaps.

Measured with both heads of yolov5n_multitask at 320 px, 4 and 8 images: 102 MB per image where 68 MB are counted.
"""
OBJECTS = 20
"""Labelled objects per image of a trial."""
STATES = {"SGD": 1, "Adam": 2, "AdamW": 2}
"""Tensors per parameter that an optimizer keeps."""
UNKNOWN_MEMORY_BATCH = 16

Size = tuple[int, int]


def input_sizes(
    graph: Graph, datasets: Mapping[str, TaskDataset], img_size: int, hyp: Mapping[str, Any]
) -> dict[str, Size]:
    """Return (height, width) of every head's training images, pixels; of the largest where they differ.

    Args:
        graph: the model.
        datasets: training images of every head.
        img_size: side of square inputs and long side of crops, a multiple of the stride.
        hyp: the recipe, which may draw sizes for single pictures.
    """
    square = (img_size, img_size)
    if draws_sizes(hyp):
        square = DETRTrainTransform(hyp, img_size, graph.stride, graph.letterbox).largest_input
    return {
        name: crop_size(datasets[name].sizes, img_size, graph.stride) if "masks" in head.targets else square
        for name, head in graph.heads.items()
    }


def draws_sizes(hyp: Mapping[str, Any]) -> bool:
    """Return whether the pictures of a batch with boxes have sizes of their own, so that it is padded."""
    return hyp.get("augment") == "detr"


def largest_batch_size(
    graph: Graph,
    sizes: Mapping[str, Size],
    hyp: Mapping[str, Any],
    share: float,
    dtype: torch.dtype | None = None,
    processes: int = 1,
) -> int:
    """Return how many images of one head fit into the memory at a time while training, and say it in one line.

    A step of a few small batches is made for every head at its own size, with its own loss. On a GPU the allocator
    tells the peak; on the CPU tensors are counted. A line through the peaks tells the rest. Weights, statistics and
    random numbers are afterwards what they were.

    Args:
        graph: the model where and as it is going to be trained; not compiled.
        sizes: (height, width) of every head's images, the largest where they change.
        hyp: the recipe: ``optimizer``, ``nominal_batch``, and what the losses ask for.
        share: of the free memory to fill, above 0 to 1.
        dtype: reduced format of forward passes, None for float32.
        processes: how many of this machine's processes share the memory (one per GPU: 1).

    Returns:
        At least 1, at most the nominal batch.
    """
    device = next(graph.parameters()).device
    nominal = int(hyp["nominal_batch"])
    free = free_memory(device)
    if free is None:
        chosen = min(UNKNOWN_MEMORY_BATCH, nominal)
        LOGGER.warning("--batch-size -1: this system does not tell its free memory; taking %d", chosen)
        return chosen
    lines = {name: _memory_line(graph, name, size, hyp, dtype) for name, size in sizes.items()}
    budget = share * free / processes - _state_bytes(graph, hyp["optimizer"])
    # The head that fits the fewest images decides for all, because heads take turns with equal batches.
    limits = {name: (budget - base) / slope for name, (base, slope) in lines.items()}
    tightest = min(limits, key=limits.__getitem__)
    chosen = sensible_batch(limits[tightest], nominal)
    base, slope = lines[tightest]
    taken = (base + chosen * slope + _state_bytes(graph, hyp["optimizer"])) / 2**30
    height, width = sizes[tightest]
    LOGGER.info(
        "--batch-size -1: %d images at a time (head '%s' at %d x %d) take about %.1f of %.1f GiB free memory%s",
        chosen,
        tightest,
        height,
        width,
        taken,
        free / processes / 2**30,
        "" if limits[tightest] >= 1 else "; even a single image may not fit",
    )
    return chosen


def sensible_batch(limit: float, nominal: int) -> int:
    """Return a batch size of at most ``limit`` and ``nominal``, but at least 1.

    Preferably one that divides the nominal batch, so that micro-batches add up to it; where that would waste more than
    half of the room, a multiple of 8.
    """
    most = max(1, min(int(limit), nominal))
    divisor = max(size for size in range(1, most + 1) if nominal % size == 0)
    if 2 * divisor >= most:
        return divisor
    return most if most < 8 else most // 8 * 8


def _state_bytes(graph: Graph, optimizer: str) -> int:
    """Return the bytes of gradients, optimizer and average, none of which exist yet."""
    tensors = list(graph.state_dict().values())
    learning = sum(p.numel() for p in graph.parameters() if p.requires_grad)
    return sum(t.numel() for t in tensors) * 4 + learning * 4 * (1 + STATES[optimizer])


def _memory_line(
    graph: Graph, name: str, size: Size, hyp: Mapping[str, Any], dtype: torch.dtype | None
) -> tuple[float, float]:
    """Return what a head's step takes at its peak: bytes for no image at all, and bytes per image."""
    device = next(graph.parameters()).device
    nominal = int(hyp["nominal_batch"])
    counts = COUNTED if device.type == "cpu" else [n for n in MEASURED if n <= max(nominal, MEASURED[1])]
    peaks: dict[int, int] = {}
    with _as_before(graph):
        known = [*graph.parameters(), *graph.buffers(), *(p.grad for p in graph.parameters() if p.grad is not None)]
        for count in counts:
            try:
                trial = _Trial(graph, name, size, hyp, dtype, count)
                peaks[count] = peak_memory(trial, device, known)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                error.__traceback__ = None
                if device.type == "cuda":
                    torch.cuda.empty_cache()
                break
    if not peaks:
        return 0.0, float("inf")
    if len(peaks) == 1:
        count, peak = peaks.popitem()
        return 0.0, peak / count
    slope, base = np.polyfit(list(peaks), list(peaks.values()), 1)
    if device.type == "cpu":
        slope *= CPU_MARGIN
    return max(float(base), 0.0), max(float(slope), 1.0)


class _Trial:
    """A forward and a backward pass of one head over drawn images.

    Args:
        graph: the model, in training mode.
        name: of the head.
        size: (height, width) of the images.
        hyp: the recipe.
        dtype: reduced format, None for float32.
        count: images.
    """

    def __init__(
        self, graph: Graph, name: str, size: Size, hyp: Mapping[str, Any], dtype: torch.dtype | None, count: int
    ) -> None:
        self.graph, self.name, self.size, self.dtype, self.count = graph, name, size, dtype, count
        self.head: Head = graph.heads[name]
        self.padded = draws_sizes(hyp) and "masks" not in self.head.targets
        self.criterion = self.head.criterion(hyp, max(size)).to(next(graph.parameters()).device)

    def __call__(self) -> None:
        """Run both passes; gradients are added to what the parameters have."""
        device = next(self.graph.parameters()).device
        batch = drawn_batch(self.count, self.size, len(self.head.keypoints or ()))
        if self.padded:
            batch.sizes = mixed_sizes(self.count, self.size)
        targets = self.criterion.prepare(batch).to(device)
        with torch.autocast(device.type, self.dtype, enabled=self.dtype is not None):
            raw = self.graph(batch.images.to(device), heads=(self.name,), sizes=batch.sizes)[self.name]
        parts = self.criterion(raw, targets)
        sum(parts[part] for part in self.head.loss_names).backward()


def mixed_sizes(count: int, size: Size) -> list[Size]:
    """Return the sizes of pictures that are as tall as a batch and half as wide, and the other way round, in turns."""
    height, width = size
    return [(height, max(width // 2, 1)) if i % 2 else (max(height // 2, 1), width) for i in range(count)]


def drawn_batch(count: int, size: Size, keypoints: int = 0) -> Batch:
    """Return a batch of noise with objects and masks; the same for the same arguments.

    Args:
        count: images.
        size: (height, width) of the images.
        keypoints: of every object; 0 for objects without.
    """
    height, width = size
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=generator)
    corners = torch.rand((count, OBJECTS, 2, 2), generator=generator).sort(2).values.flatten(2)
    boxes = corners * torch.tensor([width, height, width, height])
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    visible = torch.full((count, OBJECTS, keypoints, 1), 2.0)
    return Batch(
        images=images.permute(0, 3, 1, 2),
        boxes=boxes,
        keypoints=torch.cat((centres[:, :, None].expand(-1, -1, keypoints, -1), visible), -1) if keypoints else None,
        classes=torch.zeros((count, OBJECTS), dtype=torch.int64),
        valid=torch.ones((count, OBJECTS), dtype=torch.bool),
        masks=torch.zeros((count, height, width), dtype=torch.uint8),
        ids=[""] * count,
    )


@contextmanager
def _as_before(graph: Graph) -> Iterator[None]:
    """Give parameters gradients and set training mode; take everything back afterwards that training changes."""
    device = next(graph.parameters()).device
    buffers = [(buffer, buffer.clone()) for buffer in graph.buffers()]
    was_training = graph.training
    graph.train()
    for parameter in graph.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        for buffer, kept in buffers:
            buffer.copy_(kept)
        graph.zero_grad(set_to_none=True)
        graph.train(was_training)
        if device.type == "cuda":
            torch.cuda.empty_cache()
