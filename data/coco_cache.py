"""Keeps what a COCO annotation file holds beside it, so that hundreds of megabytes of JSON are read once.

The key is the file's path, size and times of change; the cache is a plain ``.npz`` of arrays with names as JSON text.
"""

from __future__ import annotations

import functools
from pathlib import Path

from data.array_cache import load_arrays, save_arrays
from data.formats.coco_json import CocoFile, read_coco, read_coco_classes
from data.label_cache import cache_folder, digest, file_stamp
from utils.errors import DataError

VERSION = 1
SUFFIX = ".coco.npz"

_TEXTS = ("files", "categories", "keypoint_names")
_ARRAYS = ("sizes", "images", "classes", "boxes", "areas", "crowd", "keypoints", "offsets", "ids")


def open_coco(path: str | Path) -> CocoFile:
    """Return what an annotation file holds, from its cache where that still fits.

    The arrays are read-only: they are shared by all who ask.

    Raises:
        DataError: see ``read_coco``.
    """
    path = Path(path)
    return _open(path, file_stamp(path))


def open_coco_classes(path: str | Path) -> CocoFile:
    """Return what an annotation file says of its classes; without annotations where one of them is refused.

    Whoever reads the labels hears of that one; the doctor of all others, too.

    Raises:
        DataError: see ``read_coco_classes``.
    """
    try:
        return open_coco(path)
    except DataError:
        return read_coco_classes(path)


@functools.lru_cache(maxsize=1)
def _open(path: Path, stamp: str) -> CocoFile:
    # A data YAML may take its names from the file just before the file's labels are asked for.
    file = cache_folder(path) / f"{path.stem}-{digest(str(path.absolute()))[:12]}{SUFFIX}"
    key = digest(f"{VERSION} {stamp}")
    coco = _load(path, file, key)
    if coco is None:
        coco = read_coco(path)
        arrays = {name: getattr(coco, name) for name in _ARRAYS}
        save_arrays(file, {"key": key, **{name: getattr(coco, name) for name in _TEXTS}}, arrays)
    for name in _ARRAYS:
        getattr(coco, name).flags.writeable = False
    return coco


def _load(path: Path, file: Path, key: str) -> CocoFile | None:
    found = load_arrays(file, key)
    if found is None:
        return None
    texts, arrays = found
    try:
        return CocoFile(
            path=path,
            files=texts["files"],
            categories=texts["categories"],
            keypoint_names=tuple(texts["keypoint_names"]),
            **{name: arrays[name] for name in _ARRAYS},
        )
    except KeyError:
        return None
