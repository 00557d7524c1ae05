"""A source that the command line describes: one folder of pictures and their labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from data.annotations import ClassList, MaskClasses
from data.convert.choosing import check_mask_classes
from data.convert.sources import (
    Labels,
    Listed,
    Part,
    PictureLabels,
    PictureMasks,
    SourceSet,
    SplitLabels,
    list_pictures,
)
from data.formats.colour_table import Colour
from data.formats.contract import MaskFormat, PictureFormat, SplitFormat
from data.keypoints import KeypointSpec, default_keypoints
from utils.errors import DataError, UsageError

_LAST_VALUE = 255


def source_of_folders(
    format: PictureFormat | SplitFormat | MaskFormat,
    images: Path,
    labels: Path,
    split: str,
    names: Sequence[str] | None,
    keypoints: int = 0,
    ignore: Sequence[int] = (255,),
    colours: Mapping[str, Colour] | None = None,
) -> tuple[SourceSet, bool]:
    """Return the source, and whether ``names`` says what its indices stand for; otherwise it chooses classes by name.

    Args:
        format: of the labels.
        images: folder of the pictures.
        labels: folder of the label files or masks, or the label file of the split.
        split: its name in the result.
        names: of the classes.
        keypoints: per object, in label files that do not name them.
        ignore: values of masks that do not count.
        colours: red, green, blue by class, for masks that are colours.

    Raises:
        DataError: a folder is missing, or there is no picture.
        UsageError: the labels hold indices and ``names`` is missing, or a number makes no sense.
    """
    if not images.is_dir():
        raise DataError(f"{images}: no such folder; give --images the folder of the pictures")
    if not labels.exists():
        raise DataError(f"{labels}: does not exist; give --labels the folder of the labels, or the one label file")
    if keypoints < 0:
        raise UsageError(f"--keypoints {keypoints} is no number of keypoints; give 0 or more")
    odd = next((value for value in ignore if not 0 <= value <= _LAST_VALUE), None)
    if odd is not None:
        raise UsageError(f"--ignore {odd} is no value of a mask; give values in 0..{_LAST_VALUE}")
    colours = colours or {}
    if format.name == "mask_colour" and not colours:
        raise UsageError("mask_colour needs the colours of the classes; give --colours a table of them")
    own = list(colours) if format.name == "mask_colour" else list(getattr(format, "names", ()))
    by_index = (hasattr(format, "mask_files") and not own) or not getattr(format, "names_inside", True)
    if by_index and not names:
        raise UsageError(f"{format.name} labels hold numbers; say with --names what the classes are called, in order")
    known = list(names or ()) if by_index else own
    spec: KeypointSpec | None = None
    found: Labels
    if hasattr(format, "mask_files"):
        check_mask_classes(known)
        pictures = list_pictures(images, lambda image: format.mask_files(image, images, labels))
        classes = MaskClasses(known, tuple(colours.values()), tuple(ignore))
        found = PictureMasks(format.name, pictures, _mask_reader(format, classes))
    elif hasattr(format, "label_file") and labels.is_dir():
        pictures = list_pictures(images, lambda image: [format.label_file(image, images, labels)])
        spec = default_keypoints(keypoints) if keypoints and by_index else None
        found = PictureLabels(format, pictures, _class_list(known, spec))
    else:
        found = SplitLabels(format, labels, [images])
    return SourceSet({split: [Part(found)]}, known, spec, colours), by_index


def _mask_reader(format: MaskFormat, classes: MaskClasses) -> Callable[[Listed, tuple[int, int]], np.ndarray]:
    def read(listed: Listed, size: tuple[int, int]) -> np.ndarray:
        mask = format.read(listed.label, classes)
        if mask.shape != size:
            raise DataError(
                f"{listed.label}: the mask is {mask.shape[1]}x{mask.shape[0]}, but its image {listed.image} is "
                f"{size[1]}x{size[0]} (width x height); save both in one size"
            )
        return mask

    return read


def _class_list(names: list[str], spec: KeypointSpec | None) -> ClassList:
    return ClassList(names) if spec is None else ClassList(names, spec.names, spec.skeleton)
