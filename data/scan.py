"""Scans one split of one task: every image's header and every label is read once and packed into flat arrays."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from data.formats.cityscapes import holds_label_ids
from data.formats.mask_png import check_mask, read_mask
from data.formats.yolo_txt import Labels, parse_labels, read_labels
from data.images import image_size
from data.report import DataReport
from data.task_data import TaskData
from utils.errors import DataError

Item, Result = TypeVar("Item"), TypeVar("Result")

_MOST_THREADS = 8
_QUIET_SECONDS = 1.0


@dataclass
class LabelIndex:
    """All labels of a split, in flat arrays that worker processes share without copying.

    Attributes:
        kept: (n,) int64, positions of the usable images among the listed ones.
        sizes: (n, 2) int32, height and width in pixels, upright.
        offsets: (n + 1,) int64, image i owns the objects offsets[i] .. offsets[i + 1] - 1.
        classes: (m,) int64.
        boxes: (m, 4) float32, x1 y1 x2 y2 in 0..1 of their image.
        keypoints: (m, K, 3) float32, x y in 0..1, visibility.
        report: what was found.
        areas: (m,) float32, square pixels of the image's file; None where the labels have none.
        crowd: (m,) bool, regions with many objects that are not told apart; None as above.
    """

    kept: np.ndarray
    sizes: np.ndarray
    offsets: np.ndarray
    classes: np.ndarray
    boxes: np.ndarray
    keypoints: np.ndarray
    report: DataReport
    areas: np.ndarray | None = None
    crowd: np.ndarray | None = None


@dataclass(frozen=True)
class _Scanned:
    size: tuple[int, int] = (0, 0)
    labels: Labels | None = None
    has_mask: bool = True
    fault: str = ""


def scan_split(data: TaskData, name: str, images: Sequence[Path], labels: Sequence[Path | None]) -> LabelIndex:
    """Read the header of every image and check its label file or mask.

    Args:
        data: the task.
        name: of the split, for the report.
        images: image files.
        labels: the label file or mask of each; None where a mask was not found. Label files need not exist.

    Raises:
        DataError: a label row is malformed or a mask does not fit; the first in the order of the images.
    """
    scan_one = _scan_mask if data.task == "segment" else _scan_labels
    pairs = zip(images, labels, strict=True)
    return _pack(data, name, images, in_threads(lambda pair: scan_one(data, *pair), pairs, f"scanning {name}"))


def in_threads(call: Callable[[Item], Result], items: Iterable[Item], what: str) -> list[Result]:
    """Return what a function gives for every item, in their order; several wait for the disk at once.

    Args:
        call: what to do with one item; the first error in the order of the items is raised.
        items: what it is called with.
        what: is done, shown beside a progress bar.
    """
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        jobs = [pool.submit(call, item) for item in items]
        try:
            return [job.result() for job in tqdm(jobs, desc=what, unit="img", delay=_QUIET_SECONDS, leave=False)]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _scan_labels(data: TaskData, image: Path, label: Path) -> _Scanned:
    try:
        size = image_size(image)
    except DataError as error:
        return _Scanned(fault=str(error))
    if not label.is_file():
        return _Scanned(size, parse_labels("", data.label_classes, data.keypoints))
    labels = read_labels(label, data.label_classes, data.keypoints)
    if data.merged_classes:
        labels = replace(labels, classes=np.zeros_like(labels.classes))
    return _Scanned(size, labels)


def _scan_mask(data: TaskData, image: Path, mask_path: Path | None) -> _Scanned:
    try:
        size = image_size(image)
    except DataError as error:
        return _Scanned(fault=str(error))
    if mask_path is None:
        return _Scanned(size, has_mask=False)
    mask = read_mask(mask_path)
    if mask.shape != size:
        raise DataError(
            f"{mask_path}: the mask is {mask.shape[1]}x{mask.shape[0]}, but its image {image} is {size[1]}x{size[0]} "
            "(width x height); save both in one size"
        )
    # Every label id means something: those without a training class are ignored.
    if not (data.format == "cityscapes" and holds_label_ids(mask_path)):
        check_mask(mask, len(data.names), ignored_values(data), mask_path)
    return _Scanned(size)


def ignored_values(data: TaskData) -> list[int]:
    """Return the values that a task's mask files use for pixels that do not count."""
    return list(data.options.get("ignore", [data.ignore_index]))


def _pack(data: TaskData, name: str, images: Sequence[Path], records: Sequence[_Scanned]) -> LabelIndex:
    kept = [i for i, record in enumerate(records) if not record.fault and record.has_mask]
    labels = [records[i].labels for i in kept if records[i].labels is not None]
    counts = [len(entry) for entry in labels] or [0] * len(kept)
    with_objects = sum(count > 0 for count in counts)
    with_keypoints = [int((entry.keypoints[..., 2] > 0).any(1).sum()) for entry in labels] if data.keypoints else None
    report = DataReport(
        name=name,
        listed=len(images),
        found=with_objects if labels else len(kept),
        background=len(labels) - with_objects,
        objects=sum(counts),
        with_keypoints=None if with_keypoints is None else sum(with_keypoints),
        duplicates=sum(entry.duplicates for entry in labels),
        degenerate=sum(entry.degenerate for entry in labels),
        corrupt=[str(image) for image, record in zip(images, records, strict=True) if record.fault],
        reasons=[record.fault for record in records if record.fault],
        missing_masks=[str(image) for image, record in zip(images, records, strict=True) if not record.has_mask],
    )
    return LabelIndex(
        kept=np.array(kept, np.int64),
        sizes=np.array([records[i].size for i in kept], np.int32).reshape(-1, 2),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        classes=_joined(labels, lambda entry: entry.classes, np.zeros((0,), np.int64)),
        boxes=_joined(labels, lambda entry: entry.boxes, np.zeros((0, 4), np.float32)),
        keypoints=_joined(labels, lambda entry: entry.keypoints, np.zeros((0, 0, 3), np.float32)),
        report=report,
    )


def _joined(labels: Sequence[Labels], part: Callable[[Labels], np.ndarray], empty: np.ndarray) -> np.ndarray:
    return np.concatenate([part(entry) for entry in labels]) if labels else empty
