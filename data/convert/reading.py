"""Reads what the parts of a split hold: annotated pictures, or pictures with masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from data.annotations import AnnotatedPicture, ClassList, make_objects
from data.convert.losses import Losses
from data.convert.sources import Listed, PictureLabels, PictureMasks, SplitLabels
from data.images import image_size
from data.scan import in_threads
from utils.errors import DataError

_NO_PICTURE = "pictures that are missing or cannot be read left out"
_NO_LABELS = "pictures without labels left out"
_NO_MASK = "pictures without a mask left out"
_OTHER_SIZE = "pictures have another size than their labels say; look at these labels"
_SHARED = "pictures have the labels of another picture of their name too"
_EMPTY_WITHOUT_FILE = ("yolo",)
"""Formats in which a picture without a label file is one without objects."""


@dataclass(frozen=True)
class MaskedPicture:
    """A picture with a mask, which is read when it is needed.

    Attributes:
        image: its file.
        relative: its path below the folder of images, with slashes.
        size: height and width in pixels, upright.
        read: gives the (H, W) uint8 class indices of the mask, 255 where no class counts; it raises ``DataError``.
    """

    image: Path
    relative: str
    size: tuple[int, int]
    read: Callable[[], np.ndarray]


def read_objects(labels: PictureLabels | SplitLabels, losses: Losses) -> tuple[ClassList, list[AnnotatedPicture]]:
    """Read all objects.

    Args:
        labels: what to read.
        losses: gets what is left out.

    Returns:
        The classes, of which the names are empty where they show only in the objects; and the pictures.

    Raises:
        DataError: a label file is malformed.
    """
    if isinstance(labels, PictureLabels):
        return labels.classes, _read_pictures(labels, losses)
    classes, pictures = labels.format.read(labels.file, labels.images)
    sizes = _sizes([picture.image for picture in pictures], f"pictures of {labels.file.name}")
    losses.name(_NO_PICTURE, [p.relative for p, size in zip(pictures, sizes, strict=True) if size is None])
    known = [(p, size) for p, size in zip(pictures, sizes, strict=True) if size is not None]
    return classes, _of_their_size([replace(picture, size=size) for picture, size in known], losses)


def find_masks(labels: PictureMasks, losses: Losses) -> list[MaskedPicture]:
    """Return the pictures that have a mask and can be read; the others are counted."""
    losses.name(_SHARED, _sharing(labels.pictures))
    losses.name(_NO_MASK, [listed.relative for listed in labels.pictures if listed.label is None])
    found = [listed for listed in labels.pictures if listed.label is not None]
    sizes = _sizes([listed.image for listed in found], "reading pictures")
    losses.name(_NO_PICTURE, [f.relative for f, size in zip(found, sizes, strict=True) if size is None])
    return [
        MaskedPicture(listed.image, listed.relative, size, partial(labels.read, listed, size))
        for listed, size in zip(found, sizes, strict=True)
        if size is not None
    ]


def _read_pictures(labels: PictureLabels, losses: Losses) -> list[AnnotatedPicture]:
    no_keypoints = np.zeros((0, len(labels.classes.keypoints), 3))

    def read(listed: Listed) -> AnnotatedPicture | str:
        if listed.label is None and labels.format.name not in _EMPTY_WITHOUT_FILE:
            return _NO_LABELS
        size = _size_of(listed.image)
        if size is None:
            return _NO_PICTURE
        if listed.label is None:
            objects = make_objects([], np.zeros((0, 4)), keypoints=no_keypoints)
        else:
            objects = labels.format.read(listed.label, size, labels.classes)
        return AnnotatedPicture(listed.image, listed.relative, size, objects)

    losses.name(_SHARED, _sharing(labels.pictures))
    found = in_threads(read, labels.pictures, f"reading {labels.format.name}")
    for what in (_NO_PICTURE, _NO_LABELS):
        losses.name(what, [p.relative for p, answer in zip(labels.pictures, found, strict=True) if answer == what])
    return _of_their_size([answer for answer in found if isinstance(answer, AnnotatedPicture)], losses)


def _of_their_size(pictures: list[AnnotatedPicture], losses: Losses) -> list[AnnotatedPicture]:
    """Return the pictures, and name those whose labels are of another size."""
    losses.name(_OTHER_SIZE, [p.relative for p in pictures if p.objects.size not in (None, p.size)])
    return pictures


def _sharing(pictures: Sequence[Listed]) -> list[str]:
    """Return the pictures whose label file an earlier one has too, as ``a.png`` beside ``a.jpg``."""
    first: dict[Path, Listed] = {}
    return [p.relative for p in pictures if p.label is not None and first.setdefault(p.label, p) is not p]


def _sizes(images: Sequence[Path], what: str) -> list[tuple[int, int] | None]:
    return in_threads(_size_of, images, what)


def _size_of(image: Path) -> tuple[int, int] | None:
    try:
        return image_size(image)
    except DataError:
        return None
