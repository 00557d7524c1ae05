"""The pictures that a label file of a whole split names: where they lie, and how large they are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.images import MOST_PIXELS_OF_A_SET, image_size
from utils.errors import DataError


def find_pictures(names: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """Return where each picture lies: in the first of the folders that has it, else where the first would have it."""
    first, others = str(folders[0]), [str(folder) for folder in folders[1:]]
    paths = [os.path.join(first, name) for name in names]
    if others:
        for i, name in enumerate(names):
            if not os.path.isfile(paths[i]):
                elsewhere = (os.path.join(folder, name) for folder in others)
                paths[i] = next((path for path in elsewhere if os.path.isfile(path)), paths[i])
    return paths


def picture_sizes(paths: Sequence[str], otherwise: np.ndarray) -> np.ndarray:
    """Return (n, 2) int64, height and width of every picture, upright.

    Args:
        paths: the n files.
        otherwise: (n, 2), what counts for a file that is missing or cannot be read; (0, 0) where that is more pixels
            than an image of a set may have.
    """
    # Here, because the scan reads label formats itself.
    from data.scan import in_threads

    claimed = np.asarray(otherwise, np.int64).reshape(-1, 2)
    claimed = np.where(claimed.prod(1, keepdims=True) <= MOST_PIXELS_OF_A_SET, claimed, 0)
    found = in_threads(_size_or_none, paths, "looking at pictures")
    sizes = [claimed[i] if size is None else size for i, size in enumerate(found)]
    return np.array(sizes, np.int64).reshape(-1, 2)


def _size_or_none(path: str) -> tuple[int, int] | None:
    try:
        return image_size(path)
    except DataError:
        return None
