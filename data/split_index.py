"""Opens one split of one task: lists its images, finds their labels, and reads or scans what is in them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from data.array_cache import load_arrays, save_arrays
from data.coco_cache import open_coco
from data.coco_index import coco_images, coco_index
from data.formats.mask_png import MaskFinder
from data.formats.registry import MASK_FORMATS, PICTURE_FORMATS, SPLIT_FORMATS
from data.formats.voc_lists import listed_pictures
from data.formats.yolo_txt import label_files
from data.image_list import list_image_files
from data.label_cache import (
    CACHE_FOLDER,
    cache_file,
    cache_folder,
    content_key,
    digest,
    load_index,
    save_index,
    set_name,
    stamp_of_files,
)
from data.label_places import FormatMaskFinder, label_places
from data.mixed_index import joined_index
from data.permissions import permissions_named
from data.scan import LabelIndex, scan_pictures, scan_split
from data.task_data import TaskData
from utils.errors import DataError


@dataclass(frozen=True)
class SplitIndex:
    """A split as it lies on the disk.

    Attributes:
        images: files that are listed; ``index.kept`` says which of them are usable.
        labels: the label file or mask of each, None where a mask was not found; of a COCO set its one annotation file,
            of a mixed one those of every source, one after the other.
        image_stamp: changes with any of the images, see ``stamp_of_files``.
        label_stamp: changes with any of the labels.
        searched: where the first label file or mask was looked for.
        folder: for caches, beside the labels.
        index: all labels.
        counts: of a mixed split, how many of the images each source has.
    """

    images: list[str]
    labels: list[str | None]
    image_stamp: str
    label_stamp: str
    searched: Path
    folder: Path
    index: LabelIndex
    counts: list[int] = field(default_factory=list)


def open_split(data: TaskData, split: str) -> SplitIndex:
    """Open one split of one task; a scan is kept until a file changes.

    Raises:
        DataError: nothing is listed, or a label or a mask is wrong or may not be read.
    """
    with permissions_named(data.source):
        return _open(data, split)


def _open(data: TaskData, split: str) -> SplitIndex:
    if data.format == "mixed":
        return _open_mixed(data, split)
    if data.format == "coco_json":
        return _open_coco_split(data, split)
    if split in data.annotations:
        return _open_listed(data, split)
    images = list_images_of(data, split)
    labels, searched = find_labels(data, split, images)

    def scan() -> LabelIndex:
        paths = [None if label is None else Path(label) for label in labels]
        return scan_split(data, f"{data.key} {split}", [Path(image) for image in images], paths)

    return _load_or_scan(data, split, images, labels, searched, scan)


def list_images_of(data: TaskData, split: str) -> list[str]:
    """Return the images of a split whose entries list them, that is, of any format without ``annotations``.

    Raises:
        DataError: see ``list_image_files``.
    """
    if data.format == "voc":
        return listed_pictures(data.splits[split], data.root)
    return list_image_files(data.splits[split], data.root)


def _open_coco_split(data: TaskData, split: str) -> SplitIndex:
    annotations = data.annotations[split]
    coco = open_coco(annotations)
    images = coco_images(coco, data.splits[split])

    def scan() -> LabelIndex:
        return coco_index(data, f"{data.key} {split}", coco, images)

    return _load_or_scan(data, split, images, [str(annotations)], annotations, scan)


def _open_listed(data: TaskData, split: str) -> SplitIndex:
    """Open a split whose images and labels one file lists, or a folder of such files, of another format than COCO's."""
    annotations, form = data.annotations[split], SPLIT_FORMATS[data.format]
    labels = _files_of(annotations)
    read = functools.cache(lambda: form.read(annotations, data.splits[split])[1])
    images = _listed_images(data, split, stamp_of_files(labels), lambda: [str(picture.image) for picture in read()])

    def scan() -> LabelIndex:
        return scan_pictures(data, f"{data.key} {split}", read(), marked=not form.keeps.isdisjoint({"areas", "crowd"}))

    return _load_or_scan(data, split, images, labels, annotations, scan)


def _files_of(annotations: Path) -> list[str]:
    """Return a file of labels, or all files of a folder of them."""
    if not annotations.is_dir():
        return [str(annotations)]
    return sorted(str(file) for file in annotations.rglob("*") if CACHE_FOLDER not in file.parts and file.is_file())


def _listed_images(data: TaskData, split: str, stamp: str, read: Callable[[], list[str]]) -> list[str]:
    """Return the images that annotation files list, without reading hundreds of megabytes again for their names."""
    file = cache_folder(data.annotations[split]) / f"{set_name(data, split)}.images.npz"
    folders = [str(folder.absolute()) for folder in data.splits[split]]
    key = digest(f"{data.format} {folders} {stamp}")
    found = load_arrays(file, key)
    # A picture that is missing may have come since, into another folder or with another suffix.
    if found is not None and isinstance(found[0].get("images"), list) and all(map(os.path.isfile, found[0]["images"])):
        return found[0]["images"]
    images = read()
    save_arrays(file, {"key": key, "images": images}, {})
    return images


def _open_mixed(data: TaskData, split: str) -> SplitIndex:
    """Open every source of a split, and put one after the other."""
    opened = [_open(source, split) for source in data.sources[split]]
    first: dict[str, int] = {}
    for number, source in enumerate(opened):
        repeated = next((image for image in source.images if first.setdefault(image, number) != number), None)
        if repeated is not None:
            raise DataError(
                f"{data.source}: {repeated} is in source {first[repeated] + 1} and in source {number + 1} of "
                f"`{data.key}.{split}`; list every picture in one of them"
            )
    return SplitIndex(
        images=[image for source in opened for image in source.images],
        labels=[label for source in opened for label in source.labels],
        image_stamp=digest(" ".join(source.image_stamp for source in opened)),
        label_stamp=digest(" ".join(source.label_stamp for source in opened)),
        searched=opened[0].searched,
        folder=opened[0].folder,
        index=joined_index(
            f"{data.key} {split}",
            [source.index for source in opened],
            [len(source.images) for source in opened],
            [str(source.searched) for source in opened],
        ),
        counts=[len(source.images) for source in opened],
    )


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


def find_labels(data: TaskData, split: str, images: list[str]) -> tuple[list[str | None], Path]:
    """Return the label file or mask of each image, and where the first one was looked for."""
    if data.task != "segment":
        labels: list[str | None] = [*_label_files(data, split, images)]
        return labels, Path(labels[0])
    masks = data.masks.get(split)
    if data.format == "mask_png":
        finder = MaskFinder(split, data.splits[split], masks)
    else:
        finder = FormatMaskFinder(MASK_FORMATS[data.format], data.splits[split], masks)
    found = [finder.find(Path(image)) for image in images]
    return [None if mask is None else str(mask) for mask in found], finder.candidates(Path(images[0]))[0]


def _label_files(data: TaskData, split: str, images: list[str]) -> list[str]:
    if data.format == "yolo_txt":
        return label_files(images, data.options.get("labels", "labels"))
    return label_places(PICTURE_FORMATS[data.format], images, data.splits[split], data.labels.get(split))
