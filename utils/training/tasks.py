"""One training task per head: its data, its criterion, its share of the loss."""

from __future__ import annotations

import argparse
import itertools
import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from data.class_weights import class_weights, image_weights
from data.config import DataConfig
from data.dataset import TaskDataset
from data.device_loader import build_device_loader, device_bytes, why_not_in_batches, why_not_on_device
from data.loader import TrainLoader, build_train_loader
from data.samples import Batch
from data.training_part import LeftOut
from data.transforms.detection import DetectionTrainTransform
from data.transforms.detr import DETRTrainTransform
from data.transforms.recipe import recipe_flip_pairs
from data.transforms.rtmdet import RTMDetTrainTransform
from data.transforms.segmentation import SegmentationTrainTransform
from data.transforms.yolox import YOLOXTrainTransform
from models.graph import Graph
from models.heads.base import Criterion, Head
from utils.distributed import World
from utils.errors import ModelError, UsageError, did_you_mean
from utils.image_size import round_up_to_stride
from utils.training.turns import Turns

LOGGER = logging.getLogger("yolograph")
TrainTransform = (
    DetectionTrainTransform
    | YOLOXTrainTransform
    | RTMDetTrainTransform
    | DETRTrainTransform
    | SegmentationTrainTransform
)


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
        images_of_mean: over how many images the losses of a step are meant: 1 sums them over the images of the step,
            as published learning rates of YOLOv5 expect; the nominal batch gives their mean where the step has it;
            the batch of one of several processes sums such means over the processes, as YOLOv6's expect.
        plain_loader: the same batches once more, for the statistics of BatchNorm, without disturbing ``loader``.
    """

    name: str
    head: Head
    dataset: TaskDataset
    loader: TrainLoader
    criterion: Criterion
    gain: float
    images_of_mean: int = 1
    plain_loader: TrainLoader | None = None
    _told: set[str] = field(default_factory=set, init=False)

    @property
    def shown(self) -> tuple[str, ...]:
        """Names of what results show of its training: parts of the loss, and what the criterion watches beside them."""
        return (*self.head.loss_names, *self.criterion.watched)

    @property
    def finds_objects(self) -> bool:
        """Whether the head learns boxes."""
        return "boxes" in self.head.targets

    def scale(self, images: float) -> float:
        """Return by what the head's mean loss is multiplied before the backward pass.

        Args:
            images: of the step, over all processes.
        """
        return self.gain * images / self.images_of_mean

    def new_skips(self) -> list[str]:
        """Return the messages about images that could not be read, each only once in the life of the task."""
        fresh = [text for text in self.loader.skipped if text not in self._told]
        self._told.update(fresh)
        return fresh

    def weigh_images(self, average_precision: np.ndarray) -> None:
        """Let images with objects of badly found classes come more often from the next pass on.

        Args:
            average_precision: (classes,) of the last validation, 0..1.
        """
        weights = class_weights(self.dataset.classes, len(self.dataset.names))
        self.loader.set_image_weights(
            image_weights(weights, average_precision, self.dataset.classes, self.dataset.offsets)
        )

    def batches_of_pass(self, number: int, count: int) -> Iterator[Batch]:
        """Return the first ``count`` batches of a pass over the data, augmented as in training."""
        return itertools.islice(self.plain_loader.batches(number), count)


def open_datasets(
    graph: Graph,
    data: DataConfig,
    split: str,
    cache: str | None = None,
    hyp: Mapping[str, Any] | None = None,
) -> dict[str, TaskDataset]:
    """Open one split of the data of every head.

    Args:
        graph: whose heads.
        data: of the run.
        split: train, val or test.
        cache: None, ``none``, ``ram`` or ``disk``; ``device`` is memory for whatever finds no room on the device.
        hyp: the recipe, which may leave images out of the training split (``drop_empty``, ``drop_smaller``).
    """
    kind, left_out = {"device": "ram", "none": None}.get(cache, cache), LeftOut.of(hyp or {})
    return {
        name: TaskDataset(data.for_head(name, head.task), split, kind, split == "train", left_out)
        for name, head in graph.heads.items()
    }


def plan_turns(datasets: Mapping[str, TaskDataset], hyp: Mapping[str, Any], batch_size: int) -> Turns:
    """Return which head gives a batch when."""
    lengths = {name: math.ceil(len(dataset) / batch_size) for name, dataset in datasets.items()}
    return Turns(lengths, hyp["turns"], hyp["epoch"])


def build_tasks(
    graph: Graph,
    datasets: Mapping[str, TaskDataset],
    hyp: Mapping[str, Any],
    options: argparse.Namespace,
    world: World,
    turns: Turns,
) -> list[TrainTask]:
    """Build the tasks of a model in the order of its heads.

    Raises:
        ModelError: the recipe has a gain for a head that the model does not have.
        UsageError: an option does not fit the heads.
    """
    gains = head_values(graph, hyp["gains"], "gains")
    size = round_up_to_stride(options.img_size[0], graph.stride)
    transforms = {
        name: train_transform(head, datasets[name], hyp, size, options.base_size or size, graph)
        for name, head in graph.heads.items()
    }
    images_of_mean = int(hyp["loss_images"] or hyp["nominal_batch"]) if hyp["loss_reduction"] == "mean" else 1
    on_device = options.cache == "device" and _fits_on_device(datasets, transforms, world)
    tasks = []
    for name, head in graph.heads.items():
        dataset, transform = datasets[name], transforms[name]
        finds_objects = "boxes" in head.targets
        if options.image_weights and not finds_objects and len(datasets) == 1:
            raise UsageError("--image-weights needs a head that finds objects; leave it out")
        closing = None
        if hyp["close_mosaic"]:
            closing = turns.taken(name, max(options.epochs - int(hyp["close_mosaic"]), 0) * turns.rounds)
        placed = {"share": (world.rank, world.size), "closing_batch": closing}
        plain = None
        if on_device:
            loader = build_device_loader(dataset, transform, options.batch_size, options.seed, world.device, **placed)
        else:
            reserve_memory(dataset, transform, size)
            placed["rect"] = (size, graph.stride) if options.rect and finds_objects else None
            loader = build_train_loader(dataset, transform, options.batch_size, options.workers, options.seed, **placed)
        if options.precise_bn and on_device:
            plain = loader.twin()
        elif options.precise_bn:
            plain = build_train_loader(dataset, transform, options.batch_size, 0, options.seed, **placed)
        if options.image_weights and finds_objects:
            loader.set_image_weights(np.ones(len(dataset)), 0)
        criterion = head.criterion(hyp, size).to(world.device)
        tasks.append(TrainTask(name, head, dataset, loader, criterion, gains[name], images_of_mean, plain))
    return tasks


def reserve_memory(dataset: TaskDataset, transform: TrainTransform, size: int) -> None:
    """Tell a data set which sizes of pictures its transform will ask for, see ``TaskDataset.reserve_memory``.

    Args:
        dataset: of the head.
        transform: of the head.
        size: side of the network's input, pixels.
    """
    if hasattr(transform, "largest_side"):
        dataset.reserve_memory(None, largest=transform.largest_side)
    else:
        dataset.reserve_memory(size)


def train_transform(
    head: Head, dataset: TaskDataset, hyp: Mapping[str, Any], size: int, base_size: int, graph: Graph
) -> TrainTransform:
    """Return what makes a head's training samples.

    Args:
        head: decides by what it learns from.
        dataset: its images.
        hyp: the recipe.
        size: side of the network's input, pixels; for masks the long side of crops; where the recipe draws sizes for
            single pictures (``augment: detr``) the one that its sides are scaled by.
        base_size: nominal long side of pictures with masks before they are cropped, pixels.
        graph: the model of the head.
    """
    if "masks" in head.targets:
        return SegmentationTrainTransform(hyp, base_size, crop_size(dataset.sizes, size, graph.stride))
    pairs = recipe_flip_pairs(hyp)
    if not pairs and dataset.data.keypoint_spec is not None:
        pairs = dataset.data.keypoint_spec.flip_pairs
    if hyp["augment"] == "yolox":
        return YOLOXTrainTransform(hyp, size, graph.letterbox, pairs)
    if hyp["augment"] == "rtmdet":
        return RTMDetTrainTransform(hyp, size, pairs)
    if hyp["augment"] == "detr":
        return DETRTrainTransform(hyp, size, graph.stride, graph.letterbox, pairs)
    return DetectionTrainTransform({**hyp, "flip_pairs": pairs}, size)


def _fits_on_device(
    datasets: Mapping[str, TaskDataset], transforms: Mapping[str, TrainTransform], world: World
) -> bool:
    """Return whether all pictures can be kept on the device, and say so where they cannot."""
    unlike = [reason for transform in transforms.values() if (reason := why_not_in_batches(transform))]
    if unlike:
        LOGGER.warning("--cache device: augments as YOLOv5 does, but %s, so main memory is used (ram)", unlike[0])
        return False
    needed = sum(device_bytes(dataset, transforms[name]) for name, dataset in datasets.items())
    reasons = [reason for reason in world.gather_objects(why_not_on_device(needed, world.device)) if reason]
    if reasons:
        LOGGER.warning("%s", reasons[0])
    return not reasons


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


def weights_of_fitness(graph: Graph, given: Mapping[str, float]) -> dict[str, float]:
    """Return the weight of every head in the fitness that picks the best weights.

    Raises:
        ModelError: the mapping names neither a task nor a head of the model, or no head has a weight.
    """
    weights = head_values(graph, given, "fitness")
    if not any(weights.values()):
        raise ModelError(
            "recipe key 'fitness' is 0 for every head of the model, so nothing tells which weights are the best; give "
            "one of them a number above 0"
        )
    return weights


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
