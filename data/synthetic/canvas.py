"""A picture and, pixel by pixel, what it shows: every stroke is drawn on both, so labels cannot drift from colours."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from data.synthetic.classes import SEGMENT_NAMES

SCALE = 2
"""Canvas pixels per picture pixel; shrinking the canvas smooths the edges."""
FIRST_INSTANCE = 16
"""Owners below are classes of ``SEGMENT_NAMES``, owners from here on are objects."""

_SHIFT = 4
_CIRCLE = np.stack([np.cos(np.arange(24) * np.pi / 12), np.sin(np.arange(24) * np.pi / 12)], axis=1)
_HIGHEST = 2.0**20  # Fixed-point coordinates beyond this would overflow in OpenCV.

Colour = tuple[float, float, float]


class Canvas:
    """Colours and owners, drawn together.

    All coordinates and widths are in pixels of the finished picture, whose pixel i covers i .. i + 1.

    Args:
        width: of the picture in pixels.
        height: of the picture in pixels.

    Attributes:
        colours: (H * SCALE, W * SCALE, 3) uint8, RGB.
        owners: (H * SCALE, W * SCALE) uint8.
        extents: object's owner -> (4,) x1 y1 x2 y2 in pixels of all that was drawn of it, also outside the picture.
    """

    def __init__(self, width: int, height: int):
        self.width, self.height = width, height
        self.colours = np.zeros((height * SCALE, width * SCALE, 3), np.uint8)
        self.owners = np.zeros((height * SCALE, width * SCALE), np.uint8)
        self.extents: dict[int, np.ndarray] = {}

    def copy(self) -> Canvas:
        """Return a canvas that can be drawn on without changing this one."""
        other = Canvas.__new__(Canvas)
        other.width, other.height = self.width, self.height
        other.colours, other.owners = self.colours.copy(), self.owners.copy()
        other.extents = {owner: extent.copy() for owner, extent in self.extents.items()}
        return other

    def fill(self, polygons: Sequence[np.ndarray] | np.ndarray, colour: Colour, owner: int | None) -> None:
        """Fill polygons that do not overlap each other.

        Args:
            polygons: each (k, 2) float, x y.
            colour: RGB in 0..255.
            owner: who owns the pixels from now on; None leaves the owners as they are (paint, shadows).
        """
        if not len(polygons):
            return
        # Equal numbers of corners go through NumPy in one block.
        fixed = _fixed(polygons) if isinstance(polygons, np.ndarray) else [_fixed(polygon) for polygon in polygons]
        cv2.fillPoly(self.colours, fixed, _rounded(colour), cv2.LINE_8, _SHIFT)
        if owner is not None:
            cv2.fillPoly(self.owners, fixed, owner, cv2.LINE_8, _SHIFT)
            if owner >= FIRST_INSTANCE:
                self._extend(owner, np.concatenate(polygons), 0.0)

    def stroke(self, start: np.ndarray, end: np.ndarray, width: float, colour: Colour, owner: int | None) -> None:
        """Draw a line with round ends; ``width`` in pixels, see ``fill`` for the rest."""
        first, last = _fixed(np.stack([start, end]))
        thickness = max(1, round(width * SCALE))
        cv2.line(self.colours, first, last, _rounded(colour), thickness, cv2.LINE_8, _SHIFT)
        if owner is not None:
            cv2.line(self.owners, first, last, owner, thickness, cv2.LINE_8, _SHIFT)
            if owner >= FIRST_INSTANCE:
                self._extend(owner, np.stack([start, end]), width / 2)

    def disc(self, centre: np.ndarray, radius: float, colour: Colour, owner: int | None) -> None:
        """Draw a filled circle; ``radius`` in pixels, see ``fill`` for the rest."""
        self.fill([centre + radius * _CIRCLE], colour, owner)

    def picture(self) -> np.ndarray:
        """Return the picture, (H, W, 3) uint8 RGB."""
        return cv2.resize(self.colours, (self.width, self.height), interpolation=cv2.INTER_AREA)

    def picture_owners(self) -> np.ndarray:
        """Return who owns each pixel of the picture, (H, W) uint8."""
        return np.ascontiguousarray(self.owners[::SCALE, ::SCALE])

    def inside_share(self, owner: int) -> float:
        """Return how much of the object's extent lies in the picture, 0..1 of its area."""
        if owner not in self.extents:
            return 0.0
        extent = self.extents[owner]
        inside = np.clip(extent, 0, [self.width, self.height, self.width, self.height])
        return float(np.prod(inside[2:] - inside[:2]) / max(np.prod(extent[2:] - extent[:2]), 1e-9))

    def _extend(self, owner: int, points: np.ndarray, margin: float) -> None:
        low, high = points.min(axis=0) - margin, points.max(axis=0) + margin
        if owner in self.extents:
            low, high = np.minimum(low, self.extents[owner][:2]), np.maximum(high, self.extents[owner][2:])
        self.extents[owner] = np.concatenate([low, high])


def class_of_owner(classes: Sequence[int]) -> np.ndarray:
    """Return the table (256,) uint8 from owner to class index, given the class index of each object in order."""
    table = np.zeros(256, np.uint8)
    table[: len(SEGMENT_NAMES)] = np.arange(len(SEGMENT_NAMES))
    table[FIRST_INSTANCE : FIRST_INSTANCE + len(classes)] = classes
    return table


def _fixed(points: np.ndarray) -> np.ndarray:
    # OpenCV's whole numbers are pixel centres, ours are pixel edges: hence the half pixel.
    fixed = np.rint(np.asarray(points) * (SCALE << _SHIFT) - (1 << _SHIFT) / 2)
    return np.minimum(np.maximum(fixed, -_HIGHEST), _HIGHEST).astype(np.int32)


def _rounded(colour: Colour) -> tuple[int, int, int]:
    return tuple(int(min(max(channel, 0), 255) + 0.5) for channel in colour)
