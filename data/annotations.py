"""Annotated objects as the label formats exchange them: class names, and lengths in pixels of the upright picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Objects:
    """The n objects of one picture.

    Attributes:
        names: class name of each object.
        boxes: (n, 4) float64, x1 y1 x2 y2, edges in pixels; 0 is the left or upper edge of the picture.
        outlines: per object its closed polygons, each (p, 2) float64 x y in pixels with p >= 3; empty where an object
            has only its box.
        keypoints: (n, K, 3) float64, x y in pixels and visibility 0, 1 or 2; K is 0 without.
        crowd: (n,) bool, regions with many objects that are not told apart.
        difficult: (n,) bool, objects that their annotator found hard to recognise.
        areas: (n,) float64, square pixels, NaN where the labels have none.
        boxed: (n,) bool, objects whose labels have a box; those of others are the extents of their outlines.
        left_out: what the labels say of the picture beyond that, such as ``{"circles": 2}``: plural nouns and how many.
        size: height and width of the picture as the labels have them, None where they do not say.
    """

    names: list[str]
    boxes: np.ndarray
    outlines: list[list[np.ndarray]]
    keypoints: np.ndarray
    crowd: np.ndarray
    difficult: np.ndarray
    areas: np.ndarray
    boxed: np.ndarray
    left_out: dict[str, int] = field(default_factory=dict)
    size: tuple[int, int] | None = None

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.names)


@dataclass(frozen=True)
class AnnotatedPicture:
    """One picture of a split.

    Attributes:
        image: its file.
        relative: its path below the split's folder of images, with slashes; results are laid out by it.
        size: height and width in pixels, upright.
        objects: what is annotated.
    """

    image: Path
    relative: str
    size: tuple[int, int]
    objects: Objects


@dataclass(frozen=True)
class ClassList:
    """What a set's classes and keypoints are called.

    Attributes:
        names: classes in the order of their indices.
        keypoints: names of the K keypoints; empty without.
        skeleton: pairs of indices of keypoints that a line joins.
    """

    names: list[str]
    keypoints: tuple[str, ...] = ()
    skeleton: tuple[tuple[int, int], ...] = field(default=())


@dataclass(frozen=True)
class MaskClasses:
    """What the values and colours of a set's masks stand for.

    Attributes:
        names: classes in the order of their indices.
        colours: red, green, blue of each class, 0..255, for formats whose pixels are colours; empty without.
        ignore: the files' own values of pixels that do not count.
    """

    names: list[str]
    colours: tuple[tuple[int, int, int], ...] = ()
    ignore: tuple[int, ...] = (255,)


def make_objects(
    names: list[str],
    boxes: np.ndarray,
    outlines: list[list[np.ndarray]] | None = None,
    keypoints: np.ndarray | None = None,
    crowd: np.ndarray | None = None,
    difficult: np.ndarray | None = None,
    areas: np.ndarray | None = None,
    boxed: np.ndarray | None = None,
    left_out: dict[str, int] | None = None,
    size: tuple[int, int] | None = None,
) -> Objects:
    """Return objects with what a format does not know left empty, each with a box; arguments as in ``Objects``."""
    n = len(names)
    return Objects(
        names=names,
        boxes=np.asarray(boxes, np.float64).reshape(n, 4),
        outlines=[[] for _ in names] if outlines is None else outlines,
        keypoints=np.zeros((n, 0, 3)) if keypoints is None else np.asarray(keypoints, np.float64),
        crowd=np.zeros(n, bool) if crowd is None else np.asarray(crowd, bool),
        difficult=np.zeros(n, bool) if difficult is None else np.asarray(difficult, bool),
        areas=np.full(n, np.nan) if areas is None else np.asarray(areas, np.float64),
        boxed=np.ones(n, bool) if boxed is None else np.asarray(boxed, bool),
        left_out=left_out or {},
        size=size,
    )
