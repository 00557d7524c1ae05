"""Scans one split of one task: every image's header and every label is read once and packed into flat arrays."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from data.annotations import AnnotatedPicture, ClassList
from data.formats.registry import PICTURE_FORMATS
from data.formats.voc_objects import VocObjects
from data.formats.yolo_txt import Labels, parse_rows, read_text
from data.images import image_size
from data.mask_reading import MaskReader
from data.object_labels import ObjectLabels, labels_of_objects, labels_of_rows
from data.report import DataReport
from data.task_data import TaskData
from utils.errors import DataError, did_you_mean

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
    """What was found of one image: its labels, or why it is left out."""

    size: tuple[int, int] = (0, 0)
    labels: ObjectLabels | None = None
    has_mask: bool = True
    has_labels: bool = True
    is_there: bool = True
    fault: str = ""

    @property
    def kept(self) -> bool:
        return self.is_there and self.has_mask and self.has_labels and not self.fault


def scan_split(data: TaskData, name: str, images: Sequence[Path], labels: Sequence[Path | None]) -> LabelIndex:
    """Read the header of every image and check its label file or mask.

    Args:
        data: the task.
        name: of the split, for the report.
        images: image files.
        labels: the label file or mask of each; None where a mask was not found. Label files need not exist: of
            ``yolo_txt`` an image without one has no object, of other formats it is left out.

    Raises:
        DataError: a label row is malformed or a mask does not fit, the first in the order of the images; or no object
            has a class that the data YAML names.
    """
    scan_one = _mask_scan(data) if data.task == "segment" else _label_scan(data)
    pairs = zip(images, labels, strict=True)
    return _pack(data, name, images, in_threads(lambda pair: scan_one(*pair), pairs, f"scanning {name}"))


def scan_pictures(data: TaskData, name: str, pictures: Sequence[AnnotatedPicture], marked: bool) -> LabelIndex:
    """Read the header of every picture that a file of a whole split lists, and pack their labels.

    Args:
        data: the task.
        name: of the split, for the report.
        pictures: with their objects.
        marked: keep areas and crowd marks.

    Raises:
        DataError: as ``scan_split``.
    """

    def scan_one(picture: AnnotatedPicture) -> _Scanned:
        if not picture.image.is_file():
            return _Scanned(is_there=False)
        size, fault = _size_or_fault(picture.image)
        return _Scanned(size, labels_of_objects(picture.objects, size, data.label_map, marked), fault=fault)

    images = [picture.image for picture in pictures]
    return _pack(data, name, images, in_threads(scan_one, pictures, f"scanning {name}"))


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


def _size_or_fault(image: Path) -> tuple[tuple[int, int], str]:
    """Return height and width of an image and an empty text, or 1 x 1 and why it cannot be read."""
    try:
        return image_size(image), ""
    except DataError as error:
        return (1, 1), str(error)


def _label_scan(data: TaskData) -> Callable[[Path, Path], _Scanned]:
    """Return the function that scans an image and its label file."""
    read = _yolo_reader(data) if data.format == "yolo_txt" else object_reader(data)

    def scan_one(image: Path, label: Path) -> _Scanned:
        size, fault = _size_or_fault(image)
        if fault:
            return _Scanned(fault=fault)
        labels = read(label, size)
        return _Scanned(size, labels, has_labels=labels is not None)

    return scan_one


def _yolo_reader(data: TaskData) -> Callable[[Path, tuple[int, int]], ObjectLabels]:
    classes, keypoints = data.label_map, data.keypoints

    def read(label: Path, size: tuple[int, int]) -> ObjectLabels:
        # What is there but no file, such as a pipe, is refused.
        text = read_text(label) if label.exists() else ""
        return labels_of_rows(parse_rows(text, len(classes.names), keypoints, str(label)), classes)

    return read


def object_reader(data: TaskData) -> Callable[[Path, tuple[int, int]], ObjectLabels | None]:
    """Return the function that reads a label file of a format with one per picture; None where there is no file."""
    form = PICTURE_FORMATS[data.format]
    if data.format == VocObjects.name and data.options.get("one_based"):
        form = VocObjects(one_based=True)
    spec = data.keypoint_spec
    listed = ClassList(list(data.label_map.names), spec.names if spec else (), spec.skeleton if spec else ())
    marked = not form.keeps.isdisjoint({"areas", "crowd"})
    difficult = not data.options.get("drop_difficult")

    def read(label: Path, size: tuple[int, int]) -> ObjectLabels | None:
        if not label.exists():
            return None
        return labels_of_objects(form.read(label, size, listed), size, data.label_map, marked, difficult)

    return read


def _mask_scan(data: TaskData) -> Callable[[Path, Path | None], _Scanned]:
    """Return the function that scans an image and its mask."""
    reader = MaskReader(data)

    def scan_one(image: Path, mask: Path | None) -> _Scanned:
        size, fault = _size_or_fault(image)
        if fault or mask is None:
            return _Scanned(size, has_mask=bool(fault), fault=fault)
        reader.check(mask, image, size)
        return _Scanned(size)

    return scan_one


def _pack(data: TaskData, name: str, images: Sequence[Path], records: Sequence[_Scanned]) -> LabelIndex:
    kept = [i for i, record in enumerate(records) if record.kept]
    labels = [record.labels for i in kept if (record := records[i]).labels is not None]
    rows = [entry.rows for entry in labels]
    counts = [len(entry) for entry in rows] or [0] * len(kept)
    with_objects = sum(count > 0 for count in counts)
    with_keypoints = [int((entry.keypoints[..., 2] > 0).any(1).sum()) for entry in rows] if data.keypoints else None
    others = sum((entry.others for entry in labels), Counter())
    marked = bool(labels) and labels[0].crowd is not None
    crowd = np.concatenate([entry.crowd for entry in labels]) if marked else None

    def named(chosen: Callable[[_Scanned], bool]) -> list[str]:
        return [str(image) for image, record in zip(images, records, strict=True) if chosen(record)]

    report = DataReport(
        name=name,
        listed=len(images),
        found=with_objects if labels else len(kept),
        background=len(labels) - with_objects,
        objects=sum(counts),
        with_keypoints=None if with_keypoints is None else sum(with_keypoints),
        crowds=int(crowd.sum()) if marked else 0,
        duplicates=sum(entry.duplicates for entry in rows),
        degenerate=sum(entry.degenerate for entry in rows),
        corrupt=named(lambda record: bool(record.fault)),
        reasons=[record.fault for record in records if record.fault],
        missing_masks=named(lambda record: not record.has_mask),
        missing_labels=named(lambda record: not record.has_labels),
        missing_images=named(lambda record: not record.is_there),
        other_sizes=named(lambda record: record.labels is not None and record.labels.other_size),
        other_classes=others.total(),
        left_out=dict(sum((Counter(entry.left_out) for entry in labels), Counter())),
    )
    classes = _joined(rows, lambda entry: entry.classes, np.zeros((0,), np.int64))
    _require_named(data, name, classes, others)
    report.warnings += _misspelt(data, classes, others)
    return LabelIndex(
        kept=np.array(kept, np.int64),
        sizes=np.array([records[i].size for i in kept], np.int32).reshape(-1, 2),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        classes=classes,
        boxes=_joined(rows, lambda entry: entry.boxes, np.zeros((0, 4), np.float32)),
        keypoints=_joined(rows, lambda entry: entry.keypoints, np.zeros((0, 0, 3), np.float32)),
        report=report,
        areas=np.concatenate([entry.areas for entry in labels]) if marked else None,
        crowd=crowd,
    )


def _joined(labels: Sequence[Labels], part: Callable[[Labels], np.ndarray], empty: np.ndarray) -> np.ndarray:
    return np.concatenate([part(entry) for entry in labels]) if labels else empty


def _require_named(data: TaskData, name: str, classes: np.ndarray, others: Counter[str]) -> None:
    """Refuse names of which none occurs in the labels: with other names everything would be background."""
    if len(classes) or not others:
        return
    commonest = [other for other, _ in others.most_common(5)]
    hint = next(filter(None, (_nearest(wanted, others) for wanted in data.label_map.names)), "")
    raise DataError(
        f"{data.source}: `{data.key}.names` has no class of the {others.total()} objects of {name}, which are called "
        f"{', '.join(repr(other) for other in commonest)}; mend the names.{hint}"
    )


def _misspelt(data: TaskData, classes: np.ndarray, others: Counter[str]) -> list[str]:
    """Return a sentence for every class without an object whose name is nearly that of objects that were left out."""
    seen, names = set(classes.tolist()), data.label_map
    unmet = [name for name, k in zip(names.names, names.targets, strict=True) if k >= 0 and k not in seen]
    near = {name: _nearest(name, others) for name in unmet}
    return [f"no object is called '{name}'.{hint}" for name, hint in near.items() if hint]


def _nearest(name: str, others: Counter[str]) -> str:
    """Return `` Did you mean 'x'?``; the same word in other letters is nearest, however many of them differ."""
    alike = {other.casefold(): other for other in others}
    return did_you_mean(alike.get(name.casefold(), name), others)
