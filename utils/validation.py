"""Measuring a model: every head on its own data, with the evaluator that the head asks for."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from tqdm import tqdm

from data.dataset import TaskDataset
from data.loader import TestLoader, build_test_loader
from data.samples import Batch
from models.graph import Graph
from models.inference import RGB_CHANNELS, Inference, as_inference
from models.predictions import PostprocessOptions
from utils.distributed import World
from utils.errors import DataError, StoppedRun
from utils.image_size import round_up_to_stride
from utils.metrics import build_evaluator
from utils.stage_clock import StageClock

LOGGER = logging.getLogger("yolograph")

SAME_POSE = 0.9
"""Similarity of keypoints (OKS) above which the published figures of YOLOX-Pose count two poses as one."""

VALIDATION_OPTIONS = PostprocessOptions(conf=0.001, iou=0.6, max_det=300, multi_label=True, oks=SAME_POSE)
"""Thresholds of tests; the least confidence is the head's own unless somebody asks for another, see ``Head``."""

ResultSink = Callable[[str, Batch, list[Any]], None]
"""Called with a head's name, a batch and its results, to draw or save them."""


STAGES = ("load", "move", "inference", "postprocess", "evaluate")
"""What the time of a test goes to: waiting for the loader, moving pictures to the device, the network with its
decoding, suppression and native pixels, and measuring and saving as far as they are not done beside."""


@dataclass
class Speed:
    """Seconds spent per stage, over ``images`` images."""

    images: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    def milliseconds(self) -> dict[str, float]:
        """Return the milliseconds per image of every stage."""
        return {stage: 1000 * spent / max(self.images, 1) for stage, spent in self.seconds.items()}

    def __str__(self) -> str:
        """Milliseconds per image of every stage."""
        stages = [f"{stage} {spent:.1f} ms" for stage, spent in self.milliseconds().items()]
        return f"{', '.join(stages)} per image over {self.images} images"


@dataclass
class HeadTest:
    """One head's test.

    Attributes:
        loader: its batches, or this process's share of them.
        names: class names.
        hidden: whether no progress bar is shown.
        speed: how long it took when it last ran, in this process.
        inputs: how many pictures the network then saw at which (height, width).
    """

    loader: TestLoader
    names: list[str]
    hidden: bool = False
    speed: Speed = field(default_factory=Speed)
    inputs: Counter[tuple[int, int]] = field(default_factory=Counter)
    _told: set[str] = field(default_factory=set, init=False)

    def report(self, skipped: Iterable[str]) -> None:
        """Warn of images that could not be read, of each once in the life of the test."""
        for message in skipped:
            if message not in self._told:
                self._told.add(message)
                LOGGER.warning("skipped: %s", message)


def build_tests(
    model: Graph | Inference,
    datasets: Mapping[str, TaskDataset],
    img_size: int,
    base_size: int,
    batch_size: int,
    workers: int,
    pad: float = 0.0,
    share: tuple[int, int] = (0, 1),
) -> dict[str, HeadTest]:
    """Return a test for every head that has data.

    Args:
        model: a graph, or what else answers for pictures.
        datasets: per head name.
        img_size: long side of images for heads that find objects, pixels.
        base_size: long side of images for heads that label pixels, pixels.
        batch_size: images per batch.
        workers: worker processes of each loader.
        pad: strides of grey around pictures beyond what their shape needs, for heads that find objects.
        share: (rank, size): the batches are dealt over so many processes, and this is one of them.
    """
    tests = {}
    for name, dataset in datasets.items():
        labels_pixels = "masks" in model.heads[name].targets
        size, extra = (base_size, 0.0) if labels_pixels else (img_size, pad)
        # Before the workers start, so that they share one cache; tests read pictures at their native size.
        dataset.reserve_memory(None)
        loader = build_test_loader(
            dataset, size, batch_size, model.stride, workers, pad=extra, share=share, letterbox=model.letterbox
        )
        tests[name] = HeadTest(loader, dataset.names, hidden=share[0] > 0)
    return tests


@torch.inference_mode()
def run_head_test(
    model: Graph | Inference,
    name: str,
    test: HeadTest,
    device: torch.device,
    dtype: torch.dtype | None,
    options: PostprocessOptions | None = None,
    sink: ResultSink | None = None,
    evaluator: Any = None,
) -> Any:
    """Run one head over its test images and return its evaluator.

    Args:
        model: a graph, or what else answers for pictures, in eval mode on ``device``.
        name: of the head.
        test: its images.
        device: where the model is.
        dtype: reduced format of forward passes, None for float32.
        options: thresholds of the results; None takes those of a validation.
        sink: gets every batch with its results.
        evaluator: gets them too, by its ``update``; None makes the one that the head asks for.
    """
    model = as_inference(model)
    head = model.heads[name]
    if options is None:
        options = replace(VALIDATION_OPTIONS, conf=head.test_confidence)
    if evaluator is None:
        evaluator = build_evaluator(head, test.names)
    test.speed, test.inputs = Speed(), Counter()
    clock = StageClock(test.speed.seconds)
    test.speed.seconds = clock.seconds
    bar = {"desc": f"testing {name}", "unit": "batch", "leave": False, "dynamic_ncols": True, "delay": 1.0}
    batches = iter(tqdm(test.loader, disable=test.hidden, **bar))
    while True:
        with clock.time("load"):
            batch = next(batches, None)
        if batch is None:
            return evaluator
        with clock.time("move"):
            batch = batch.to(device)
            _wait_for(device)
        with clock.time("inference"):
            predictions = model(batch.images, (name,), dtype, batch.sizes)[name]
            _wait_for(device)
        with clock.time("postprocess"):
            results = head.postprocess(predictions, options, batch.placements)
        test.speed.images += len(batch)
        test.inputs.update(batch.sizes or [tuple(batch.images.shape[-2:])] * len(batch))
        with clock.time("evaluate"):
            evaluator.update(results, batch)
            if sink is not None:
                sink(name, batch, results)


@torch.inference_mode()
def warm_up(model: Inference, name: str, size: int, device: torch.device, dtype: torch.dtype | None) -> None:
    """Let a model look at an empty picture, so that what only its first pass costs is in no figure of its speed.

    Args:
        model: in eval mode on ``device``.
        name: of the head to run.
        size: of the picture, pixels.
        device: where the model is.
        dtype: reduced format of the forward pass, None for float32.
    """
    side = round_up_to_stride(size, model.stride)
    height, width = model.letterbox.shape or (side, side)
    model(torch.zeros(1, RGB_CHANNELS, height, width, dtype=torch.uint8, device=device), (name,), dtype)
    _wait_for(device)


def validate(
    graph: Graph,
    tests: Mapping[str, HeadTest],
    device: torch.device,
    dtype: torch.dtype | None,
    world: World | None = None,
    is_stopping: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Run every head's test, all processes together; images that could not be read are reported once.

    Args:
        graph: with the same weights and statistics in every process.
        tests: by head name; in a run of several processes each has its share.
        device: where the graph is.
        dtype: reduced format of forward passes, None for float32.
        world: the processes that share the work; None for one.
        is_stopping: asked after every batch of a run of several processes: whether this process is told to stop.

    Returns:
        The evaluators of the whole tests by head name in the first process; nothing in the others.

    Raises:
        StoppedRun: in every process, if any of them is told to stop.
        DataError: of a head's test, not one image could be read.
    """
    if world is None or world.size == 1:
        evaluators = {name: run_head_test(graph, name, test, device, dtype) for name, test in tests.items()}
        for test in tests.values():
            test.report(test.loader.skipped)
        return evaluators

    def look_up(*_: Any) -> None:
        if is_stopping is not None and is_stopping():
            raise StoppedRun("stopped during a validation")

    parts, stopped = {}, False
    try:
        for name, test in tests.items():
            evaluator = run_head_test(graph, name, test, device, dtype, sink=look_up)
            parts[name] = Part(evaluator.state(), test.speed.images, test.loader.skipped)
    except StoppedRun:
        stopped = True
    # Signals reach processes at different batches, so they agree before they exchange anything else.
    if world.any_rank(stopped):
        raise StoppedRun("stopped during a validation")
    gathered = world.gather_on_first_rank(parts)
    if gathered is None:
        return {}
    return {name: _joined(graph, name, test, [of_rank[name] for of_rank in gathered]) for name, test in tests.items()}


@dataclass
class Part:
    """What one process has found of a head's test.

    Attributes:
        state: of its evaluator.
        images: that it has looked at.
        skipped: messages of images that it could not read.
    """

    state: Any
    images: int
    skipped: list[str]


def _joined(graph: Graph, name: str, test: HeadTest, parts: list[Part]) -> Any:
    """Return the evaluator of a head's whole test, from its parts in the order of the batches."""
    skipped = list(dict.fromkeys(message for part in parts for message in part.skipped))
    if not any(part.images for part in parts):
        raise DataError(skipped[0])
    test.report(skipped)
    evaluator = build_evaluator(graph.heads[name], test.names)
    for part in parts:
        evaluator.merge(part.state)
    return evaluator


def measured(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics that could be measured; COCO's protocol says -1 of sizes that no label has."""
    return {name: value for name, value in metrics.items() if value >= 0}


def weighed_fitness(evaluators: Mapping[str, Any], weights: Mapping[str, float]) -> float:
    """Return the mean fitness of all heads, 0..1, by the weights of the recipe; 0 where all weights are 0."""
    total = sum(weights.values())
    return sum(weight * evaluators[name].fitness() for name, weight in weights.items()) / max(total, 1e-9)


def _wait_for(device: torch.device) -> None:
    """Let queued GPU work finish, so that a clock read afterwards tells the truth."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
