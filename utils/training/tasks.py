"""One training task per head: its data, its criterion, its share of the loss; and how their batches take turns."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from data.config import DataConfig
from data.dataset import TaskDataset
from data.loader import TrainLoader, build_train_loader
from data.samples import Batch
from data.transforms.detection import DetectionTrainTransform
from data.transforms.segmentation import SegmentationTrainTransform
from models.graph import Graph
from models.heads.base import Criterion, Head
from utils.errors import ModelError, did_you_mean
from utils.image_size import round_up_to_stride

EPOCH_RULES = ("longest", "shortest")


@dataclass
class TrainTask:
    """What training one head takes.

    Attributes:
        name: name of the head.
        head: the head itself.
        dataset: its training images.
        loader: their augmented batches.
        criterion: its loss.
        gain: factor of its loss in the sum over tasks.
    """

    name: str
    head: Head
    dataset: TaskDataset
    loader: TrainLoader
    criterion: Criterion
    gain: float
    _earlier_skips: list[str] = field(default_factory=list, init=False)
    _told: set[str] = field(default_factory=set, init=False)

    def batches(self, first: int) -> Iterator[Batch]:
        """Yield batches for ever, pass after pass over the data, beginning at batch ``first`` of the whole run."""
        start_pass, start = divmod(first, len(self.loader))
        for number in itertools.count(start_pass):
            yield from self.loader.batches(number, start)
            self._earlier_skips += self.loader.skipped
            start = 0

    def new_skips(self) -> list[str]:
        """Return the messages about images that could not be read, each only once in the life of the task."""
        fresh = [text for text in dict.fromkeys(self._earlier_skips + self.loader.skipped) if text not in self._told]
        self._earlier_skips.clear()
        self._told.update(fresh)
        return fresh


def open_datasets(graph: Graph, data: DataConfig, split: str, cache: str | None = None) -> dict[str, TaskDataset]:
    """Open one split of the data of every head."""
    return {
        name: TaskDataset(data.for_head(name, head.task), split, cache_images=cache)
        for name, head in graph.heads.items()
    }


def build_tasks(
    graph: Graph, datasets: Mapping[str, TaskDataset], hyp: Mapping[str, Any], options: argparse.Namespace
) -> list[TrainTask]:
    """Build the tasks of a model in the order of its heads.

    Raises:
        ModelError: the recipe has a gain for a head that the model does not have.
    """
    gains = head_values(graph, hyp["gains"], "gains")
    size = round_up_to_stride(options.img_size[0], graph.stride)
    tasks = []
    for name, head in graph.heads.items():
        dataset = datasets[name]
        if "masks" in head.targets:
            crop = crop_size(dataset.sizes, size, graph.stride)
            transform = SegmentationTrainTransform(hyp, options.base_size or size, crop)
            dataset.reserve_memory(None)
        else:
            transform = DetectionTrainTransform(hyp, size)
            dataset.reserve_memory(size)
        loader = build_train_loader(dataset, transform, options.batch_size, options.workers, options.seed)
        tasks.append(TrainTask(name, head, dataset, loader, head.criterion(hyp, size), gains[name]))
    return tasks


def crop_size(sizes: np.ndarray, long_side: int, stride: int) -> tuple[int, int]:
    """Return the (height, width) of segmentation crops: the images' usual shape with the given long side.

    Args:
        sizes: (n, 2) native heights and widths.
        long_side: pixels, a multiple of ``stride``.
        stride: both sides are multiples of it.
    """
    aspect = float(np.median(sizes[:, 0] / sizes[:, 1]))
    if aspect <= 1:
        return round_up_to_stride(round(long_side * aspect), stride), long_side
    return long_side, round_up_to_stride(round(long_side / aspect), stride)


def head_values(graph: Graph, given: Mapping[str, float], key: str, default: float = 1.0) -> dict[str, float]:
    """Return one number per head from a recipe mapping of head names or tasks.

    Raises:
        ModelError: the mapping names neither a task nor a head of the model.
    """
    known = {*graph.heads, "detect", "segment", "pose"}
    for name in given:
        if name not in known:
            raise ModelError(
                f"recipe key '{key}' names '{name}', which is no head of the model.{did_you_mean(name, known)}"
            )
    return {name: float(given.get(name, given.get(head.task, default))) for name, head in graph.heads.items()}


def rounds_per_epoch(tasks: list[TrainTask], rule: str) -> int:
    """Return how many batches of each task make an epoch.

    Args:
        tasks: of the model.
        rule: recipe key ``epoch``: ``longest`` or ``shortest`` data set, or the name of a head.

    Raises:
        ModelError: the rule is none of these.
    """
    lengths = {task.name: len(task.loader) for task in tasks}
    if rule in lengths:
        return lengths[rule]
    if rule not in EPOCH_RULES:
        choices = (*EPOCH_RULES, *lengths)
        raise ModelError(
            f"recipe key 'epoch' is '{rule}', but must be one of {', '.join(choices)}.{did_you_mean(rule, choices)}"
        )
    return max(lengths.values()) if rule == "longest" else min(lengths.values())


def object_sizes(dataset: TaskDataset, img_size: int) -> np.ndarray:
    """Return (n, 2) widths and heights in pixels of all objects when the longer side of their image is ``img_size``."""
    native = np.repeat(dataset.sizes.astype(np.float64), np.diff(dataset.offsets), axis=0)
    shares = dataset.boxes[:, 2:] - dataset.boxes[:, :2]
    return shares * native[:, ::-1] * (img_size / native.max(1, initial=1, keepdims=True))


def fit_heads_to_objects(
    graph: Graph, datasets: Mapping[str, TaskDataset], hyp: Mapping[str, Any], img_size: int, seed: int
) -> dict[int, dict[int, Any]]:
    """Ask every head that learns boxes whether its row's arguments should change for these objects (autoanchor).

    Returns:
        Row index -> argument position -> new value; empty where the model's own values serve.
    """
    rng = np.random.default_rng(seed)
    changes = {}
    for name, head in graph.heads.items():
        if "boxes" in head.targets:
            found = head.adapt_to_objects(object_sizes(datasets[name], img_size), hyp, rng)
            if found:
                changes[graph.head_rows[name]] = found
    return changes


def criterion_tensors(tasks: list[TrainTask]) -> dict[str, torch.Tensor]:
    """Return what the criteria have learnt, named ``HEAD/NAME``."""
    return {f"{task.name}/{name}": value for task in tasks for name, value in task.criterion.state_dict().items()}


def load_criterion_tensors(tasks: list[TrainTask], tensors: Mapping[str, torch.Tensor]) -> None:
    """Restore what ``criterion_tensors`` returned."""
    for task in tasks:
        prefix = f"{task.name}/"
        own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        task.criterion.load_state_dict(own, strict=False)
