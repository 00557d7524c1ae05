"""Caches of decoded pictures: in memory, or in files beside the labels."""

from __future__ import annotations

import hashlib
import logging
import mmap
import os
from pathlib import Path

import numpy as np

from utils.files import atomic_writer

_MOST_OF_MEMORY = 0.8
_log = logging.getLogger("yolograph")


class MemoryCache:
    """Decoded pictures in one anonymous shared block of memory.

    A block that was made before worker processes are forked is one block for all of them; pages are taken from the
    system when a picture is stored. A cache that would not fit into the free memory warns and keeps nothing.

    Args:
        shapes: (n, 2) or (n, 3) shapes of the pictures.
    """

    def __init__(self, shapes: np.ndarray):
        lengths = shapes.astype(np.int64).prod(axis=1)
        self.shapes, self.offsets = shapes, np.concatenate([[0], np.cumsum(lengths)])
        self._make()

    def _make(self) -> None:
        total, free = int(self.offsets[-1]), _free_memory()
        self.usable = free is None or total <= _MOST_OF_MEMORY * free
        if not self.usable:
            _log.warning("images need %.1f GB, %.1f GB are free: not cached in memory", total / 1e9, free / 1e9)
            total = 0
        self.pixels = np.frombuffer(mmap.mmap(-1, max(1, total)), np.uint8)
        self.filled = np.frombuffer(mmap.mmap(-1, max(1, len(self.shapes))), np.uint8)

    def get(self, index: int) -> np.ndarray | None:
        """Return a copy of picture ``index``, or None if it is not stored."""
        if not self.usable or not self.filled[index]:
            return None
        part = self.pixels[self.offsets[index] : self.offsets[index + 1]]
        return part.reshape(self.shapes[index]).copy()

    def put(self, index: int, picture: np.ndarray) -> None:
        """Store picture ``index``; one of an unexpected shape (the file has changed) is left out."""
        if not self.usable or picture.shape != tuple(self.shapes[index]):
            return
        self.pixels[self.offsets[index] : self.offsets[index + 1]] = picture.reshape(-1)
        self.filled[index] = 1

    def __getstate__(self) -> dict:
        # Memory cannot travel to a spawned process: it starts with an empty cache of its own.
        return {"shapes": self.shapes, "offsets": self.offsets}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._make()


class DiskCache:
    """Decoded pictures as ``.npy`` files, named by the source's path, size and time of change.

    Args:
        folder: for the files; made if absent. Where nothing can be written, the cache warns once and keeps nothing.
    """

    def __init__(self, folder: Path):
        self.folder, self.writable = folder, True

    def get(self, source: Path) -> np.ndarray | None:
        """Return the picture decoded from ``source``, or None if it is not stored."""
        try:
            return np.load(self._file(source), allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None

    def put(self, source: Path, picture: np.ndarray) -> None:
        """Store the picture decoded from ``source``."""
        if not self.writable:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_writer(self._file(source)) as file:
                np.save(file, picture, allow_pickle=False)
        except OSError as error:
            self.writable = False
            _log.warning("%s: images are not cached (%s)", self.folder, error.strerror)

    def _file(self, source: Path) -> Path:
        status = os.stat(source)
        text = f"{source.absolute()}\0{status.st_size}\0{status.st_mtime_ns}"
        return self.folder / f"{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.npy"


def _free_memory() -> int | None:
    """Return the bytes that can be taken without swapping, or None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    available = next((line for line in lines if line.startswith("MemAvailable:")), None)
    return int(available.split()[1]) * 1024 if available else None
