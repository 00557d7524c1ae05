"""How fast boxes are measured: ``python -m benchmarks.evaluator`` times ours against pycocotools on the same data.

The data are made up in the manner of COCO's validation set: crowded and empty images, classes of very different
frequency, objects of all sizes, some crowds, and for each image up to a hundred predictions, some near an object and
most not. Timed are, in seconds of one core (time that other programs take does not count):

- ``ours``: ``coco_summary``, from arrays to the twelve numbers;
- ``pycocotools``: ``evaluate``, ``accumulate`` and ``summarize`` of objects that it has already loaded (loading is told
  beside it);
- ``faster-coco-eval``: the same three calls of the compiled package, where it is installed;
- ``whole evaluator``: ``BoxEvaluator`` from the results of batches to every number and the confusion matrix, so with
  the curves of precision, recall and F1.

The largest difference between the twelve numbers is printed, and one above 1e-6 ends the benchmark with an error.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from data.samples import Batch, Placement
from models.predictions import DetectionResult
from utils.errors import RunError, UsageError, run_command
from utils.metrics.box_evaluator import BoxEvaluator
from utils.metrics.coco_protocol import SIZES, BoxLabels, BoxPredictions, CocoSummary, coco_summary

ALLOWED = 1e-6
"""How far the numbers may be apart."""

WIDTH, HEIGHT = 640, 480
MOST_PER_IMAGE = 100
BATCH = 32


def parse_options() -> argparse.Namespace:
    """Read the command line.

    Raises:
        UsageError: a number is below 1, or there are more predictions than an image can have.
    """
    parser = argparse.ArgumentParser(prog="benchmarks.evaluator", description=__doc__.split("\n\n")[0])
    parser.add_argument("--images", type=int, default=5000, help="images (default %(default)s)")
    parser.add_argument("--boxes", type=int, default=36_000, help="labels (default %(default)s)")
    parser.add_argument("--detections", type=int, default=500_000, help="predictions (default %(default)s)")
    parser.add_argument("--classes", type=int, default=80, help="classes (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="timed runs of ours, median (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the data (default %(default)s)")
    options = parser.parse_args()
    for name in ("images", "boxes", "detections", "classes", "rounds"):
        if getattr(options, name) < 1:
            raise UsageError(f"--{name} must be 1 or more, but is {getattr(options, name)}")
    if options.detections > options.images * MOST_PER_IMAGE:
        raise UsageError(
            f"--detections: {options.images} images have {options.images * MOST_PER_IMAGE} predictions at most, "
            f"{MOST_PER_IMAGE} each, not {options.detections}; give more --images"
        )
    return options


def made_up(options: argparse.Namespace) -> tuple[BoxLabels, BoxPredictions]:
    """Return labels and predictions of a whole data set, image after image."""
    rng = np.random.default_rng(options.seed)
    images, count = options.images, options.boxes
    frequency = 1 / np.arange(1, options.classes + 1)
    frequency /= frequency.sum()
    # Some images hold many objects, some none.
    crowding = rng.gamma(0.8, size=images) + 1e-9
    label_images = np.sort(rng.choice(images, count, p=crowding / crowding.sum()))
    sides = np.exp(rng.normal(4.0, 0.9, (count, 2))).clip(4, (WIDTH - 1, HEIGHT - 1))
    low = rng.random((count, 2)) * ((WIDTH, HEIGHT) - sides)
    label_boxes = np.concatenate((low, low + sides), 1).astype(np.float32)
    label_classes = rng.choice(options.classes, count, p=frequency)
    areas = (sides.prod(1) * rng.uniform(0.4, 0.9, count)).astype(np.float32)
    labels = BoxLabels(label_images, label_boxes, label_classes, areas, rng.random(count) < 0.01)

    found = options.detections
    found_images = np.sort(rng.permutation(np.repeat(np.arange(images), MOST_PER_IMAGE))[:found])
    starts, counts = np.searchsorted(label_images, np.arange(images)), np.bincount(label_images, minlength=images)
    own = counts[found_images]
    target = np.minimum(starts[found_images] + (rng.random(found) * own).astype(int), count - 1)
    near = (rng.random(found) < 0.4) & (own > 0)
    wild_sides = np.exp(rng.normal(4.0, 0.9, (found, 2))).clip(4, (WIDTH - 1, HEIGHT - 1))
    wild_low = rng.random((found, 2)) * ((WIDTH, HEIGHT) - wild_sides)
    noise = rng.normal(0, 1, (found, 4)) * rng.choice((0.02, 0.06, 0.2), (found, 1)) * np.tile(sides[target], 2)
    boxes = np.where(near[:, None], label_boxes[target] + noise, np.concatenate((wild_low, wild_low + wild_sides), 1))
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    right_class = near & (rng.random(found) < 0.8)
    classes = np.where(right_class, label_classes[target], rng.choice(options.classes, found, p=frequency))
    # Five digits, as results files have them, so that some confidences are equal.
    scores = (rng.beta(0.6, 3, found) * 0.7 + right_class * rng.random(found) * 0.3).round(5).astype(np.float32)
    order = np.lexsort((-scores, found_images))
    picked = (values[order] for values in (found_images, boxes.astype(np.float32), classes, scores))
    return labels, BoxPredictions(*picked)


def as_rows(values: BoxLabels | BoxPredictions) -> list[dict[str, Any]]:
    """Return objects as COCO has them; ids start at 1 because the published code takes label 0 for "no label"."""
    boxes = values.boxes.astype(np.float64)
    corners_and_sides = np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), 1)
    columns = {"image_id": values.images + 1, "category_id": values.classes + 1, "bbox": corners_and_sides}
    if isinstance(values, BoxLabels):
        columns |= {"area": values.areas.astype(np.float64), "iscrowd": values.crowd.astype(int)}
    else:
        columns |= {"score": values.scores.astype(np.float64)}
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [{"id": number, **dict(zip(columns, row, strict=True))} for number, row in enumerate(rows, 1)]


def load(coco: Any, labels: BoxLabels, predictions: BoxPredictions, options: argparse.Namespace) -> tuple[Any, Any]:
    """Return labels and predictions as objects of a package with pycocotools' interface."""
    truth = coco()
    truth.dataset = {
        "info": {},
        "images": [{"id": i + 1} for i in range(options.images)],
        "categories": [{"id": c + 1, "name": str(c)} for c in range(options.classes)],
        "annotations": as_rows(labels),
    }
    truth.createIndex()
    return truth, truth.loadRes(as_rows(predictions))


def twelve(summary: CocoSummary) -> np.ndarray:
    """Return the numbers in the order in which pycocotools prints them."""
    areas = [summary.by_area[name] for name in SIZES]
    return np.array([summary.ap, summary.ap50, summary.ap75, *areas, *summary.recall.values()])


def timed(way: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds of computing that a call took and what it returned."""
    start = time.process_time()
    value = way()
    return time.process_time() - start, value


def run_package(
    names: tuple[str, str, str], labels: BoxLabels, predictions: BoxPredictions, options: argparse.Namespace
) -> tuple[float, float, np.ndarray]:
    """Return the seconds that a package needs to load and to evaluate, and its twelve numbers."""
    coco_module, evaluation_module, evaluation_name = names
    coco = importlib.import_module(coco_module).COCO
    evaluate = getattr(importlib.import_module(evaluation_module), evaluation_name)
    with redirect_stdout(StringIO()):
        loading, sides = timed(lambda: load(coco, labels, predictions, options))
        evaluation = evaluate(*sides, iouType="bbox")

        def three_calls() -> None:
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()

        seconds, _ = timed(three_calls)
    return loading, seconds, np.asarray(evaluation.stats[:12], float)


def whole_evaluator(labels: BoxLabels, predictions: BoxPredictions, options: argparse.Namespace) -> Callable[[], Any]:
    """Return a call that takes all batches of results and computes everything that a test reports."""
    edges = np.searchsorted(predictions.images, np.arange(options.images + 1)).tolist()
    columns = [torch.from_numpy(values) for values in (predictions.boxes, predictions.scores, predictions.classes)]
    results = [DetectionResult(*(column[low:high] for column in columns)) for low, high in pairwise(edges)]
    batches = [
        (results[first : first + BATCH], batch_of_labels(labels, first, min(first + BATCH, options.images)))
        for first in range(0, options.images, BATCH)
    ]

    def measure() -> Any:
        evaluator = BoxEvaluator([str(c) for c in range(options.classes)])
        for found, batch in batches:
            evaluator.update(found, batch)
        return evaluator.compute(), evaluator.per_class(), evaluator.confusion_matrix()

    return measure


def batch_of_labels(labels: BoxLabels, first: int, end: int) -> Batch:
    """Return the labels of some images as a test batch of pictures that need no resizing."""
    low, high = np.searchsorted(labels.images, (first, end))
    image = labels.images[low:high] - first
    place = np.arange(high - low) - np.searchsorted(image, image)
    shape = end - first, int(place.max(initial=-1)) + 1

    def padded(values: np.ndarray) -> torch.Tensor:
        column = np.zeros((*shape, *values.shape[1:]), values.dtype)
        column[image, place] = values[low:high]
        return torch.from_numpy(column)

    return Batch(
        images=torch.zeros(end - first, 3, 1, 1, dtype=torch.uint8),
        boxes=padded(labels.boxes),
        classes=padded(labels.classes),
        valid=padded(np.ones(len(labels.images), bool)),
        areas=padded(labels.areas),
        crowd=padded(labels.crowd),
        ids=[f"{number:012d}.jpg" for number in range(first, end)],
        placements=[Placement(HEIGHT, WIDTH)] * (end - first),
    )


PACKAGES = {
    "pycocotools": ("pycocotools.coco", "pycocotools.cocoeval", "COCOeval"),
    "faster-coco-eval": ("faster_coco_eval", "faster_coco_eval", "COCOeval_faster"),
}


def main() -> None:
    """Run the benchmark.

    Raises:
        RunError: pycocotools is missing, or the numbers are not equal.
    """
    options = parse_options()
    torch.set_num_threads(1)
    labels, predictions = made_up(options)
    print(f"python -m {' '.join(['benchmarks.evaluator', *sys.argv[1:]])}")
    print(f"{platform.machine()}, NumPy {np.__version__}, one core")
    print(f"{options.images} images, {len(labels.classes)} labels, {len(predictions.classes)} predictions")
    runs = [timed(lambda: coco_summary(labels, predictions, options.classes)) for _ in range(options.rounds)]
    ours, numbers = statistics.median(seconds for seconds, _ in runs), twelve(runs[0][1])
    fastest = min(seconds for seconds, _ in runs)
    print(f"ours:             {ours:8.2f} s (fastest {fastest:.2f} s), AP {numbers[0]:.6f}")
    measure = whole_evaluator(labels, predictions, options)
    print(f"whole evaluator:  {timed(measure)[0]:8.2f} s")
    for package, names in PACKAGES.items():
        if importlib.util.find_spec(names[0].split(".")[0]) is None:
            if package == "pycocotools":
                raise RunError(
                    "the benchmark compares with pycocotools, which is not installed: pip install pycocotools"
                )
            print(f"{package}: not installed")
            continue
        loading, seconds, theirs = run_package(names, labels, predictions, options)
        apart = float(np.abs(theirs - numbers).max())
        print(
            f"{package + ':':18}{seconds:7.2f} s (and {loading:.2f} s to load), ours is {seconds / ours:.1f} times as "
            f"fast; largest difference of the 12 numbers {apart:.1e}"
        )
        if not apart <= ALLOWED:
            raise RunError(f"ours and {package} are {apart:.1e} apart: {numbers.tolist()} and {theirs.tolist()}")


if __name__ == "__main__":
    run_command(main)
