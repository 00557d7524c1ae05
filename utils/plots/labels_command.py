"""``python -m utils.plots labels``: what the labels of a data set are, as tables and pictures."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data.config import load_data_config
from data.dataset import TaskDataset
from utils.boxes import xyxy_to_xywh
from utils.errors import UsageError
from utils.files import increment_run_folder
from utils.plots.keypoint_labels import labelled_shares, plot_keypoints
from utils.plots.labels import plot_labels
from utils.plots.mask_statistics import MaskStatistics, count_masks, plot_masks
from utils.text_table import format_table

SMALL, LARGE = 32, 96
"""Sides in native pixels of squares below which objects count as small, and from which as large, as in COCO."""


def draw_labels_of(options: argparse.Namespace) -> None:
    """Print and draw the labels of every block, and say where the pictures are.

    Raises:
        UsageError: no block has the task that is asked for.
        DataError: the data are at fault.
    """
    data = load_data_config(options.data, (options.split,))
    chosen = {key: task for key, task in data.tasks.items() if options.task in (None, task.task)}
    if not chosen:
        raise UsageError(f"{options.data}: no block is for --task {options.task}; leave the option out to see what is")
    datasets = {key: TaskDataset(task, options.split) for key, task in chosen.items()}
    folder = increment_run_folder(options.project, options.name, options.exist_ok)
    for key, dataset in datasets.items():
        draw = _draw_masks if dataset.task == "segment" else _draw_objects
        print()
        for path in draw(key, dataset, folder):
            print(path)


def _draw_masks(key: str, dataset: TaskDataset, folder: Path) -> Iterator[Path]:
    indices = tqdm(range(len(dataset)), desc=f"masks of {key}", unit="mask", leave=False, delay=1)
    statistics = count_masks((dataset.load_mask(index) for index in indices), len(dataset.names))
    print(table_of_masks(key, statistics, dataset.names))
    yield plot_masks(statistics, dataset.names, folder / f"labels_{key}.png")


def _draw_objects(key: str, dataset: TaskDataset, folder: Path) -> Iterator[Path]:
    print(table_of_objects(key, dataset))
    if not len(dataset.boxes):
        return
    yield plot_labels(dataset.classes, xyxy_to_xywh(dataset.boxes), dataset.names, folder / f"labels_{key}.png")
    if dataset.keypoint_spec is not None:
        print(table_of_keypoints(key, dataset))
        yield plot_keypoints(dataset.keypoints, dataset.boxes, dataset.keypoint_spec, folder / f"keypoints_{key}.png")


def table_of_objects(key: str, dataset: TaskDataset) -> str:
    """Return a row per class: pictures that have it, objects, and how many of these are small, medium and large."""
    classes, images = len(dataset.names), np.repeat(np.arange(len(dataset)), np.diff(dataset.offsets))
    pairs = np.unique(np.stack((dataset.classes, images), 1), axis=0)
    pictures = np.bincount(pairs[:, 0], minlength=classes)
    sides = (dataset.boxes[:, 2:] - dataset.boxes[:, :2]) * dataset.sizes[images, ::-1]
    size = np.digitize(sides.prod(1), (SMALL**2, LARGE**2))
    counts = np.bincount(dataset.classes * 3 + size, minlength=3 * classes).reshape(classes, 3)
    rows = [
        [name, int(pictures[c]), int(counts[c].sum()), *map(int, counts[c])] for c, name in enumerate(dataset.names)
    ]
    rows.append(["all", len(np.unique(images)), int(counts.sum()), *map(int, counts.sum(0))])
    title = f"{key}: {len(dataset):,} pictures, {len(dataset) - len(np.unique(images)):,} of them without objects"
    return f"{title}\n" + format_table(["class", "pictures", "objects", "small", "medium", "large"], rows)


def table_of_keypoints(key: str, dataset: TaskDataset) -> str:
    """Return a row per keypoint: for how many per cent of the objects with keypoints it is labelled, and seen."""
    shares = zip(*labelled_shares(dataset.keypoints), strict=True)
    rows = [
        [name, f"{labelled:.1%}", f"{seen:.1%}"]
        for name, (labelled, seen) in zip(dataset.keypoint_spec.names, shares, strict=True)
    ]
    return f"{key}: keypoints\n" + format_table(["keypoint", "labelled", "seen"], rows)


def table_of_masks(key: str, statistics: MaskStatistics, names: list[str]) -> str:
    """Return a row per class: pictures that have it, and its share of the labelled pixels."""
    rows = [
        [name, int(images), f"{share:.2%}"]
        for name, images, share in zip(names, statistics.images, statistics.shares, strict=True)
    ]
    total = int(statistics.pixels.sum()) + statistics.ignored
    title = f"{key}: {statistics.count:,} masks, {statistics.ignored / max(total, 1):.2%} of the pixels ignored"
    return f"{title}\n" + format_table(["class", "pictures", "pixels"], rows)
