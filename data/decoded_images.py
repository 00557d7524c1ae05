"""The pictures of a data set as arrays: decoded, or from where they were kept when they were decoded before."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.images import JPEG_SUFFIXES, read_image, reduction_for, resize_image
from data.picture_store import PictureStore
from data.recent_pictures import RecentPictures
from utils.boxes import plan_letterbox

RECENT_SLOTS = 384
"""Pictures that a ring holds: the window of mosaic partners that the sampler gives (``PARTNER_WINDOW``) and half as
many again, for workers that are ahead of each other."""
RECENT_BYTES = 512 * 2**20


@dataclass(frozen=True)
class DecodedSize:
    """The size in which pictures are decoded and kept. It follows from what will be asked and never from a cache, so
    that a cache does not change a pixel.

    Attributes:
        long_side: the one size in which pictures will be asked, pixels of their longer side; None if it varies.
        largest: the largest size where it varies; None may be as large as the file.
    """

    long_side: int | None = None
    largest: int | None = None

    def __str__(self) -> str:
        return str(self.long_side or (f"upto{self.largest}" if self.largest else "native"))

    def serves(self, long_side: int | None) -> bool:
        """Tell whether pictures of this size may stand for a request."""
        if self.long_side is not None:
            return long_side == self.long_side
        return self.largest is None or (long_side is not None and long_side <= self.largest)

    def reduction(self, size: tuple[int, int]) -> int:
        """Return at which part of its native size a JPEG is decoded."""
        return reduction_for(size, self.long_side or self.largest)

    def of(self, size: tuple[int, int], file: str) -> tuple[int, int]:
        """Return (height, width) as a picture of a native size is kept."""
        if self.long_side is not None:
            return resized(size, self.long_side)
        part = self.reduction(size) if Path(file).suffix.lower() in JPEG_SUFFIXES else 1
        return -(-size[0] // part), -(-size[1] // part)

    def of_all(self, sizes: np.ndarray, files: Iterable[str]) -> np.ndarray:
        """Return (n, 2) int64 of what ``of`` says of each of (n, 2) native sizes."""
        sizes = np.asarray(sizes, np.int64).reshape(-1, 2)
        if self.long_side is not None:
            ratio = (self.long_side / sizes).min(1, keepdims=True)
            return np.maximum(np.rint(sizes * ratio), 1).astype(np.int64)
        parts = np.ones(len(sizes), np.int64)
        if self.largest is not None:
            for part in (2, 4, 8):
                parts[sizes.max(1) >= part * self.largest] = part
        if (parts > 1).any():
            is_jpeg = [os.path.splitext(file)[1].lower() in JPEG_SUFFIXES for file in files]
            parts[~np.array(is_jpeg)] = 1
        return -(-sizes // parts[:, None])


class DecodedImages:
    """Gives pictures by index at any size.

    Args:
        files: of the pictures.
        sizes: (n, 2) int, native height and width.
        decoded: the size that is decoded and kept; requests that it does not serve are decoded for themselves.
        store: keeps every picture, or None.
        recent: keeps those decoded last, or None.
    """

    def __init__(
        self,
        files: Sequence[str],
        sizes: np.ndarray,
        decoded: DecodedSize | None = None,
        store: PictureStore | None = None,
        recent: RecentPictures | None = None,
    ):
        self.files, self.sizes, self.decoded, self.store, self.recent = files, sizes, decoded, store, recent

    def get(self, index: int, long_side: int | None = None) -> np.ndarray:
        """Return picture ``index`` with this longer side, or at its native size; it may be read-only.

        Raises:
            DataError: the file cannot be read.
        """
        size = self._native(index)
        if self.decoded is None or not self.decoded.serves(long_side):
            image = read_image(self.files[index], reduction_for(size, long_side))
        else:
            image = self._kept(index, size)
            if self.decoded.long_side is not None:
                return image
        return image if long_side is None else resize_image(image, resized(size, long_side))

    def at_least(self, index: int, least: int) -> np.ndarray:
        """Return picture ``index`` as it is decoded where its longer side has to have so many pixels, if the file does.

        The pixels follow from the number alone: kept ones are taken only where they were decoded so. It may be
        read-only.

        Raises:
            DataError: the file cannot be read.
        """
        size = self._native(index)
        part = reduction_for(size, least)
        if self.decoded is None or self.decoded.long_side is not None or self.decoded.reduction(size) != part:
            return read_image(self.files[index], part)
        return self._kept(index, size)

    def shapes(self) -> np.ndarray:
        """Return the (n, 3) shapes in which the pictures are kept."""
        return np.column_stack([self.decoded.of_all(self.sizes, self.files), np.full(len(self.sizes), 3)])

    def _kept(self, index: int, size: tuple[int, int]) -> np.ndarray:
        image = self.store.get(index) if self.store is not None else None
        if image is None and self.recent is not None:
            image = self.recent.get(index, (*self.decoded.of(size, self.files[index]), 3))
        if image is not None:
            return image
        image = read_image(self.files[index], self.decoded.reduction(size))
        if self.decoded.long_side is not None:
            image = resize_image(image, self.decoded.of(size, self.files[index]))
        if self.store is not None:
            self.store.put(index, image)
        if self.recent is not None:
            self.recent.put(index, image)
        return image

    def _native(self, index: int) -> tuple[int, int]:
        height, width = self.sizes[index].tolist()
        return height, width


def make_recent(shapes: np.ndarray) -> RecentPictures:
    """Make the ring for pictures of these shapes."""
    largest = int(shapes.prod(axis=1).max())
    return RecentPictures(len(shapes), max(1, min(RECENT_SLOTS, len(shapes), RECENT_BYTES // largest)), largest)


def resized(size: tuple[int, int], long_side: int) -> tuple[int, int]:
    """Return (height, width) of a picture with its longer side at ``long_side`` pixels."""
    return plan_letterbox(size, (long_side, long_side)).resized
