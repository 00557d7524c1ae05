"""Keeps the result of a scan beside the labels, and knows when it no longer holds.

The key is a digest of every image's and label's path, size and times of change, and of what the data YAML says about
them; a file is a plain ``.npz`` of arrays with its metadata as JSON text, so reading it never runs code.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from data.config import TaskData
from data.report import DataReport
from data.scan import LabelIndex
from utils.files import atomic_write

VERSION = 1
CACHE_FOLDER = ".yolograph"

_ARRAYS = ("kept", "sizes", "offsets", "classes", "boxes", "keypoints")
_log = logging.getLogger("yolograph")


def cache_folder(label: Path) -> Path:
    """Return the cache folder for a label file or mask: beside it, or in the nearest folder above that exists."""
    above = label.absolute().parents
    return next((folder for folder in above if folder.is_dir()), above[-1]) / CACHE_FOLDER


def cache_file(folder: Path, data: TaskData, split: str) -> Path:
    """Return the file for one split of one task; sets that share a label folder get different files."""
    facts = [data.task, data.key, split, [str(entry.absolute()) for entry in data.splits[split]], len(data.names)]
    return folder / f"{split}-{data.task}-{_digest(json.dumps(facts))[:12]}.npz"


def set_name(data: TaskData, split: str) -> str:
    """Return a name for the images of one split of one task, whatever its classes are called."""
    facts = [data.key, [str(entry.absolute()) for entry in data.splits[split]]]
    return f"{split}-{data.task}-{_digest(json.dumps(facts))[:12]}"


def content_key(data: TaskData, images: Sequence[Path], labels: Sequence[Path | None]) -> str:
    """Return a digest that changes when an image or label is added, removed, renamed, edited or read differently."""
    classes = [len(data.names), data.merged_classes]
    lines = [json.dumps([VERSION, data.task, data.format, classes, data.keypoints, data.options], default=str)]
    lines += [file_stamp(path) for path in images]
    lines += ["-" if path is None else file_stamp(path) for path in labels]
    return _digest("\n".join(lines))


def load_index(file: Path, key: str) -> LabelIndex | None:
    """Return the index kept in ``file``, or None if there is none, it is damaged or its key is another one."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            meta = json.loads(stored["meta"].tobytes())
            if meta["key"] != key:
                return None
            return LabelIndex(**{name: stored[name] for name in _ARRAYS}, report=DataReport(**meta["report"]))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None


def save_index(file: Path, key: str, index: LabelIndex) -> None:
    """Write the index so that ``file`` is whole or absent; where it cannot be written, warn and go on without."""
    meta = json.dumps({"key": key, "report": asdict(index.report)}).encode()
    arrays = {name: getattr(index, name) for name in _ARRAYS}
    buffer = io.BytesIO()
    np.savez(buffer, meta=np.frombuffer(meta, np.uint8), **arrays)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(file, buffer.getvalue())
    except OSError as error:
        _log.warning("%s: no label cache (%s); the labels are scanned anew each time", file.parent, error.strerror)


def file_stamp(path: Path) -> str:
    """Return a text that changes when a file is edited, replaced or removed."""
    try:
        status = os.stat(path)
    except OSError:
        return f"{path}\0absent"
    # The time of the inode's change too: tools that keep a file's own time, and new permissions, show only there.
    return f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ctime_ns}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
