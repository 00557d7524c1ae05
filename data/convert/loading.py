"""All annotated pictures of a set, whatever its parts are written in."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from data.annotations import AnnotatedPicture, ClassList
from data.convert.areas import objects_of_mask
from data.convert.fitting import rename_classes, without_keypoints, without_marked
from data.convert.losses import Losses
from data.convert.reading import MaskedPicture, find_masks, read_objects
from data.convert.sources import PictureMasks, SourceSet
from data.scan import in_threads
from utils.errors import DataError


def load_objects(
    source: SourceSet, drop: Collection[str], losses: Losses
) -> tuple[ClassList, dict[str, list[AnnotatedPicture]]]:
    """Read all objects of a set by its own classes.

    Args:
        source: what is read.
        drop: see ``Options``; without ``keypoints`` all parts have to have as many.
        losses: gets what is left out.

    Returns:
        The classes, of which the names are empty where they show only in the objects; and the pictures per split.

    Raises:
        DataError: a label file is malformed, or parts have different keypoints.
    """
    found: list[ClassList] = []
    pictures: dict[str, list[AnnotatedPicture]] = {}
    for split, parts in source.splits.items():
        pictures[split] = []
        for part in parts:
            classes, read = read_objects(part.labels, losses)
            if part.class_map is not None:
                read = [
                    replace(p, objects=rename_classes(p.objects, part.class_map, source.names, losses)) for p in read
                ]
            if part.drop_difficult:
                read = [replace(p, objects=without_marked(p.objects, "difficult", losses)) for p in read]
            if "keypoints" in drop or not source.posed:
                classes = ClassList(classes.names)
                read = [replace(picture, objects=without_keypoints(picture.objects)) for picture in read]
            found.append(classes)
            pictures[split] += read
    numbers = sorted({len(classes.keypoints) for classes in found})
    if len(numbers) > 1:
        raise DataError(
            f"parts of the source have {numbers[0]} and {numbers[-1]} keypoints per object; convert them one by one, "
            "or give --drop keypoints"
        )
    names = source.names or list(dict.fromkeys(name for classes in found for name in classes.names))
    return replace(found[0], names=list(names)), pictures


def load_masks(source: SourceSet, losses: Losses) -> dict[str, list[MaskedPicture]]:
    """Return the pictures of every split that have a mask; masks are of the set's classes."""
    return {
        split: [
            masked
            for part in parts
            if isinstance(part.labels, PictureMasks)
            for masked in find_masks(part.labels, losses)
        ]
        for split, parts in source.splits.items()
    }


def outlined_masks(
    masks: Mapping[str, Sequence[MaskedPicture]], names: Sequence[str], table: np.ndarray, least_area: int
) -> dict[str, list[AnnotatedPicture]]:
    """Return every picture with an object for each connected area of its mask.

    Args:
        masks: see ``load_masks``.
        names: classes of the objects.
        table: (256,) uint8, from the set's classes to those.
        least_area: see ``objects_of_mask``.

    Raises:
        DataError: a mask cannot be read or has another size than its picture.
    """

    def outlined(masked: MaskedPicture) -> AnnotatedPicture:
        objects = objects_of_mask(table[masked.read()], names, least_area)
        return AnnotatedPicture(masked.image, masked.relative, masked.size, objects)

    return {split: in_threads(outlined, listed, f"outlining {split}") for split, listed in masks.items()}
