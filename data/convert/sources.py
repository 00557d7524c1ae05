"""What a conversion reads: the pictures of each split with the files of their labels or masks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data.annotations import ClassList
from data.class_map import ClassMap
from data.formats.colour_table import Colour
from data.formats.contract import PictureFormat, SplitFormat
from data.image_list import list_images
from data.keypoints import KeypointSpec


@dataclass(frozen=True)
class Listed:
    """A picture.

    Attributes:
        image: its file.
        relative: its path below the folder of images, with slashes.
        label: its label file or mask; None where there is none.
    """

    image: Path
    relative: str
    label: Path | None


@dataclass(frozen=True)
class PictureLabels:
    """Pictures with a label file each."""

    format: PictureFormat
    pictures: Sequence[Listed]
    classes: ClassList


@dataclass(frozen=True)
class SplitLabels:
    """Pictures below folders with one label file for all of them."""

    format: SplitFormat
    file: Path
    images: Sequence[Path]


@dataclass(frozen=True)
class PictureMasks:
    """Pictures with a mask each.

    Attributes:
        format: name of their format.
        pictures: with the files of their masks.
        read: gives the (H, W) uint8 class indices of a picture's mask, 255 where no class counts; the size of the
            picture is its second argument.
    """

    format: str
    pictures: Sequence[Listed]
    read: Callable[[Listed, tuple[int, int]], np.ndarray]


Labels = PictureLabels | SplitLabels | PictureMasks


@dataclass(frozen=True)
class Part:
    """Labels of one format in a split.

    Attributes:
        labels: what is read.
        class_map: from the classes of the files to those of the set; None where they are the same.
        drop_difficult: leave out objects that are marked as difficult.
    """

    labels: Labels
    class_map: ClassMap | None = None
    drop_difficult: bool = False


@dataclass(frozen=True)
class SourceSet:
    """A set as it is found.

    Attributes:
        splits: parts of each split.
        names: classes of the set by index; empty where they show only in the labels.
        keypoints: what the keypoints are, None where that is not known or there are none.
        colours: red, green, blue of the classes of masks that are colours, by name.
        posed: the keypoints of its labels are a part of it.
    """

    splits: dict[str, list[Part]]
    names: Sequence[str] = ()
    keypoints: KeypointSpec | None = None
    colours: Mapping[str, Colour] = field(default_factory=dict)
    posed: bool = True

    @property
    def formats(self) -> set[str]:
        """The names of all formats of objects in it."""
        labels = [part.labels for parts in self.splits.values() for part in parts]
        return {entry.format.name for entry in labels if not isinstance(entry, PictureMasks)}

    @property
    def of_masks(self) -> bool:
        """Whether it holds masks; otherwise objects."""
        return any(isinstance(part.labels, PictureMasks) for parts in self.splits.values() for part in parts)


def list_pictures(folder: Path, files_of: Callable[[Path], Iterable[Path]]) -> list[Listed]:
    """Return the pictures below a folder.

    Args:
        folder: of the pictures, searched with its subfolders.
        files_of: gives where the label file or mask of a picture may lie, best first.

    Raises:
        DataError: the folder is missing or holds no picture.
    """
    return [
        Listed(image, image.relative_to(folder).as_posix(), next(filter(Path.exists, files_of(image)), None))
        for image in list_images([folder])
    ]
