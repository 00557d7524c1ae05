"""Where decoded pictures are kept: in a file beside the labels, or in memory that all processes of a machine share."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from data.picture_store import PictureStore, remove_unused, stored_bytes
from utils.host_memory import free_host_memory

VERSION = 1
SHARED_MEMORY = Path("/dev/shm")

_MOST_OF_MEMORY = 0.8
_MOST_OF_DISK = 0.95
"""Shares of the free bytes; the rest is for what the run itself needs, batches in memory and checkpoints on a disk."""
_open_stores: weakref.WeakSet[PictureStore] = weakref.WeakSet()
_log = logging.getLogger("yolograph")


@dataclass(frozen=True)
class StoreName:
    """What a store is called: ``SET-KEY-SIZE.KIND``.

    Attributes:
        data_set: the data set and its split.
        key: digest of the content, from ``files_key``; stores of the set and kind with another key are out of date.
        size: of the decoded pictures.
        kind: pictures or masks.
    """

    data_set: str
    key: str
    size: str
    kind: str = "pictures"

    def __str__(self) -> str:
        return f"{self.data_set}-{self.key}-{self.size}.{self.kind}"

    def outdated(self, folder: Path) -> list[Path]:
        """Return the stores of this set and kind in a folder that were made of other files."""
        found = folder.glob(f"{self.data_set}-*.{self.kind}")
        return [path for path in found if not path.name.startswith(f"{self.data_set}-{self.key}-")]


def files_key(stamp: str, kept: np.ndarray, how: str = "") -> str:
    """Return a digest that changes with the path, size or time of change of a file, and with how files are read.

    Args:
        stamp: what ``data.label_cache.stamp_of_files`` gives for all files that are listed.
        kept: positions of those that are used.
        how: they are read.
    """
    positions = hashlib.sha256(np.ascontiguousarray(kept, np.int64)).hexdigest()
    facts = f"{VERSION} {cv2.__version__} {how}\n{stamp}\n{positions}"
    return hashlib.sha256(facts.encode()).hexdigest()[:20]


def open_store(where: str, folder: Path, name: StoreName, shapes: np.ndarray) -> PictureStore | None:
    """Open the store of a data set.

    Args:
        where: ``disk`` or ``ram``.
        folder: for files on the disk.
        name: of the store.
        shapes: (n, 2) or (n, 3) shapes of the decoded pictures.

    Returns:
        The store; None, with a warning, where it cannot be made.
    """
    store = open_disk_store(folder, name, shapes) if where == "disk" else open_memory_store(name, shapes)
    if store is not None:
        _open_stores.add(store)
    return store


def open_disk_store(folder: Path, name: StoreName, shapes: np.ndarray) -> PictureStore | None:
    """Open the store of a data set in a file; files of the same set that are out of date are removed.

    Args:
        folder: for the file; made if absent.
        name: of the store.
        shapes: (n, 2) or (n, 3) shapes of the decoded pictures.

    Returns:
        The store; None, with a warning, where the disk has no room for it or nothing can be written.
    """
    path = folder / str(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_unused(name.outdated(folder))
        device = os.stat(folder).st_dev
        free = _MOST_OF_DISK * shutil.disk_usage(folder).free - _promised(path, lambda other: other.device == device)
        if not _has_room(free, shapes, path, f"the disk of {folder}"):
            return None
        return PictureStore(shapes, path)
    except OSError as error:
        _log.warning("%s: pictures are not cached (%s); they are decoded each time", folder, error.strerror)
        return None


def open_memory_store(name: StoreName, shapes: np.ndarray) -> PictureStore | None:
    """Open the store of a data set in memory; every process of this user on this machine that asks gets the same one.

    It goes with the last process that uses it. What a killed run left is taken up again, or removed if it is of other
    pictures. Where the system offers no shared memory with names, or too little, only forked workers share the store.

    Args:
        name: of the store.
        shapes: (n, 2) or (n, 3) shapes of the decoded pictures.

    Returns:
        The store; None, with a warning, where the pictures do not fit into memory.
    """
    mine = f"yolograph-{os.getuid() if hasattr(os, 'getuid') else 0}-"
    path = SHARED_MEMORY / f"{mine}{name}"
    try:
        remove_unused([old for old in SHARED_MEMORY.glob(f"{mine}*") if old != path])
        free = free_host_memory()
        if free is not None:
            spare = _MOST_OF_MEMORY * free - _promised(path, lambda other: other.path is None or _is_in_memory(other))
            if not _has_room(spare, shapes, path, "memory"):
                return None
        has_names = SHARED_MEMORY.is_dir() and _fits_shared_memory(shapes, path)
        return PictureStore(shapes, path, remove_at_end=True) if has_names else PictureStore(shapes)
    except OSError as error:
        _log.warning("pictures are not cached in memory (%s); they are decoded each time", error.strerror)
        return None


def _has_room(free: float, shapes: np.ndarray, path: Path, where: str) -> bool:
    total, filled = stored_bytes(shapes, path)
    if total - filled <= max(free, 0):
        return True
    _log.warning(
        "the decoded pictures need %.1f GB and %s has %.1f GB to spare: they are not cached but decoded each time",
        (total - filled) / 1e9,
        where,
        max(free, 0) / 1e9,
    )
    return False


def _fits_shared_memory(shapes: np.ndarray, path: Path) -> bool:
    total, filled = stored_bytes(shapes, path)
    free = _MOST_OF_MEMORY * shutil.disk_usage(SHARED_MEMORY).free - _promised(path, _is_in_memory)
    return total - filled <= max(free, 0)


def _is_in_memory(store: PictureStore) -> bool:
    return store.path is not None and store.path.parent == SHARED_MEMORY


def _promised(path: Path, concerns: Callable[[PictureStore], bool]) -> int:
    """Return the bytes that stores this process opened before, of files other than ``path``, have still to fill."""
    others = {store.path or id(store): store for store in _open_stores if store.path != path}
    return sum(store.unwritten() for store in others.values() if concerns(store))
