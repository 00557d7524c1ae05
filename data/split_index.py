"""Opens one split of one task: lists its images, finds their labels, and reads or scans what is in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from data.coco_cache import open_coco
from data.coco_index import coco_images, coco_index
from data.formats.cityscapes import CityscapesMaskFinder
from data.formats.mask_png import MaskFinder
from data.formats.yolo_txt import label_files
from data.image_list import list_image_files
from data.label_cache import cache_file, cache_folder, content_key, load_index, save_index, stamp_of_files
from data.permissions import permissions_named
from data.scan import LabelIndex, scan_split
from data.task_data import TaskData


@dataclass(frozen=True)
class SplitIndex:
    """A split as it lies on the disk.

    Attributes:
        images: files that are listed; ``index.kept`` says which of them are usable.
        labels: the label file or mask of each, None where a mask was not found; of a COCO set its one annotation file.
        image_stamp: changes with any of the images, see ``stamp_of_files``.
        label_stamp: changes with any of the labels.
        searched: where the first label file or mask was looked for.
        folder: for caches, beside the labels.
        index: all labels.
    """

    images: list[str]
    labels: list[str | None]
    image_stamp: str
    label_stamp: str
    searched: Path
    folder: Path
    index: LabelIndex


def open_split(data: TaskData, split: str) -> SplitIndex:
    """Open one split of one task; a scan is kept until a file changes.

    Raises:
        DataError: nothing is listed, or a label or a mask is wrong or may not be read.
    """
    with permissions_named(data.source):
        return _open(data, split)


def _open(data: TaskData, split: str) -> SplitIndex:
    if data.format == "coco_json":
        return _open_coco_split(data, split)
    images = list_image_files(data.splits[split], data.root)
    labels, searched = _find_labels(data, split, images)

    def scan() -> LabelIndex:
        paths = [None if label is None else Path(label) for label in labels]
        return scan_split(data, f"{data.key} {split}", [Path(image) for image in images], paths)

    return _load_or_scan(data, split, images, labels, searched, scan)


def _open_coco_split(data: TaskData, split: str) -> SplitIndex:
    annotations = data.annotations[split]
    coco = open_coco(annotations)
    images = coco_images(coco, data.splits[split])

    def scan() -> LabelIndex:
        return coco_index(data, f"{data.key} {split}", coco, images)

    return _load_or_scan(data, split, images, [str(annotations)], annotations, scan)


def _load_or_scan(
    data: TaskData,
    split: str,
    images: list[str],
    labels: list[str | None],
    searched: Path,
    scan: Callable[[], LabelIndex],
) -> SplitIndex:
    folder = cache_folder(searched)
    image_stamp, label_stamp = stamp_of_files(images), stamp_of_files(labels)
    file, key = cache_file(folder, data, split), content_key(data, image_stamp, label_stamp)
    index = load_index(file, key)
    if index is None:
        index = scan()
        save_index(file, key, index)
    return SplitIndex(images, labels, image_stamp, label_stamp, searched, folder, index)


def _find_labels(data: TaskData, split: str, images: list[str]) -> tuple[list[str | None], Path]:
    """Return the label file or mask of each image, and where the first one was looked for."""
    if data.task != "segment":
        labels: list[str | None] = [*label_files(images, data.options.get("labels", "labels"))]
        return labels, Path(labels[0])
    masks = data.masks.get(split)
    if data.format == "cityscapes":
        finder = CityscapesMaskFinder(data.splits[split][0], masks)
    else:
        finder = MaskFinder(split, data.splits[split], masks)
    found = [finder.find(Path(image)) for image in images]
    return [None if mask is None else str(mask) for mask in found], finder.candidates(Path(images[0]))[0]
