"""Keeps the result of a scan beside the labels, and knows when it no longer holds.

The key is a digest of every image's and label's path, size and times of change, and of what the data YAML says about
them. See ``data.array_cache`` for the files.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from data.array_cache import load_arrays, save_arrays
from data.report import DataReport
from data.scan import LabelIndex
from data.task_data import TaskData

VERSION = 4
CACHE_FOLDER = ".yolograph"

_ARRAYS = ("kept", "sizes", "offsets", "classes", "boxes", "keypoints")
_OPTIONAL = ("areas", "crowd")


def cache_folder(label: Path) -> Path:
    """Return the cache folder for a label file or mask: beside it, or in the nearest folder above that exists."""
    above = label.absolute().parents
    return next((folder for folder in above if folder.is_dir()), above[-1]) / CACHE_FOLDER


def cache_file(folder: Path, data: TaskData, split: str) -> Path:
    """Return the file for one split of one task; sets that share a label folder get different files."""
    facts = [data.task, data.key, split, [str(entry.absolute()) for entry in data.splits[split]], len(data.names)]
    if split in data.annotations:
        facts.append(str(data.annotations[split].absolute()))
    return folder / f"{split}-{data.task}-{digest(json.dumps(facts))[:12]}.npz"


def set_name(data: TaskData, split: str) -> str:
    """Return a name for the images of one split of one task, whatever its classes are called."""
    facts = [data.key, [str(entry.absolute()) for entry in data.splits[split]]]
    if split in data.annotations:
        facts.append(str(data.annotations[split].absolute()))
    return f"{split}-{data.task}-{digest(json.dumps(facts))[:12]}"


def content_key(data: TaskData, images: str, labels: str) -> str:
    """Return a digest that changes when an image or label is added, removed, renamed, edited or read differently.

    Args:
        data: the task.
        images: what ``stamp_of_files`` gives for the images.
        labels: likewise for the labels.
    """
    # Files that hold indices are read alike whatever their classes and keypoints are called.
    indexed, spec = data.format in ("yolo_txt", "mask_png"), data.keypoint_spec
    names = len(data.names) if indexed else data.names
    keypoints = data.keypoints if indexed or spec is None else spec.names
    classes = [names, data.class_map and asdict(data.class_map), data.colours]
    facts = [VERSION, data.task, data.format, classes, keypoints, data.options, images, labels]
    return digest(json.dumps(facts, default=str))


def stamp_of_files(files: Iterable[str | Path | None]) -> str:
    """Return a digest that changes when a file is added, removed, renamed or edited; None stands for no file."""
    return digest("\n".join("-" if file is None else file_stamp(file) for file in files))


def load_index(file: Path, key: str) -> LabelIndex | None:
    """Return the index kept in ``file``, or None if there is none, it is damaged or its key is another one."""
    found = load_arrays(file, key)
    if found is None:
        return None
    meta, arrays = found
    try:
        optional = {name: arrays.get(name) for name in _OPTIONAL}
        return LabelIndex(**{name: arrays[name] for name in _ARRAYS}, **optional, report=DataReport(**meta["report"]))
    except (KeyError, TypeError):
        return None


def save_index(file: Path, key: str, index: LabelIndex) -> None:
    """Write the index so that ``file`` is whole or absent; where it cannot be written, warn and go on without."""
    arrays = {name: getattr(index, name) for name in (*_ARRAYS, *_OPTIONAL)}
    given = {name: array for name, array in arrays.items() if array is not None}
    save_arrays(file, {"key": key, "report": asdict(index.report)}, given)


def file_stamp(path: str | Path) -> str:
    """Return a text that changes when a file is edited, replaced or removed."""
    try:
        status = os.stat(path)
    except OSError:
        return f"{path}\0absent"
    # The time of the inode's change too: tools that keep a file's own time, and new permissions, show only there.
    return f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ctime_ns}"


def digest(text: str) -> str:
    """Return the SHA-256 of a text in hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
