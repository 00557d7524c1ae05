"""Measuring a model: every head on its own data, with the evaluator that the head asks for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from tqdm import tqdm

from data.dataset import TaskDataset
from data.loader import TestLoader, build_test_loader
from data.samples import Batch
from models.graph import Graph
from models.inference import Inference, as_inference
from models.predictions import PostprocessOptions
from utils.metrics import EVALUATORS

VALIDATION_OPTIONS = PostprocessOptions(conf=0.001, iou=0.6, max_det=300, multi_label=True)

ResultSink = Callable[[str, Batch, list[Any]], None]
"""Called with a head's name, a batch and its results, to draw or save them."""


@dataclass
class Speed:
    """Seconds spent per stage, over ``images`` images."""

    images: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: {"inference": 0.0, "postprocess": 0.0})

    def __str__(self) -> str:
        """Milliseconds per image of every stage."""
        stages = [f"{stage} {1000 * spent / max(self.images, 1):.1f} ms" for stage, spent in self.seconds.items()]
        return f"{', '.join(stages)} per image over {self.images} images"


@dataclass
class HeadTest:
    """One head's test: its loader, and how long it took when it last ran."""

    loader: TestLoader
    names: list[str]
    speed: Speed = field(default_factory=Speed)


def build_tests(
    model: Graph | Inference,
    datasets: Mapping[str, TaskDataset],
    img_size: int,
    base_size: int,
    batch_size: int,
    workers: int,
    pad: float = 0.0,
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
    """
    tests = {}
    for name, dataset in datasets.items():
        labels_pixels = "masks" in model.heads[name].targets
        size, extra = (base_size, 0.0) if labels_pixels else (img_size, pad)
        # Before the workers start, so that they share one cache; tests read pictures at their native size.
        dataset.reserve_memory(None)
        loader = build_test_loader(dataset, size, batch_size, model.stride, workers, pad=extra)
        tests[name] = HeadTest(loader, dataset.names)
    return tests


@torch.inference_mode()
def run_head_test(
    model: Graph | Inference,
    name: str,
    test: HeadTest,
    device: torch.device,
    dtype: torch.dtype | None,
    options: PostprocessOptions = VALIDATION_OPTIONS,
    sink: ResultSink | None = None,
) -> Any:
    """Run one head over its test images and return its evaluator.

    Args:
        model: a graph, or what else answers for pictures, in eval mode on ``device``.
        name: of the head.
        test: its images.
        device: where the model is.
        dtype: reduced format of forward passes, None for float32.
        options: thresholds of the results.
        sink: gets every batch with its results.
    """
    model = as_inference(model)
    head = model.heads[name]
    evaluator = EVALUATORS[head.evaluator](test.names)
    test.speed = Speed()
    for batch in tqdm(test.loader, desc=f"testing {name}", unit="batch", leave=False, dynamic_ncols=True, delay=1.0):
        batch = batch.to(device)
        started = time.perf_counter()
        predictions = model(batch.images, (name,), dtype)[name]
        _wait_for(device)
        inferred = time.perf_counter()
        results = head.postprocess(predictions, options, batch.placements)
        test.speed.seconds["inference"] += inferred - started
        test.speed.seconds["postprocess"] += time.perf_counter() - inferred
        test.speed.images += len(batch)
        evaluator.update(results, batch)
        if sink is not None:
            sink(name, batch, results)
    return evaluator


def validate(
    graph: Graph, tests: Mapping[str, HeadTest], device: torch.device, dtype: torch.dtype | None
) -> dict[str, Any]:
    """Run every head's test and return the evaluators by head name."""
    return {name: run_head_test(graph, name, test, device, dtype) for name, test in tests.items()}


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
