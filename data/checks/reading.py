"""Reads the labels of a split, however broken some are: what can be read is packed, the rest becomes findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data.checks.finding import Finding
from data.checks.label_files import read_rows
from data.checks.listing import ListedPart, ListedSplit
from data.checks.masks import examine_mask, palette_findings
from data.checks.pictures import Picture
from data.checks.split_facts import SplitFacts
from data.coco_index import coco_index
from data.formats.registry import SPLIT_FORMATS
from data.mask_reading import MaskReader
from data.object_labels import ObjectLabels, labels_of_objects
from data.scan import in_threads, object_reader
from data.task_data import TaskData
from utils.errors import DataError, did_you_mean

INDICES = "mask_png"
BACKGROUND_WITHOUT = "yolo_txt"
"""The format of which an image without a label file has no object; others leave it out of training."""
Pictures = Mapping[str, Picture]


@dataclass
class _Part:
    """What one source of a split holds, n images and m objects; see ``SplitFacts``."""

    counts: np.ndarray
    classes: np.ndarray
    boxes: np.ndarray
    keypoints: np.ndarray
    crowd: np.ndarray
    labelled: np.ndarray
    pixels: np.ndarray | None = None
    findings: list[Finding] = field(default_factory=list)


def read_split(listed: ListedSplit, pictures: Pictures) -> tuple[SplitFacts, list[Finding]]:
    """Read the labels or masks of all images of a split.

    Args:
        listed: the split.
        pictures: what is known of each image.
    """
    parts = [_read_part(part, pictures, listed.where) for part in listed.parts]
    counts = np.concatenate([part.counts for part in parts])
    facts = SplitFacts(
        data=listed.data,
        split=listed.split,
        images=listed.images,
        labels=[label for part in listed.parts for label in part.labels],
        sources=[part.data for part in listed.parts for _ in part.images],
        sizes=np.array([pictures[image].size for image in listed.images], np.int32).reshape(-1, 2),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        classes=np.concatenate([part.classes for part in parts]),
        boxes=np.concatenate([part.boxes for part in parts]),
        keypoints=np.concatenate([part.keypoints for part in parts]),
        crowd=np.concatenate([part.crowd for part in parts]),
        labelled=np.concatenate([part.labelled for part in parts]),
        pixels=np.concatenate([part.pixels for part in parts]) if listed.data.task == "segment" else None,
    )
    return facts, [finding for part in parts for finding in part.findings]


def _read_part(part: ListedPart, pictures: Pictures, where: str) -> _Part:
    if part.data.task == "segment":
        return _read_masks(part, pictures, where)
    if part.coco is not None:
        return _read_coco(part, where)
    return _read_objects(part, pictures, where)


def _nothing(part: ListedPart) -> _Part:
    return _Part(
        counts=np.zeros(len(part.images), np.int64),
        classes=np.zeros(0, np.int64),
        boxes=np.zeros((0, 4), np.float32),
        keypoints=np.zeros((0, part.data.keypoints, 3), np.float32),
        crowd=np.zeros(0, bool),
        labelled=np.ones(len(part.images), bool),
    )


def _read_masks(part: ListedPart, pictures: Pictures, where: str) -> _Part:
    reader, read = MaskReader(part.data), _nothing(part)

    def examine(pair: tuple[str, str | None]) -> tuple[np.ndarray, list[Finding]]:
        image, file = pair
        if file is None:
            missing = Finding("mask-missing", where, f"{image}: has no mask", (image,))
            return np.zeros(len(part.data.names) + 1, np.int64), [missing]
        return examine_mask(reader, where, image, pictures[image].size, file)

    pairs = list(zip(part.images, part.labels, strict=True))
    examined = in_threads(examine, pairs, f"reading {where}")
    read.pixels = np.stack([pixels for pixels, _ in examined])
    read.findings = [finding for _, findings in examined for finding in findings]
    if part.data.format == INDICES:
        # Where the data YAML asks for a palette, it is no news.
        read.findings += palette_findings(where, [file for file in part.labels if file is not None])
    return read


def _read_coco(part: ListedPart, where: str) -> _Part:
    read = _nothing(part)
    try:
        index = coco_index(part.data, where, part.coco, part.images)
    except DataError as error:
        read.findings.append(Finding("label-refused", where, str(error)))
        return read
    read.counts[index.kept] = np.diff(index.offsets)
    read.classes, read.boxes, read.keypoints, read.crowd = index.classes, index.boxes, index.keypoints, index.crowd
    report, file = index.report, part.coco.path
    for check, count, what in (
        ("label-degenerate", report.degenerate, "boxes without area"),
        ("label-unlisted", report.unlisted, "annotations of images that it does not list"),
        ("class-left-out", report.other_classes, "annotations of categories that the data YAML does not name"),
    ):
        if count:
            read.findings.append(Finding(check, where, f"{file}: {what}: {count}", count=count))
    for image in report.other_sizes:
        read.findings.append(Finding("image-size", where, f"{image}: has another size than {file} says", (image,)))
    return read


@dataclass(frozen=True)
class _Labels:
    """What the labels of one picture hold, None without any, and what is refused of them."""

    labels: ObjectLabels | None
    refused: Sequence[str] = ()

    def are_usable(self, may_lack: bool) -> bool:
        """Return whether training can use the picture, which ``may_lack`` a label file."""
        if self.labels is None:
            return may_lack and not self.refused
        return bool(len(self.labels.rows)) or not self.refused


def _read_objects(part: ListedPart, pictures: Pictures, where: str) -> _Part:
    """Read labels that are one by picture, from a file each or from one file for all."""
    read_one = _reader(part)

    def read_position(i: int) -> _Labels:
        # The labels of a picture that cannot be read are looked at, too; what they hold is of no use.
        known = pictures[part.images[i]].size
        found = read_one(i, known if known != (0, 0) else (1, 1))
        return found if known != (0, 0) else _Labels(None, found.refused)

    found = in_threads(read_position, range(len(part.images)), f"reading {where}")
    read = _nothing(part)
    labels = [entry.labels for entry in found]
    read.findings = _refusals(part, found, where) + _left_out(part, labels, pictures, where)
    kept = [entry for entry in labels if entry is not None]
    read.counts = np.array([0 if entry is None else len(entry.rows) for entry in labels], np.int64)
    read.labelled = np.array([entry.are_usable(part.data.format == BACKGROUND_WITHOUT) for entry in found], bool)
    if kept:
        read.classes = np.concatenate([entry.rows.classes for entry in kept])
        read.boxes = np.concatenate([entry.rows.boxes for entry in kept])
        read.keypoints = np.concatenate([entry.rows.keypoints for entry in kept])
        read.crowd = np.concatenate(
            [np.zeros(len(entry.rows), bool) if entry.crowd is None else entry.crowd for entry in kept]
        )
    return read


def _reader(part: ListedPart) -> Callable[[int, tuple[int, int]], _Labels]:
    """Return the function that reads the labels of image i, whose height and width are given."""
    data = part.data
    if part.pictures is not None:
        objects = [picture.objects for picture in part.pictures]
        marked = not SPLIT_FORMATS[data.format].keeps.isdisjoint({"areas", "crowd"})
        return lambda i, size: _Labels(labels_of_objects(objects[i], size, data.label_map, marked))
    if data.format == "yolo_txt":
        return lambda i, size: _rows_of(Path(part.labels[i]), data)
    read_file = object_reader(data)

    def read(i: int, size: tuple[int, int]) -> _Labels:
        try:
            return _Labels(read_file(Path(part.labels[i]), size))
        except DataError as error:
            return _Labels(None, [str(error)])

    return read


def _rows_of(file: Path, data: TaskData) -> _Labels:
    return _Labels(*read_rows(file, data)) if file.exists() else _Labels(None)


def _refusals(part: ListedPart, found: Sequence[_Labels], where: str) -> list[Finding]:
    return [
        Finding("label-refused", where, sentence, (image,))
        for image, entry in zip(part.images, found, strict=True)
        for sentence in entry.refused
    ]


def _left_out(part: ListedPart, labels: Sequence[ObjectLabels | None], pictures: Pictures, where: str) -> list[Finding]:
    """Return what is left out of the labels, and which images have none."""
    found, others, left_out, absent = [], Counter(), Counter(), []
    for image, label, entry in zip(part.images, part.labels, labels, strict=True):
        if entry is None:
            if part.has_own_labels and not pictures[image].fault and not Path(label).exists():
                absent.append(image)
            continue
        for check, count, what in (
            ("label-duplicate", entry.rows.duplicates, "repeats an earlier one"),
            ("label-degenerate", entry.rows.degenerate, "has no area"),
        ):
            if count:
                objects = f"an object {what}" if count == 1 else f"{count} objects: each {what}"
                found.append(Finding(check, where, f"{label} ({Path(image).name}): {objects}", (image,), count))
        if entry.other_size:
            found.append(Finding("image-size", where, f"{image}: has another size than {label} says", (image,)))
        others.update(entry.others)
        left_out.update(entry.left_out)
    seen = {index for entry in labels if entry is not None for index in entry.rows.classes.tolist()}
    unmet = [name for index, name in enumerate(part.data.names) if index not in seen]
    for name, count in others.most_common():
        sentence = f"{where}: objects called '{name}', which are left out: {count}.{did_you_mean(name, unmet)}"
        found.append(Finding("class-left-out", where, sentence, count=count))
    for what, count in left_out.most_common():
        found.append(Finding("label-left-out", where, f"{where}: {count} {what}", count=count))
    if absent:
        sentence = f"{where}: {len(absent)} of {len(labels)} images have no label file, the first {absent[0]}"
        check = "label-missing" if part.data.format == BACKGROUND_WITHOUT else "label-absent"
        found.append(Finding(check, where, sentence, count=len(absent)))
    return found
