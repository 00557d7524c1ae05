"""A source that a data YAML describes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.annotations import ClassList
from data.config import load_data_config
from data.convert.sources import Labels, Listed, Part, PictureLabels, PictureMasks, SourceSet, SplitLabels
from data.formats.registry import PICTURE_FORMATS, SPLIT_FORMATS
from data.formats.voc_objects import VocObjects
from data.label_places import FOLDERS, ImageFolders
from data.mask_reading import MaskReader
from data.permissions import permissions_named
from data.split_index import find_labels, list_images_of
from data.task_data import DataConfig, TaskData
from utils.errors import UsageError, did_you_mean

_REGISTERED = {"yolo_txt": "yolo", "coco_json": "coco"}


def source_of_yaml(path: Path, task: str | None, splits: Sequence[str] | None) -> SourceSet:
    """Return what a block of a data YAML describes.

    Args:
        path: of the YAML, or the name of a packaged one.
        task: key of the block; None for the only one.
        splits: None for all that it has.

    Raises:
        DataError: the YAML or what it names is missing or wrong.
        UsageError: the block or a split is not there, or there are several blocks and none is chosen.
    """
    config = load_data_config(path, splits or ())
    data = _block(config, task)
    unknown = next((split for split in splits or () if split not in data.splits), None)
    if unknown is not None:
        raise UsageError(f"--split {unknown}: `{data.key}` of {path} has {', '.join(data.splits)}; give one of these")
    with permissions_named(path):
        parts = {split: _parts(data, split) for split in splits or data.splits}
    names = data.label_map.names
    colours = dict(zip(names, data.colours, strict=True)) if len(data.colours) == len(names) else {}
    return SourceSet(parts, data.names, data.keypoint_spec, colours, posed=data.task == "pose")


def _block(config: DataConfig, task: str | None) -> TaskData:
    known = list(config.tasks)
    if task is None and len(known) > 1:
        raise UsageError(f"{config.path} has data for {', '.join(known)}; choose with --task")
    if task is not None and task not in known:
        raise UsageError(f"--task {task}: {config.path} has {', '.join(known)}.{did_you_mean(task, known)}")
    return config.tasks[task or known[0]]


def _parts(data: TaskData, split: str) -> list[Part]:
    if data.format == "mixed":
        return [part for source in data.sources[split] for part in _parts(source, split)]
    if data.task == "segment":
        # The reader of a task gives the classes of its set.
        return [Part(_masks(data, split))]
    return [Part(_objects(data, split), data.class_map, bool(data.options.get("drop_difficult")))]


def _objects(data: TaskData, split: str) -> Labels:
    name = _REGISTERED.get(data.format, data.format)
    if split in data.annotations:
        return SplitLabels(SPLIT_FORMATS[name], data.annotations[split], data.splits[split])
    spec = data.keypoint_spec
    names = list(data.label_map.names)
    classes = ClassList(names) if spec is None else ClassList(names, spec.names, spec.skeleton)
    form = VocObjects(one_based=True) if data.options.get("one_based") else PICTURE_FORMATS[name]
    return PictureLabels(form, _listed(data, split), classes)


def _masks(data: TaskData, split: str) -> PictureMasks:
    reader = MaskReader(data)

    def read(listed: Listed, size: tuple[int, int]) -> np.ndarray:
        reader.check(listed.label, listed.image, size)
        return reader.read(listed.label)

    return PictureMasks(data.format, _listed(data, split), read)


def _listed(data: TaskData, split: str) -> list[Listed]:
    images = list_images_of(data, split)
    labels, _ = find_labels(data, split, images)
    folders = ImageFolders(data.splits[split], FOLDERS[data.format][0] if data.format in FOLDERS else "images")
    return [
        _one(Path(image), folders, None if label is None else Path(label))
        for image, label in zip(images, labels, strict=True)
    ]


def _one(image: Path, folders: ImageFolders, label: Path | None) -> Listed:
    relative = image.relative_to(folders.of(image)).as_posix()
    return Listed(image, relative, label if label is not None and label.exists() else None)
