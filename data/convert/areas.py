"""Between objects with outlines and masks of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.annotations import Objects, make_objects
from data.formats.mask_png import IGNORE
from data.mask_outlines import fill_outlines, outlines_of
from data.polygons import extent

BACKGROUND = "background"
"""Class of the pixels that no object covers; masks of that class are not turned into objects."""

IGNORED = "__ignore__"
"""Label that annotation tools give to areas which do not count."""

LAYERED = ("labelme", "cityscapes")
"""Formats whose files order objects from back to front; in others smaller objects lie in front of larger ones."""


@dataclass(frozen=True)
class Painter:
    """Paints the outlines of objects into masks.

    Attributes:
        names: classes of the mask by index.
        rest: index of the pixels that no object covers, 255 to ignore them.
        layered: later objects lie in front of earlier ones; otherwise smaller ones in front of larger ones.
    """

    names: Sequence[str]
    rest: int
    layered: bool

    def __call__(self, objects: Objects, size: tuple[int, int]) -> np.ndarray:
        """Return (H, W) uint8; objects without an outline are not in it, because their pixels are not known."""
        place = {name: index for index, name in enumerate(self.names)}
        areas = [sum(map(_area, outlines)) for outlines in objects.outlines]
        order = range(len(objects)) if self.layered else np.argsort(-np.array(areas), kind="stable")
        mask = np.full(size, self.rest, np.uint8)
        for i in order:
            mask[fill_outlines(objects.outlines[i], size)] = place.get(objects.names[i], IGNORE)
        return mask


def objects_of_mask(mask: np.ndarray, names: Sequence[str], least_area: int) -> Objects:
    """Return every connected area of a class as an object with its outline.

    Args:
        mask: (H, W) uint8 class indices, 255 where no class counts.
        names: of the classes; the class ``background`` has no objects.
        least_area: areas of fewer pixels are left out and counted.
    """
    found: list[str] = []
    outlines: list[list[np.ndarray]] = []
    areas: list[float] = []
    small = 0
    for index in np.flatnonzero(np.bincount(mask.ravel(), minlength=256)[:IGNORE]).tolist():
        if names[index] == BACKGROUND:
            continue
        for outline in outlines_of(mask == index):
            area = _area(outline)
            if area < least_area:
                small += 1
                continue
            found.append(names[index])
            outlines.append([outline])
            areas.append(area)
    boxes = np.array([extent(parts) for parts in outlines]).reshape(-1, 4)
    left_out = {f"areas of fewer than {least_area} pixels": small} if small else None
    boxed = np.zeros(len(found), bool)
    return make_objects(found, boxes, outlines, areas=np.array(areas), boxed=boxed, left_out=left_out)


def _area(outline: np.ndarray) -> float:
    """Return the area within a polygon; slits to holes count as nothing and holes are not part of it."""
    x, y = outline.T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
